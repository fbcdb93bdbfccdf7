"""Secret low-rank adapters of public weights, multiplied apart: x(W + AB) = xW + (xA)B.

A product with secret W + AB takes three products of matrices, one a party; one with public W takes two, and
what the adapter adds is thin. It is added before the result is truncated, where it costs no message; xA takes
two more rounds.
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
NAME = "adapter"  # the last part of the path of xA: what rules say of x(W + AB) does not hold for it


@dataclass(frozen=True)
class _Factor:
    """A matrix, and along which of its dimensions the two factors of an adapter meet."""

    value: ir.Value
    summed: int

    @property
    def rank(self) -> int:
        return ir.shape(self.value)[self.summed]


@dataclass(frozen=True)
class _LowRank:
    """scale * rows @ columns."""

    rows: _Factor
    columns: _Factor
    scale: float = 1.0


def multiply_apart(module: ir.Module, levels: Levels) -> None:
    """Rewrite @main in place: products of a secret value with public weights plus a secret low-rank matrix.

    Only where `pays` says so, with either operand on either side, transposed or scaled by a constant.
    """
    for op in [each for each in ir.ops(ir.body(ir.main(module))) if kind(each) == "dot_general"]:
        if not _rewritten(module, op, 1, levels):
            _rewritten(module, op, 0, levels)
    ir.erase_dead(ir.body(ir.main(module)))


def pays(rows: int, summed: int, columns: int, rank: int) -> bool:
    """Whether [rows, summed] times [summed, columns] should be done apart, by multiplications of all parties.

    Saved is one product of matrices of three, in whatever ring; spent are thin ones at three parties and two
    rounds. That W + AB would otherwise be made by its owner, for nothing, is taken for granted.
    """
    return rows * summed * columns > 3 * rows * rank * (summed + columns) + ROUNDS


def _rewritten(module: ir.Module, op: ir.Op, place: int, levels: Levels) -> bool:
    """Do it for the operand at `place`, if it is such a sum."""
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
    """What a matrix is as a product of two, perhaps transposed or times a constant."""
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
    """Replace a product; `place` is that of the weights, `along` what x and they are summed over."""
    x, (near, far, scale), (summed, weights) = op.operands[1 - place], adapter, along
    rank = len(ir.shape(x)) - 1 if place else 0  # of xA: the dimension that B sums over

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
