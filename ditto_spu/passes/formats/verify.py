"""Refuse a program whose declared ranges, constants and formats do not fit together. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditto_kernels.activation.series_tables import GELU, SIGMOID, SILU, TANH
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import RangeError
from ditto_spu.passes.analysis.classify import op_name
from ditto_spu.passes.analysis.public_operands import constant
from ditto_spu.passes.analysis.visibility import visibility

WINDOWED = {
    "ditto.gelu": GELU,
    "ditto.silu": SILU,
    "stablehlo.tanh": TANH,
    "stablehlo.logistic": SIGMOID,
}
AFFINE = ("stablehlo.add", "stablehlo.subtract", "stablehlo.concatenate", "stablehlo.pad", "stablehlo.select")


def verify(module: ir.Module, public: Sequence[bool]) -> None:
    """RangeError, with the path and the guilty line, for the first operation that cannot be right."""
    ir.verify(module)
    secret = visibility(module, public)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        _declared_range(op)
        if op.name in AFFINE and any(secret[each] for each in op.operands):
            _constants(op)


def _declared_range(op: ir.Op) -> None:
    text, format_ = ir.attribute(op, "ditto.range"), ir.attribute(op, "ditto.format")
    if text is None or format_ is None:
        return
    bound, fxp = float(text), Fxp.parse(format_)
    room = result_room(op, format_)
    if bound >= room:
        bits = fxp.ring_bits - 2 - _bits(bound)
        raise RangeError(
            f"{_place(op)}: the declared range {bound:g} leaves {fxp} no spare bit (protocols need "
            f"|x| < {room:g}); use at most {bits} fraction bits or a wider ring"
        )
    natural = ir.attribute(op, "ditto.natural")
    if natural is not None:
        product = Fxp.parse(natural)
        if bound >= product_room(product, fxp):
            raise RangeError(
                f"{_place(op)}: before truncation the product has {product.fraction_bits} fraction bits and "
                f"holds only |x| < {product_room(product, fxp):g}, but the declared range is {bound:g}: give "
                f'its operands fewer fraction bits (rule `operand`, op "weight") or a wider ring'
            )


def result_room(op: ir.Op, format_: str) -> float:
    """Magnitudes below this are safe for everything that reads a result in its format."""
    return min((_room(each, format_) for each in _readers(op)), default=Fxp.parse(format_).limit / 2)


def _readers(op: ir.Op) -> list[ir.Op]:
    """What reads a result, behind the cast that belongs to a product."""
    users = ir.users(op.results[0])
    if ir.attribute(op, "ditto.natural") is None:
        return users
    return [reader for user in users for reader in (ir.users(user.results[0]) if _is_cast(user) else [user])]


def _is_cast(op: ir.Op) -> bool:
    return op_name(op) == "ditto.cast"


def _room(reader: ir.Op, format_: str) -> float:
    """Magnitudes below this are safe for what reads a value: most protocols need a spare bit.

    Sums in the same format wrap without harm, if what they give is in range; a function with a window
    compares with its ends alone.
    """
    limit = Fxp.parse(format_).limit
    same = (ir.attribute(reader, "ditto.operands") or "").split(",")[0] == format_
    if ir.attribute(reader, "ditto.kind") == "local" and same:
        return limit
    curve = WINDOWED.get(op_name(reader))
    if curve is not None and same and ir.attribute(reader, "ditto.approx") in (None, "fourier", "table"):
        return windowed_room(op_name(reader), Fxp.parse(format_))
    return limit / 2


def windowed_room(name: str, fxp: Fxp) -> float:
    """What a function with a window may read."""
    return fxp.limit - WINDOWED[name].at(fxp).outer


def product_room(product: Fxp, result: Fxp) -> float:
    """What a product may reach before it is truncated to `result`, which may need a spare bit."""
    narrow = result.ring_bits <= product.ring_bits - (product.fraction_bits - result.fraction_bits)
    return product.limit if narrow else product.limit / 2


def _bits(bound: float) -> int:
    return max(0, int(np.ceil(np.log2(bound))))


def _constants(op: ir.Op) -> None:
    format_ = ir.attribute(op, "ditto.format")
    if format_ is None or ir.attribute(op, "ditto.kind") != "local":
        return
    fxp = Fxp.parse(format_)
    for operand in op.operands:
        known = constant(operand) if ir.is_float(operand) else None
        if known is None:
            continue
        value = np.asarray(known, np.float64)
        if not np.all(np.isfinite(value)) or np.max(np.abs(value), initial=0.0) >= fxp.limit:
            worst = value.reshape(-1)[np.argmax(np.abs(np.nan_to_num(value.reshape(-1), nan=np.inf)))]
            raise RangeError(
                f"{_place(op)}: constant {worst:g} does not fit {fxp}, which holds |x| < {fxp.limit:g}: "
                "as a mask, make it a boolean used by select or a bias on softmax; else choose a wider "
                "format for this path"
            )


def _place(op: ir.Op) -> str:
    path = ir.path_of(op)
    return f"{op.name} at '{path}' ({ir.source_of(op)})" if path else f"{op.name} ({ir.source_of(op)})"
