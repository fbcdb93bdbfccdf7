"""Hold the work that owners do before sharing: plaintext programs on one owner's arrays and public ones."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import Argument


@dataclass(frozen=True)
class Preparation:
    """Operations that one owner runs in plaintext.

    owner: the name of the owner.
    text: the StableHLO module of the operations.
    inputs: the places of the arrays that it reads, among the call's arrays.
    outputs: the places of its results, among the plan's arguments.
    operations: (path, name) of each hoisted operation. Public work that the owner repeats is left out.
    """

    owner: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operations: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Program:
    """A fused module for three parties, its arguments, and how owners make these from a call's arrays.

    module: the parties' part.
    fused: the text of the module before owners took their parts.
    call: the arrays of the call.
    arguments: the arguments of the parties' module.
    sources: for each argument of the module the places of the call's arrays that it is made of.
    preparations: the programs of the owners.
    """

    module: ir.Module
    fused: str
    call: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    sources: tuple[tuple[int, ...], ...]
    preparations: tuple[Preparation, ...] = ()

    @property
    def public(self) -> tuple[bool, ...]:
        """Whether each argument of the module is public."""
        return tuple(each.public for each in self.arguments)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of each argument of the module."""
        return tuple(each.path for each in self.arguments)

    @property
    def formats(self) -> tuple[tuple[str, Fxp | None], ...]:
        """For each argument its path, and the format that it has already, or None."""
        return tuple((each.path, each.fxp) for each in self.arguments)

    def as_text(self) -> str:
        """Return the StableHLO that each owner runs, and the StableHLO that is left to the parties."""
        parts = [f"// {each.owner}, in plaintext\n{each.text}" for each in self.preparations]
        return "\n".join([*parts, f"// the parties\n{ir.text(self.module, debug_info=True)}"])

    @property
    def hoisted(self) -> dict[str, int]:
        """The number of operations that each owner computes."""
        counts: dict[str, int] = {}
        for each in self.preparations:
            counts[each.owner] = counts.get(each.owner, 0) + len(each.operations)
        return counts

    @property
    def made(self) -> tuple[str, ...]:
        """For each argument a digest of how its owner makes it, or '' for an array of the call."""
        found = [""] * len(self.arguments)
        for each in self.preparations:
            paths = [self.call[place].path for place in each.inputs]
            digest = hashlib.sha256(repr((each.text, paths)).encode()).hexdigest()
            for number, place in enumerate(each.outputs):
                found[place] = f"{digest}.{number}"
        return tuple(found)

    def held(self, parameters: Collection[str]) -> tuple[int, ...]:
        """Return the places of the arguments that are made of these parameters of the call alone."""
        return tuple(
            place
            for place, sources in enumerate(self.sources)
            if all(self.call[each].parameter in parameters for each in sources)
        )

    def values(self, arrays: Sequence[Any], leave_out: Collection[int] = ()) -> list[Any]:
        """Compute the module's arguments from the call's arrays. Every owner runs its programs.

        leave_out: places of arguments that are not computed. The result has jax.ShapeDtypeStructs there, and
            wherever only shapes are known.
        Raises InputError if an owner's array, or a result of the owner, holds NaN or infinity, or if an
        array's shape differs from the compiled one.
        """
        values: list[Any] = [
            _described(argument) if argument.owner and place in leave_out else None
            for place, argument in enumerate(self.arguments)
        ]
        for preparation in self.preparations:
            inputs = [arrays[each] for each in preparation.inputs]
            unknown = any(isinstance(each, jax.ShapeDtypeStruct) for each in inputs)
            if unknown or (leave_out and set(preparation.outputs) <= set(leave_out)):
                made: Sequence[Any] = [_described(self.arguments[each]) for each in preparation.outputs]
            else:
                self._check(preparation, arrays)
                made = ir.evaluate(preparation.text, inputs)
            for place, value in zip(preparation.outputs, made, strict=True):
                values[place] = value
        for place, (argument, sources) in enumerate(zip(self.arguments, self.sources, strict=True)):
            if values[place] is None:
                values[place] = arrays[sources[0]]
            if argument.owner:
                _require_finite(argument, values[place])
        return values

    def _check(self, preparation: Preparation, arrays: Sequence[Any]) -> None:
        for place in preparation.inputs:
            argument = self.call[place]
            if np.shape(arrays[place]) != argument.shape:
                raise InputError(
                    f"argument '{argument.path}' has shape {np.shape(arrays[place])}, but was compiled for "
                    f"{argument.shape}"
                )


@dataclass(frozen=True)
class _OwnerResults:
    """The results of owners that serve many calls of one program.

    made: the values that owners computed from held arguments, by place.
    arrays: the held arguments that owners need again at every call, by place.
    """

    program: Program
    made: Mapping[int, Any]
    arrays: Mapping[int, Any]


class Prepared:
    """The values that owners computed from held arguments, once for each program."""

    def __init__(self) -> None:
        self._kept: dict[int, _OwnerResults] = {}

    def values(self, program: Program, arrays: Sequence[Any], holding: Collection[str]) -> list[Any]:
        """Return `program.values(arrays)`.

        The values of the parameters in `holding` are computed at the first call, and taken from there later.
        """
        if not program.preparations or not holding:
            return program.values(arrays)
        kept = self._kept.get(id(program))
        if kept is None:
            made = program.values(arrays)
            again = {place for each in program.preparations for place in each.inputs if _again(program, each)}
            buffers = {
                place: ir.buffer(arrays[place], np.dtype(program.call[place].dtype))
                for place in again
                if program.call[place].held and not isinstance(arrays[place], jax.ShapeDtypeStruct)
            }
            self._kept[id(program)] = _OwnerResults(
                program, {place: made[place] for place in program.held(holding)}, buffers
            )
            return made
        arrays = [kept.arrays.get(place, each) for place, each in enumerate(arrays)]
        values = program.values(arrays, leave_out=kept.made)
        for place, value in kept.made.items():
            values[place] = value
        return values


def _again(program: Program, preparation: Preparation) -> bool:
    """Tell whether a preparation runs at every call."""
    return not all(program.call[place].held for place in preparation.inputs)


def _described(argument: Argument) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(argument.shape, argument.dtype)


def _require_finite(argument: Argument, value: Any) -> None:
    kind = jax.dtypes.result_type(value)
    if isinstance(value, jax.ShapeDtypeStruct) or not jax.dtypes.issubdtype(kind, np.floating):
        return
    finite = np.isfinite(np.asarray(value))
    if not finite.all():
        index = [int(each) for each in np.argwhere(~finite)[0]]
        raise InputError(
            f"'{argument.path}', which {argument.owner} was to share, holds NaN or infinity (first at "
            f"{index}), which fixed point cannot represent: replace it by a finite number"
        )
