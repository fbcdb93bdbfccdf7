"""Choose the formats of operations that have a kernel, with the parts that several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.op import Approximation, Choice, Chooser, Formats, name_of
from ditto_spu.ops.public_operands import constant, source
from ditto_spu.ops.tries import Rung
from ditto_spu.plan.plan import INTEGER


def first_operand(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let rules speak about the first operand.

    The other operands keep their formats, or take the default.
    """
    return Formats(operands_of(chooser, op, choice, main=1), default)


def operands_of(
    chooser: Chooser,
    op: ir.Op,
    choice: Choice,
    main: int,
    wishes: Mapping[int, Fxp] | None = None,
    shared_public: bool = True,
) -> dict[ir.Value, Fxp]:
    """Return the formats of the operands. Rules speak about the first `main` of them.

    wishes: formats by place for other operands whose format is still open.
    shared_public: whether a public operand among the first `main` is turned into a sharing.
    """
    formats: dict[ir.Value, Fxp] = {}
    for place, each in enumerate(op.operands):
        if not ir.is_float(each):
            if chooser.is_secret(each):
                formats[each] = INTEGER
        elif chooser.is_secret(each):
            asked = choice.operand if place < main else (wishes or {}).get(place)
            settled = chooser.settle(each, asked or chooser.default_format)
            formats[each] = choice.operand if place < main and choice.operand else settled
        elif place < main and shared_public:
            formats[each] = choice.operand or chooser.default_format
    return formats


def meeting(formats: Mapping[ir.Value, Fxp]) -> Fxp:
    """Return the smallest format that holds the values of all given formats."""
    return Fxp(
        max(each.ring_bits for each in formats.values()), max(each.fraction_bits for each in formats.values())
    )


def table_format(fxp: Fxp) -> Fxp:
    """Return the format for a table that is multiplied by one-hot vectors.

    The product is computed in ring 32 at most.
    """
    return fxp if fxp.ring_bits <= 32 else Fxp(32, min(fxp.fraction_bits, 20))


# Operations that choose formats of their own for whole numbers, or need none.
_TAKE_WHOLE = ("func.return", "stablehlo.return", "stablehlo.convert")
_PRODUCTS = ("stablehlo.multiply", "stablehlo.dot_general")
# Operations whose results are whole if their operands are.
_KEEP_WHOLE = (
    *("stablehlo.add", "stablehlo.subtract", "stablehlo.negate", "stablehlo.reduce", "stablehlo.reshape"),
    *_PRODUCTS,
    *("stablehlo.broadcast_in_dim", "stablehlo.transpose", "stablehlo.slice", "stablehlo.concatenate"),
    *("stablehlo.select", "stablehlo.compare"),
)

_MAKE_WHOLE = (
    *("stablehlo.floor", "stablehlo.ceil", "stablehlo.round_nearest_even", "stablehlo.round_nearest_afz"),
    *("stablehlo.sign", "ditto.argmax"),
)


def whole_format(chooser: Chooser, value: ir.Value, ring_bits: int) -> Fxp:
    """Return the format of whole numbers, which has fraction bits where a consumer needs some.

    A sum of whole numbers and 0.5, or a function of them, would be rounded in a format without fraction bits.
    """
    if _only_whole(chooser, value):
        return Fxp(ring_bits, 0)
    default = chooser.default_format
    return Fxp(max(ring_bits, default.ring_bits), default.fraction_bits)


def _only_whole(chooser: Chooser, value: ir.Value) -> bool:
    """Tell whether all that becomes of whole numbers is whole, up to products and results."""
    pending, seen = [value], {value}
    while pending:
        for user in ir.users(pending.pop()):
            if user.name in _TAKE_WHOLE or (user.name in _PRODUCTS and not _multiplies_whole(user)):
                continue
            beside = [each for each in user.operands if ir.is_float(each) and not chooser.is_secret(each)]
            if user.name not in _KEEP_WHOLE or not all(map(_is_whole, beside)):
                return False
            results = [each for each in user.results if ir.is_float(each) and each not in seen]
            pending += results
            seen.update(results)
    return True


def _multiplies_whole(op: ir.Op) -> bool:
    """Tell whether both factors may be whole numbers in a format without fraction bits."""
    return all(map(_may_be_whole, op.operands))


def _may_be_whole(value: ir.Value) -> bool:
    """Tell whether a value may come from operations on whole numbers alone."""
    pending, seen = [value], {value}
    while pending:
        maker = source(pending.pop())
        if maker is None:
            return False
        if maker.name in _KEEP_WHOLE or maker.name == "stablehlo.convert":
            read = [each for each in maker.operands if ir.is_float(each) and not _is_whole(each)]
            pending += [each for each in read if each not in seen]
            seen.update(read)
        elif name_of(maker) not in _MAKE_WHOLE:
            return False
    return True


def _is_whole(value: ir.Value) -> bool:
    known = constant(value)
    return known is not None and bool(np.all(known == np.round(np.asarray(known, np.float64))))


# What may stand between a function and a product of matrices, which adds up many elements.
_BEFORE_PRODUCTS = (
    *("stablehlo.multiply", "stablehlo.reshape", "stablehlo.transpose", "stablehlo.broadcast_in_dim"),
    *("stablehlo.slice", "stablehlo.concatenate", "stablehlo.convert"),
)
# No window ends beyond 15, and casts from and to ring 64 need a bit to spare.
PRECISE_FORM = Approximation(reads=lambda fxp, out: min(fxp.limit / 2, fxp.limit - 16))


def curve_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let rules speak about the operand of a function with a window, and choose its form where none does.

    In ring 64 nothing is known about the operand, which may be small. So the form is precise there, unless
    all that reads the result are products of matrices. These are long sums of which single errors are a small
    part, and the precise form would take twice the bytes.
    """
    formats = first_operand(chooser, op, choice, default)
    operand = formats.operands.get(op.operands[0])
    if operand is None or operand.ring_bits < 64 or _only_in_products(op.results[0]):
        return formats
    return replace(formats, approx=PRECISE)


def _only_in_products(value: ir.Value) -> bool:
    """Tell whether every reader of a value is a product of matrices, perhaps behind factors and layout."""
    pending, seen = [value], {value}
    while pending:
        for user in ir.users(pending.pop()):
            if user.name in _BEFORE_PRODUCTS:
                found = [each for each in user.results if each not in seen]
                pending += found
                seen.update(found)
            elif user.name != "stablehlo.dot_general":
                return False
    return True


# The operand formats that a search tries for functions with a window.
NARROW = tuple(Fxp(16, bits) for bits in (8, 9, 10))


def curve_ladder(op: ir.Op) -> tuple[Rung, ...]:
    """Return the steps of a function with a window: operands of 16 bits first."""
    del op
    narrow = (Rung(format=Fxp(32, bits), operand=Fxp(16, bits), approx="fourier") for bits in (10, 9))
    wider = (Rung(operand=Fxp(32, bits), approx="fourier") for bits in (11, 14))
    return (*narrow, *wider)
