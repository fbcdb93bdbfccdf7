"""Read, print, verify and walk modules with their functions, blocks and operations."""

from __future__ import annotations

from collections.abc import Iterator

from ditto_spu.errors import CompileError
from ditto_spu.ir.bindings import Block, Module, Op, Value, context, mlir, passmanager


def parse(source: str) -> Module:
    """Return the module written in `source`, verified.

    Keep a reference to it as long as anything in it is used, because its operations and values do not keep it
    alive.
    """
    return mlir.Module.parse(source, context=context())


def text(module: Module, debug_info: bool = False) -> str:
    """Return the module as text.

    With `debug_info` the locations, and so the paths, survive a later parse.
    """
    return module.operation.get_asm(enable_debug_info=debug_info)


def clone(module: Module) -> Module:
    """Return a copy that a pass may change."""
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
    """Remove notes of JAX for its own runtime (`mhlo.num_partitions`, `jax.result_info`)."""
    for each in [each.name for each in module.operation.attributes if "." in each.name]:
        del module.operation.attributes[each]
    for function in functions(module).values():
        for name in ("arg_attrs", "res_attrs"):
            if name in function.attributes:
                del function.attributes[name]


def functions(module: Module) -> dict[str, Op]:
    """Return the functions of the module by name."""
    return {symbol(each.operation, "sym_name"): each.operation for each in module.body.operations}


def symbol(op: Op, name: str) -> str:
    """Return the string or symbol attribute `name` of `op`, without its @."""
    return op.attributes[name].value


def main(module: Module) -> Op:
    """Return the function @main."""
    return functions(module)["main"]


def body(function: Op) -> Block:
    """Return the only block of a function."""
    return function.regions[0].blocks[0]


def arguments(module: Module) -> list[Value]:
    """Return the arguments of @main."""
    return list(body(main(module)).arguments)


def ops(block: Block) -> list[Op]:
    """Return the operations of one block, its terminator last, as a list that later edits leave alone."""
    return [each.operation for each in block.operations]


def walk(root: Op) -> Iterator[Op]:
    """Yield every operation under `root`, in order. An operation comes before those of its regions."""
    for region in root.regions:
        for block in region.blocks:
            for op in ops(block):
                yield op
                yield from walk(op)
