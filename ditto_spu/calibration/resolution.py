"""Warn of values that are too small for their formats: rounding leaves little of them, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu.calibration.headroom import Range
from ditto_spu.errors import RangeWarning
from ditto_spu.ops.linear import LINEAR
from ditto_spu.rules.rule import INPUT

# Arguments below 8 steps of their format are rounded by more than a sixteenth. Results may join larger ones.
ARGUMENT, RESULT = 8, 2
_NAMED = 3  # so many places are named in one warning


def warn_unresolved(rows: Sequence[Range]) -> None:
    """Warn with a RangeWarning of values that are not all zero, but all below a few steps of their format.

    Arguments, such as weights, have to reach 8 steps, and results 2. The warning names path, largest
    magnitude, format and remedy of the smallest ones.

    rows: ranges with observed values. Those about operands and other quantities are left out, because
        kernels that read coarse operands mean absolute errors. So are sums, which may cancel.
    """
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for row in rows:
        if row.what != "result" or row.observed is None or row.op == LINEAR.name:
            continue
        fxp = Fxp.parse(row.format)
        largest, step = max(map(abs, row.observed)), fxp.ulp
        exact = (largest / step).is_integer()  # as whole numbers and halves of them are
        few = ARGUMENT if row.op == INPUT else RESULT
        if not exact and 0 < largest < few * step:
            found.setdefault((row.path, row.op), (largest / step, _words(row, largest, step)))
    if found:
        texts = [text for _, text in sorted(found.values())]
        more = f"; {len(texts) - _NAMED} more places are as small" if len(texts) > _NAMED else ""
        warnings.warn("; ".join(texts[:_NAMED]) + more, RangeWarning, stacklevel=2)


def _words(row: Range, largest: float, step: float) -> str:
    name = f"argument '{row.path}'" if row.op == INPUT else f"{row.op} at '{row.path}'"
    line = f" ({row.line})" if row.line else ""
    return (
        f"{name}{line}: values reach {largest:.3g}, which is {largest / step:.2g} steps of {row.format} "
        f"(a step is {step:.2g}), so that rounding leaves little of them: give this path more fraction bits, "
        "or scale it up"
    )
