"""Small calls of every kernel, in every mode and branch, for tests that run a protocol many times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ditto_kernels import KERNELS
from ditto_kernels.maximum import argmax
from ditto_kernels.norm.norm_plan import plan_norm
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.formats import encode
from ditto_kernels.values.replicated import Rss, share
from tests.kernels.examples import EXAMPLES, Example, F, draw, specs

# The thresholds among protocols. With zero for all of them, a few elements take the branch of many.
_THRESHOLDS = (
    "SERIES_ROWS_ELEMENTS",
    "JOINED_SELECTION_ELEMENTS",
    "ONE_HOT_BYTES",
    "OCTAVES_BYTES",
    "COUNTED_BYTES",
    "LIFTED_ELEMENTS",
    "SHORT_NUMERATORS",
    "TOURNAMENT_ENTRIES",
    "LATE_ENTRIES",
    "ARGMAX_VALUES",
    "GATHERED_ELEMENTS",
    "FIVE_ROUND_ROWS",
)


@dataclass(frozen=True)
class Call:
    """A call of a kernel on fixed shares: an example, with masked shares or without, as few or as many."""

    example: Example
    masked: bool
    few: bool
    dealer: int

    def __str__(self) -> str:
        notes = ["masked"] * self.masked + ["few"] * self.few
        return "-".join([str(self.example), *notes])

    def operands(self) -> list[tuple[Any, Any, Any]]:
        """Return the parts of the three parties of each operand, always the same."""
        source = np.random.default_rng(3)
        values = [draw(each, source) for each in self.example.operands]
        return [
            share(encode(*each), each[1], source.bytes, self.dealer)
            if isinstance(each, tuple)
            else (each,) * 3
            for each in values
        ]

    def program(self) -> Callable[[Party], Protocol[Rss]]:
        """Return the protocol at a party."""
        kernel, parts = KERNELS[self.example.kernel], self.operands()

        def run(party: Party) -> Protocol[Rss]:
            mine = party._replace(dealer=self.dealer, masked=self.masked)
            operands = [each[party.rank] for each in parts]
            return kernel.run(mine, *operands, out=F(self.example.out), **self.example.attributes)

        return run

    @contextmanager
    def branch(self) -> Iterator[None]:
        """Let the call take its branch."""
        before = {name: getattr(tuning, name) for name in _THRESHOLDS}
        try:
            if not self.few:
                for name in _THRESHOLDS:
                    setattr(tuning, name, 0)
            _forget_plans()
            yield
        finally:
            for name, value in before.items():
                setattr(tuning, name, value)
            _forget_plans()


def _forget_plans() -> None:
    """Forget the plans that were made with other thresholds."""
    argmax._levels.cache_clear()
    plan_norm.cache_clear()


def small(example: Example) -> Example:
    """Return the same call with two elements along every dimension, and five along one that is reduced."""
    rank, dim = max(len(each[2]) for each in example.operands), example.attributes.get("dim")
    reduced = None if dim is None else dim % rank

    def smaller(shape: tuple[int, ...]) -> tuple[int, ...]:
        places = range(rank - len(shape), rank)
        return tuple(
            min(size, 5 if place == reduced else 2) for place, size in zip(places, shape, strict=True)
        )

    return replace(
        example, operands=tuple((*each[:2], smaller(each[2]), *each[3:]) for each in example.operands)
    )


def _calls(example: Example, number: int) -> list[Call]:
    """Return the call in every mode, and also as that of many elements if this sends other messages."""
    found = []
    kernel = KERNELS[example.kernel]
    for masked in (False, True) if not kernel.all_deal else (False,):
        few, many = (Call(example, masked, each, number % 3) for each in (True, False))
        found += [few, many] if _messages(few) != _messages(many) else [few]
    return found


def _messages(call: Call) -> Any:
    kernel = KERNELS[call.example.kernel]
    with call.branch():
        return _cost(kernel.run, call)


def _cost(run: Callable[..., Protocol[Any]], call: Call) -> Any:
    def afresh(*operands: Any, **attributes: Any) -> Protocol[Any]:  # costs are kept by function
        return run(*operands, **attributes)

    return cost_of(
        afresh, *specs(call.example), masked=call.masked, out=F(call.example.out), **call.example.attributes
    )


ALL_CALLS = [call for number, each in enumerate(EXAMPLES) for call in _calls(small(each), number)]
_FIRST = {each.kernel: small(each) for each in reversed(EXAMPLES)}
_BRANCHED = {each.example.kernel: each.example for each in reversed(ALL_CALLS) if not each.few}
# One example of every kernel, if possible one that has branches, in every mode and branch.
CALLS = [call for call in ALL_CALLS if call.example == (_FIRST | _BRANCHED)[call.example.kernel]]
