"""Tell which range the plan knows for a value: a declared one, or the room of a product."""

from __future__ import annotations

from ditto_spu import ir
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.decision import Kind, read
from ditto_spu.passes.formats.verify import product_room


def reach(value: ir.Value) -> float | None:
    """Return the magnitude below which a value of a module with casts lies, if rules or formats say so.

    A kernel that is told so relies on it.
    """
    maker = ir.define(value)
    if maker is None:
        return None
    if not is_cast(maker):
        decision = read(maker)
        return None if decision is None else decision.range
    source = maker.operands[0]
    product = ir.define(source)
    decision = None if product is None or is_cast(product) else read(product)
    if decision is not None and decision.natural is not None and decision.range is None:
        alone = len(ir.users(source)) == 1 and decision.kind in (Kind.MATMUL, Kind.MULTIPLY, Kind.KERNEL)
        return product_room(decision.computed, decision.out) if alone else None
    return reach(source)
