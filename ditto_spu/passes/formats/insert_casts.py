"""Make every change of format an operation: a cast, whose decomposition rounds to the target grid.

After this pass the module, run in plaintext, is the emulation: the program with all roundings of its formats.
"""

from __future__ import annotations

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.cast import ENCODED, LIFTED, write_cast
from ditto_spu.ops.decision import Decision, read, read_entry

FormatOf = dict[ir.Value, Fxp | None]  # the format of a value; a public one has None or no entry


def insert_casts(module: ir.Module) -> ir.Module:
    """Return a copy of the assigned module with casts of arguments, operands and products."""
    module = ir.clone(module)
    operations = ir.ops(ir.body(ir.main(module)))
    formats: FormatOf = {}
    for argument, fxp in zip(ir.arguments(module), read_entry(module).formats, strict=True):
        formats[argument] = fxp
        uses = ir.users(argument)
        if fxp is None or not ir.is_float(argument) or not uses:
            continue
        encoded = write_cast(module, argument, ENCODED, fxp, operations[0])
        formats[encoded] = fxp
        ir.redirect(uses, argument, encoded)
    for place, op in enumerate(operations[:-1]):
        decision = read(op)
        if decision is None or decision.operands is None:
            continue
        _cast_operands(module, op, decision, formats)
        formats |= dict.fromkeys(op.results, decision.format)
        if decision.natural is not None:
            result, uses = op.results[0], ir.users(op.results[0])
            narrowed = write_cast(
                module, result, decision.natural, decision.out, operations[place + 1], op.location
            )
            formats |= {narrowed: decision.format, result: decision.natural}
            ir.redirect(uses, result, narrowed)
    ir.verify(module)
    return module


def _cast_operands(module: ir.Module, op: ir.Op, decision: Decision, formats: FormatOf) -> None:
    assert decision.operands is not None
    for place, (operand, fxp) in enumerate(zip(list(op.operands), decision.operands, strict=True)):
        if fxp is None or not ir.is_float(operand):
            continue
        current = formats.get(operand)
        if current != fxp:
            made = write_cast(module, operand, current or LIFTED, fxp, op)
            formats[made] = fxp
            op.operands[place] = made
