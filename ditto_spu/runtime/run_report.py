"""The cost report of a run, made from the records of the parties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ditto_kernels.protocol.link import Traffic
from ditto_spu.plan.cost_report import ZERO, CostReport, CostRow, Triple
from ditto_spu.plan.p_error import total_p_error
from ditto_spu.plan.plan import Plan, SpuStep, kind
from ditto_spu.runtime.executor import StepRecord
from ditto_spu.runtime.material import Sizes


class OfflineCost(Protocol):
    """The facts about material that a report needs.

    sizes: by party and step, the bytes and messages that the party dealt.
    seconds: the time that the offline phase took.
    """

    @property
    def sizes(self) -> tuple[Sizes, Sizes, Sizes]: ...

    @property
    def seconds(self) -> float: ...


def cost_report(
    plan: Plan,
    records: Sequence[Sequence[StepRecord]],
    spu_costs: dict[int, tuple[tuple[int, ...], tuple[int, ...]]],
    seconds: float,
    material: OfflineCost | None,
) -> CostReport:
    """Return the report of a run, with one row per step.

    records: of each party, its records of the steps in which it took part.
    spu_costs: of each step on SPU, the bytes and messages of each party. A step that is missing here has an
        unknown cost.
    seconds: the time of the run.
    material: the material that the run spent. None if the run included the offline phase.
    """
    rows = []
    by_step = [{each.step: each for each in record} for record in records]
    stages = {number: place for place, stage in enumerate(plan.stages) for number in stage}
    for number, step in enumerate(plan.steps):
        away = StepRecord(number, stages[number], Traffic(), 0.0)  # of a dealer that worked offline
        each = [record.get(number, away) for record in by_step]
        dealt = [(0, 0)] * 3 if material is None else [sizes.get(number, (0, 0)) for sizes in material.sizes]
        row = CostRow(
            step=number,
            path=step.path,
            kind=kind(step),
            format=", ".join(dict.fromkeys(str(plan.vars[var].fxp or "public") for var in step.outputs)),
            stage=stages[number],
            online_bytes=_triple([r.traffic.bytes_sent for r in each]),
            offline_bytes=_triple([r.traffic.offline_bytes + d[0] for r, d in zip(each, dealt, strict=True)]),
            messages=_triple(
                [
                    r.traffic.messages + r.traffic.offline_messages + d[1]
                    for r, d in zip(each, dealt, strict=True)
                ]
            ),
            rounds=max(r.traffic.rounds for r in each),
            seconds=max(r.seconds for r in each),
        )
        if isinstance(step, SpuStep):
            sent, messages = spu_costs.get(number, (ZERO, ZERO))
            source = "measured" if number in spu_costs else "unknown"
            row = replace(
                row, online_bytes=_triple(sent), messages=_triple(messages), rounds=None, source=source
            )
        rows.append(row)
    offline_seconds = 0.0 if material is None else material.seconds
    return CostReport(tuple(rows), seconds, offline_seconds, total_p_error(plan))


def _triple(values: Sequence[int]) -> Triple:
    return (values[0], values[1], values[2])
