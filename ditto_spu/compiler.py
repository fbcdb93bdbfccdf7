"""Compiles a traced call to a plan, and keeps the text of every stage for inspection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.headroom import Ranges
from ditto_spu.calibration.known import Known, known
from ditto_spu.calibration.narrow import narrow
from ditto_spu.calibration.relied_on import ranges
from ditto_spu.calibration.resolution import warn_unresolved
from ditto_spu.calibration.supply_ranges import supply
from ditto_spu.errors import DittoError, InputError, nearest
from ditto_spu.frontend.owner_program import Program
from ditto_spu.frontend.ownership_report import Ownership, ownership
from ditto_spu.frontend.trace import Traced
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.passes.pipeline import Work, advance
from ditto_spu.passes.steps.schedule import step_cost
from ditto_spu.plan.cost_report import CostReport, CostRow
from ditto_spu.plan.p_error import require_p_error, total_p_error
from ditto_spu.plan.plan import KernelStep, Plan, SpuStep, kind
from ditto_spu.rules.rule import Config
from ditto_spu.rules.shorten import config_text

DIGITS = 1.1  # how much more than wide formats the formats of a calibration may cost if they have more digits
STAGES = ("traced", "fused", "owners", "config", "formats", "plan")


@dataclass(frozen=True)
class Lowered:
    """A compiled call, before it runs.

    traced: the call as JAX traced it.
    program: the parts of the call that the parties compute, and that owners prepare for it.
    texts: StableHLO by stage of the compiler.
    network: the network for which the plan was made.
    plan: the steps that the parties execute.
    """

    traced: Traced
    program: Program
    config: Config
    texts: Mapping[str, str]
    network: Network
    plan: Plan

    def as_text(self, stage: str = "plan") -> str:
        """Return the program after a stage of the compiler.

        "traced", "fused" and "formats" give StableHLO. "owners" gives the report on ownership and the
        programs of the owners. "config" gives the configuration as TOML, with the ranges that a calibration
        supplied. "plan" gives the steps. Raises InputError for another name.
        """
        if stage not in STAGES:
            raise InputError(f"there is no stage '{stage}'{nearest(stage, STAGES)}")
        if stage == "owners":
            return f"{self.ownership()}\n{self.texts[stage]}"
        if stage == "config":
            return config_text(self.config)
        return str(self.plan) if stage == "plan" else self.texts[stage]

    def ownership(self) -> Ownership:
        """Return what owners compute before sharing, which arrays they share, and how much that saves."""
        nobody = replace(self.traced, arguments=tuple(replace(each, owner="") for each in self.program.call))
        work = Work(ir.parse(self.texts["fused"]), nobody, done="fuse")
        name, masked, guard = self.plan.name, self.plan.masked, self.plan.guard is not None
        without = compile_program(work, self.config, name, masked, guard=guard, network=self.network)
        return ownership(self.program, self.plan, self.cost_analysis(), without.cost_analysis())

    def cost_analysis(self) -> CostReport:
        """Return bytes and rounds by step, derived from the kernels' protocols, without running.

        The costs of steps on SPU are unknown.
        """
        rows = tuple(_cost_row(self.plan, number) for number in range(len(self.plan.steps)))
        return CostReport(rows, p_error=total_p_error(self.plan), hoisted=self.program.hoisted)

    def ranges(self, calibration: Calibration | None = None) -> Ranges:
        """Return every range on which the plan relies.

        With a calibration each range has its headroom above the observed values.
        """
        work = Work(self.program.module, self.traced, self.program, done="hoist")
        seen = None if calibration is None else known(calibration, advance(work, "linearise"))
        module = ir.parse(self.texts["formats"])
        return ranges(module, self.program.public, self.program.paths, seen)

    def emulate(self, values: list[Any]) -> list[NDArray[Any]]:
        """Run the program in plaintext with all roundings of its formats, and return its outputs.

        Distillation trains this program.

        values: the arrays of the call.
        """
        return ir.evaluate(self.texts["formats"], self.program.values(values))


def compile_program(
    work: Work,
    config: Config,
    name: str,
    masked: bool = False,
    calibration: Calibration | None = None,
    p_error: float | None = None,
    guard: bool = False,
    network: Network = LOOPBACK,
) -> Lowered:
    """Run the passes that `work` has not been through, and return the compiled call.

    A `work` is not changed, so the passes may start from it many times.

    work: a traced call with any number of passes done, up to `linearise`.
    calibration: supplies ranges, and narrower formats if the configuration wants them. It is compared with
        all ranges in use.
    p_error: the highest probability of an error beyond the bounds that the plan may have.
    guard: whether the parties look for products that leave their rings.
    network: the network between the parties, for which the plan is made.

    Raises ConfigError for a configuration that is wrong or exceeds `p_error`, UnsupportedOpError for an op
    that nothing can run, and RangeError for a range that does not fit.
    """
    work = replace(work, config=config, name=name, masked=masked, guard=guard, network=network)
    linear = advance(work, "linearise")
    seen = None if calibration is None else known(calibration, linear)
    if seen is not None:
        seen.warn_of_changes()
    if seen is not None and config.narrow:
        lowered = _narrowed(linear, replace(config, narrow=False), seen)
    else:
        lowered = _compile(linear, config, seen)
    if p_error is not None:
        require_p_error(lowered.plan, p_error)
    return lowered


def _narrowed(linear: Work, wide: Config, seen: Known) -> Lowered:
    """Compile a program with formats chosen from a calibration, or as it is where these cost more.

    Values that are too large for the formats of the configuration may fit those, or the other way round. A
    choice that has more digits where the values need them may cost a tenth more.
    """
    found, refused = [], None
    for config in (narrow(wide, linear, seen), wide):
        try:
            found.append(_compile(linear, config, seen))
        except DittoError as error:  # some plan of a kernel may not serve these formats
            refused = error
    if refused is not None and not found:
        raise refused
    return min(found, key=lambda each: _sent(each) / (DIGITS if _is_finer(each, wide) else 1))


def _is_finer(lowered: Lowered, wide: Config) -> bool:
    """Tell whether a rule gives results more fraction bits than the configuration does, in its ring."""
    ring, bits = wide.default_format.ring_bits, wide.default_format.fraction_bits
    formats = (rule.format for rule in lowered.config.rules)
    return any(each and each.ring_bits == ring and each.fraction_bits > bits for each in formats)


def _sent(lowered: Lowered) -> int:
    return sum(lowered.cost_analysis().bytes_sent_per_party)


def _compile(linear: Work, config: Config, seen: Known | None) -> Lowered:
    """Compile a program with the formats of a configuration, and with ranges that a calibration supplies."""
    assigned = advance(replace(linear, config=config), "assign")
    if seen is not None:
        config = supply(config, assigned.module, seen)
        assigned = advance(replace(linear, config=config), "assign")
    checked = advance(assigned, "verify")
    program = checked.parts
    used = ranges(checked.module, program.public, program.paths, seen)
    used.refuse_impossible()
    if seen is not None:
        used.require()
        warn_unresolved(used.rows)
    plan = advance(checked, "segment").plan
    assert plan is not None
    texts = {
        "traced": linear.traced.module_text,
        "fused": program.fused,
        "owners": program.as_text(),
        "formats": ir.text(checked.module, True),
    }
    return Lowered(linear.traced, program, config, texts, linear.network, plan)


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
