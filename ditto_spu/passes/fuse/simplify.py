"""Remove arithmetic that JAX leaves behind or spells out, and that would cost a protocol."""

import math

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import close, kind, splat
from ditto_spu.ops.sigmoid import LOGISTIC
from ditto_spu.passes.fuse.drop_transposes import untransposed

LOWEST = -3e38  # a number at or below this is -infinity, or the least finite one
_NEUTRAL = {"maximum": (-math.inf, LOWEST), "minimum": (-LOWEST, math.inf)}  # ends of what changes nothing


def simplify(module: ir.Module, fills: bool = True) -> None:
    """Rewrite arithmetic of @main in place.

    fills: whether to leave out the selection of NaN for an index out of range.

    These forms become simpler: times 1, plus 0, maximum with −∞, boolean → number → boolean, the logistic
        function in several operations, and products of transposed operands.
    """
    for op in list(ir.walk(ir.main(module))):
        if len(op.results) != 1:
            continue
        new = op.operands[1] if fills and is_filled_gather(op) else _replacement(op)
        if new is not None and new.type == op.results[0].type:
            ir.replace_all_uses(op.results[0], new)
    ir.erase_dead(ir.body(ir.main(module)))


def _replacement(op: ir.Op) -> ir.Value | None:
    name = kind(op)
    if name == "convert":
        return op.operands[0]  # `simplify` takes it only where the type is the same
    if name in ("multiply", "divide", "add", "subtract", *_NEUTRAL):
        if (whole := _undone_scale(op)) is not None:
            return whole
        left, right = op.operands
        a, b = splat(left), splat(right)
        if (name in ("multiply", "divide") and b == 1) or (name in ("add", "subtract") and b == 0):
            return left
        if (name == "multiply" and a == 1) or (name == "add" and a == 0):
            return right
        if name in _NEUTRAL and ir.is_float(left):
            low, high = _NEUTRAL[name]
            neutral = [each is not None and low <= each <= high for each in (a, b)]
            return right if neutral[0] else left if neutral[1] else None
        return _logistic(op) if name == "divide" else None
    if name == "select":
        chosen = splat(op.operands[0])
        return None if chosen is None else op.operands[1 if chosen else 2]
    if name == "compare":
        return _truth(op)
    if name == "transpose":
        return _undone(op)
    if name == "dot_general":
        return _filled_dot(op) or untransposed(op)
    return None


def _logistic(op: ir.Op) -> ir.Value | None:
    """Return 1 / (1 + exp(-x)), as JAX lowers its sigmoid on a CPU, in one operation.

    The numerator may also be x.
    """
    total = ir.define(op.operands[1])
    if kind(total) != "add" or total is None:
        return None
    for one, term in ((total.operands[0], total.operands[1]), (total.operands[1], total.operands[0])):
        power = ir.define(term)
        if splat(one) != 1 or power is None or kind(power) != "exponential":
            continue
        minus = ir.define(power.operands[0])
        if minus is None or kind(minus) != "negate":
            continue
        x = minus.operands[0]
        if op.operands[0] != x and splat(op.operands[0]) != 1:
            continue
        step = ir.unary(LOGISTIC, x, op, op.location)
        return step if op.operands[0] != x else ir.emit(jnp.multiply, [x, step], op, op.location)[0]
    return None


def is_filled_gather(op: ir.Op) -> bool:
    """Tell whether a select takes NaN in place of rows where JAX finds an index out of range.

    The nearest row is taken then.
    """
    if kind(op) != "select":
        return False
    rows, fill = ir.define(op.operands[1]), splat(op.operands[2])
    return kind(rows) == "gather" and fill is not None and fill != fill


def _undone_scale(op: ir.Op) -> ir.Value | None:
    """Return x where it is multiplied by a constant and then divided by the same constant.

    T5 undoes Flax's scale in this way.
    """
    outer = _constant_factor(op)
    inner = None if outer is None else _constant_factor(ir.define(outer[0]))
    return inner[0] if outer and inner and close(outer[1] * inner[1], 1.0, 1e-6) else None


def _constant_factor(op: ir.Op | None) -> tuple[ir.Value, float] | None:
    """Return (x, c) if an operation computes c * x for a constant c, else None."""
    if op is None or kind(op) not in ("multiply", "divide") or not ir.is_float(op.results[0]):
        return None
    left, right = op.operands
    for x, constant in ((left, right), (right, left))[: 2 if kind(op) == "multiply" else 1]:
        if number := splat(constant):
            return x, number if kind(op) == "multiply" else 1 / number
    return None


def _undone(op: ir.Op) -> ir.Value | None:
    """Return the value that one transposition, or two of them, leave unchanged, else None."""
    order, value = ir.attribute(op, "permutation"), op.operands[0]
    inner = ir.define(value)
    if inner is not None and kind(inner) == "transpose":
        first = ir.attribute(inner, "permutation")
        order, value = tuple(first[i] for i in order), inner.operands[0]
    return value if order == tuple(range(len(order))) else None


def _truth(op: ir.Op) -> ir.Value | None:
    """Return the boolean b where it was converted to a number only to be compared with 0."""
    source = ir.define(op.operands[0])
    if kind(source) != "convert" or source is None or splat(op.operands[1]) != 0:
        return None
    return (
        source.operands[0]
        if ir.comparison(op) in ("NE", "GT") and ir.element(source.operands[0]) == "i1"
        else None
    )


def _filled_dot(op: ir.Op) -> ir.Value | None:
    """Write a dot_general without a sum, and with one factor of equal elements, as a broadcast.

    The other factor is transposed where necessary.
    """
    if ir.dimensions(op, "dot_general", "lhs_contracting_dimensions"):
        return None
    for side, constant in (("rhs", 0), ("lhs", 1)):
        number = splat(op.operands[constant])
        if number is None:
            continue
        data = op.operands[1 - constant]
        batch = ir.dimensions(op, "dot_general", f"{side}_batching_dimensions")
        free = [d for d in range(len(ir.shape(data))) if d not in batch]
        result = ir.shape(op.results[0])
        # The result has the batch dimensions first, then those of the left operand, then those of the right.
        first = len(result) - len(free) if side == "rhs" else len(batch)
        places = (*range(len(batch)), *range(first, first + len(free)))
        order = (*batch, *free)

        def meaning(
            x: Array,
            order: tuple[int, ...] = order,
            places: tuple[int, ...] = places,
            number: float = number,
            result: tuple[int, ...] = result,
        ) -> Array:
            spread = lax.broadcast_in_dim(jnp.transpose(x, order), result, places)
            return spread if number == 1 else spread * jnp.asarray(number, x.dtype)

        return ir.emit(meaning, [data], op, op.location)[0]
    return None
