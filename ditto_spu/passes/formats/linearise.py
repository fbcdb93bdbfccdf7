"""Turn operations with a public second operand into linear ones: divisions and look-ups."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_spu import ir
from ditto_spu.ops import find
from ditto_spu.passes.analysis.visibility import visibility


def linearise(module: ir.Module, public: Sequence[bool]) -> ir.Module:
    """Return a copy of the fused module in which public operands make operations linear where they can.

    public: whether each argument of @main is public.
    """
    module = ir.clone(module)
    secret = visibility(module, public)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        record = find(op)
        if record is None or record.linear is None or not secret[op.operands[0]]:
            continue
        if secret[op.operands[1]] or not ir.is_float(op.results[0]):
            continue
        (result,) = ir.rewrite(op, record.linear)
        secret[result] = True
    ir.run_passes(module, "cse,symbol-dce")
    ir.verify(module)
    return module
