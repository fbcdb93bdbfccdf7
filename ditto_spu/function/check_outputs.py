"""Hold the results of a simulated call against the plaintext program: lost digits are never silent.

Every value may stay in its range and yet lose its digits, where it lies near the step of its format: a square
of 0.001 has a quarter of a step at 18 fraction bits. Whether that matters shows in the results alone. Here
the caller's own results are at hand in plaintext, and so no rule has to guess.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.errors import RangeError, RangeWarning
from ditto_spu.frontend.kept_arguments import is_kept
from ditto_spu.function.place_of_loss import place_of_loss, steps

OFF = 2.0**-6  # an output may differ from plaintext by this part of its largest value
_PLAUSIBLE = 2.0  # by so many times the largest value, and 1, no rounding moves an output
_NOTHING = 2.0**-10  # an output that is exactly 0 in plaintext may differ by so much
_FEW = 2.0**7  # steps of an output's format, of which kernels lose up to two
_FLOATS = 2.0**12  # an output may differ by so many times what float32 loses itself


def _largest(value: Any) -> float:
    return float(np.max(np.abs(np.asarray(value, np.float64)), initial=0.0))


def _apart(left: Any, right: Any) -> float:
    return _largest(np.asarray(left, np.float64) - np.asarray(right, np.float64))


@dataclass(frozen=True)
class Expected:
    """What a call returns in plaintext.

    lowered: the compiled call.
    values: one array for each input of the plan.
    arrays: the arrays of the call.
    returned: outputs of the plaintext program, by place.
    """

    lowered: Lowered
    values: Sequence[Any]
    arrays: Sequence[Any]
    returned: Mapping[int, NDArray[Any]]

    def hold(self, outputs: Sequence[Any]) -> None:
        """Warn with a RangeWarning of each output that is off by more than 1/64 of its largest value.

        The warning names the place where the digits were lost, as far as the formats lose them. An output of
        which float32 itself keeps no digits, such as the difference of equal values, is left alone.

        outputs: the results of a run, of which some may be handles.
        Raises RangeError for the first output that lies far outside of everything that plaintext returns.
        """
        for place, expected in self.returned.items():
            got = outputs[place]
            if is_kept(got) or not np.issubdtype(expected.dtype, np.floating):
                continue
            worst, largest = _apart(got, expected), _largest(expected)
            if worst <= (OFF * largest or _NOTHING):
                continue
            what = (
                f"output {place} is off by {worst:.4g} from the plaintext program, whose largest value is "
                f"{largest:.4g}: {self._reason(place, largest)}"
            )
            if worst > _PLAUSIBLE * largest + 1:
                raise RangeError(what)
            if worst > _FLOATS * self._lost_by_floats(place):
                warnings.warn(what, RangeWarning, stacklevel=1)

    def _lost_by_floats(self, place: int) -> float:
        """Return how far the program in float32 is from the one in float64, or 0 where that is unknown."""
        text = self.lowered.as_text("fused")
        try:
            precise = ir.evaluate(ir.widened(text), self.arrays)[place]
        except Exception:  # XLA and MLIR have errors of their own, and there is no such program then
            return 0.0
        return _apart(ir.evaluate(text, self.arrays)[place], precise)

    def _reason(self, place: int, largest: float) -> str:
        """Say why an output lost its digits."""
        plan = self.lowered.plan
        fxp = plan.vars[plan.outputs[place]].fxp
        if fxp is not None and largest < _FEW * fxp.ulp:
            return f"the output {steps(largest, fxp)}"
        return place_of_loss(self.lowered, self.values, place)
