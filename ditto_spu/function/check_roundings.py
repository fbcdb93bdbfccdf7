"""Refuse a simulated call whose plaintext answer depends on scores beside a large number that masks them.

Programs mask scores by adding a number such as -1e4 or -1e10. In a row that is masked as a whole, plain JAX
still tells scores apart, in steps of 1024 for -1e10. Shares do not round so, and the compiler takes the row
for one without scores. Here the caller's own values tell whether it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.errors import RangeError
from ditto_spu.ir.locations import UNKNOWN_LINE

# Smaller numbers are no masks, and beside larger ones floats lose everything that shares could hold.
_LEAST, _MOST = 2.0**13, 2.0**60
_TOLERANCE = 2.0**-6  # of the largest output


class RoundingCheck:
    """The traced program of a call, if a constant of the program is large and finite.

    The observer of ranges runs the fused program, unless the configuration replaces functions (Quad).
    """

    def __init__(self, lowered: Lowered) -> None:
        module = ir.parse(lowered.as_text("traced"))
        self._traced = self._fused = ""
        for function in ir.functions(module).values():
            for op in ir.walk(function):
                large = _large(op)
                if large is not None:
                    self._large, self._line = large, _line_of(op)
                    self._traced = lowered.as_text("traced")
                    self._fused = lowered.as_text("fused") if lowered.config.replaces_functions else ""
                    return

    def require(self, arrays: Sequence[Any], observed: Mapping[int, NDArray[Any]]) -> None:
        """Raise RangeError, with the line of the large number, if the traced and the fused program differ.

        arrays: the arrays of the call, in the order of the program's arguments.
        observed: the outputs of the program that the observer ran, by place.
        """
        if not self._traced:
            return
        traced = ir.evaluate(self._traced, arrays)
        fused = dict(enumerate(ir.evaluate(self._fused, arrays))) if self._fused else observed
        for place, compiled in fused.items():
            plain = traced[place]
            if not plain.size or not np.issubdtype(plain.dtype, np.floating):
                continue
            wide = np.asarray(plain, np.float64)
            distance = np.max(np.abs(wide - compiled), initial=0.0)
            if distance > _TOLERANCE * np.max(np.abs(wide)):
                raise RangeError(
                    f"output {place}: {self._large:g} ({self._line}) masks rows as a whole. Plain JAX still "
                    "tells their scores apart, and shares do not: the answers would differ by "
                    f"{distance:.3g}. Mask with jnp.where(mask, x, jnp.finfo(x.dtype).min), and leave out "
                    "such rows"
                )


def _line_of(op: ir.Op) -> str:
    """Return the line where a constant is used, as constants have none."""
    line, users = ir.source_of(op), ir.users(op.results[0])
    return _line_of(users[0]) if line == UNKNOWN_LINE and users and users[0].results else line


def _large(op: ir.Op) -> float | None:
    """Return the element of largest magnitude of a constant, if it is as large as a mask."""
    if op.name != "stablehlo.constant" or not ir.is_float(op.results[0]):
        return None
    values = np.asarray(ir.constant_value(op), np.float64)
    sizes = np.abs(values)
    found = values[(sizes >= _LEAST) & (sizes <= _MOST)]
    return float(found.flat[np.argmax(np.abs(found))]) if found.size else None
