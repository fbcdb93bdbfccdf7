"""Hold the values of a simulated call against every range that its plan relies on.

The simulation has the caller's own values at hand. So the plaintext program runs beside the parties, and a
value that leaves a range is an error with its place, never a wrong result. Parties on hosts have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ditto_spu import ir
from ditto_spu.calibration.headroom import Ranges
from ditto_spu.calibration.observe import Observer
from ditto_spu.calibration.relied_on import argument_ranges, relied_on
from ditto_spu.calibration.resolution import warn_unresolved
from ditto_spu.compiler import Lowered
from ditto_spu.function.check_fills import FillCheck
from ditto_spu.function.check_infinity import refuse_infinity
from ditto_spu.function.check_outputs import Expected
from ditto_spu.function.check_roundings import RoundingCheck
from ditto_spu.passes.pipeline import Work, advance
from ditto_spu.runtime.client import check_extremes, check_shape


class RangeCheck:
    """The ranges of one compiled call, and the plaintext program that observes its values."""

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered
        self._fills = FillCheck(lowered.traced)
        self._roundings = RoundingCheck(lowered)
        parts = Work(lowered.program.module, lowered.traced, lowered.program, done="hoist")
        self._observer = Observer(advance(parts, "linearise"), lowered.config)
        module = ir.parse(lowered.as_text("formats"))
        self._rows = list(relied_on(module, lowered.program.public))
        self._inputs = argument_ranges(module, lowered.program.paths)

    def require(self, values: Sequence[Any], arrays: Sequence[Any]) -> Expected:
        """Raise RangeError, with path, line, value and remedy, for the value that leaves its range furthest.

        Inputs that cannot be shared raise the errors of sharing. Values that are too small for their formats
        are a RangeWarning. Returns what the plaintext program returns.

        values: one array for each input of the plan.
        arrays: the arrays of the call, from which owners may have prepared `values`.
        """
        for entry, value in zip(self._lowered.plan.inputs, values, strict=True):
            check_shape(self._lowered.plan, entry, value)
        seen = self._observer.extremes(values)
        for entry, ends in zip(self._lowered.plan.inputs, seen.arguments, strict=True):
            if ends is not None:
                check_extremes(self._lowered.plan, entry, ends)
        self._fills.require(arrays)
        refuse_infinity(self._lowered, seen.returned)
        Ranges(tuple(row.seen(seen.values.get(number)) for number, row in self._rows)).refuse()
        self._roundings.require(arrays, seen.returned)
        given = [replace(row, observed=seen.arguments[place]) for place, row in self._inputs]
        warn_unresolved(given)
        return Expected(self._lowered, values, arrays, seen.returned)
