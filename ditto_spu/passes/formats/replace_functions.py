"""Let a composite mean what its approximation computes, where that is another function.

Such approximations are Quad, 2Quad and PUMA's. The emulated program then shows how much accuracy a
replacement costs, and distillation trains through it.
"""

from __future__ import annotations

from functools import partial

from ditto_spu import ir
from ditto_spu.ops import find
from ditto_spu.ops.decision import read, write


def replace_functions(module: ir.Module) -> ir.Module:
    """Return a copy of the assigned module in which replaced functions have their new decompositions."""
    module = ir.clone(module)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        record, decision = find(op), read(op)
        if record is None or decision is None or decision.approx is None:
            continue
        meaning = record.approximation(decision.approx).meaning
        if meaning is None:
            continue
        attributes = ir.composite_attributes(op)
        result = ir.composite(
            module,
            record.composite,
            partial(meaning, **attributes),
            list(op.operands),
            attributes,
            op,
            op.location,
        )
        replacement = ir.define(result)
        assert replacement is not None
        write(replacement, decision)
        ir.replace_all_uses(op.results[0], result)
        op.erase()
    ir.run_passes(module, "symbol-dce")
    ir.verify(module)
    return module
