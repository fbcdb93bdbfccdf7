"""Choose between two values by a secret boolean.

JAX writes `jnp.where(p, x, y)`, which is `stablehlo.select`, so no pattern is needed. A public boolean
chooses locally.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.observed import Facts, Operands, extremes
from ditto_spu.ops.op import Choice, Chooser, Formats, Op
from ditto_spu.ops.public_operands import constant
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER, SPU_FORMAT


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let the branches meet in one format. It has ring 64 where a public constant needs that."""
    formats = operands_of(chooser, op, choice, main=3, shared_public=False)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    branches = {each: fxp for each, fxp in formats.items() if ir.is_float(each)}
    meet = meeting(branches) if branches else choice.operand or default
    if any(_largest(each) >= meet.limit / 2 for each in list(op.operands)[1:] if not chooser.is_secret(each)):
        meet = Fxp(64, min(meet.fraction_bits, SPU_FORMAT.fraction_bits))
    return Formats(formats | dict.fromkeys(branches, meet), meet)


def _largest(value: ir.Value) -> float:
    """Return the largest magnitude of a constant, or 0 for other values."""
    known = constant(value)
    return 0.0 if known is None else float(np.max(np.abs(np.asarray(known, np.float64)), initial=0.0))


def serves(op: ir.Op) -> bool:
    """Tell whether every constant among the branches has a place in ring 64, which infinity has not."""
    limit = SPU_FORMAT.limit / 2
    return not ir.is_float(op.results[0]) or all(_largest(each) < limit for each in list(op.operands)[1:])


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element that is taken from the first branch.

    The others may be anything: the difference of the branches wraps without harm.
    """
    del op
    taken = jnp.broadcast_to(operands[0], operands[1].shape)
    return {"second": extremes(operands[1], taken)}


SELECT = Op(
    name="select",
    summary="a choice between two values by a secret boolean",
    kernels={"stablehlo.select": "select"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format",),  # the result has the format of the branches
    mixed=serves,
    facts=observe,
    search=Tries(slopes=slopes.passed),
)
