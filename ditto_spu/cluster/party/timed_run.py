"""Runs a plan at one party of a cluster within the time that a request may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ditto_kernels.protocol.party import run
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.spu_process import SpuProcess
from ditto_spu.errors import PartyError
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.executor import Member, StepRecord, executing


def execute(
    plan: Plan, members: Sequence[Member], link: PeerLink, spu: SpuProcess, seconds: float
) -> tuple[list[list[Any]], list[StepRecord]]:
    """Run a plan over the link, and return what `executing` returns.

    Raises PartyError after the first step that ends later than in so many seconds.
    """
    end = time.monotonic() + seconds

    def observe(*_: object) -> None:
        if time.monotonic() > end:
            raise PartyError(f"the request has computed for {seconds:g} s, `request` in [timeouts]")

    return run(link, executing(plan, members, link, spu, observe))
