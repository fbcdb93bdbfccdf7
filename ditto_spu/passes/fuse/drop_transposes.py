"""Let products read their operands as these lie.

No weight is then transposed, and no table is copied for a transposition.
"""

from __future__ import annotations

from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind


def untransposed(op: ir.Op) -> ir.Value | None:
    """Return the result of the same dot_general on the operands before their transpositions.

    None means that no transposition can be left out. The result of a dot_general lists the free dimensions of
    an operand in their order. Therefore only transpositions that keep this order can be left out.
    """
    numbers = {
        (side, part): ir.dimensions(op, "dot_general", f"{side}_{part}_dimensions")
        for side in ("lhs", "rhs")
        for part in ("contracting", "batching")
    }
    values, changed = list(op.operands), False
    for place, side in enumerate(("lhs", "rhs")):
        maker = ir.define(values[place])
        if maker is None or kind(maker) != "transpose":
            continue
        order = ir.attribute(maker, "permutation")
        taken = (*numbers[side, "contracting"], *numbers[side, "batching"])
        free = [order[d] for d in range(len(order)) if d not in taken]
        if free != sorted(free):
            continue
        for part in ("contracting", "batching"):
            numbers[side, part] = tuple(order[d] for d in numbers[side, part])
        values[place], changed = maker.operands[0], True
    if not changed:
        return None
    dims = (
        (numbers["lhs", "contracting"], numbers["rhs", "contracting"]),
        (numbers["lhs", "batching"], numbers["rhs", "batching"]),
    )

    def meaning(a: Array, b: Array) -> Array:
        return lax.dot_general(a, b, dims)

    return ir.emit(meaning, values, op, op.location)[0]
