"""Take mask and scale out of the input of each softmax. This is a part of fuse.

The mask becomes an operand of the composite, and the scale an attribute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import DEPTH, Seen, affine, binary, kind, peel, splat, whole
from ditto_spu.ops.softmax import SOFTMAX, softmax
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.fuse.softmax_masks import MASKED, Mask, joined

LAYOUT = ("transpose", "reshape", "broadcast_in_dim", "convert")


@dataclass(frozen=True)
class Scores:
    """The input of a softmax, taken apart.

    It means softmax(scale * x + the sum of the public biases), where all of `masks` are true.

    levels: public biases of which any element may be a number that masks.
    """

    x: ir.Value
    scale: float
    masks: tuple[Mask, ...] = ()
    biases: tuple[ir.Value, ...] = ()
    levels: tuple[ir.Value, ...] = ()


def rewrite_scores(module: ir.Module, public: Sequence[bool]) -> None:
    """Rewrite every softmax of @main in place. `public` tells whether each argument is public."""
    for op in list(ir.walk(ir.main(module))):
        if ir.composite_name(op) != SOFTMAX.composite:
            continue
        attributes = ir.composite_attributes(op)
        secret = visibility(module, public)
        scores = Scores(op.operands[0], attributes["scale"], tuple(map(Mask, list(op.operands)[1:])))
        for _ in range(DEPTH):
            inner = _stripped(scores, op, secret)
            if inner is None:
                break
            scores = inner
        attributes["scale"] = scores.scale * (_take_scale(scores.x) if len(ir.users(scores.x)) == 1 else 1.0)
        mask, biases = joined(scores.masks, scores.levels, attributes["dim"], op)
        biases += scores.biases
        operands = [scores.x]
        if biases:
            scale = attributes["scale"]
            rest = ir.emit(lambda *biases, scale=scale: sum(biases) / scale, biases, op, op.location)
            operands = ir.emit(jnp.add, [scores.x, *rest], op, op.location)
        operands += mask
        made = ir.composite(
            module, SOFTMAX.composite, partial(softmax, **attributes), operands, attributes, op, op.location
        )
        ir.replace_all_uses(op.results[0], made)
        op.erase()


def _stripped(scores: Scores, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Scores | None:
    """Return the scores without their outermost scale, mask or bias, or None if there is none."""
    op = ir.define(scores.x)
    if op is None:
        return None
    name = kind(op)
    if name == "negate":
        return replace(scores, x=op.operands[0], scale=-scores.scale)
    if name in ("multiply", "divide"):
        return _without_scale(scores, op)
    if name == "select":
        return _without_select(scores, op, at, secret)
    if name == "convert":
        return _below_convert(scores, op, at, secret)
    if name not in ("add", "subtract"):
        return None
    return _without_bias(scores, op, at, secret) or _regrouped(scores, op, at, secret)


def _without_scale(scores: Scores, op: ir.Op) -> Scores | None:
    found = _scaled(op)
    return None if found is None else replace(scores, x=op.operands[found[0]], scale=scores.scale * found[1])


def _scaled(op: ir.Op) -> tuple[int, float] | None:
    """Return (operand, c) if an operation computes that operand times the constant c, else None."""
    for data in {"multiply": (0, 1), "divide": (0,)}.get(kind(op), ()):
        number = splat(op.operands[1 - data])
        if number is not None and number != 0 and np.isfinite(number):
            return data, number if kind(op) == "multiply" else 1 / number
    return None


def _without_select(scores: Scores, op: ir.Op, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Scores | None:
    """Take a mask out of select(keep, x, -big) or select(drop, -big, x)."""
    for data in (1, 2):
        low = splat(op.operands[3 - data])
        if low is not None and low * scores.scale <= MASKED:
            value = _spread(whole(op.operands[0]), scores.x, data == 1, at)
            mask = Mask(value, None if secret.get(op.operands[0], True) else -np.inf)
            return replace(scores, x=op.operands[data], masks=(*scores.masks, mask))
    return None


def _below_convert(scores: Scores, op: ir.Op, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Scores | None:
    """Take a mask out of x where its scores have another float type, as attention in float64 has."""
    (inner,) = op.operands
    select = ir.define(inner)
    if select is None or kind(select) != "select" or not ir.is_float(inner):
        return None
    dtype = ir.dtype(scores.x)
    found = _without_select(replace(scores, x=inner), select, at, secret)
    if found is None:
        return None
    x = ir.emit(lambda b: b.astype(dtype), [found.x], at, at.location)[0]
    return replace(found, x=x)


def _without_bias(scores: Scores, op: ir.Op, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Scores | None:
    """Take the bias out of x ± bias, if it is a mask or public.

    A mask is 0, or any one number, at kept positions and -big elsewhere.
    """
    first, second = op.operands
    orders = ((first, second), (second, first)) if kind(op) == "add" else ((first, second),)
    scale = scores.scale if kind(op) == "add" else -scores.scale
    for x, bias in orders:
        mask = _mask_of(bias, scale, at, secret)
        if mask is not None:
            return replace(scores, x=x, masks=(*scores.masks, mask))
        # A value that this pass has computed is missing from `secret`. It is never a bias of the user's.
        if secret.get(bias, True) or not secret.get(x, True):
            continue
        if not _may_mask(bias):
            rest = ir.emit(lambda b: b * jnp.asarray(scale, b.dtype), [bias], at, at.location)[0]
            return replace(scores, x=x, biases=(*scores.biases, rest))
        (level,) = ir.emit(lambda b: b * jnp.asarray(scale, b.dtype), [bias], at, at.location)
        if _is_zero_or_low(bias, scale):
            (value,) = ir.emit(lambda b: b > MASKED, [level], at, at.location)
            return replace(scores, x=x, masks=(*scores.masks, Mask(value, -np.inf)))
        return replace(scores, x=x, levels=(*scores.levels, level))
    return None


def _regrouped(scores: Scores, op: ir.Op, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Scores | None:
    """Write x + (a + public) as (x + a) + public, and take a mask out of x + (a + mask).

    T5 adds its mask to secret biases of positions.
    """
    for x, total in binary(op) if kind(op) == "add" else ():
        inner = ir.define(total)
        if kind(inner) != "add" or inner is None or not secret.get(total, True):
            continue
        for a, bias in binary(inner):
            mask = _mask_of(bias, scores.scale, at, secret) if secret.get(bias, True) else None
            if mask is not None or not secret.get(bias, True):
                first = ir.emit(jnp.add, [x, a], at, at.location)[0]
                if mask is not None:
                    return replace(scores, x=first, masks=(*scores.masks, mask))
                return replace(scores, x=ir.emit(jnp.add, [first, bias], at, at.location)[0])
    return None


def _is_zero_or_low(bias: ir.Value, scale: float) -> bool:
    """Tell whether a bias is a constant array that only masks."""
    op = peel(whole(bias)).op
    if op is None or kind(op) != "constant":
        return False
    scaled = np.asarray(ir.constant_value(op), np.float64) * scale
    return bool(((scaled == 0) | (scaled <= MASKED)).all())


def _may_mask(bias: ir.Value) -> bool:
    """Tell whether a public bias can hold minus infinity or a similar number.

    Such a number comes from a large constant or from an input.
    """
    seen: set[ir.Value] = set()
    pending = [bias]
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        op = ir.define(value)
        if op is None:
            if ir.is_float(value):
                return True
        elif kind(op) == "constant" and ir.is_float(value):
            array = np.asarray(ir.constant_value(op), np.float64)
            if array.size and np.abs(array).max() >= -MASKED:
                return True
        else:
            pending += op.operands
    return False


def _mask_of(bias: ir.Value, scale: float, at: ir.Op, secret: Mapping[ir.Value, bool]) -> Mask | None:
    """Return the mask of a bias that takes two values, one of which is -big.

    The mask is true where the bias has the other value.
    """
    form = affine(whole(bias))
    op, pred = form.base.op, form.base
    if op is not None and kind(op) == "select":
        ends = [splat(each) for each in op.operands[1:]]
        pred = Seen(op.operands[0], form.base.dims if ir.shape(op.operands[0]) else ())
    elif op is not None and kind(op) == "convert" and not ir.is_float(op.operands[0]):
        ends, pred = [1.0, 0.0], form.base.operand(0)
    else:
        ends = [1.0, 0.0]
    if any(each is None for each in ends):
        return None
    high, low = (
        scale * (form.factor * end + form.offset if end else form.offset) for end in ends if end is not None
    )
    if np.isnan(high) or np.isnan(low) or (high > MASKED) == (low > MASKED):
        return None
    if ir.element(pred.value) != "i1" and not secret.get(pred.value, True):
        # A public number may differ from 0 and 1, so it is compared as it is.
        return None
    added = None if secret.get(pred.value, True) else -abs(high - low)
    return Mask(_spread(pred, bias, high > MASKED, at), added)


def _spread(pred: Seen, like: ir.Value, keep: bool, at: ir.Op) -> ir.Value:
    """Return the boolean tensor, of the shape of `like`, that `pred` means there.

    The tensor is negated unless `keep` is set.
    """
    shape = ir.shape(like)

    def meaning(p: Array) -> Array:
        long = [i for i, size in enumerate(p.shape) if size != 1]
        dims = [pred.dims[i] for i in long]
        order = sorted(range(len(long)), key=lambda i: dims[i] or 0)
        p = jnp.transpose(jnp.reshape(p, [p.shape[i] for i in long]), order)
        truth = p if p.dtype == bool else p > 0.5 if jnp.issubdtype(p.dtype, jnp.floating) else p != 0
        return lax.broadcast_in_dim(truth if keep else ~truth, shape, [dims[i] or 0 for i in order])

    return ir.emit(meaning, [pred.value], at, at.location)[0]


def _take_scale(value: ir.Value) -> float:
    """Remove constant factors from the operands of `value`, and return their product.

    `value` must be a product or a rearrangement, and must have one user. A factor is removed only where no
    other operation sees the change.
    """
    op = ir.define(value)
    taken = 1.0
    if op is None or kind(op) not in (*LAYOUT, "dot_general"):
        return taken
    for index in range(2 if kind(op) == "dot_general" else 1):
        while (source := ir.define(op.operands[index])) is not None and len(
            ir.users(op.operands[index])
        ) == 1:
            found = _scaled(source)
            if found is None:
                taken *= _take_scale(op.operands[index])
                break
            taken *= found[1]
            op.operands[index] = source.operands[found[0]]
            source.erase()
    return taken
