"""Runs a plan at one party of a cluster, within a time, and checks that the parties compute alike."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.sharing.deal_ahead import in_phase
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.deal_behind import DealBehind
from ditto_spu.cluster.party.groups import groups, in_turns
from ditto_spu.cluster.party.spu_process import SpuProcess, needs_spu
from ditto_spu.errors import PartyError
from ditto_spu.network.run_time import GROUPS
from ditto_spu.plan.cost_report import PartyTimes
from ditto_spu.plan.plan import Plan, PublicStep, Step
from ditto_spu.runtime.executor import Member, StepRecord


@dataclass(frozen=True)
class Done:
    """The outputs of each member, the records of the steps, and how this party spent the time."""

    outputs: list[list[Any]]
    records: list[StepRecord]
    times: PartyTimes


def execute(
    plan: Plan,
    members: Sequence[Member],
    link: PeerLink,
    spu: SpuProcess,
    window: int | None,
    seconds: float,
    keep: Collection[int] = (),
) -> Done:
    """Run a plan over the link.

    window: the material is dealt while the steps run, at most so many bytes ahead of them. It has been dealt
        before if this is None.
    keep: the places of outputs that stay here, in the replicated shares that they are.

    Among near peers there is hardly a wait in which to deal or to compute for other members. There the
    material is dealt in line and all members run together. Each party decides this for itself.

    Every party computes the public steps by itself, and processors may round differently. So each tells the
    others a digest of the results at once, and reads theirs at the end. This costs no round.

    Raises LinkError after so many seconds, as `in_time` says, and if the parties have computed different
    public values. Their outputs would be garbage.
    """
    distant = link.distant
    online = [replace(each, party=in_phase(each.party, "online")) for each in members]
    in_line = window is not None and not distant
    in_groups = groups(members if in_line else online, GROUPS if distant and not needs_spu(plan) else 1, link)
    told: dict[str, str] = {}
    behind = None
    if window is not None and distant:
        behind = DealBehind(plan, members, link, window, len(in_groups))

    def observe(group: int, member: int, number: int, step: Step, values: Sequence[Any]) -> None:
        last = member == len(in_groups[group].members) - 1
        if isinstance(step, PublicStep):
            digest = hashlib.sha256()
            for each in values:
                digest.update(np.ascontiguousarray(each).tobytes())
            tag = f"public values of step {number}, {in_groups[group].members[member].party.scope}"
            told[tag] = digest.hexdigest()
            link.tell(tag, {"digest": told[tag]})
        if behind is not None and last:
            behind.finished(number)
        if link.expired is not None:
            raise LinkError(str(link.expired))

    started = time.perf_counter()
    with in_time(link, seconds), behind or contextlib.nullcontext():
        outputs, records, taken = in_turns(plan, in_groups, link, spu, observe, keep)
    wall = time.perf_counter() - started
    _compare(told, link)
    lanes = [each.lane for each in in_groups]
    if behind is not None:
        lanes, taken = [*lanes, behind.lane], taken + behind.seconds
        dealt = behind.traffic
        records = [
            replace(each, traffic=each.traffic.beside([dealt[each.step]])) if each.step in dealt else each
            for each in records
        ]
    sending, waiting = sum(each.sending for each in lanes), sum(each.waiting for each in lanes)
    return Done(outputs, records, PartyTimes(taken - sending - waiting, sending, waiting, taken - wall))


def _compare(told: Mapping[str, str], link: PeerLink) -> None:
    for tag, mine in told.items():
        for peer, theirs in link.learn(tag).items():
            if theirs.get("digest") != mine:
                raise LinkError(
                    f"parties {link.rank} and {peer} have computed different public values from the same "
                    "inputs: run them on processors of one kind"
                )


@contextlib.contextmanager
def in_time(link: PeerLink, seconds: float) -> Iterator[None]:
    """Let the link fail unless the context ends within so many seconds.

    That ends every wait, and the next round of a kernel. Work that waits for nobody is finished first. This
    is at most one local step, or what a kernel does in one round. `check_plan` bounds both.
    """
    late = PartyError(f"the request has computed for {seconds:g} s, `request` in [timeouts]")
    timer = threading.Timer(seconds, link.expire, (late,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
