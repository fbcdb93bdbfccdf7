"""Checks clients' plans in processes of their own, with limits on memory and time.

A plan holds programs as text. A hostile one may crash the parser or the compiler, or make them fill the
memory. That ends a process that has nothing else to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ditto_spu.cluster.party.line import Line
from ditto_spu.errors import ClusterError
from ditto_spu.plan.codec import decode_plan
from ditto_spu.plan.plan import Plan
from ditto_spu.plan.resources import Need, PlanLimits

_MODULE = "ditto_spu.cluster.party.plan_checker_child"
_STARTED = 120.0  # seconds until the process that makes others is there
_ENDS = 0.2  # seconds until it is seen whether that process itself has ended
_REMEMBERED = 1 << 10  # plans
_PLACES = 2  # so one client's plan, however long its check takes, does not keep all others waiting
_TURNS = 10  # so many checks of others may come before a plan's own
_SLACK = 10.0  # seconds that a busy machine may take beyond the limit


@dataclass(frozen=True)
class CheckedPlan:
    """A plan that a party may run, and what one call of it takes at this party."""

    plan: Plan
    need: Need

    @property
    def hash(self) -> str:
        """Return the plan's hash."""
        return self.plan.hash()


class PlanRefused(ClusterError):
    """A plan is refused.

    `seconds` is the processor time that its check took: 0 if it was refused before.
    """

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(f"the plan is refused: {reason}")
        self.seconds = seconds


class PlanChecker:
    """Checks plans, two at a time and one of each client. Clients take turns.

    The first check starts a process that imports what a check needs. For each plan that process forks another
    one, which checks the plan, compiles its programs and ends. They run at a low priority. What became
    of a plan is remembered by its digest: clients send plans again in every session, and may send a refused
    one again and again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line = Line(_PLACES, 1)
        self._known: OrderedDict[tuple[str, PlanLimits], Need | str] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def check(
        self,
        client: str,
        data: bytes,
        limits: PlanLimits,
        seconds: float,
        failure: Callable[[], BaseException | None] = lambda: None,
    ) -> CheckedPlan:
        """Return the plan in `data`. Raises PlanRefused with the reason if it is refused.

        Raises LinkError if its turn does not come in time, or if nobody waits for it.

        client: whose plan it is.
        limits: those of the plan.
        seconds: the longest time that the check may take. It waits ten times as long for its turn.
        failure: returns why nobody waits for the check any more.
        """
        key = hashlib.sha256(data).hexdigest(), limits
        if (found := self._remembered(key)) is None:
            with self._line.turn(client, _TURNS * seconds, failure):
                if (found := self._remembered(key)) is None:  # not even by the check before this one
                    found = self._first_check(key, data, seconds)
        if isinstance(found, str):
            raise PlanRefused(found, 0.0)
        return CheckedPlan(decode_plan(data), found)

    def _first_check(self, key: tuple[str, PlanLimits], data: bytes, seconds: float) -> Need:
        """Check a plan and remember what became of it. Raises PlanRefused."""
        started = time.monotonic()
        answer = self._ask(data, key[1], seconds)
        if not answer and self._has_ended():  # the process that makes others is gone, and starts again
            answer = self._ask(data, key[1], seconds)
        if not answer:  # not remembered: on another day the machine may be less busy
            reason = (
                "its check has ended early, because it crashed the compiler, or needed more memory than it "
                f"may have, or more than {seconds:g} s"
            )
            raise PlanRefused(reason, time.monotonic() - started)
        found = answer["refusal"] if "refusal" in answer else Need(answer["bytes"], answer["work"])
        with self._lock:
            self._known[key] = found
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if isinstance(found, str):
            raise PlanRefused(found, answer["seconds"])
        return found

    def _remembered(self, key: tuple[str, PlanLimits]) -> Need | str | None:
        """Return what became of a plan that was checked before: what it needs, or why it is refused."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def start(self) -> None:
        """Start the process that makes others, unless it runs. Returns at once."""
        with self._lock:
            if self._runs:
                return
            self._end()
            mine, other = socket.socketpair()
            with other:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE, str(other.fileno())],
                    pass_fds=[other.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            self._control = mine

    def _has_ended(self) -> bool:
        process = self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process is None or process.wait(_ENDS) is not None
        return False

    @property
    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()  # at this the process ends, and checks that run end by themselves
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._control = None

    def _ask(self, data: bytes, limits: PlanLimits, seconds: float) -> dict[str, Any]:
        """Have a new process check a plan. Returns its answer, which is empty if it died."""
        self.start()
        mine, other = socket.socketpair()
        with mine:
            with other, self._lock, contextlib.suppress(OSError):  # a dead process does not answer
                assert self._control is not None
                socket.send_fds(self._control, [b"\0"], [other.fileno()])
            what = json.dumps(asdict(limits) | {"seconds": seconds, "size": len(data)}).encode()
            mine.settimeout(seconds + _SLACK + _STARTED)
            answer = b""
            with contextlib.suppress(OSError):
                mine.sendall(len(what).to_bytes(4, "big") + what + data)
                while part := mine.recv(1 << 16):
                    answer += part
        found: dict[str, Any] = json.loads(answer or b"{}")
        return found
