"""Look up rows of a table by ids.

JAX writes `table[ids]`, `jnp.take(table, ids, axis=0)` or Flax's `nn.Embed`. In StableHLO each is a gather
with arithmetic around its index, for negative ids and for ids out of range. The pattern removes that
arithmetic.
"""

import math

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
from ditto_spu.ops.op import Choice, Chooser, Formats, Op, Pattern
from ditto_spu.plan.plan import INTEGER


def embedding(table: Array, ids: Array) -> Array:
    """Return the rows table[ids[...]]. An id outside the table takes the nearest row.

    table: [rows, ...]. ids: integers of any shape. The result has the shape [*ids.shape, ...].
    """
    return jnp.take(table, ids, axis=0, mode="clip")


def match_embedding(root: ir.Op) -> Match | None:
    """Match a gather of whole rows.

    The match leaves out the steps that JAX adds for negative ids and for ids out of range.
    """
    if kind(root) == "select":
        # jnp.take writes select(index in range, rows, NaN).
        rows = ir.define(root.operands[1])
        return (
            match_embedding(rows) if rows is not None and kind(rows) == "gather" and _is_fill(root) else None
        )
    if kind(root) == "dynamic_slice":
        return _match_slice(root)
    table, index = root.operands
    sizes, rank = ir.attribute(root, "slice_sizes"), len(ir.shape(index))
    (vector,) = _gathered(root, "index_vector_dim")
    ids_shape = ir.shape(index)[:-1] if vector == rank - 1 else ir.shape(index)
    if (
        tuple(sizes) != (1, *ir.shape(table)[1:])
        or _gathered(root, "collapsed_slice_dims") != (0,)
        or _gathered(root, "start_index_map") != (0,)
        or _gathered(root, "operand_batching_dims")
        or (vector == rank - 1 and ir.shape(index)[-1] != 1)
        or ir.shape(root.results[0]) != (*ids_shape, *ir.shape(table)[1:])
        or _gathered(root, "offset_dims") != tuple(range(len(ids_shape), len(ir.shape(root.results[0]))))
    ):
        return None
    ids = _plain_index(index, ir.shape(table)[0])

    def prepare(table: Array, ids: Array) -> tuple[Array, Array]:
        return table, jnp.reshape(ids, ids_shape)

    return Match((table, ids), {}, prepare)


def _match_slice(root: ir.Op) -> Match | None:
    """Match table[i] for a single i, which is a slice of one whole row."""
    table, index = root.operands[0], root.operands[1]
    if tuple(ir.attribute(root, "slice_sizes")) != (1, *ir.shape(table)[1:]):
        return None
    ids = _plain_index(index, ir.shape(table)[0])
    return Match((table, ids), {}, lambda table, ids: (table, jnp.reshape(ids, (1,))))


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
    """Return the index before clamping to [0, rows) and before `index < 0 ? index + rows : index`."""
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
        formats = {table: choice.operand or chooser.default_format}
    if chooser.is_secret(ids):
        formats[ids] = INTEGER
    return Formats(formats, formats[table])


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
    facts=observed.operand,
)
