"""Modules, their functions, blocks and operations: reading, printing, verifying, walking."""

from __future__ import annotations

from collections.abc import Iterator

from ditto_spu.errors import CompileError
from ditto_spu.ir.bindings import Block, Module, Op, Value, context, mlir, passmanager


def parse(source: str) -> Module:
    """The module written in `source`, verified.

    Keep a reference to it as long as anything in it is used: its operations and values do not keep it alive.
    """
    return mlir.Module.parse(source, context=context())


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
