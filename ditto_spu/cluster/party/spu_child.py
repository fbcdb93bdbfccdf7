"""Runs SPU for one party, as a process of its own.

Its arguments are the number of an open socket, and the bytes of memory that it may take.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from typing import Any

import numpy as np
from jax.experimental import enable_x64

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.wire import Message, Named
from ditto_spu.cluster.party.memory_limit import limit_memory
from ditto_spu.cluster.party.spu_process import step_name
from ditto_spu.errors import DittoError
from ditto_spu.plan.codec import decode_plan
from ditto_spu.plan.plan import Var
from ditto_spu.spu.party import connect
from ditto_spu.spu.steps import SpuSteps, compile_steps

_MAX_BODY = 1 << 40  # no real limit: the party has checked every message that it sends


class _Child:
    """Answers the party's messages, one after another."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._programs: dict[str, bytes] = {}
        self._steps: SpuSteps | None = None

    def answer(self, message: Message) -> None:
        facts, arrays = message.facts, dict(message.tensors)
        if message.kind == "plan":
            plan = decode_plan(arrays["plan"].tobytes())
            self._programs.update({step_name(text): code for text, code in compile_steps(plan).items()})
            self._channel.send("planned", {})
        elif message.kind == "hello":
            link = connect(
                facts["rank"], facts["addresses"], facts["session"], facts["timeout"], within=facts["connect"]
            )
            self._steps = SpuSteps(link, self._programs)
            self._channel.send("welcome", {})
        else:
            formats, tensors = self._run(facts, arrays)
            self._channel.send("done", {"formats": formats}, tensors)

    def _run(self, facts: Any, arrays: dict[str, Any]) -> tuple[list[str], list[Named]]:
        assert self._steps is not None
        inputs = [
            arrays[str(number)]
            if fxp is None
            else Rss(arrays[f"{number}.mine"], arrays[f"{number}.next"], Fxp.parse(fxp))
            for number, fxp in enumerate(facts["formats"])
        ]
        outputs = [Var(tuple(shape), dtype, None) for shape, dtype in facts["outputs"]]
        results = self._steps.run_step(facts["step"], inputs, facts["kinds"], outputs)
        pairs = [(each.mine, each.next) for each in results]
        return [str(each.fxp) for each in results], [
            ("share", np.asarray(part)) for pair in pairs for part in pair
        ]


def main() -> None:
    """Serve until the party's process closes the socket or ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps, which would put shares on a disk
    limit_memory(int(sys.argv[2]))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), "party", 3600.0, _MAX_BODY)
    child = _Child(channel)
    try:
        while True:
            message = channel.receive(None)
            try:
                with enable_x64():
                    child.answer(message)
            except Exception as error:  # the party gets the reason, and ends its session
                reason = (
                    str(error) if isinstance(error, DittoError) else f"SPU: {type(error).__name__}: {error}"
                )
                channel.send("error", {"reason": reason[:2000]})
    except LinkError:
        pass  # the party is gone
    finally:
        os._exit(0)  # a process that used SPU's link may crash while its interpreter exits


if __name__ == "__main__":
    main()
