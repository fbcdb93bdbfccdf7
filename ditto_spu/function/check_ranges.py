"""Hold the values of a simulated call against every range that its plan relies on.

The simulation has the caller's own values at hand. So the plaintext program runs beside the parties, and a
value that leaves a range is an error with its place, never a wrong result. Parties on hosts have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto_spu import ir
from ditto_spu.calibration.headroom import Ranges, relied_on
from ditto_spu.calibration.observe import Observer
from ditto_spu.compiler import Lowered
from ditto_spu.runtime.client import check_input


class RangeCheck:
    """The ranges of one compiled call, and the plaintext program that observes its values."""

    def __init__(self, lowered: Lowered) -> None:
        self._plan = lowered.plan
        self._observer = Observer(lowered.traced, lowered.config)
        module = ir.parse(lowered.as_text("formats"))
        self._rows = list(relied_on(module, lowered.program.public))

    def require(self, values: Sequence[Any]) -> None:
        """Raise RangeError, with path, line, value and remedy, for the value that leaves its range furthest.

        Inputs that cannot be shared raise the errors of sharing.

        values: one array for each input of the plan.
        """
        for entry, value in zip(self._plan.inputs, values, strict=True):
            check_input(self._plan, entry, value)
        seen = self._observer.extremes(values)
        Ranges(tuple(row.seen(seen.get(number)) for number, row in self._rows)).refuse()
