"""Runs SPU for one session at one party, in a process of its own.

The process starts with the first plan that needs it, and is killed when the session ends.
"""

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
from ditto_spu.cluster.net.cluster_file import Limits, Timeouts
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.spu_tunnel import Tunnels
from ditto_spu.cluster.net.wire import Message, Named
from ditto_spu.errors import PartyError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.plan import Plan, SpuStep, Var


def needs_spu(plan: Plan) -> bool:
    """Return whether a plan has steps for SPU."""
    return any(isinstance(step, SpuStep) for step in plan.steps)


class SpuProcess:
    """Runs SPU for `execute` in a process of its own, because SPU may abort the process that it runs in.

    This class implements `SpuRunner`. Plans and shares pass through a socket pair, never through files. The
    process listens at a Unix socket in a folder of mode 0700. It reaches the SPU processes of the other
    parties through `Tunnels`.
    """

    def __init__(self, link: PeerLink, session: str, timeouts: Timeouts, limits: Limits) -> None:
        self._link = link
        self._session = session
        self._timeouts = timeouts
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._folder: Path | None = None
        self._tunnels: Tunnels | None = None
        self._answers: queue.Queue[Message | LinkError] = queue.Queue()
        self._compiled: set[str] = set()
        self._connected = False

    def compile(self, plan: Plan) -> None:
        """Have SPU compile the plan's steps, and start its process if it does not run yet.

        Raises PartyError if SPU cannot run a step.
        """
        if plan.hash() in self._compiled:
            return
        if self._channel is None:
            self._start()
        self._ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], self._timeouts.plan)
        self._compiled.add(plan.hash())

    def run_step(
        self, text: str, inputs: Sequence[Any], kinds: Sequence[str], outputs: Sequence[Var]
    ) -> list[Rss]:
        """Run one step together with the SPU processes of the other parties.

        Returns this party's shares of the outputs.

        text: the step's program, which `compile` has prepared.
        kinds: the inputs' dtypes in the user's program.

        Raises PartyError if SPU fails or is too slow, and LinkError if the session ends.
        """
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
        """Kill the process, end its connections and delete its folder."""
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
            command.append(str(self._limits.request_mb << 20))
            self._process = subprocess.Popen(
                command,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._channel = Channel(mine, "SPU", self._timeouts.request, self._limits.message_mb << 20)
        self._answers = queue.Queue()
        threading.Thread(target=self._read, args=(self._channel, self._answers), daemon=True).start()

    def _read(self, channel: Channel, answers: queue.Queue[Message | LinkError]) -> None:
        try:
            while True:
                answers.put(channel.receive(None))
        except LinkError as error:
            answers.put(error)

    def _ask(self, kind: str, facts: Any, tensors: Sequence[Named], timeout: float) -> Message:
        """Send SPU's process a message and return its answer.

        Raises PartyError if it refuses, dies, or takes longer than `timeout` seconds. In the last case it is
        killed. Raises LinkError if the session ends meanwhile.
        """
        assert self._channel is not None
        deadline = time.monotonic() + timeout
        with contextlib.suppress(LinkError):  # the process has died, and the reader reports it
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
    """Return the name of a step's program, a digest of its text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
