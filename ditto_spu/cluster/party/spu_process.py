"""A session's process of SPU at one party: started when a plan needs it, killed with the session."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.cluster_file import Timeouts
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.spu_tunnel import Tunnels
from ditto_spu.cluster.net.wire import Message, Named
from ditto_spu.errors import PartyError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.plan import Plan, SpuStep, Var


def needs_spu(plan: Plan) -> bool:
    """Whether a plan has steps for SPU."""
    return any(isinstance(step, SpuStep) for step in plan.steps)


class SpuProcess:
    """What `execute` needs of SPU, in a process of its own: SPU may abort the one that it runs in.

    Plans and shares pass through a socket pair, never through files. The process listens at a Unix socket in
    a folder of mode 0700, and talks to those of the other parties through `Tunnels`.
    """

    def __init__(self, link: PeerLink, session: str, timeouts: Timeouts, max_body: int) -> None:
        self._link = link
        self._session = session
        self._timeouts = timeouts
        self._max_body = max_body
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._folder: Path | None = None
        self._tunnels: Tunnels | None = None
        self._answers: queue.Queue[Message | LinkError] = queue.Queue()
        self._compiled: set[str] = set()
        self._connected = False

    def compile(self, plan: Plan) -> None:
        """Have the plan's steps compiled. PartyError if SPU cannot run one of them."""
        if plan.hash() in self._compiled:
            return
        if self._channel is None:
            self._start()
        self._ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], self._timeouts.request)
        self._compiled.add(plan.hash())

    def run_step(
        self, text: str, inputs: Sequence[Any], kinds: Sequence[str], outputs: Sequence[Var]
    ) -> list[Rss]:
        """One step, together with the processes of the other parties."""
        if not self._connected:
            assert self._tunnels is not None
            addresses, rank = self._tunnels.addresses, self._link.rank
            what = {"rank": rank, "addresses": addresses, "session": self._session}
            what |= {"timeout": self._timeouts.message, "connect": self._timeouts.connect}
            self._ask("hello", what, (), 2 * self._timeouts.connect)
            self._connected = True
        tensors: list[Named] = []
        formats: list[str | None] = []
        for number, each in enumerate(inputs):
            if isinstance(each, Rss):
                formats.append(str(each.fxp))
                tensors += [
                    (f"{number}.mine", np.asarray(each.mine)),
                    (f"{number}.next", np.asarray(each.next)),
                ]
            else:
                formats.append(None)
                tensors.append((f"{number}", np.asarray(each)))
        facts: dict[str, Any] = {"step": step_name(text), "kinds": list(kinds), "formats": formats}
        facts["outputs"] = [[list(each.shape), each.dtype] for each in outputs]
        answer = self._ask("run", facts, tensors, self._timeouts.request)
        arrays = [array for _, array in answer.tensors]
        results = []
        for place, var in enumerate(outputs):
            mine, following = arrays[2 * place : 2 * place + 2]
            assert var.fxp is not None
            results.append(Rss(mine, following, Fxp.parse(answer.facts["formats"][place])))
        return results

    def close(self) -> None:
        """Kill the process and end its connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        if self._tunnels is not None:
            self._tunnels.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._channel = self._tunnels = self._folder = None
        self._compiled.clear()
        self._connected = False

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ditto-"))  # mode 0700; its path fits a socket's address
        self._tunnels = Tunnels(self._link, self._folder, self._timeouts.message)
        mine, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "ditto_spu.cluster.party.spu_child", str(other.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._channel = Channel(mine, "SPU", self._timeouts.request, self._max_body)
        self._answers = queue.Queue()
        threading.Thread(target=self._read, args=(self._channel, self._answers), daemon=True).start()

    def _read(self, channel: Channel, answers: queue.Queue[Message | LinkError]) -> None:
        try:
            while True:
                answers.put(channel.receive(None))
        except LinkError as error:
            answers.put(error)

    def _ask(self, kind: str, facts: Any, tensors: Sequence[Named], timeout: float) -> Message:
        """What SPU's process answers. PartyError if it refuses or dies, LinkError if the session ends."""
        assert self._channel is not None
        deadline = time.monotonic() + timeout
        with contextlib.suppress(LinkError):  # it has died: the reader tells
            self._channel.send(kind, facts, tensors)
        while True:
            try:
                answer = self._answers.get(timeout=0.2)
                break
            except queue.Empty:
                if self._link.failure is not None:
                    raise LinkError(str(self._link.failure)) from None
                if time.monotonic() > deadline:
                    self.close()
                    raise PartyError(
                        f"SPU of party {self._link.rank} took longer than {timeout:g} s and was killed"
                    ) from None
        if isinstance(answer, LinkError):
            raise PartyError(f"SPU of party {self._link.rank} {self._death()}")
        if answer.kind == "error":
            raise PartyError(str(answer.facts.get("reason")))
        return answer

    def _death(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.returncode
        self.close()
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"has died (exit code {code})"


def step_name(text: str) -> str:
    """Names a step's program."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
