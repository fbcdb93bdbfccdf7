"""The members of a batch run in groups out of phase: one computes while the messages of another travel.

This is the scheme of MPC-Pipe between requests. The members of a group share rounds, as all members do where
there is one group. Outputs, bytes and rounds are the same; there are more messages.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax.experimental import enable_x64

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import run
from ditto_spu.cluster.net.lane import Lane
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.spu_process import SpuProcess
from ditto_spu.plan.plan import Plan, Step
from ditto_spu.runtime.executor import Member, StepRecord, executing

# It is called with the group, its member, and the step's number, the step and its results.
Observe = Callable[[int, int, int, Step, Sequence[Any]], None]
Results = tuple[list[list[Any]], list[StepRecord]]  # as `executing` returns them


@dataclass(frozen=True)
class Group:
    """Some members of a batch, and the lane on which their messages travel."""

    members: Sequence[Member]
    lane: Lane


def groups(members: Sequence[Member], most: int, link: PeerLink) -> list[Group]:
    """Return the members in at most so many groups of nearly one size, in order."""
    count = min(most, len(members))
    cuts = [len(members) * each // count for each in range(count + 1)]
    return [Group(members[start:stop], link.lane()) for start, stop in itertools.pairwise(cuts)]


def in_turns(
    plan: Plan,
    in_groups: Sequence[Group],
    link: PeerLink,
    spu: SpuProcess,
    observe: Observe,
    keep: Collection[int] = (),
) -> tuple[list[list[Any]], list[StepRecord], float]:
    """Run each group in a thread of its own. Outputs at the places `keep` stay at the parties.

    Returns what `executing` returns for all members, and the seconds of the groups, summed.

    Raises what the first group raises that fails by itself. The others then end with the link.
    """
    results: dict[int, Results] = {}
    seconds = [0.0] * len(in_groups)
    failures: list[Exception] = []

    def work(group: int) -> None:
        def seen(member: int, number: int, step: Step, values: Sequence[Any]) -> None:
            observe(group, member, number, step, values)

        started = time.perf_counter()
        try:
            with enable_x64():
                members, lane = _for_thread(in_groups[group].members), in_groups[group].lane
                results[group] = run(lane, executing(plan, members, lane, spu, seen, keep))
        except Exception as error:
            failures.append(error)
            if len(in_groups) > 1:  # the other groups may wait for a message that never comes
                link.fail(error)
        seconds[group] = time.perf_counter() - started

    threads = [
        threading.Thread(target=work, args=(group,), daemon=True) for group in range(1, len(in_groups))
    ]
    for each in threads:
        each.start()
    work(0)
    for each in threads:
        each.join()
    if failures:
        raise next((each for each in failures if not isinstance(each, LinkError)), failures[0])
    ordered = [results[group] for group in range(len(in_groups))]
    outputs = [output for each, _ in ordered for output in each]
    return outputs, _together([records for _, records in ordered]), sum(seconds)


def _for_thread(members: Sequence[Member]) -> list[Member]:
    """Return the members with streams that no other thread draws from at the same time."""
    return [
        replace(each, party=each.party._replace(randomness=each.party.randomness.for_thread()))
        for each in members
    ]


def _together(records: Sequence[list[StepRecord]]) -> list[StepRecord]:
    """Return one record per step. Bytes of the groups add up, and rounds and seconds pass side by side."""
    return [
        StepRecord(
            of_step[0].step,
            of_step[0].stage,
            of_step[0].traffic.beside([each.traffic for each in of_step[1:]]),
            max(each.seconds for each in of_step),
        )
        for of_step in zip(*records, strict=True)
    ]
