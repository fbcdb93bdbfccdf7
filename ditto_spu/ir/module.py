"""StableHLO as data, the only file that imports jaxlib.mlir: reading, building, cutting, running modules."""

import functools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.extend
import numpy as np
from jaxlib.mlir import ir as _typed
from jaxlib.mlir import passmanager
from jaxlib.mlir._mlir_libs import register_jax_dialects
from jaxlib.mlir.dialects import chlo, stablehlo

from ditto_spu.errors import CompileError

ir: Any = _typed  # the stubs lack half of what the objects can do, iteration above all
Module: TypeAlias = Any  # an ir.Module
Op: TypeAlias = Any  # an ir.Operation
Value: TypeAlias = _typed.Value
Block: TypeAlias = Any  # an ir.Block
Location = _typed.Location

_FLOATS = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
_INTEGERS = {
    f"{sign}i{bits}": f"{kind}int{bits}" for sign, kind in (("", ""), ("u", "u")) for bits in (8, 16, 32, 64)
}
DTYPES: Mapping[str, str] = {"i1": "bool", **_FLOATS, **_INTEGERS}


@functools.lru_cache(maxsize=1)
def context() -> ir.Context:
    """The one MLIR context of the process, with the dialects that a traced JAX function uses."""
    made = ir.Context()
    registry = ir.DialectRegistry()
    register_jax_dialects.register_dialects(registry)
    made.append_dialect_registry(registry)
    made.load_all_available_dialects()
    made.enable_multithreading(False)
    chlo.register_dialect(made)
    stablehlo.register_dialect(made)
    # `mhlo.layout_mode` and the like are foreign attributes of a traced module.
    made.allow_unregistered_dialects = True
    return made


def parse(source: str) -> Module:
    """The module written in `source`, verified.

    Keep a reference to it as long as anything in it is used: its operations and values do not keep it alive.
    """
    return ir.Module.parse(source, context=context())


def text(module: Module, debug_info: bool = False) -> str:
    """The module as text; with `debug_info` the locations, and so the paths, survive a later parse."""
    return module.operation.get_asm(enable_debug_info=debug_info)


def clone(module: Module) -> Module:
    """A copy that a pass may change."""
    return parse(text(module, debug_info=True))


def run_passes(module: Module, pipeline: str) -> None:
    """Run registered MLIR passes, for example "canonicalize,cse", in place."""
    passmanager.PassManager.parse(f"builtin.module({pipeline})", context=context()).run(module.operation)


def verify(module: Module) -> None:
    """Raise CompileError if the module is not valid."""
    try:
        module.operation.verify()
    except Exception as error:
        raise CompileError(f"a pass produced an invalid module: {error}") from error


def drop_foreign_attributes(module: Module) -> None:
    """Remove what JAX notes for its own runtime (`mhlo.num_partitions`, `jax.result_info`)."""
    for each in [each.name for each in module.operation.attributes if "." in each.name]:
        del module.operation.attributes[each]
    for function in functions(module).values():
        for name in ("arg_attrs", "res_attrs"):
            if name in function.attributes:
                del function.attributes[name]


# --- walking ---


def functions(module: Module) -> dict[str, Op]:
    """The functions of the module by name."""
    return {symbol(each.operation, "sym_name"): each.operation for each in module.body.operations}


def symbol(op: Op, name: str) -> str:
    """The string or symbol attribute `name` of `op`, without its @."""
    return op.attributes[name].value


def main(module: Module) -> Op:
    """The function @main."""
    return functions(module)["main"]


def body(function: Op) -> Block:
    """The only block of a function."""
    return function.regions[0].blocks[0]


def arguments(module: Module) -> list[Value]:
    """The arguments of @main."""
    return list(body(main(module)).arguments)


def ops(block: Block) -> list[Op]:
    """The operations of one block, its terminator last, as a list that later edits leave alone."""
    return [each.operation for each in block.operations]


def walk(root: Op) -> Iterator[Op]:
    """Every operation under `root`, in order, an operation before those of its regions."""
    for region in root.regions:
        for block in region.blocks:
            for op in ops(block):
                yield op
                yield from walk(op)


# --- values ---


def define(value: Value) -> Op | None:
    """The operation that makes `value`, or None for a block argument."""
    owner: Any = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation


def users(value: Value) -> list[Op]:
    """The operations that use `value`, one entry a use."""
    uses: Any = value.uses
    return [use.owner.operation for use in uses]


def captured(op: Op) -> list[Value]:
    """Values from outside that the regions of `op` use without naming them as operands."""
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
    """The shape of a tensor value."""
    return tuple(ir.RankedTensorType(value.type).shape)


def element(value: Value) -> str:
    """The element type of a tensor value as StableHLO writes it: "f32", "i1", "ui8"."""
    return str(ir.RankedTensorType(value.type).element_type)


def dtype(value: Value) -> np.dtype[Any]:
    """The numpy dtype of a tensor value."""
    return jax.numpy.dtype(DTYPES[element(value)])


def is_float(value: Value) -> bool:
    """Whether the elements are floating-point numbers."""
    return element(value) in _FLOATS


def is_known(value: Value) -> bool:
    """Whether `value` is a tensor of a type in DTYPES (not a token, a complex number, an 8-bit float)."""
    return ir.RankedTensorType.isinstance(value.type) and element(value) in DTYPES


def attribute(op: Op, name: str, default: Any = None) -> Any:
    """Attribute `name` of `op` as a Python value (number, string, bool, tuple, dict), or `default`."""
    return _python(op.attributes[name]) if name in op.attributes else default


def _python(attr: ir.Attribute) -> Any:
    if isinstance(attr, ir.DictAttr):
        return {each.name: _python(each.attr) for each in attr}
    if isinstance(attr, ir.ArrayAttr | ir.DenseI64ArrayAttr):
        return tuple(_python(each) if isinstance(each, ir.Attribute) else each for each in attr)
    return attr.value if hasattr(attr, "value") else attr


_STRUCTURED: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "dot_general": ("dot_dimension_numbers", stablehlo.DotDimensionNumbers),
    "gather": ("dimension_numbers", stablehlo.GatherDimensionNumbers),
    "convolution": ("dimension_numbers", stablehlo.ConvDimensionNumbers),
}


def dimensions(op: Op, kind: str, part: str) -> tuple[int, ...]:
    """One list of the numbers of a "dot_general", "gather" or "convolution": "lhs_batching_dimensions".

    A single number, such as "index_vector_dim", comes as a tuple of one.
    """
    name, numbers = _STRUCTURED[kind]
    found = getattr(numbers(op.attributes[name]), part)
    return (found,) if isinstance(found, int) else tuple(found)


def comparison(op: Op) -> str:
    """The direction of a compare: "EQ", "NE", "GE", "GT", "LE" or "LT"."""
    return str(stablehlo.ComparisonDirectionAttr(op.attributes["comparison_direction"]).value)


def constant_value(op: Op) -> np.ndarray[Any, Any]:
    """The array of a stablehlo.constant; one value repeated is returned as a read-only broadcast."""
    attr, result = op.attributes["value"], op.results[0]
    if 0 in shape(result):
        return np.zeros(shape(result), dtype(result))
    if attr.is_splat:
        one = attr.get_splat_value().value
        return np.broadcast_to(np.asarray(one, dtype(result)), shape(result))
    if element(result) in ("i1", "bf16"):
        # The bindings abort the process when they are asked for a buffer of these.
        return evaluate(extract([op], [], [result], "constant"), [])[0]
    return np.array(attr).reshape(shape(result))


def replace_all_uses(old: Value, new: Value) -> None:
    """Let every user of `old` use `new`."""
    old.replace_all_uses_with(new)


# --- locations ---

_NAME = re.compile(r'loc\((?:callsite\(|fused(?:<[^\[]*>)?\[)*"((?:[^"\\]|\\.)*)"(:\d+:\d+)?')
_WRAPPED = re.compile(r"^(?:vmap|jvp|transpose|checkpoint|remat|custom_jvp|custom_vjp)\((.*)\)$")
_DROPPED = re.compile(r"^(?:jit|pjit|pmap|xla_call)\(.*\)$|^(?:main|pjit|custom_jvp_call|custom_vjp_call)$")
_MODULE_CLASS = re.compile(r"^[A-Z][A-Za-z0-9]*(?:\.\w+)?$")


def name_of(op: Op) -> str:
    """JAX's name stack in the location, `jit(f)/jit(main)/Encoder/layer_0/add`, or ''."""
    found = _NAME.match(str(op.location))
    return found.group(1) if found and not found.group(2) and "/" in found.group(1) else ""


def path_of(op: Op) -> str:
    """The module path of an operation, `encoder/layer/0/attention/self`; '' in a program without scopes."""
    parts = [part for part in map(_unwrap, _split(name_of(op))[:-1]) if part and not _DROPPED.match(part)]
    if "_call_wrapped_method" in str(op.location):
        # Flax puts the class of the outermost module first: it says nothing that the program does not.
        top = next((i for i, part in enumerate(parts) if _MODULE_CLASS.match(part)), None)
        if top is not None:
            del parts[top]
    return "/".join(parts)


def _split(name: str) -> list[str]:
    """Split at the slashes outside parentheses: `jit(<lambda>)/vmap(a/b)/add` has three parts."""
    return re.split(r"/(?![^()]*\))", name)


def _unwrap(part: str) -> str:
    while found := _WRAPPED.match(part):
        part = found.group(1)
    return part


def source_of(op: Op) -> str:
    """`file:line` of the user's code that made the operation, for error messages."""
    lines = re.findall(r'"([^"]+)":(\d+):\d+', str(op.location))
    own = [each for each in lines if "site-packages" not in each[0] and not each[0].startswith("<")]
    return ":".join((own or lines)[0]) if lines else "unknown source"


# --- building ---


def copy(
    op: Op, mapping: dict[Value, Value], at: ir.InsertionPoint, location: Callable[[Op], Location]
) -> Op:
    """Copy `op` with its regions to `at`; `mapping` replaces its operands and learns the new results."""
    new = ir.Operation.create(
        op.name,
        results=[result.type for result in op.results],
        operands=[mapping.get(each, each) for each in op.operands],
        attributes={each.name: each.attr for each in op.attributes},
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
                copy(each, mapping, ir.InsertionPoint(new_block), location)
    mapping.update(zip(op.results, new.results, strict=True))
    return new


def splice(block: Block, values: Sequence[Value], before: Op) -> list[Value]:
    """Copy a block's operations before an operation, with these arguments; what its terminator returns."""
    mapping: dict[Value, Value] = dict(zip(block.arguments, values, strict=True))
    *inner, terminator = ops(block)
    for op in inner:
        copy(op, mapping, ir.InsertionPoint(before), lambda op: op.location)
    return [mapping.get(each, each) for each in terminator.operands]


def inline_calls(module: Module) -> None:
    """Replace every func.call by the body of its function, in place; its operations get the caller's path."""
    known = functions(module)
    pending = [op for op in walk(known["main"]) if op.name == "func.call"]
    while pending:
        call = pending.pop()
        callee = known[symbol(call, "callee")]
        old_prefix, new_prefix = (name_of(each).rpartition("/")[0] for each in (callee, call))

        def relocate(op: Op, old: str = old_prefix, new: str = new_prefix) -> Location:
            name = name_of(op)
            if old and new and name.startswith(old) and old != new:
                return Location.name(new + name[len(old) :], childLoc=op.location, context=context())
            return op.location

        mapping: dict[Value, Value] = dict(zip(body(callee).arguments, call.operands, strict=True))
        *inner, terminator = ops(body(callee))
        for op in inner:
            new = copy(op, mapping, ir.InsertionPoint(call), relocate)
            pending += [each for each in (new, *walk(new)) if each.name == "func.call"]
        for result, value in zip(call.results, terminator.operands, strict=True):
            replace_all_uses(result, mapping.get(value, value))
        call.erase()
    run_passes(module, "symbol-dce")


def _traced(meaning: Callable[..., Any], operands: Sequence[Value]) -> Module:
    """`meaning`, a JAX function, lowered for the types of `operands`, without calls."""
    return parse(_traced_text(meaning, tuple((shape(each), dtype(each)) for each in operands)))


@functools.lru_cache(maxsize=4096)  # a deep model has the same casts over and over
def _traced_text(meaning: Callable[..., Any], types: tuple[tuple[tuple[int, ...], Any], ...]) -> str:
    # With 64-bit types on, an i64 or f64 operand keeps its type whatever the user's flag is.
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
    """Write the operations of the JAX function `meaning` of `operands` before `before`; its results."""
    source = _traced(meaning, operands)
    *inner, terminator = ops(body(main(source)))
    mapping: dict[Value, Value] = dict(zip(arguments(source), operands, strict=True))
    for op in inner:
        copy(op, mapping, ir.InsertionPoint(before), lambda _: location)
    return [mapping[each] for each in terminator.operands]


def unary(name: str, value: Value, before: Op, location: Location) -> Value:
    """The operation `name`, which has one operand and one result of its type, before `before`; its result."""
    made = ir.Operation.create(
        name, results=[value.type], operands=[value], loc=location, ip=ir.InsertionPoint(before)
    )
    return made.results[0]


def composite(
    module: Module,
    name: str,
    meaning: Callable[..., Any],
    operands: Sequence[Value],
    attributes: Mapping[str, int | float | str],
    before: Op,
    location: Location,
) -> Value:
    """A `stablehlo.composite` of `operands` before `before`; the JAX function `meaning` decomposes it."""
    source = _traced(meaning, operands)
    function = main(source)
    result = ops(body(function))[-1].operands[0].type
    # Equal decompositions share one function; its name is made of its content, so that text is reproducible.
    decomposition = f"{name}.{zlib.crc32(function.get_asm().encode()):08x}"
    if decomposition not in functions(module):
        new = copy(function, {}, ir.InsertionPoint(module.body), lambda _: location)
        new.attributes["sym_name"] = ir.StringAttr.get(decomposition, context())
        new.attributes["sym_visibility"] = ir.StringAttr.get("private", context())
    made = ir.Operation.create(
        "stablehlo.composite",
        results=[result],
        operands=list(operands),
        attributes={
            "name": ir.StringAttr.get(name, context()),
            "composite_attributes": ir.DictAttr.get({k: _mlir(v) for k, v in attributes.items()}, context()),
            "decomposition": ir.FlatSymbolRefAttr.get(decomposition, context()),
        },
        loc=location,
        ip=ir.InsertionPoint(before),
    )
    return made.results[0]


def _mlir(value: int | float | str) -> ir.Attribute:
    with context():
        if isinstance(value, str):
            return ir.StringAttr.get(value)
        if isinstance(value, int):
            return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
        return ir.FloatAttr.get(ir.F64Type.get(), value, loc=Location.unknown())


def composite_name(op: Op) -> str:
    """`ditto.softmax` for such a composite, '' for any other operation."""
    return symbol(op, "name") if op.name == "stablehlo.composite" else ""


def composite_attributes(op: Op) -> dict[str, Any]:
    """The attributes of a composite as Python values."""
    return attribute(op, "composite_attributes", {})


def set_string(op: Op, name: str, value: str) -> None:
    """Set a string attribute such as `ditto.format`."""
    op.attributes[name] = ir.StringAttr.get(value, context())


# --- cutting out and running ---


def extract(
    chosen: Sequence[Op],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    name: str,
    debug_info: bool = False,
) -> str:
    """The text of a module whose @main computes `outputs` from `inputs` by copies of `chosen`, in that order.

    Functions that the operations refer to (decompositions of composites) come along.
    """
    made, unknown = ir.Module.create(Location.unknown(context())), Location.unknown(context())
    made.operation.attributes["sym_name"] = ir.StringAttr.get(name, context())
    types = ir.FunctionType.get([v.type for v in inputs], [v.type for v in outputs], context())
    function = ir.Operation.create(
        "func.func",
        attributes={
            "sym_name": ir.StringAttr.get("main", context()),
            "function_type": ir.TypeAttr.get(types, context()),
            "sym_visibility": ir.StringAttr.get("public", context()),
        },
        regions=1,
        loc=unknown,
        ip=ir.InsertionPoint(made.body),
    )
    block = function.regions[0].blocks.append(*types.inputs, arg_locs=[unknown] * len(inputs))
    mapping: dict[Value, Value] = dict(zip(inputs, block.arguments, strict=True))
    for op in chosen:
        missing = [each for each in op.operands if each not in mapping]
        if missing:
            raise CompileError(
                f"'{op}' uses {missing[0]}, which is neither an input of '{name}' nor made in it"
            )
        copy(op, mapping, ir.InsertionPoint(block), lambda op: op.location)
    results = [mapping[each] for each in outputs]
    ir.Operation.create("func.return", operands=results, loc=unknown, ip=ir.InsertionPoint(block))
    if chosen:
        _bring_functions(chosen[0], function, made)
    return text(made, debug_info)


def _bring_functions(inside: Op, function: Op, made: Module) -> None:
    """Copy to `made` the functions, of the module around `inside`, that `function` refers to, and theirs."""
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
                pending.append(copy(known[target], {}, ir.InsertionPoint(made.body), lambda op: op.location))


_FLOAT_ELEMENT = re.compile(r"(?<=[x<])(?:bf16|f16|f32|f64)(?=[>,])")


def retype(source: str, to: str, element: str = "") -> str:
    """The module text with every floating-point element type, or every `element`, replaced by the type `to`.

    For linear operations without constants: the module then does the same on ring integers.
    """
    pattern = re.compile(rf"(?<=[x<]){element}(?=[>,])") if element else _FLOAT_ELEMENT
    return pattern.sub(to, source)


@dataclass(frozen=True)
class _Program:
    """A compiled module and the dtypes of its arguments."""

    executable: Any
    dtypes: tuple[np.dtype[Any], ...]


@functools.lru_cache(maxsize=4096)  # more than a deep model has steps, or each call would compile them anew
def _compiled(source: str) -> _Program:
    module = parse(source)
    dtypes = tuple(dtype(each) for each in arguments(module))
    return _Program(jax.extend.backend.get_backend("cpu").compile(source), dtypes)


def erase_dead(block: Block) -> None:
    """Erase the operations whose results nobody uses, but never one with an effect."""
    for op in reversed(ops(block)):
        if not is_effect(op) and not any(users(each) for each in op.results):
            op.erase()


def is_effect(op: Op) -> bool:
    """Whether an operation does more than compute its results."""
    names = ("return", "custom_call", "send", "recv", "infeed", "outfeed", "call")
    inside = any(each.name.partition(".")[2] in names[1:] for each in walk(op))
    return inside or op.name.partition(".")[2] in names


def prepare(source: str) -> None:
    """Compile a program that `evaluate` will run."""
    _compiled(source)


def evaluate(program: str | Module, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Run a module in plaintext on XLA's CPU client; composites mean their decompositions."""
    compiled = _compiled(program if isinstance(program, str) else text(program))
    buffers = [buffer(each, dtype) for each, dtype in zip(args, compiled.dtypes, strict=True)]
    return [np.asarray(each) for each in compiled.executable.execute(buffers)]


def buffer(value: Any, dtype: np.dtype[Any]) -> jax.Array:
    """An array as XLA's CPU client takes it, without a copy if it is one already."""
    client = jax.extend.backend.get_backend("cpu")
    if isinstance(value, jax.Array) and value.dtype == dtype and value.devices() == {client.devices()[0]}:
        return value
    made: jax.Array = client.buffer_from_pyval(np.asarray(value, dtype))
    return made
