"""Reads and joins the three parties' answers at the client.

The functions raise PartyError if an answer is not as the plan says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from ditto_kernels.protocol.link import Traffic
from ditto_kernels.values.replicated import PARTIES, Rss
from ditto_spu.cluster.net.wire import Message
from ditto_spu.errors import PartyError
from ditto_spu.plan.cost_report import PartyTimes
from ditto_spu.plan.kept import Kept
from ditto_spu.plan.plan import Plan, SpuStep
from ditto_spu.runtime.client import join_output
from ditto_spu.runtime.executor import StepRecord
from ditto_spu.runtime.material import Sizes

T = TypeVar("T")
Answers = Mapping[int, Message]  # by the party's rank


@dataclass(frozen=True)
class Dealing:
    """Describes the material that the parties have dealt for a request.

    sizes: by rank and step, bytes and messages.
    seconds: the time that the slowest party took.
    """

    sizes: tuple[Sizes, Sizes, Sizes]
    seconds: float


def join(plan: Plan, answers: Answers, kept: Sequence[Mapping[int, Kept]]) -> list[list[Any]]:
    """Join the outputs of all members. Returns for each member its outputs, in the plan's order.

    kept: for each member the handles of outputs that stay at the parties, by place.
    """
    opened = [place for place in range(len(plan.outputs)) if place not in kept[0]]
    parts = [_outputs(plan, rank, answers[rank], opened, len(kept)) for rank in range(PARTIES)]
    members = []
    for member, handles in enumerate(kept):
        outputs: list[Any] = [handles.get(place) for place in range(len(plan.outputs))]
        for number, place in enumerate(opened):
            var = plan.outputs[place]
            each = [part[member * len(opened) + number] for part in parts]
            if plan.vars[var].fxp is None and any(not np.array_equal(each[0], other) for other in each[1:]):
                raise PartyError(f"the parties disagree on public output {place}")
            outputs[place] = join_output(plan.vars[var], each)
        members.append(outputs)
    return members


def records(answers: Answers) -> list[list[StepRecord]]:
    """Return the cost records of each step, by rank."""
    return [_of_party("report", rank, answers[rank], _records) for rank in range(PARTIES)]


def times(answers: Answers) -> tuple[PartyTimes, ...]:
    """Return how each party spent the run, by rank."""
    return tuple(_of_party("report", rank, answers[rank], _times) for rank in range(PARTIES))


def sizes(answers: Answers) -> Dealing:
    """Return the sizes of the dealt material, and the time that it took."""
    dealt = [_of_party("report", rank, answers[rank], _sizes) for rank in range(PARTIES)]
    seconds = [
        _of_party("report", rank, answers[rank], lambda facts: float(facts["seconds"])) for rank in range(3)
    ]
    return Dealing((dealt[0], dealt[1], dealt[2]), max(seconds))


def asked_for(answers: Answers) -> list[int]:
    """Return the places of the inputs whose shares the parties want to have."""
    return agreed(answers, "places", list, "the parties ask for different inputs")


def material_number(answers: Answers) -> int:
    """Return the number under which the parties keep the material that they dealt."""
    return agreed(answers, "material", int, "the parties keep material under different numbers")


def agreed(answers: Answers, fact: str, kind: type[T], otherwise: str) -> T:
    """Return a fact of this type that all parties give alike. Raises PartyError with the text `otherwise`."""
    given = [answers[rank].facts.get(fact) for rank in range(PARTIES)]
    if type(given[0]) is not kind or any(each != given[0] for each in given):
        raise PartyError(otherwise)
    return given[0]


def spu_costs(
    plan: Plan, rows: Sequence[Sequence[StepRecord]]
) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return, by SPU step, (bytes, messages) that passed between the parties. Both are tuples by rank."""
    by_step = [{each.step: each.traffic for each in of_party} for of_party in rows]
    return {
        number: (
            tuple(party.get(number, Traffic()).bytes_sent for party in by_step),
            tuple(party.get(number, Traffic()).messages for party in by_step),
        )
        for number, step in enumerate(plan.steps)
        if isinstance(step, SpuStep)
    }


def _outputs(plan: Plan, rank: int, message: Message, opened: Sequence[int], count: int) -> list[Any]:
    """Return one party's parts of the outputs at these places, if they are as the plan declares them."""
    arrays = [array for _, array in message.tensors]
    infos = [plan.vars[plan.outputs[place]] for _ in range(count) for place in opened]
    wanted = [(each.shape, np.dtype(each.dtype) if each.fxp is None else each.fxp.dtype) for each in infos]
    if [(array.shape, array.dtype) for array in arrays] != wanted:
        raise PartyError(f"party {rank} sent outputs that are not as the plan declares them")
    return [
        array if info.fxp is None else Rss(array, np.zeros_like(array), info.fxp)
        for array, info in zip(arrays, infos, strict=True)
    ]


def _of_party(what: str, rank: int, message: Message, read: Any) -> Any:
    try:
        return read(message.facts)
    except (KeyError, TypeError, ValueError) as error:
        raise PartyError(f"party {rank} sent a malformed {what}: {error}") from None


def _records(facts: Mapping[str, Any]) -> list[StepRecord]:
    return [
        StepRecord(int(step), int(stage), Traffic(**traffic), float(seconds))
        for step, stage, traffic, seconds in facts["records"]
    ]


def _times(facts: Mapping[str, Any]) -> PartyTimes:
    return PartyTimes(**{each.name: float(facts["times"][each.name]) for each in fields(PartyTimes)})


def _sizes(facts: Mapping[str, Any]) -> Sizes:
    return {int(step): (int(sent), int(messages)) for step, sent, messages in facts["sizes"]}
