"""Make modules of a part of another one, and modules with other element types."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ditto_spu.errors import CompileError
from ditto_spu.ir.bindings import Location, Module, Op, Value, context, mlir
from ditto_spu.ir.build import copy
from ditto_spu.ir.module import ops, symbol, text, walk


def extract(
    chosen: Sequence[Op],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    name: str,
    debug_info: bool = False,
) -> str:
    """Return the text of a module whose @main computes `outputs` from `inputs`.

    chosen: the operations that are copied to it, in that order. Functions that they refer to (decompositions
        of composites) are copied too.
    name: the name of the module.
    debug_info: whether locations are kept.
    Raises CompileError if an operation uses a value that is neither an input nor computed in the module.
    """
    made, unknown = mlir.Module.create(Location.unknown(context())), Location.unknown(context())
    made.operation.attributes["sym_name"] = mlir.StringAttr.get(name, context())
    types = mlir.FunctionType.get([v.type for v in inputs], [v.type for v in outputs], context())
    function = mlir.Operation.create(
        "func.func",
        attributes={
            "sym_name": mlir.StringAttr.get("main", context()),
            "function_type": mlir.TypeAttr.get(types, context()),
            "sym_visibility": mlir.StringAttr.get("public", context()),
        },
        regions=1,
        loc=unknown,
        ip=mlir.InsertionPoint(made.body),
    )
    block = function.regions[0].blocks.append(*types.inputs, arg_locs=[unknown] * len(inputs))
    mapping: dict[Value, Value] = dict(zip(inputs, block.arguments, strict=True))
    for op in chosen:
        missing = [each for each in op.operands if each not in mapping]
        if missing:
            raise CompileError(
                f"'{op}' uses {missing[0]}, which is neither an input of '{name}' nor made in it"
            )
        copy(op, mapping, mlir.InsertionPoint(block), lambda op: op.location)
    results = [mapping[each] for each in outputs]
    mlir.Operation.create("func.return", operands=results, loc=unknown, ip=mlir.InsertionPoint(block))
    if chosen:
        _bring_functions(chosen[0], function, made)
    return text(made, debug_info)


def _bring_functions(inside: Op, function: Op, made: Module) -> None:
    """Copy to `made` the functions that `function` refers to, and those that these refer to.

    They come from the module around `inside`.
    """
    root = inside
    while root.name != "builtin.module":
        root = root.parent.operation
    known = {symbol(each, "sym_name"): each for each in ops(root.regions[0].blocks[0])}
    pending, present = [function], {"main"}
    while pending:
        for op in walk(pending.pop()):
            if op.name not in ("func.call", "stablehlo.composite"):
                continue
            target = symbol(op, "callee" if op.name == "func.call" else "decomposition")
            if target not in present:
                present.add(target)
                pending.append(
                    copy(known[target], {}, mlir.InsertionPoint(made.body), lambda op: op.location)
                )


_FLOAT_ELEMENT = re.compile(r"(?<=[x<])(?:bf16|f16|f32|f64)(?=[>,])")


def retype(source: str, to: str, element: str = "") -> str:
    """Return the module text with every floating-point element type replaced by the type `to`.

    element: the element type to replace instead of the floating-point ones.
    This is for linear operations without constants. The module then does the same on ring integers.
    """
    pattern = re.compile(rf"(?<=[x<]){element}(?=[>,])") if element else _FLOAT_ELEMENT
    return pattern.sub(to, source)


_BYTES = re.compile(r'dense<"0x([0-9A-F]+)">(?= : tensor<[0-9x]*f32>)')
_BITS = re.compile(r"(?<![\w\"])0x([0-9A-F]{8})(?=[\],>])")


def widened(source: str) -> str:
    """Return the module text with float64 in place of float32, in types and constants.

    Programs that read the bits of floats do not survive this: XLA refuses them.
    """

    def longer(found: re.Match[str]) -> str:
        values = np.frombuffer(bytes.fromhex(found[1]), "<f4").astype("<f8")
        return f'dense<"0x{values.tobytes().hex().upper()}">'

    def infinite(found: re.Match[str]) -> str:
        value = np.frombuffer(bytes.fromhex(found[1]), ">f4").astype(">f8")
        return f"0x{value.tobytes().hex().upper()}"

    return retype(_BITS.sub(infinite, _BYTES.sub(longer, source)), "f64", "f32")
