"""A local step is the one dispatcher of local computations.

It handles absent operands, and it chooses other instructions for few elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ditto_kernels.values.absent import Absent

Function = Callable[..., Any]


class LocalStep:
    """A function of arrays that a party computes without a message.

    If an operand is absent, or is a list with an absent array, the step returns the value of `result`
    instead. That is absent arrays of the shapes and types that the function would return. `few` is the same
    function in other instructions. It runs where `serves` returns true. Both give the same bits.
    """

    def __init__(self, function: Function, result: Function) -> None:
        self.many = function
        self.few: Function | None = None
        self.serves: Function | None = None
        self._result = result
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __call__(self, *operands: Any) -> Any:
        kinds = [*map(type, operands)]
        if Absent in kinds or (list in kinds and _holds_absent(operands)):
            return self._result(*operands)
        if self.serves is not None and self.serves(*operands):
            assert self.few is not None
            return self.few(*operands)
        return self.many(*operands)

    def for_few(self, serves: Function) -> Callable[[Function], Function]:
        """Decorate the instructions for the operands for which `serves` returns true."""

        def take(function: Function) -> Function:
            self.few, self.serves = function, serves
            return function

        return take


def _holds_absent(operands: tuple[Any, ...]) -> bool:
    return any(Absent in map(type, each) for each in operands if type(each) is list)


def local_step(result: Function) -> Callable[[Function], LocalStep]:
    """Decorate a function of arrays. `result` maps its operands to absent results."""
    return lambda function: LocalStep(function, result)
