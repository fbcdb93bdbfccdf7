"""Runs a plan at one party of a cluster, within a time, and checks that the parties compute alike."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError, Traffic
from ditto_kernels.protocol.party import run
from ditto_kernels.sharing.deal_ahead import in_phase
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.deal_behind import DealBehind
from ditto_spu.cluster.party.spu_process import SpuProcess
from ditto_spu.errors import PartyError
from ditto_spu.plan.plan import Plan, PublicStep, Step
from ditto_spu.runtime.executor import Member, StepRecord, executing


def execute(
    plan: Plan,
    members: Sequence[Member],
    link: PeerLink,
    spu: SpuProcess,
    window: int | None,
    seconds: float,
) -> tuple[list[list[Any]], list[StepRecord]]:
    """Run a plan over the link, and return what `executing` returns.

    window: the material is dealt while the steps run, at most so many bytes ahead of them. It has been dealt
        before if this is None.

    Every party computes the public steps by itself, and processors may round differently. So each tells the
    others a digest of the results at once, and reads theirs at the end. This costs no round.

    Raises PartyError after the first step that ends later than in so many seconds, and LinkError if the
    parties have computed different public values. Their outputs would be garbage.
    """
    end = time.monotonic() + seconds
    digest = hashlib.sha256()
    told: dict[str, str] = {}
    online = [replace(each, party=in_phase(each.party, "online")) for each in members]
    behind = None if window is None else DealBehind(plan, members, link, window)

    def observe(member: int, number: int, step: Step, values: Sequence[Any]) -> None:
        last = member == len(members) - 1
        if isinstance(step, PublicStep):
            for each in values:
                digest.update(np.ascontiguousarray(each).tobytes())
            if last:
                tag = f"public values of step {number}"
                told[tag] = digest.hexdigest()
                link.tell(tag, {"digest": told[tag]})
        if behind is not None and last:
            behind.finished(number)
        if time.monotonic() > end:
            raise PartyError(f"the request has computed for {seconds:g} s, `request` in [timeouts]")

    with behind or contextlib.nullcontext():
        outputs, records = run(link, executing(plan, online, link, spu, observe))
    for tag, mine in told.items():
        for peer, theirs in link.learn(tag).items():
            if theirs.get("digest") != mine:
                raise LinkError(
                    f"parties {link.rank} and {peer} have computed different public values from the same "
                    "inputs: run them on processors of one kind"
                )
    return outputs, records if behind is None else _with_dealt(records, behind.traffic, link)


def _with_dealt(
    records: Sequence[StepRecord], dealt: Mapping[int, Traffic], link: PeerLink
) -> list[StepRecord]:
    """Return the records with what was dealt behind them, which also goes into the counts of the link."""
    for each in dealt.values():
        link.count(each)
    return [replace(each, traffic=each.traffic.plus(dealt.get(each.step, Traffic()))) for each in records]
