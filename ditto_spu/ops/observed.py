"""What observers of a calibration note about operands, for the ranges that several kernels rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.ops.op import Span, span

Operands = Sequence[NDArray[Any]]


def operand(op: ir.Op, operands: Operands) -> Mapping[str, Span]:
    """Least and most of the first operand."""
    del op
    return {"operand": span(first(operands))}


def operand_and_second(op: ir.Op, operands: Operands) -> Mapping[str, Span]:
    """Least and most of both operands."""
    facts = dict(operand(op, operands))
    second = operands[1] if len(operands) > 1 else None
    if second is not None and np.issubdtype(second.dtype, np.floating):
        facts["second"] = span(second)
    return facts


def first(operands: Operands) -> NDArray[np.float64]:
    """The first operand, exact."""
    return np.asarray(operands[0], np.float64)
