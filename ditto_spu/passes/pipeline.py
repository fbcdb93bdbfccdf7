"""List the passes of the compiler in order. Compiler, calibration and search all run this one list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ditto_spu import ir
from ditto_spu.errors import CompileError, DittoError
from ditto_spu.frontend.owner_program import Program
from ditto_spu.frontend.trace import Traced
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.insert_casts import insert_casts
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.formats.replace_functions import replace_functions
from ditto_spu.passes.formats.verify import verify
from ditto_spu.passes.fuse.fuse import fuse
from ditto_spu.passes.owners.hoist import hoist
from ditto_spu.passes.steps.segment import segment
from ditto_spu.plan.plan import Plan
from ditto_spu.rules.rule import Config


@dataclass(frozen=True)
class Work:
    """A program on its way through the passes. No pass changes the module that it was given.

    module: the operations.
    traced: the call that they come from.
    program: the parts of parties and owners, once `hoist` has told them apart.
    config: the configuration, which the passes from `assign` on need.
    name, masked, guard: the name of the plan, whether it uses masked shares, and whether it has a guard.
    network: the network between the parties, for which the plan is made.
    plan: the plan, once `segment` has made it.
    done: the name of the last pass that has run, or ''.
    """

    module: ir.Module
    traced: Traced
    program: Program | None = None
    config: Config | None = None
    name: str = ""
    masked: bool = False
    guard: bool = False
    network: Network = LOOPBACK
    plan: Plan | None = None
    done: str = ""

    @property
    def parts(self) -> Program:
        """The parts of parties and owners."""
        assert self.program is not None, "parts are told apart by `hoist`"
        return self.program

    @property
    def rules(self) -> Config:
        """The configuration."""
        assert self.config is not None, "formats are assigned by a configuration"
        return self.config


@dataclass(frozen=True)
class Pass:
    """One pass: its name, a line for the docs, and the function that runs it."""

    name: str
    does: str
    run: Callable[[Work], Work]


def _fuse(work: Work) -> Work:
    return replace(work, module=fuse(work.module, work.traced.public))


def _hoist(work: Work) -> Work:
    program = hoist(work.module, work.traced.arguments)
    return replace(work, module=program.module, program=program)


def _linearise(work: Work) -> Work:
    return replace(work, module=linearise(work.module, work.parts.public))


def _assign(work: Work) -> Work:
    return replace(work, module=assign(work.module, work.parts.public, work.rules, work.parts.formats))


def _replace_functions(work: Work) -> Work:
    return replace(work, module=replace_functions(work.module))


def _insert_casts(work: Work) -> Work:
    return replace(work, module=insert_casts(work.module))


def _verify(work: Work) -> Work:
    verify(work.module, work.parts.public)
    return work


def _segment(work: Work) -> Work:
    parts, config = work.parts, work.rules.name
    plan = segment(
        work.module, parts.public, parts.paths, work.name, config, work.masked, work.guard, work.network
    )
    inputs = [replace(each, made=made) for each, made in zip(plan.inputs, parts.made, strict=True)]
    return replace(work, plan=replace(plan, inputs=tuple(inputs)))


PIPELINE: tuple[Pass, ...] = (
    Pass("fuse", "recognises whole functions and makes them composites; simplifies the rest", _fuse),
    Pass("hoist", "moves public work, and work of one owner alone, to that owner", _hoist),
    Pass("linearise", "writes operations that public operands make linear as such", _linearise),
    Pass("assign", "chooses a format for every secret value", _assign),
    Pass("replace_functions", "lets a replaced function mean what replaces it", _replace_functions),
    Pass("insert_casts", "makes every change of format an operation", _insert_casts),
    Pass("verify", "refuses declared ranges and constants that their formats cannot hold", _verify),
    Pass("segment", "cuts the module into the steps of a plan", _segment),
)
_PLACES = {each.name: place for place, each in enumerate(PIPELINE)}


def begin(traced: Traced) -> Work:
    """Return a traced call before the first pass."""
    return Work(ir.parse(traced.module_text), traced)


def advance(work: Work, to: str) -> Work:
    """Run the passes that come after the last one of `work`, up to the pass named `to`."""
    first = _PLACES[work.done] + 1 if work.done else 0
    for each in PIPELINE[first : _PLACES[to] + 1]:
        work = replace(_run(each, work), done=each.name)
    return work


def _run(each: Pass, work: Work) -> Work:
    """Run a pass. Raises CompileError where it fails in a way that it does not foresee."""
    try:
        return each.run(work)
    except DittoError:
        raise
    except Exception as error:
        raise CompileError(
            f"the pass '{each.name}' failed on this program ({type(error).__name__}: {error}), which is a "
            "defect of the compiler: report it with the program, and try the parts of the program alone"
        ) from error
