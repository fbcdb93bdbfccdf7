"""Write operations: copies, inlined calls, JAX functions and composites."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.bindings import Block, Location, Module, Op, Value, context, mlir
from ditto_spu.ir.locations import at_path, name_of, of_earlier_call, path_of, source_of
from ditto_spu.ir.module import (
    arguments,
    body,
    drop_foreign_attributes,
    functions,
    main,
    ops,
    parse,
    run_passes,
    symbol,
    text,
    walk,
)
from ditto_spu.ir.values import dtype, replace_all_uses, shape


def copy(
    op: Op, mapping: dict[Value, Value], at: mlir.InsertionPoint, location: Callable[[Op], Location]
) -> Op:
    """Copy `op` with its regions to `at`, and return the copy.

    mapping: replaces the operands of `op`. The function adds the new results to it.
    location: gives the location of each copied operation.
    """
    new = mlir.Operation.create(
        op.name,
        results=[result.type for result in op.results],
        operands=[mapping.get(each, each) for each in op.operands],
        attributes=_attributes(op),
        regions=len(op.regions),
        loc=location(op),
        ip=at,
    )
    for region, new_region in zip(op.regions, new.regions, strict=True):
        for block in region.blocks:
            types = [each.type for each in block.arguments]
            new_block = new_region.blocks.append(*types, arg_locs=[location(op)] * len(types))
            mapping.update(zip(block.arguments, new_block.arguments, strict=True))
            for each in ops(block):
                copy(each, mapping, mlir.InsertionPoint(new_block), location)
    mapping.update(zip(op.results, new.results, strict=True))
    return new


def _attributes(op: Op) -> dict[str, mlir.Attribute]:
    try:
        return {each.name: each.attr for each in op.attributes}
    except RuntimeError as error:  # the bindings cannot read constants of complex numbers
        raise UnsupportedOpError(
            f"{path_of(op) or 'the program'} ({source_of(op)}): complex numbers cannot be shared; compute "
            "with real and imaginary parts"
        ) from error


def splice(block: Block, values: Sequence[Value], before: Op) -> list[Value]:
    """Copy a block's operations before an operation, with the given arguments.

    Returns the values that the block's terminator returns.
    """
    mapping: dict[Value, Value] = dict(zip(block.arguments, values, strict=True))
    *inner, terminator = ops(block)
    for op in inner:
        copy(op, mapping, mlir.InsertionPoint(before), lambda op: op.location)
    return [mapping.get(each, each) for each in terminator.operands]


def inline_calls(module: Module) -> None:
    """Replace every func.call by the body of its function, in place.

    The operations of the body get the caller's path, and the caller's line if theirs is that of another call.
    """
    known = functions(module)
    pending = [op for op in walk(known["main"]) if op.name == "func.call"]
    while pending:
        call = pending.pop()
        callee = known[symbol(call, "callee")]
        old_prefix, new_prefix = (name_of(each).rpartition("/")[0] for each in (callee, call))

        def relocate(op: Op, call: Op = call, old: str = old_prefix, new: str = new_prefix) -> Location:
            name, earlier = name_of(op), of_earlier_call(op, call)
            line = call.location if earlier else op.location
            if old and new and name.startswith(old) and old != new:
                return at_path(new + name[len(old) :], line)
            return at_path(name, line) if earlier and name else line

        mapping: dict[Value, Value] = dict(zip(body(callee).arguments, call.operands, strict=True))
        *inner, terminator = ops(body(callee))
        for op in inner:
            new = copy(op, mapping, mlir.InsertionPoint(call), relocate)
            pending += [each for each in (new, *walk(new)) if each.name == "func.call"]
        for result, value in zip(call.results, terminator.operands, strict=True):
            replace_all_uses(result, mapping.get(value, value))
        call.erase()
    run_passes(module, "symbol-dce")


def _traced(meaning: Callable[..., Any], operands: Sequence[Value]) -> Module:
    """Return the JAX function `meaning`, lowered for the types of `operands`, without calls."""
    return parse(_traced_text(meaning, tuple((shape(each), dtype(each)) for each in operands)))


@functools.lru_cache(maxsize=4096)  # a deep model repeats the same casts many times
def _traced_text(meaning: Callable[..., Any], types: tuple[tuple[tuple[int, ...], Any], ...]) -> str:
    # With 64-bit types on, an i64 or f64 operand keeps its type, whatever the user's flag says.
    with jax.experimental.enable_x64():
        avals = [jax.ShapeDtypeStruct(*each) for each in types]
        lowered = jax.jit(meaning, keep_unused=True).trace(*avals).lower()
    module = parse(lowered.compiler_ir("stablehlo").operation.get_asm(enable_debug_info=True))
    inline_calls(module)
    drop_foreign_attributes(module)
    return text(module, debug_info=True)


def emit(
    meaning: Callable[..., Any], operands: Sequence[Value], before: Op, location: Location
) -> list[Value]:
    """Write the operations of the JAX function `meaning` of `operands` before `before`.

    Returns the results of the function.
    """
    source = _traced(meaning, operands)
    *inner, terminator = ops(body(main(source)))
    mapping: dict[Value, Value] = dict(zip(arguments(source), operands, strict=True))
    for op in inner:
        copy(op, mapping, mlir.InsertionPoint(before), lambda _: location)
    return [mapping[each] for each in terminator.operands]


def rewrite(op: Op, meaning: Callable[..., Any], operands: Sequence[Value] | None = None) -> list[Value]:
    """Put what the JAX function `meaning` computes in the place of an operation, and return the new results.

    operands: the arguments of the function. None stands for the operands of the operation.
    """
    results = emit(meaning, list(op.operands) if operands is None else operands, op, op.location)
    for old, new in zip(op.results, results, strict=True):
        replace_all_uses(old, new)
    op.erase()
    return results


def scalar(value: Any, like: Value, before: Op, location: Location) -> Value:
    """Write a constant with the scalar type of `like`, and return it."""
    element = like.type.element_type
    if mlir.IntegerType.isinstance(element):
        number = mlir.IntegerAttr.get(element, int(value))
    else:
        number = mlir.FloatAttr.get(element, float(value), loc=location)
    made = mlir.Operation.create(
        "stablehlo.constant",
        results=[like.type],
        attributes={"value": mlir.DenseElementsAttr.get_splat(like.type, number)},
        loc=location,
        ip=mlir.InsertionPoint(before),
    )
    return made.results[0]


def unary(name: str, value: Value, before: Op, location: Location) -> Value:
    """Write an operation with one operand and one result of the same type, and return its result.

    name: the full name of the operation, such as "stablehlo.logistic".
    before: the operation before which it is written.
    """
    made = mlir.Operation.create(
        name, results=[value.type], operands=[value], loc=location, ip=mlir.InsertionPoint(before)
    )
    return made.results[0]


def _function(
    module: Module, name: str, meaning: Callable[..., Any], operands: Sequence[Value], location: Location
) -> tuple[str, list[mlir.Type]]:
    """Write the JAX function `meaning` as a private function. Returns its symbol and its result types."""
    source = _traced(meaning, operands)
    function = main(source)
    types = [each.type for each in ops(body(function))[-1].operands]
    # Equal functions are written once. The symbol is made of the content, so that text is reproducible.
    known = f"{name}.{zlib.crc32(function.get_asm().encode()):08x}"
    if known not in functions(module):
        new = copy(function, {}, mlir.InsertionPoint(module.body), lambda _: location)
        new.attributes["sym_name"] = mlir.StringAttr.get(known, context())
        new.attributes["sym_visibility"] = mlir.StringAttr.get("private", context())
    return known, types


def call(
    module: Module,
    name: str,
    meaning: Callable[..., Any],
    operands: Sequence[Value],
    before: Op,
    location: Location,
) -> list[Value]:
    """Write a call of the JAX function `meaning` of `operands` before `before`, and return its results.

    name: how the symbol of the function begins.
    """
    function, types = _function(module, name, meaning, operands, location)
    made = mlir.Operation.create(
        "func.call",
        results=types,
        operands=list(operands),
        attributes={"callee": mlir.FlatSymbolRefAttr.get(function, context())},
        loc=location,
        ip=mlir.InsertionPoint(before),
    )
    return list(made.results)


def composite(
    module: Module,
    name: str,
    meaning: Callable[..., Any],
    operands: Sequence[Value],
    attributes: Mapping[str, int | float | str],
    before: Op,
    location: Location,
) -> Value:
    """Write a `stablehlo.composite` of `operands` before `before`, and return its result.

    meaning: the JAX function that the composite decomposes to.
    """
    decomposition, (result,) = _function(module, name, meaning, operands, location)
    made = mlir.Operation.create(
        "stablehlo.composite",
        results=[result],
        operands=list(operands),
        attributes={
            "name": mlir.StringAttr.get(name, context()),
            "composite_attributes": mlir.DictAttr.get(
                {k: _mlir(v) for k, v in attributes.items()}, context()
            ),
            "decomposition": mlir.FlatSymbolRefAttr.get(decomposition, context()),
        },
        loc=location,
        ip=mlir.InsertionPoint(before),
    )
    return made.results[0]


def _mlir(value: int | float | str) -> mlir.Attribute:
    with context():
        if isinstance(value, str):
            return mlir.StringAttr.get(value)
        if isinstance(value, int):
            return mlir.IntegerAttr.get(mlir.IntegerType.get_signless(64), value)
        return mlir.FloatAttr.get(mlir.F64Type.get(), value, loc=Location.unknown())


def set_string(op: Op, name: str, value: str) -> None:
    """Set a string attribute such as `ditto.format`."""
    op.attributes[name] = mlir.StringAttr.get(value, context())
