"""A thread deals a request's material while the request runs, so that it travels while rounds wait.

What is dealt depends on no input. So it can leave before the step that uses it begins. MPC-Pipe calls this
overlapping communication with computation. The tensors, their names and their sizes are the same as in line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
from jax.experimental import enable_x64

from ditto_kernels.protocol.link import LinkError, Send, Traffic
from ditto_kernels.sharing.deal_ahead import nothing
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.deal_plan import dealing
from ditto_spu.runtime.executor import Member, Value


class DealBehind:
    """Deals for a batch of calls as a context. The calls themselves run in the online phase meanwhile.

    plan, members: as for `executing`. The plan has no masked shares.
    window: how many bytes may be dealt for steps that this party has not finished. The receivers keep them.
        The steps of one stage run together, so a whole stage may always be dealt.
    groups: how many groups of the members run at the same time, each of which finishes every step.

    The window causes no deadlock. All parties deal and run the stages in one order, and a dealer waits only
    while a group of its own party is at an earlier stage. So the group that is furthest behind never waits.

    lane, seconds, traffic: attributes for the report. They are the lane of the dealt tensors, the time
        without waits for the window, and the counts by step.
    """

    def __init__(
        self, plan: Plan, members: Sequence[Member], link: PeerLink, window: int, groups: int
    ) -> None:
        self._plan = plan
        self._members = members
        self._link, self.lane = link, link.lane()
        self._window = window
        self._changed = threading.Condition()
        self._stage = {step: place for place, stage in enumerate(plan.stages) for step in stage}
        self._ahead: dict[int, int] = {}  # by step that is dealt and not finished, the bytes
        self._left = dict.fromkeys(range(len(plan.steps)), groups)  # by step, groups that have not finished
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds = 0.0
        self.traffic: dict[int, Traffic] = {}

    def __enter__(self) -> DealBehind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._thread.join()  # the steps have taken all that was dealt, so it is about to end
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def finished(self, step: int) -> None:
        """Note that a group has finished a step. After the last one the step's material is used up."""
        with self._changed:
            self._left[step] -= 1
            if self._left[step] == 0:
                self._ahead.pop(step, None)
                self._changed.notify()

    def _run(self) -> None:
        try:
            with enable_x64():
                self._deal()
        except Exception as error:  # the steps would wait for what never comes
            self._link.fail(error if isinstance(error, LinkError) else LinkError(f"dealing failed: {error}"))

    def _deal(self) -> None:
        started = time.perf_counter()
        dealt = [self._dealing(each) for each in self._members]
        for of_members in zip(*dealt, strict=True):
            number = of_members[0][0]
            sends = [send for _, each in of_members for send in each]
            if sends:
                if not self._admitted(number, sends):
                    return
                before = self.lane.traffic()
                self.lane.send(sends)
                self.traffic[number] = self.lane.traffic().since(before)
        self.seconds += time.perf_counter() - started

    def _dealing(self, member: Member) -> Iterator[tuple[int, list[Send]]]:
        party = member.party._replace(randomness=member.party.randomness.for_thread())
        return dealing(self._plan, party, _public(self._plan, member))

    def _admitted(self, step: int, sends: Sequence[Send]) -> bool:
        """Wait until the window has room. Returns False if the request has ended."""
        size = sum(np.asarray(each.array).nbytes for each in sends)
        started = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._room(step, size))
            self.seconds -= time.perf_counter() - started
            if self._left[step]:
                self._ahead[step] = size
            return not self._stopped

    def _room(self, step: int, size: int) -> bool:
        same = all(self._stage[each] == self._stage[step] for each in self._ahead)
        return same or sum(self._ahead.values()) + size <= self._window


def _public(plan: Plan, member: Member) -> list[Value]:
    """Return the public inputs, and placeholders for the secret ones."""
    inputs: list[Value] = []
    for entry, value in zip(plan.inputs, member.inputs, strict=True):
        info = plan.vars[entry.var]
        inputs.append(value if info.fxp is None else nothing(info.shape, info.fxp))
    return inputs
