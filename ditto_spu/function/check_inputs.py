"""Hold arrays against the ranges that a plan relies on, at the owner who is about to share them.

Parties on hosts see no values. Their owners see their own arrays, and a value that the first operation to
read it could not take is an error before a share of it leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ditto_spu import ir
from ditto_spu.calibration.headroom import Range, Ranges
from ditto_spu.calibration.relied_on import about_values
from ditto_spu.compiler import Lowered
from ditto_spu.frontend.kept_arguments import is_kept
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.op import span


def _of_inputs(module: ir.Module, public: Sequence[bool]) -> dict[int, list[Range]]:
    """Return by argument the ranges that operations rely on which read the argument."""
    places = {value: place for place, value in enumerate(ir.arguments(module))}
    found: dict[int, list[Range]] = {}
    for _, row, about in about_values(module, public):
        while about is not None and (maker := ir.define(about)) is not None and is_cast(maker):
            about = maker.operands[0]
        place = None if about is None else places.get(about)
        if place is not None:
            found.setdefault(place, []).append(row)
    return found


class InputCheck:
    """The ranges of one compiled call that are about its own inputs."""

    def __init__(self, lowered: Lowered) -> None:
        module = ir.parse(lowered.as_text("formats"))
        self._rows = _of_inputs(module, lowered.program.public)

    def require_all(self, values: Sequence[Any], held: Collection[int]) -> None:
        """Do `require` for the inputs of one call of a plan. Handles and shapes have no values to hold.

        held: the places of inputs that serve many calls, which are left out.
        """
        for place, value in enumerate(values):
            if place not in held and not is_kept(value) and not isinstance(value, jax.ShapeDtypeStruct):
                self.require(place, value)

    def require(self, place: int, value: Any) -> None:
        """Raise RangeError, with path, line, value and remedy, for an array that leaves its range.

        place: the place of the input in the plan.
        value: its array. NaN and infinity lie outside of every range.
        """
        rows = self._rows.get(place, [])
        if rows:
            seen = span(np.asarray(value, np.float64))
            Ranges(tuple(replace(row, observed=seen) for row in rows)).refuse()
