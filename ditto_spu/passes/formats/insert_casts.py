"""Make every change of format an operation: `ditto.cast`, whose decomposition rounds to the target grid.

After this pass the module, run in plaintext, is the fake-quantised emulation of the secure program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import jax

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.rounding import round_to

ENCODED = "real"  # `from` of a cast that a data owner performs when it shares an argument
LIFTED = "public"  # `from` of a cast that turns a public value into a trivial sharing


@functools.cache  # the same object for the same rounding, which is then traced once a shape
def _meaning(fraction_bits: int) -> Callable[..., jax.Array]:
    return partial(round_to, fraction_bits=fraction_bits)


def insert_casts(module: ir.Module) -> ir.Module:
    """A copy of the assigned module with casts of arguments, operands and products."""
    module = ir.clone(module)
    function = ir.main(module)
    operations = ir.ops(ir.body(function))
    formats: dict[ir.Value, str] = {}
    declared = ir.attribute(function, "ditto.arguments").split(",") if ir.arguments(module) else []
    for argument, fxp in zip(ir.arguments(module), declared, strict=True):
        formats[argument] = fxp
        if fxp == "-" or not ir.is_float(argument):
            continue
        uses = ir.users(argument)
        if not uses:
            continue
        encoded = _cast(module, argument, ENCODED, fxp, operations[0])
        formats[encoded] = fxp
        for user in {id(each): each for each in uses}.values():
            _redirect(user, argument, encoded)
    for place, op in enumerate(operations[:-1]):
        wanted = ir.attribute(op, "ditto.operands")
        if wanted is None:
            continue
        _cast_operands(module, op, wanted.split(","), formats)
        for result in op.results:
            formats[result] = ir.attribute(op, "ditto.format")
        natural = ir.attribute(op, "ditto.natural")
        if natural is not None:
            result = op.results[0]
            uses = ir.users(result)
            narrowed = _cast(module, result, natural, formats[result], operations[place + 1], op.location)
            formats[narrowed] = formats[result]
            formats[result] = natural
            for user in {id(each): each for each in uses}.values():
                _redirect(user, result, narrowed)
    ir.verify(module)
    return module


def _cast_operands(module: ir.Module, op: ir.Op, wanted: list[str], formats: dict[ir.Value, str]) -> None:
    for index, (operand, fxp) in enumerate(zip(list(op.operands), wanted, strict=True)):
        if fxp == "-" or not ir.is_float(operand):
            continue
        current = formats.get(operand, LIFTED)
        if current == "-":
            current = LIFTED
        if current != fxp:
            made = _cast(module, operand, current, fxp, op)
            formats[made] = fxp
            op.operands[index] = made


def _cast(
    module: ir.Module,
    value: ir.Value,
    source: str,
    target: str,
    before: ir.Op,
    location: ir.Location | None = None,
) -> ir.Value:
    fraction_bits = Fxp.parse(target).fraction_bits
    attributes = {"from": source, "to": target}
    return ir.composite(
        module,
        "ditto.cast",
        _meaning(fraction_bits),
        [value],
        attributes,
        before,
        location or before.location,
    )


def _redirect(user: ir.Op, old: ir.Value, new: ir.Value) -> None:
    for index, operand in enumerate(list(user.operands)):
        if operand == old:
            user.operands[index] = new
