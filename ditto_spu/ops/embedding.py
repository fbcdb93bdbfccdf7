"""Look up rows of a table by ids.

JAX writes `table[ids]`, `jnp.take(table, ids, axis=0)` or Flax's `nn.Embed`. In StableHLO each is a gather
with arithmetic around its index, for negative ids and for ids out of range.

`table[ids]` counts negative ids from the end and clamps the others. The pattern keeps this arithmetic, unless
the ids are known to be rows of the table. It costs a comparison where the ids are secret, and nothing where
they are public or an owner's.

`jnp.take` and `nn.Embed` give NaN for an id out of range, which shares cannot hold. Secret ids must be in
[0, rows) there, which the operation declares as a range that it relies on. The pattern then needs no
arithmetic.
"""

import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, kind, splat
from ditto_spu.ops import observed, puma_formulas
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import table_format
from ditto_spu.ops.match import Match
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, Op, Pattern, Relied
from ditto_spu.plan.plan import INTEGER


def embedding(table: Array, ids: Array) -> Array:
    """Return the rows table[ids[...]]. An id outside the table takes the nearest row.

    table: [rows, ...]. ids: integers of any shape. The result has the shape [*ids.shape, ...].
    """
    return jnp.take(table, ids, axis=0, mode="clip")


def match_embedding(root: ir.Op) -> Match | None:
    """Match a gather of whole rows of a table of floats."""
    if kind(root) == "select":
        # jnp.take writes select(index in range, rows, NaN).
        rows = ir.define(root.operands[1])
        if rows is None or kind(rows) != "gather" or not _is_fill(root):
            return None
        found = _match_gather(rows)
        return None if found is None else _rows(*found, filled=True)
    found = _match_slice(root) if kind(root) == "dynamic_slice" else _match_gather(root)
    return None if found is None else _rows(*found, filled=False)


def _rows(table: ir.Value, index: ir.Value, ids_shape: Sequence[int], filled: bool) -> Match:
    """Match table[index], where `index` is as the program computes it.

    filled: whether the program takes NaN in the place of rows out of range.
    """
    rows = ir.shape(table)[0]
    plain = _plain_index(index, rows)

    def prepare(table: Array, ids: Array) -> tuple[Array, Array]:
        return table, jnp.reshape(ids, ids_shape)

    def clamped(table: Array, ids: Array) -> tuple[Array, Array]:
        last = min(rows - 1, jnp.iinfo(ids.dtype).max)
        return table, jnp.reshape(jnp.clip(ids, 0, last), ids_shape)

    if _within(plain, rows):
        return Match((table, plain), {}, prepare)
    computed = Match((table, index), {}, prepare)
    if filled:
        return Match((table, plain), {}, prepare, computed)
    return Match((table, index), {}, prepare if _within(index, rows) else clamped, computed)


def _within(ids: ir.Value, rows: int) -> bool:
    low, high = ir.bounds(ids)
    return low >= 0 and high < rows


def _match_gather(root: ir.Op) -> tuple[ir.Value, ir.Value, tuple[int, ...]] | None:
    """Return (table, index, shape of the ids) of a gather of whole rows, or None."""
    table, index = root.operands
    sizes, rank = ir.attribute(root, "slice_sizes"), len(ir.shape(index))
    (vector,) = _gathered(root, "index_vector_dim")
    ids_shape = ir.shape(index)[:-1] if vector == rank - 1 else ir.shape(index)
    if (
        not ir.is_float(table)
        or tuple(sizes) != (1, *ir.shape(table)[1:])
        or _gathered(root, "collapsed_slice_dims") != (0,)
        or _gathered(root, "start_index_map") != (0,)
        or _gathered(root, "operand_batching_dims")
        or (vector == rank - 1 and ir.shape(index)[-1] != 1)
        or ir.shape(root.results[0]) != (*ids_shape, *ir.shape(table)[1:])
        or _gathered(root, "offset_dims") != tuple(range(len(ids_shape), len(ir.shape(root.results[0]))))
    ):
        return None
    return table, index, tuple(ids_shape)


def _match_slice(root: ir.Op) -> tuple[ir.Value, ir.Value, tuple[int, ...]] | None:
    """Return the same for table[i] for a single i, which is a slice of one whole row."""
    table, index = root.operands[0], root.operands[1]
    if not ir.is_float(table) or tuple(ir.attribute(root, "slice_sizes")) != (1, *ir.shape(table)[1:]):
        return None
    return table, index, (1,)


def _gathered(gather: ir.Op, part: str) -> tuple[int, ...]:
    return ir.dimensions(gather, "gather", part)


def _is_fill(select: ir.Op) -> bool:
    """Tell whether the third operand is the number that jax.numpy gives for an index out of range."""
    fill, kind_ = splat(select.operands[2]), ir.dtype(select.operands[2])
    if fill is None:
        return False
    if kind_.kind in "iu":
        return fill == float(np.iinfo(kind_).min if kind_.kind == "i" else np.iinfo(kind_).max)
    return math.isnan(fill)


def _plain_index(value: ir.Value, rows: int) -> ir.Value:
    """Return the index before clamping to [0, rows) and before `index < 0 ? index + rows : index`.

    It is the same row for an index in [0, rows).
    """
    while (op := ir.define(value)) is not None:
        name = kind(op)
        if name in ("reshape", "broadcast_in_dim") and math.prod(ir.shape(op.operands[0])) == math.prod(
            ir.shape(value)
        ):
            value = op.operands[0]
        elif name == "clamp" and splat(op.operands[0]) == 0 and splat(op.operands[2]) == rows - 1:
            value = op.operands[1]
        elif name == "select" and _is_wrap(op, rows):
            value = op.operands[2]
        else:
            break
    return value


def _is_wrap(select: ir.Op, rows: int) -> bool:
    test, wrapped = (ir.define(each) for each in select.operands[:2])
    plain = select.operands[2]
    return (
        kind(test) == "compare"
        and kind(wrapped) == "add"
        and test is not None
        and wrapped is not None
        and test.operands[0] == plain
        and splat(test.operands[1]) == 0
        and any(a == plain and splat(b) == rows for a, b in binary(wrapped))
    )


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose ring 32 at most for a secret table, and the format of the table for the result."""
    del default
    table, ids = op.operands
    wish = choice.operand or chooser.wanted(op.results[0]) or chooser.default_format
    if chooser.is_secret(table):
        settled = chooser.settle(table, table_format(wish))
        formats = {table: table_format(choice.operand or settled)}
    else:
        formats = {}  # the kernel takes a public table as it is
    if chooser.is_secret(ids):
        formats[ids] = INTEGER
    return Formats(formats, formats.get(table, table_format(wish)))


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of the ids."""
    yield Relied("id", 0, ir.shape(call.op.operands[0])[0] - 1, fact="id", exact=True)


def facts(op: ir.Op, operands: observed.Operands) -> observed.Facts:
    """Note the least and the largest element of the table, and of the ids."""
    return {**observed.operand(op, operands), "id": observed.extremes(operands[1])}


EMBEDDING = Op(
    name="embedding",
    summary="rows of a table picked by secret ids",
    kernels={"ditto.embedding": "embedding"},
    kind=Kind.KERNEL,
    pattern=Pattern(
        ("stablehlo.select", "stablehlo.gather", "stablehlo.dynamic_slice"), match_embedding, embedding
    ),
    formats=choose_formats,
    ignores=("format",),  # rows have the format of the table
    linear=embedding,
    puma=puma_formulas.embedding,
    puma_public=puma_formulas.public_embedding,
    integers=True,  # the ids are integers
    relies_on=relies_on,
    facts=facts,
)
