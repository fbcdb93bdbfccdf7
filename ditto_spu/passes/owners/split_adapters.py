"""Multiply secret low-rank adapters of public weights apart: x(W + AB) = xW + (xA)B.

A product with secret W + AB takes three products of matrices, one per party. A product with public W takes
two, and the products with the adapter are thin. Their result is added before the truncation, where it costs
no message. xA takes two more rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
from jax import lax

from ditto_spu import ir
from ditto_spu.frontend.owners import PUBLIC, SHARED
from ditto_spu.ir.arithmetic import binary, kind, splat
from ditto_spu.ops.matmul import ADAPTED

Levels = Callable[[], Callable[[ir.Value], str]]

ROUNDS = 1 << 23  # multiplications that take as long as two more rounds in a LAN
NAME = "adapter"  # the last part of the path of xA; rules for x(W + AB) do not hold for it


@dataclass(frozen=True)
class _Factor:
    """A matrix, and the dimension along which the two factors of an adapter meet."""

    value: ir.Value
    summed: int

    @property
    def rank(self) -> int:
        return ir.shape(self.value)[self.summed]


@dataclass(frozen=True)
class _LowRank:
    """The matrix scale * rows @ columns."""

    rows: _Factor
    columns: _Factor
    scale: float = 1.0


def multiply_apart(module: ir.Module, levels: Levels) -> None:
    """Rewrite @main in place: products of a secret value with public weights plus a low-rank matrix.

    The low-rank matrix is secret. A product is rewritten only where `pays` says so. Either operand may stand
    on either side, transposed or scaled by a constant.
    """
    for op in [each for each in ir.ops(ir.body(ir.main(module))) if kind(each) == "dot_general"]:
        if not _rewritten(module, op, 1, levels):
            _rewritten(module, op, 0, levels)
    ir.erase_dead(ir.body(ir.main(module)))


def pays(rows: int, summed: int, columns: int, rank: int) -> bool:
    """Tell whether [rows, summed] times [summed, columns] should be multiplied apart.

    The criterion is the number of multiplications of all parties together. The rewriting saves one of three
    products of matrices, in whatever ring. It costs thin products at three parties and two rounds. The
    estimate assumes that the owner would otherwise compute W + AB at no cost.
    """
    return rows * summed * columns > 3 * rows * rank * (summed + columns) + ROUNDS


def _rewritten(module: ir.Module, op: ir.Op, place: int, levels: Levels) -> bool:
    """Rewrite a product whose operand at `place` is such a sum. Tell whether it was rewritten."""
    total, x = op.operands[place], op.operands[1 - place]
    maker = ir.define(total)
    if kind(maker) != "add" or maker is None or len(ir.shape(total)) != 2 or not ir.is_float(total):
        return False
    numbers = [
        [ir.dimensions(op, "dot_general", f"{side}_{part}_dimensions") for side in ("lhs", "rhs")]
        for part in ("contracting", "batching")
    ]
    if numbers[1][0] or len(numbers[0][0]) != 1:
        return False
    (along,), (summed,) = numbers[0][place], numbers[0][1 - place]
    level = levels()
    for low, base in binary(maker):
        found = _low_rank(low)
        if found is None or level(base) != PUBLIC or level(op.results[0]) != SHARED:
            continue
        near, far = (found.rows, found.columns) if along == 0 else (found.columns, found.rows)
        if PUBLIC in (level(x), level(near.value), level(far.value)):
            continue
        size, columns = ir.shape(x)[summed], ir.shape(total)[1 - along]
        if not pays(math.prod(ir.shape(x)) // max(size, 1), size, columns, near.rank):
            continue
        _apart(module, op, place, base, (near, far, found.scale), (summed, along))
        return True
    return False


def _low_rank(value: ir.Value) -> _LowRank | None:
    """Read a matrix as a product of two, perhaps transposed or times a constant. Else return None."""
    op = ir.define(value)
    if op is None or len(ir.shape(value)) != 2:
        return None
    if kind(op) == "multiply":
        for data, constant in binary(op):
            number = splat(constant)
            inner = None if number is None or not math.isfinite(number) else _low_rank(data)
            if inner is not None and number is not None:
                return replace(inner, scale=inner.scale * number)
        return None
    if kind(op) == "transpose":
        inner = _low_rank(op.operands[0])
        if inner is None or ir.attribute(op, "permutation") == (0, 1):
            return inner
        return replace(inner, rows=inner.columns, columns=inner.rows)
    if kind(op) != "dot_general":
        return None
    sides = [ir.dimensions(op, "dot_general", f"{side}_contracting_dimensions") for side in ("lhs", "rhs")]
    if any(len(ir.shape(each)) != 2 for each in op.operands) or any(len(each) != 1 for each in sides):
        return None
    rows, columns = (_Factor(each, summed) for each, (summed,) in zip(op.operands, sides, strict=True))
    return _LowRank(rows, columns)


def _apart(
    module: ir.Module,
    op: ir.Op,
    place: int,
    base: ir.Value,
    adapter: tuple[_Factor, _Factor, float],
    along: tuple[int, int],
) -> None:
    """Replace a product.

    place: the place of the weights.
    along: the dimensions of x and of the weights that the product sums over.
    """
    x, (near, far, scale), (summed, weights) = op.operands[1 - place], adapter, along
    rank = len(ir.shape(x)) - 1 if place else 0  # the dimension of xA that the product with B sums over

    def dot(left: jax.Array, right: jax.Array, *dims: int) -> jax.Array:
        if place:
            return lax.dot_general(left, right, (((dims[0],), (dims[1],)), ((), ())))
        return lax.dot_general(right, left, (((dims[1],), (dims[0],)), ((), ())))

    def thin(x: jax.Array, a: jax.Array) -> jax.Array:
        return dot(x, a if scale == 1 else a * jax.numpy.asarray(scale, a.dtype), summed, 1 - near.summed)

    def adapted(x: jax.Array, w: jax.Array, t: jax.Array, b: jax.Array) -> jax.Array:
        return dot(x, w, summed, weights) + dot(t, b, rank, far.summed)

    scope = ir.name_of(op).rpartition("/")[0]
    path = "/".join([*([scope] if scope else []), NAME, "dot_general"])
    place_of = ir.at_path(path, op.location)
    (t,) = ir.emit(thin, [x, near.value], op, place_of)
    attributes: dict[str, int | float | str] = {
        "dims": f"{summed} {weights}",
        "adapter_dims": f"{rank} {far.summed}",
        "public_left": int(not place),
    }
    operands = [x, base, t, far.value]
    result = ir.composite(module, ADAPTED, adapted, operands, attributes, op, op.location)
    ir.replace_all_uses(op.results[0], result)
    op.erase()
