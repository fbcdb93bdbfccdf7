"""Read the facts about values and operations: makers, users, shapes and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ditto_spu.ir.bindings import Block, Op, Value, mlir, stablehlo
from ditto_spu.ir.module import ops, symbol, walk

_FLOATS = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
_INTEGERS = {
    f"{sign}i{bits}": f"{kind}int{bits}" for sign, kind in (("", ""), ("u", "u")) for bits in (8, 16, 32, 64)
}
DTYPES: Mapping[str, str] = {"i1": "bool", **_FLOATS, **_INTEGERS}


def define(value: Value) -> Op | None:
    """Return the operation that computes `value`, or None for a block argument."""
    owner: Any = value.owner
    return None if isinstance(owner, mlir.Block) else owner.operation


def users(value: Value) -> list[Op]:
    """Return the operations that use `value`, one entry per use."""
    uses: Any = value.uses
    return [use.owner.operation for use in uses]


def captured(op: Op) -> list[Value]:
    """Return the outside values that the regions of `op` use without naming them as operands."""
    inside = list(walk(op))
    made = {result for each in inside for result in each.results}
    made |= {
        argument
        for each in (op, *inside)
        for region in each.regions
        for b in region.blocks
        for argument in b.arguments
    }
    return list(dict.fromkeys(each for op_ in inside for each in op_.operands if each not in made))


def shape(value: Value) -> tuple[int, ...]:
    """Return the shape of a tensor value."""
    return tuple(mlir.RankedTensorType(value.type).shape)


def element(value: Value) -> str:
    """Return the element type of a tensor value as StableHLO writes it: "f32", "i1", "ui8"."""
    return str(mlir.RankedTensorType(value.type).element_type)


def dtype(value: Value) -> np.dtype[Any]:
    """Return the numpy dtype of a tensor value."""
    return jax.numpy.dtype(DTYPES[element(value)])


def is_float(value: Value) -> bool:
    """Tell whether the elements are floating-point numbers."""
    return element(value) in _FLOATS


def is_known(value: Value) -> bool:
    """Tell whether `value` is a tensor of a type in DTYPES.

    Tokens, complex numbers and 8-bit floats are not.
    """
    return mlir.RankedTensorType.isinstance(value.type) and element(value) in DTYPES


def signature(op: Op) -> str:
    """Return the name and the attributes of an operation as text."""
    return " ".join((op.name, *(f"{each.name}={each.attr}" for each in op.attributes)))


def attribute(op: Op, name: str, default: Any = None) -> Any:
    """Return attribute `name` of `op` as a Python value, or `default`.

    The value is a number, string, bool, tuple or dict.
    """
    return _python(op.attributes[name]) if name in op.attributes else default


def _python(attr: mlir.Attribute) -> Any:
    if isinstance(attr, mlir.DictAttr):
        return {each.name: _python(each.attr) for each in attr}
    if isinstance(attr, mlir.ArrayAttr | mlir.DenseI64ArrayAttr):
        return tuple(_python(each) if isinstance(each, mlir.Attribute) else each for each in attr)
    return attr.value if hasattr(attr, "value") else attr


_STRUCTURED: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "dot_general": ("dot_dimension_numbers", stablehlo.DotDimensionNumbers),
    "gather": ("dimension_numbers", stablehlo.GatherDimensionNumbers),
    "scatter": ("scatter_dimension_numbers", stablehlo.ScatterDimensionNumbers),
    "convolution": ("dimension_numbers", stablehlo.ConvDimensionNumbers),
}


def dimensions(op: Op, kind: str, part: str) -> tuple[int, ...]:
    """Return one list of the dimension numbers of an op of `_STRUCTURED`.

    part: the name of the list, such as "lhs_batching_dimensions". A single number, such as
        "index_vector_dim", comes as a tuple of one.
    """
    name, numbers = _STRUCTURED[kind]
    found = getattr(numbers(op.attributes[name]), part)
    return (found,) if isinstance(found, int) else tuple(found)


def comparison(op: Op) -> str:
    """Return the direction of a compare: "EQ", "NE", "GE", "GT", "LE" or "LT"."""
    return str(stablehlo.ComparisonDirectionAttr(op.attributes["comparison_direction"]).value)


def composite_name(op: Op) -> str:
    """Return the name of a composite, such as `ditto.softmax`, or '' for any other operation."""
    return symbol(op, "name") if op.name == "stablehlo.composite" else ""


def composite_attributes(op: Op) -> dict[str, Any]:
    """Return the attributes of a composite as Python values."""
    return attribute(op, "composite_attributes", {})


def replace_all_uses(old: Value, new: Value) -> None:
    """Let every user of `old` use `new`."""
    old.replace_all_uses_with(new)


def redirect(users: Iterable[Op], old: Value, new: Value) -> None:
    """Let these operations use `new` in place of `old`."""
    for user in users:
        for place, operand in enumerate(list(user.operands)):
            if operand == old:
                user.operands[place] = new


def is_effect(op: Op) -> bool:
    """Tell whether an operation does more than compute its results."""
    names = ("return", "custom_call", "send", "recv", "infeed", "outfeed", "call")
    inside = any(each.name.partition(".")[2] in names[1:] for each in walk(op))
    return inside or op.name.partition(".")[2] in names


def erase_dead(block: Block) -> None:
    """Erase the operations whose results nobody uses, but never one with an effect."""
    for op in reversed(ops(block)):
        if not is_effect(op) and not any(users(each) for each in op.results):
            op.erase()
