"""Tell the static arguments of a call from its arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from ditto_spu.errors import InputError, nearest
from ditto_spu.frontend.random_keys import numbers


@dataclass(frozen=True)
class Signature:
    """The static arguments of a function, as in jax.jit: by place and by name.

    nums, names: as the user gave them.
    positional: the parameters of the function that may be given by place, after `bound_to`. So an argument
        that was given as static by its name is also static by its place, and the other way round.
    """

    nums: tuple[int, ...]
    names: tuple[str, ...]
    positional: tuple[str, ...] = ()

    @classmethod
    def of(cls, nums: int | Sequence[int], names: str | Sequence[str]) -> Signature:
        """Make a signature from what a user may write: a number, a name, or a sequence of them."""
        return cls(
            (nums,) if isinstance(nums, int) else tuple(int(each) for each in nums),
            (names,) if isinstance(names, str) else tuple(str(each) for each in names),
        )

    def bound_to(self, fn: Callable[..., Any]) -> Signature:
        """Return the same for the parameters of a function.

        Raises InputError for a name that the function does not have.
        """
        try:
            parameters = inspect.signature(fn).parameters
        except (TypeError, ValueError):
            return self  # some builtins have no signature
        if unknown := [each for each in self.names if each not in parameters]:
            raise InputError(f"static_argnames has '{unknown[0]}'{nearest(unknown[0], parameters)}")
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return replace(
            self, positional=tuple(name for name, each in parameters.items() if each.kind in by_place)
        )

    def places(self, count: int) -> tuple[int, ...]:
        """Return the places of the static ones of `count` arguments that are given by place."""
        named = [self.positional.index(each) for each in self.names if each in self.positional]
        return tuple(each for each in dict.fromkeys((*self._given(count), *named)) if each < count)

    def all_names(self, count: int) -> tuple[str, ...]:
        """Return the names of the static parameters, where `count` arguments are given by place."""
        placed = [self.positional[each] for each in self._given(count) if each < len(self.positional)]
        return tuple(dict.fromkeys((*self.names, *placed)))

    def _given(self, count: int) -> list[int]:
        return [each + count if each < 0 else each for each in self.nums]

    @property
    def options(self) -> dict[str, Any]:
        """The static arguments as options of jax.jit."""
        return {"static_argnums": self.nums, "static_argnames": self.names}

    def static(self, args: Any, kwargs: Any) -> tuple[Any, ...]:
        """Return (place or name, type, value) of each static argument. 1, 1.0 and True are not the same."""
        places, names = self.places(len(args)), self.all_names(len(args))
        by_place = ((index, type(arg), arg) for index, arg in enumerate(args) if index in places)
        by_name = ((key, type(kwargs[key]), kwargs[key]) for key in sorted(kwargs) if key in names)
        return (*by_place, *by_name)

    def dynamic(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that are not static."""
        places, names = self.places(len(args)), self.all_names(len(args))
        return (
            tuple(arg for index, arg in enumerate(args) if index not in places),
            {key: kwargs[key] for key in kwargs if key not in names},
        )

    def leaves(self, args: Any, kwargs: Any) -> list[Any]:
        """Return the arrays of a call, in the order of its program's arguments."""
        return [numbers(each) for each in jax.tree_util.tree_leaves(self.dynamic(args, kwargs))]
