"""From a traced call to a plan: the passes in order, and every stage's text kept for inspection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration import Calibration
from ditto_spu.errors import InputError, nearest
from ditto_spu.failure import require_p_error, total_p_error
from ditto_spu.frontend import Traced
from ditto_spu.passes.approximate import approximate
from ditto_spu.passes.assign import assign
from ditto_spu.passes.fuse import fuse
from ditto_spu.passes.insert_casts import insert_casts
from ditto_spu.passes.linearise import linearise
from ditto_spu.passes.schedule import step_cost
from ditto_spu.passes.segment import segment
from ditto_spu.passes.verify import verify
from ditto_spu.plan import KernelStep, Plan, SpuStep, kind
from ditto_spu.ranges import Ranges, ranges
from ditto_spu.report import CostReport, CostRow
from ditto_spu.rules import Config
from ditto_spu.supply import supply

STAGES = ("traced", "fused", "formats", "plan")


@dataclass(frozen=True)
class Lowered:
    """A compiled call, before it runs: its text after each stage, its plan and what the plan costs."""

    traced: Traced
    config: Config
    texts: Mapping[str, str]
    plan: Plan

    def as_text(self, stage: str = "plan") -> str:
        """StableHLO after a stage of the compiler ("traced", "fused", "formats"), or the plan."""
        if stage not in STAGES:
            raise InputError(f"there is no stage '{stage}'{nearest(stage, STAGES)}")
        return str(self.plan) if stage == "plan" else self.texts[stage]

    def cost_analysis(self) -> CostReport:
        """Bytes and rounds from the kernels' cost functions, without running; SPU's steps are unknown."""
        rows = tuple(_cost_row(self.plan, number) for number in range(len(self.plan.steps)))
        return CostReport(rows, p_error=total_p_error(self.plan))

    def ranges(self, calibration: Calibration | None = None) -> Ranges:
        """Every range that the plan relies on, and its headroom over what a calibration has seen."""
        paths = [each.path for each in self.traced.arguments]
        return ranges(ir.parse(self.texts["formats"]), self.traced.public, paths, calibration)

    def emulate(self, values: list[Any]) -> list[NDArray[Any]]:
        """The program with its roundings, in plaintext: what calibration and distillation run."""
        return ir.evaluate(self.texts["formats"], values)


def compile_call(
    traced: Traced,
    config: Config,
    name: str,
    masked: bool = False,
    calibration: Calibration | None = None,
    p_error: float | None = None,
) -> Lowered:
    """Run all passes on a traced call; a calibration supplies ranges and is held against all in use."""
    return compile_fused(traced, front(traced), config, name, masked, calibration, p_error)


def front(traced: Traced) -> ir.Module:
    """The passes before any choice of formats."""
    return fuse(ir.parse(traced.module_text), traced.public)


def compile_fused(
    traced: Traced,
    fused: ir.Module,
    config: Config,
    name: str,
    masked: bool = False,
    calibration: Calibration | None = None,
    p_error: float | None = None,
) -> Lowered:
    """The passes from `front` on: a search runs them many times."""
    linear = linearise(fused, traced.public)
    assigned = assign(linear, traced.public, config, traced.formats)
    if calibration is not None:
        config = supply(config, assigned, calibration)
        assigned = assign(linear, traced.public, config, traced.formats)
    cast = insert_casts(approximate(assigned))
    verify(cast, traced.public)
    paths = [each.path for each in traced.arguments]
    if calibration is not None:
        ranges(cast, traced.public, paths, calibration).require()
    plan = segment(cast, traced.public, paths, name, config.name, masked)
    if p_error is not None:
        require_p_error(plan, p_error)
    texts = {"traced": traced.module_text, "fused": ir.text(fused, True), "formats": ir.text(cast, True)}
    return Lowered(traced, config, texts, plan)


def _cost_row(plan: Plan, number: int) -> CostRow:
    step = plan.steps[number]
    format_ = ", ".join(dict.fromkeys(str(plan.vars[var].fxp or "public") for var in step.outputs))
    stage = next(place for place, numbers in enumerate(plan.stages) if number in numbers)
    row = CostRow(number, step.path, kind(step), format_, stage, source="computed")
    if isinstance(step, SpuStep):
        return replace(row, rounds=None, source="unknown")
    if not isinstance(step, KernelStep):
        return row
    online, offline, rounds = step_cost(step, plan.vars, plan.masked)
    return replace(row, online_bytes=online, offline_bytes=offline, rounds=rounds)
