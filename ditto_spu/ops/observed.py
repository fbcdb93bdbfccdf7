"""Note facts about operands during a calibration, for the ranges that several kernels rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.ops.op import Span, span

Operands = Sequence[NDArray[Any]]


def operand(op: ir.Op, operands: Operands) -> Mapping[str, Span]:
    """Return the least and the largest element of the first operand."""
    del op
    return {"operand": span(first(operands))}


def operand_and_second(op: ir.Op, operands: Operands) -> Mapping[str, Span]:
    """Return the least and the largest element of both operands."""
    facts = dict(operand(op, operands))
    second = operands[1] if len(operands) > 1 else None
    if second is not None and np.issubdtype(second.dtype, np.floating):
        facts["second"] = span(second)
    return facts


def first(operands: Operands) -> NDArray[np.float64]:
    """Return the first operand as exact float64 numbers."""
    return np.asarray(operands[0], np.float64)
