"""From a traced call to a plan: the passes in order, and every stage's text kept for inspection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.headroom import Ranges, ranges
from ditto_spu.calibration.supply_ranges import supply
from ditto_spu.errors import InputError, nearest
from ditto_spu.frontend.owner_program import Program
from ditto_spu.frontend.ownership_report import Ownership, ownership
from ditto_spu.frontend.trace import Traced
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.insert_casts import insert_casts
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.formats.replace_functions import approximate
from ditto_spu.passes.formats.verify import verify
from ditto_spu.passes.owners.hoist import hoist
from ditto_spu.passes.steps.schedule import step_cost
from ditto_spu.passes.steps.segment import segment
from ditto_spu.plan.cost_report import CostReport, CostRow
from ditto_spu.plan.p_error import require_p_error, total_p_error
from ditto_spu.plan.plan import KernelStep, Plan, SpuStep, kind
from ditto_spu.rules.rule import Config

STAGES = ("traced", "fused", "owners", "formats", "plan")


@dataclass(frozen=True)
class Lowered:
    """A compiled call, before it runs: its text after each stage, its plan and what the plan costs.

    program: what the parties compute, and what owners prepare for it.
    """

    traced: Traced
    program: Program
    config: Config
    texts: Mapping[str, str]
    plan: Plan

    def as_text(self, stage: str = "plan") -> str:
        """StableHLO after a stage of the compiler ("traced", "fused", "formats"), "owners" or the plan."""
        if stage not in STAGES:
            raise InputError(f"there is no stage '{stage}'{nearest(stage, STAGES)}")
        if stage == "owners":
            return f"{self.ownership()}\n{self.texts[stage]}"
        return str(self.plan) if stage == "plan" else self.texts[stage]

    def ownership(self) -> Ownership:
        """What owners compute before sharing, what they share, and what that saves."""
        fused, nobody = ir.parse(self.texts["fused"]), [replace(each, owner="") for each in self.program.call]
        masked = self.plan.masked
        without = compile_program(self.traced, hoist(fused, nobody), self.config, self.plan.name, masked)
        return ownership(self.program, self.plan, self.cost_analysis(), without.cost_analysis())

    def cost_analysis(self) -> CostReport:
        """Bytes and rounds, derived from the kernels' protocols without a run; SPU's steps are unknown."""
        rows = tuple(_cost_row(self.plan, number) for number in range(len(self.plan.steps)))
        return CostReport(rows, p_error=total_p_error(self.plan), hoisted=self.program.hoisted)

    def ranges(self, calibration: Calibration | None = None) -> Ranges:
        """Every range that the plan relies on, and its headroom over what a calibration has seen."""
        module = ir.parse(self.texts["formats"])
        return ranges(module, self.program.public, self.program.paths, calibration)

    def emulate(self, values: list[Any]) -> list[NDArray[Any]]:
        """The program with its roundings, in plaintext: what calibration and distillation run.

        values: the call's arrays.
        """
        return ir.evaluate(self.texts["formats"], self.program.values(values))


def compile_program(
    traced: Traced,
    program: Program,
    config: Config,
    name: str,
    masked: bool = False,
    calibration: Calibration | None = None,
    p_error: float | None = None,
) -> Lowered:
    """Run the passes from `program_of` on; a calibration supplies ranges and is held against all in use.

    They are apart because a search runs them many times.
    """
    public, paths = program.public, program.paths
    linear = linearise(program.module, public)
    assigned = assign(linear, public, config, program.formats)
    if calibration is not None:
        config = supply(config, assigned, calibration)
        assigned = assign(linear, public, config, program.formats)
    cast = insert_casts(approximate(assigned))
    verify(cast, public)
    if calibration is not None:
        ranges(cast, public, paths, calibration).require()
    plan = segment(cast, public, paths, name, config.name, masked)
    inputs = [replace(each, made=made) for each, made in zip(plan.inputs, program.made, strict=True)]
    plan = replace(plan, inputs=tuple(inputs))
    if p_error is not None:
        require_p_error(plan, p_error)
    texts = {
        "traced": traced.module_text,
        "fused": program.fused,
        "owners": program.as_text(),
        "formats": ir.text(cast, True),
    }
    return Lowered(traced, program, config, texts, plan)


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
