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
from collections import OrderedDict, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from ditto_spu.errors import ClusterError
from ditto_spu.plan.codec import decode_plan
from ditto_spu.plan.plan import Plan
from ditto_spu.plan.resources import Need, PlanLimits

_MODULE = "ditto_spu.cluster.party.plan_checker_child"
_STARTED = 120.0  # seconds until the process that makes others is there
_ENDS = 0.2  # seconds until it is seen whether that process itself has ended
_REMEMBERED = 1 << 10  # plans that have passed
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


class PlanChecker:
    """Checks plans, one at a time for each client.

    The first check starts a process that imports what a check needs. For each plan that process forks another
    one, which checks the plan, compiles its programs and ends. Plans that have passed are remembered by their
    digest, because clients send them again in every session.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._one: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._passed: OrderedDict[tuple[str, PlanLimits], Need] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def check(self, client: str, data: bytes, limits: PlanLimits, seconds: float) -> CheckedPlan:
        """Return the plan in `data`. Raises ClusterError with the reason if it is refused.

        client: whose plan it is.
        limits: those of the plan.
        seconds: the longest time that the check may take.
        """
        key = hashlib.sha256(data).hexdigest(), limits
        with self._one[client]:
            if (known := self._passed.get(key)) is not None:
                return CheckedPlan(decode_plan(data), known)
            answer = self._ask(data, limits, seconds)
            if not answer and self._has_ended():  # the process that makes others is gone, and starts again
                answer = self._ask(data, limits, seconds)
        if not answer:
            raise ClusterError(
                "the plan is refused: its check has ended early, because it crashed the compiler, or needed "
                f"more memory than it may have, or more than {seconds:g} s"
            )
        if "refusal" in answer:
            raise ClusterError(f"the plan is refused: {answer['refusal']}")
        need = Need(answer["bytes"], answer["work"])
        with self._lock:
            self._passed[key] = need
            while len(self._passed) > _REMEMBERED:
                self._passed.popitem(last=False)
        return CheckedPlan(decode_plan(data), need)

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
