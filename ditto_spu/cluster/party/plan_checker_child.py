"""Checks plans for a party: this process forks one for each plan, which ends with the check."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any

from ditto_spu.cluster.party.memory_limit import limit_memory
from ditto_spu.errors import DittoError
from ditto_spu.plan.check import check_plan
from ditto_spu.plan.codec import decode_plan
from ditto_spu.plan.resources import PlanLimits
from ditto_spu.runtime.executor import prepare

_MEMORY = 2 << 30  # bytes that a check may take beyond what its process has at the start
_STACK = 1 << 20  # bytes of stack: less than a party's threads have, so what fits here fits there
_NICENESS = 10  # requests that compute go first


def main() -> None:
    """Fork a process for each connection that comes over the socket whose number is the argument."""
    os.nice(_NICENESS)
    gc.freeze()  # collections in a forked process would copy all that is imported here
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        _, files, *_ = socket.recv_fds(control, 1, 1)
        if not files:
            return  # the party has ended
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # those that have ended
        if os.fork() == 0:
            control.close()
            _one(socket.socket(fileno=files[0]))
        os.close(files[0])


def _one(connection: socket.socket) -> None:
    """Check one plan, send the answer, and end this process."""
    answer: dict[str, Any] = {}
    try:
        what = json.loads(_read(connection, int.from_bytes(_read(connection, 4), "big")))
        _limit(what["seconds"])
        data = _read(connection, what["size"])
        limits = PlanLimits(what["value_bytes"], what["total_bytes"], what["work"])
        threading.stack_size(_STACK)
        thread = threading.Thread(target=lambda: answer.update(_checked(data, limits)))
        thread.start()
        thread.join()
        answer["seconds"] = time.process_time()
        connection.sendall(json.dumps(answer).encode())
        connection.shutdown(socket.SHUT_RDWR)
    finally:
        os._exit(0)


def _checked(data: bytes, limits: PlanLimits) -> dict[str, Any]:
    """Return what a call of the plan takes, or why the plan is refused."""
    try:
        plan = decode_plan(data)
        need = check_plan(plan, limits)
        prepare(plan)
    except BaseException as error:  # a bad plan may cause any error
        reason = str(error) if isinstance(error, DittoError) else f"{type(error).__name__}: {error}"
        return {"refusal": reason[:1000]}
    return {"bytes": need.bytes, "work": need.work}


def _limit(seconds: float) -> None:
    """Limit what this process may take. The system ends it if it takes more, also in the middle of a call."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(_MEMORY)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    whole = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (4 * whole, 4 * whole))  # its threads together


def _read(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(1 << 20, count - len(data)))
        if not part:
            raise EOFError("the party has ended")
        data += part
    return bytes(data)


if __name__ == "__main__":
    main()
