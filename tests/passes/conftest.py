"""Give fixtures for tests of passes: a function, traced and taken through the passes up to a stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.insert_casts import insert_casts
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.fuse.fuse import fuse
from ditto_spu.passes.steps.segment import segment
from ditto_spu.plan.plan import Plan
from ditto_spu.rules.load import load_config

STAGES = ("traced", "fused", "linear", "assigned", "cast")


@dataclass(frozen=True)
class Program:
    """A module at some stage, with the values that the later passes need."""

    module: ir.Module
    public: tuple[bool, ...]
    paths: tuple[str, ...]

    def lines(self) -> list[str]:
        """The operations of @main, one per line, without their locations."""
        return [str(op) for op in ir.ops(ir.body(ir.main(self.module)))]

    def ops(self, name: str) -> list[ir.Op]:
        """Return the operations of @main with this StableHLO or composite name."""
        block = ir.ops(ir.body(ir.main(self.module)))
        return [op for op in block if name in (op.name, ir.composite_name(op))]

    def op(self, name: str) -> ir.Op:
        """Return the only operation of that name."""
        (found,) = self.ops(name)
        return found

    def plan(self) -> Plan:
        return segment(self.module, self.public, self.paths, "fn", "test")


def _compile(
    fn: Callable[..., Any],
    *args: Any,
    to: str = "cast",
    config: Mapping[str, Any] | None = None,
    public: Sequence[str] = (),
) -> Program:
    """Trace `fn` for `args`, and take it through the passes up to the stage `to`."""
    traced = trace(fn, args, public=public)
    passes: list[Callable[[ir.Module], ir.Module]] = [
        lambda module: fuse(module, traced.public),
        lambda module: linearise(module, traced.public),
        lambda module: assign(module, traced.public, load_config(config or {"default": "fxp32.12"})),
        insert_casts,
    ]
    module = ir.parse(traced.module_text)
    for each in passes[: STAGES.index(to)]:
        module = each(module)
    return Program(module, traced.public, tuple(argument.path for argument in traced.arguments))


@pytest.fixture(scope="session")
def compile_to() -> Callable[..., Program]:
    return _compile
