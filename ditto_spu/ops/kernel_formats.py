"""Choose the formats of operations that have a kernel, with the parts that several of them share."""

from __future__ import annotations

from collections.abc import Mapping

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.op import Choice, Chooser, Formats
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


# The operand formats that a search tries for functions with a window.
NARROW = tuple(Fxp(16, bits) for bits in (8, 9, 10))
