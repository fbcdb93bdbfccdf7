"""Runs a plan at one party of a cluster, within a time, and checks that the parties compute alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import run
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.spu_process import SpuProcess
from ditto_spu.errors import PartyError
from ditto_spu.plan.plan import Plan, PublicStep, Step
from ditto_spu.runtime.executor import Member, StepRecord, executing


def execute(
    plan: Plan, members: Sequence[Member], link: PeerLink, spu: SpuProcess, seconds: float
) -> tuple[list[list[Any]], list[StepRecord]]:
    """Run a plan over the link, and return what `executing` returns.

    Every party computes the public steps by itself, and processors may round differently. So each tells the
    others a digest of the results at once, and reads theirs at the end. This costs no round.

    Raises PartyError after the first step that ends later than in so many seconds, and LinkError if the
    parties have computed different public values. Their outputs would be garbage.
    """
    end = time.monotonic() + seconds
    digest = hashlib.sha256()
    told: dict[str, str] = {}

    def observe(member: int, number: int, step: Step, values: Sequence[Any]) -> None:
        if isinstance(step, PublicStep):
            for each in values:
                digest.update(np.ascontiguousarray(each).tobytes())
            if member == len(members) - 1:
                tag = f"public values of step {number}"
                told[tag] = digest.hexdigest()
                link.tell(tag, {"digest": told[tag]})
        if time.monotonic() > end:
            raise PartyError(f"the request has computed for {seconds:g} s, `request` in [timeouts]")

    done = run(link, executing(plan, members, link, spu, observe))
    for tag, mine in told.items():
        for peer, theirs in link.learn(tag).items():
            if theirs.get("digest") != mine:
                raise LinkError(
                    f"parties {link.rank} and {peer} have computed different public values from the same "
                    "inputs: run them on processors of one kind"
                )
    return done
