"""Warn of values that are too small for their formats: rounding leaves little of them, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu.calibration.headroom import Range
from ditto_spu.errors import RangeWarning
from ditto_spu.rules.rule import INPUT

STEPS = 8  # arguments below so many steps of their format are rounded by more than a sixteenth
_NAMED = 3  # so many places are named in one warning


def warn_unresolved(rows: Sequence[Range]) -> None:
    """Warn with a RangeWarning of arguments that are not all zero, but all below 8 steps of their format.

    The warning names path, largest magnitude, format and remedy of the smallest ones. What is computed may be
    small without harm, as a residual is, or join larger numbers.

    rows: ranges with observed values.
    """
    found: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row.what != "result" or row.observed is None or row.op != INPUT:
            continue
        fxp = Fxp.parse(row.format)
        largest, step = max(map(abs, row.observed)), fxp.ulp
        exact = (largest / step).is_integer()  # as whole numbers and halves of them are
        if not exact and 0 < largest < STEPS * step:
            found.setdefault(row.path, (largest / step, _words(row, largest, step)))
    if found:
        texts = [text for _, text in sorted(found.values())]
        more = f"; {len(texts) - _NAMED} more places are as small" if len(texts) > _NAMED else ""
        warnings.warn("; ".join(texts[:_NAMED]) + more, RangeWarning, stacklevel=2)


def _words(row: Range, largest: float, step: float) -> str:
    return (
        f"argument '{row.path}': values reach {largest:.3g}, which is {largest / step:.2g} steps of "
        f"{row.format} (a step is {step:.2g}), so that rounding leaves little of them: give this path more "
        "fraction bits, or scale it up"
    )
