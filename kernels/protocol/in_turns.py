"""Three parties of one process take turns in one thread, which saves waiting and switching threads.

A small protocol consists of hundreds of rounds of microseconds each. Threads that wake each other take ten
times as long as the work. Heavy turns run side by side, and so do those that turn out to be long. Those
that begin together do so once every party that can come has come so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.experimental import enable_x64
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.link import LinkError, MemLink, Traffic, Tray, memory_links
from ditto_kernels.protocol.party import Heavy, Party, Protocol, Round, Together
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.protocol.three_threads import Keys, fresh_keys
from ditto_kernels.values.replicated import PARTIES


@dataclass(eq=False)
class _Turn:
    """The state of one party."""

    protocol: Protocol[Any]
    link: MemLink
    waits: Round | None = None  # None until the protocol begins
    done: bool = False
    result: Any = None

    def before(self, kind: type[Round]) -> bool:
        return isinstance(self.waits, kind)

    def ready(self) -> bool:
        return self.waits is None or self.link.arrived(self.waits.receives)

    def take(self) -> None:
        """Go on to the next exchange. Its messages are delivered at once."""
        try:
            if self.waits is None:
                step = next(self.protocol)
            else:
                step = self.protocol.send(self.link.receive(self.waits.receives))
        except StopIteration as stop:
            self.done, self.result = True, stop.value
            return
        self.link.send(step.sends)
        self.waits = step


def run_in_turns(
    program: Callable[[Party, MemLink], Protocol[Any]],
    *,
    seed: bytes | None = None,
    keys: Keys | None = None,
    dealt: Sequence[dict[tuple[int, str], NDArray[Any]]] = ({}, {}, {}),
) -> tuple[list[Any], list[Traffic]]:
    """Run the protocol `program(party, link)` at three parties.

    Arguments and results are those of `run_three`. Raises LinkError if no party can go on, because each waits
    for a message that nobody has sent.
    """
    links = memory_links(0.0, dealt, Tray)
    keys = fresh_keys(seed) if keys is None else keys
    turns = [
        _Turn(program(Party(rank, Randomness(keys[rank])), links[rank]), links[rank])
        for rank in range(PARTIES)
    ]
    with ThreadPoolExecutor(PARTIES) as pool, enable_x64(), np.errstate(over="ignore"):
        while left := [turn for turn in turns if not turn.done]:
            ready = [turn for turn in left if turn.ready()]
            if not ready:
                missing = [each for turn in left if turn.waits for each in turn.waits.receives]
                raise LinkError(f"all parties wait, one of them for '{missing[0].tag}'")
            going = [turn for turn in ready if not turn.before(Together)] or ready
            apart = [turn for turn in going if turn.before(Heavy)] if len(going) > 1 else []
            begun = [pool.submit(_apart, turn) for turn in apart]
            others = [turn for turn in going if turn not in apart]
            while others:
                started = time.perf_counter()
                others.pop(0).take()
                if len(others) > 1 and time.perf_counter() - started > tuning.LONG_TURN_SECONDS:
                    begun.append(pool.submit(_apart, others.pop(0)))
            for each in begun:
                each.result()
    return [turn.result for turn in turns], [link.traffic() for link in links]


def _apart(turn: _Turn) -> None:
    with enable_x64(), np.errstate(over="ignore"):
        turn.take()
