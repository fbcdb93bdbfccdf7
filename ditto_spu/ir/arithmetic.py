"""Read arithmetic off StableHLO.

The functions tell whether a value is a broadcast, a constant, a polynomial, a sum or a mean of other values.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ditto_spu import ir

# For each dimension of a value, the dimension of an outer value that it lies along, or None if it has size 1.
Dims = tuple[int | None, ...]
DEPTH = 16  # how many operations an analysis follows


@dataclass(frozen=True)
class Seen:
    """A value, and how it lies in the outer value from which it was reached."""

    value: ir.Value
    dims: Dims

    @property
    def op(self) -> ir.Op | None:
        """The operation that computes the value, or None for an argument."""
        return ir.define(self.value)

    @property
    def name(self) -> str:
        """The operation's name without its dialect, or ''."""
        return kind(self.op)

    def operand(self, index: int) -> "Seen":
        """Return an operand of an elementwise operation. It lies as the operation's result does."""
        assert self.op is not None
        return Seen(self.op.operands[index], self.dims)


def kind(op: ir.Op | None) -> str:
    """Return the operation's name without its dialect, or '' for None."""
    return "" if op is None else op.name.partition(".")[2]


def whole(value: ir.Value) -> Seen:
    """Return the value as seen from itself."""
    return Seen(value, tuple(range(len(ir.shape(value)))))


def peel(seen: Seen) -> Seen:
    """Step through broadcasts, transposes, reshapes of size-1 dimensions, and float conversions."""
    while (op := seen.op) is not None:
        found = kind(op)
        if found not in ("broadcast_in_dim", "reshape", "transpose", "convert"):
            break
        source = op.operands[0]
        if found == "broadcast_in_dim":
            sizes = zip(ir.attribute(op, "broadcast_dimensions"), ir.shape(source), strict=True)
            dims: list[int | None] = [None if size == 1 else seen.dims[d] for d, size in sizes]
        elif found == "transpose":
            permutation = ir.attribute(op, "permutation")
            dims = [seen.dims[permutation.index(i)] for i in range(len(permutation))]
        elif found == "reshape":
            old = [d for d, size in zip(seen.dims, ir.shape(seen.value), strict=True) if size != 1]
            if [s for s in ir.shape(source) if s != 1] != [s for s in ir.shape(seen.value) if s != 1]:
                break
            dims = [None if size == 1 else old.pop(0) for size in ir.shape(source)]
        else:
            if not (ir.is_float(source) and ir.is_float(seen.value)):
                break
            dims = list(seen.dims)
        seen = Seen(source, tuple(dims))
    return seen


_FOLD: Mapping[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b if b else math.nan,
    "power": lambda a, b: a**b if a > 0 else math.nan,
    "negate": lambda a: -a,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
    "rsqrt": lambda a: 1 / math.sqrt(a) if a > 0 else math.nan,
}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "GE": operator.ge,
    "GT": operator.gt,
    "LE": operator.le,
    "LT": operator.lt,
}
_SAME = ("broadcast_in_dim", "reshape", "transpose", "slice", "convert")


def splat(value: ir.Value, depth: int = DEPTH) -> float | None:
    """Return the number that every element of a constant value has, or None.

    Arithmetic on constants is folded.
    """
    op = ir.define(value)
    if op is None or depth == 0:
        return None
    name = kind(op)
    if name == "constant":
        if not ir.is_known(value):
            return None
        array = ir.constant_value(op)
        if array.size == 0 or (array != array.flat[0]).any():
            return float("nan") if array.size and _all_nan(array) else None
        return float(array.flat[0])
    if name in _SAME:
        number = splat(op.operands[0], depth - 1)
        if name == "convert" and number is not None and not ir.is_known(value):
            return None
        if name == "convert" and number is not None and not ir.is_float(value) and math.isfinite(number):
            return float(number != 0) if ir.element(value) == "i1" else float(int(number))
        return number
    if name not in (*_FOLD, "compare") or (name == "divide" and not ir.is_float(value)):
        return None
    numbers = []
    for each in op.operands:
        number = splat(each, depth - 1)
        if number is None:
            return None
        numbers.append(number)
    if name == "compare":
        return float(_COMPARE[ir.comparison(op)](*numbers))
    return _FOLD[name](*numbers)


def _all_nan(array: np.ndarray) -> bool:
    return bool(np.isnan(np.asarray(array, np.float64)).all())


def close(number: float | None, target: float, tolerance: float = 5e-3) -> bool:
    """Tell whether a folded constant is `target`, by default up to the rounding of bfloat16."""
    return number is not None and abs(number - target) <= tolerance * max(abs(target), 1e-30)


def binary(op: ir.Op) -> tuple[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]:
    """Return both orders of the operands of a commutative operation."""
    a, b = op.operands
    return (a, b), (b, a)


@dataclass(frozen=True)
class Affine:
    """The value factor * base + offset."""

    base: Seen
    factor: float
    offset: float


def affine(seen: Seen) -> Affine:
    """Follow additions and multiplications of constants down to the value that they act on."""
    factor, offset = 1.0, 0.0
    for _ in range(DEPTH):
        seen = peel(seen)
        name, op = seen.name, seen.op
        if name == "negate":
            factor, seen = -factor, seen.operand(0)
            continue
        if op is None or name not in ("add", "subtract", "multiply", "divide") or not ir.is_float(seen.value):
            break
        left, right = splat(op.operands[0]), splat(op.operands[1])
        if name in ("add", "subtract") and right is not None:
            offset, seen = offset + factor * (right if name == "add" else -right), seen.operand(0)
        elif name in ("add", "subtract") and left is not None:
            offset, seen = offset + factor * left, seen.operand(1)
            factor = factor if name == "add" else -factor
        elif name == "multiply" and (right is not None or left is not None):
            factor *= right if right is not None else left  # type: ignore[operator]
            seen = seen.operand(0 if right is not None else 1)
        elif name == "divide" and right:
            factor, seen = factor / right, seen.operand(0)
        else:
            break
    return Affine(seen, factor, offset)


def polynomial(value: ir.Value, base: ir.Value, depth: int = DEPTH) -> dict[int, float] | None:
    """Return the coefficients by power if `value` is a polynomial in `base`, else None."""
    if value == base:
        return {1: 1.0}
    if (number := splat(value)) is not None:
        return {0: number}
    op = ir.define(value)
    name = kind(op)
    if (
        op is None
        or depth == 0
        or name not in ("add", "subtract", "multiply", "divide", "negate", "power", "square")
    ):
        return None
    if name == "power":
        exponent = splat(op.operands[1])
        return {int(exponent): 1.0} if op.operands[0] == base and exponent in (2.0, 3.0) else None
    parts = []
    for each in op.operands:
        part = polynomial(each, base, depth - 1)
        if part is None:
            return None
        parts.append(part)
    if name == "negate":
        return {power: -c for power, c in parts[0].items()}
    if name == "divide":
        return (
            {p: c / parts[1][0] for p, c in parts[0].items()}
            if set(parts[1]) == {0} and parts[1][0]
            else None
        )
    if name in ("multiply", "square"):
        product: dict[int, float] = {}
        for p, c in parts[0].items():
            for q, d in parts[-1].items():
                product[p + q] = product.get(p + q, 0.0) + c * d
        return product
    sign = 1.0 if name == "add" else -1.0
    return {p: parts[0].get(p, 0.0) + sign * parts[1].get(p, 0.0) for p in {*parts[0], *parts[1]}}


def reduction(op: ir.Op | None) -> str:
    """Return the operation ("add", "maximum") that a stablehlo.reduce of one operand repeats, or ''."""
    if kind(op) != "reduce" or op is None or len(op.operands) != 2:
        return ""
    inner = ir.ops(op.regions[0].blocks[0])
    return kind(inner[0]) if len(inner) == 2 else ""


def row_sum(seen: Seen) -> tuple[ir.Value, int] | None:
    """Return (x, dim) if the value is the sum of x over dim, else None.

    The sum must be spread over the same rows of an outer value as x.
    """
    seen = peel(seen)
    op = seen.op
    if op is None or reduction(op) != "add" or splat(op.operands[1]) != 0:
        return None
    x, over = op.operands[0], ir.attribute(op, "dimensions")
    if len(over) != 1:
        return None
    kept = [d for d in range(len(ir.shape(x))) if d != over[0]]
    if any(ir.shape(x)[k] != 1 and k != d for k, d in zip(kept, seen.dims, strict=True)):
        return None
    return x, int(over[0])


def row_mean(seen: Seen) -> tuple[ir.Value, int] | None:
    """Return (x, dim) if the value is the mean of x over dim, as in `row_sum`."""
    seen = peel(seen)
    op = seen.op
    if op is None or seen.name not in ("divide", "multiply"):
        return None
    orders: Sequence[tuple[int, int]] = ((0, 1),) if seen.name == "divide" else ((0, 1), (1, 0))
    for data, count in orders:
        found = row_sum(seen.operand(data))
        if found is not None:
            size = ir.shape(found[0])[found[1]]
            # A sum divided by n - 1 is no mean.
            if close(splat(op.operands[count]), size if seen.name == "divide" else 1 / size, 1e-6):
                return found
    return None


def squared(value: ir.Value) -> ir.Value | None:
    """Return a if the value is a*a, else None."""
    op = ir.define(value)
    if op is None:
        return None
    name = kind(op)
    if name == "multiply":
        return op.operands[0] if op.operands[0] == op.operands[1] else None
    if name == "square" or (name == "power" and splat(op.operands[1]) == 2):
        return op.operands[0]
    return None
