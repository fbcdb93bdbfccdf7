"""Compute a one-hot vector of the place of the largest element.

JAX writes it as `jax.nn.one_hot(jnp.argmax(x, dim), n)`, as decoding does: a comparison of positions with the
indices of a reduction, converted to a float. The pattern recognises this. A plain argmax becomes the sum of
places times such a vector of whole numbers (`passes/fuse/reductions.py`).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, kind, peel, splat, whole
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of, whole_format
from ditto_spu.ops.match import Match
from ditto_spu.ops.op import Choice, Chooser, Formats, Op, Pattern
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER

INDICATOR = Fxp(32, 0)  # the format of zeros and ones
# The comparisons of jnp.argmax: it takes the larger value, NaN before all others, and the first among equals.
_REDUCER = ("GT", "NE", "EQ", "LT")
_LOGIC = {"compare": 4, "or": 2, "and": 1, "select": 2, "return": 1}


def argmax(x: Array, *, dim: int, whole: int = 0) -> Array:
    """Return 1 at the largest element along `dim` (the first among equals) and 0 elsewhere.

    whole: 1 for integers, from which the place itself is computed, and 0 for the type of x.
    """
    places = jnp.arange(x.shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    return (places == jnp.argmax(x, axis=dim, keepdims=True)).astype(jnp.int32 if whole else x.dtype)


def indices_of_extreme(op: ir.Op) -> tuple[ir.Value, int, bool] | None:
    """Return (x, dim, whether the smallest is sought) of a reduction as jnp.argmin or argmax writes it.

    The second result of the reduction is the place. Other reductions give None.
    """
    if len(op.results) != 2 or not _reduces(op):
        return None
    x, dim = op.operands[0], ir.attribute(op, "dimensions")[0]
    return x, dim, _compares(op)[0] == "LT"


def match_argmax(root: ir.Op) -> Match | None:
    """Match a float that is 1 where the position along a dimension equals the argmax along it."""
    compared = ir.define(root.operands[0])
    if compared is None or kind(compared) != "compare" or ir.comparison(compared) != "EQ":
        return None
    for index, places in (compared.operands, tuple(compared.operands)[::-1]):
        seen = peel(whole(index))
        found = _argmax(seen)
        if found is None:
            continue
        x, dim = found
        free = [d for d in range(len(ir.shape(x))) if d != dim]
        lies = [d for d, size in zip(seen.dims, ir.shape(seen.value), strict=True) if size != 1]
        same = ir.shape(x) == ir.shape(root.results[0]) and ir.element(x) == ir.element(root.results[0])
        if same and lies == [d for d in free if ir.shape(x)[d] != 1] and counts_along(places, dim):
            return Match((x,), {"dim": dim})
    return None


def _argmax(seen: Seen) -> tuple[ir.Value, int] | None:
    """Return (x, dim) if the value is the indices of a reduction as jnp.argmax writes it."""
    op = seen.op
    if op is None or kind(op) != "reduce" or len(op.results) != 2 or seen.value != op.results[1]:
        return None
    if not ir.is_float(op.operands[0]) or not _reduces(op) or _compares(op)[0] != "GT":
        return None
    return op.operands[0], ir.attribute(op, "dimensions")[0]


def _compares(op: ir.Op) -> tuple[str, ...]:
    return tuple(ir.comparison(each) for each in ir.ops(op.regions[0].blocks[0]) if kind(each) == "compare")


def _reduces(op: ir.Op) -> bool:
    """Tell whether a reduction of two operands finds the place of an extreme, as JAX writes it."""
    x, positions, least, zero = op.operands
    dims = ir.attribute(op, "dimensions")
    inner = ir.ops(op.regions[0].blocks[0])
    counts = {name: sum(kind(each) == name for each in inner) for name in _LOGIC}
    compares = _compares(op)
    worst = {"GT": min, "LT": max}.get(compares[0] if compares else "")
    if worst is None:
        return False
    ends = (-np.inf, np.inf) if ir.is_float(x) else _ends(ir.dtype(x))
    return (
        len(dims) == 1
        and compares[1:] == _REDUCER[1:]
        and counts == _LOGIC
        and len(inner) == sum(_LOGIC.values())
        and splat(least) == worst(ends)
        and splat(zero) == 0
        and counts_along(positions, dims[0])
    )


def _ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the largest whole number of a dtype."""
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def counts_along(value: ir.Value, dim: int) -> bool:
    """Tell whether a value is its own position along `dim`."""
    seen = peel(whole(value))
    if seen.name != "iota" or seen.op is None:
        return False
    along = seen.dims[ir.attribute(seen.op, "iota_dimension")]
    return along == dim or (along is None and ir.shape(value)[dim] == 1)


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose no fraction bits for zeros and ones, unless a rule or a consumer wants some.

    The operand keeps all its fraction bits, whatever a rule says. A cast that drops some rounds by chance,
    and equal elements would no longer be equal. An argument takes the format of the rule, because encoding
    rounds equal elements alike.
    """
    if not chooser.ruled_format(ARGMAX.name, op):
        default = chooser.wanted(op.results[0]) or whole_format(chooser, op.results[0], INDICATOR.ring_bits)
    operand, asked = op.operands[0], choice.operand
    if not ir.is_float(op.results[0]):
        default = INTEGER
    if not ir.is_float(operand):
        return Formats({operand: INTEGER}, default)
    if not chooser.is_secret(operand):
        return Formats(operands_of(chooser, op, choice, main=1), default)
    own = chooser.settle(operand, asked or chooser.default_format)
    exact = asked is not None and asked.fraction_bits >= own.fraction_bits
    return Formats({operand: asked if exact and asked is not None else own}, default)


def one_hot_rows(op: ir.Op, at: ir.At) -> ir.Rows:
    """Bound the vectors of zeros and a single one."""
    del at
    return ir.Rows(int(ir.composite_attributes(op)["dim"]), 1.0, 1.0)


ARGMAX = Op(
    name="argmax",
    summary="a one-hot vector of the place of the largest element",
    kernels={"ditto.argmax": "argmax"},
    bounds=(0.0, 1.0),
    rows=one_hot_rows,
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.convert",), match_argmax, argmax),
    extra=lambda call: (("dim", int(ir.composite_attributes(call.op)["dim"])),),
    formats=choose_formats,
    mixed=lambda op: True,
    puma=argmax,  # SPU computes it in its own way
    facts=observed.operand,
    search=Tries(decides=True),
)
