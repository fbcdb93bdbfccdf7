"""Compare how clients are served without a hostile process and beside it, in phases that alternate.

The hostile process is stopped in every other phase. So whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SETTLED = 2.0  # seconds until the parties have finished what they had begun for the hostile process
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """What clients got: the seconds of each right answer, wrong answers, and errors by their text."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Served) -> Served:
        return Served(self.seconds + other.seconds, self.wrong + other.wrong, self.errors + other.errors)

    def percentile(self, percent: float) -> float:
        """Return the seconds within which so many percent of the right answers came."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else float("inf")

    def __str__(self) -> str:
        times = ", ".join(f"p{each} {self.percentile(each):.3f} s" for each in (50, 90, 99))
        failed = "".join(f"\n  {count} x {text}" for text, count in self.errors.most_common())
        return f"{len(self.seconds)} right, {self.wrong} wrong, {self.errors.total()} errors; {times}{failed}"


@dataclass(frozen=True)
class Phases:
    """What clients got in all phases of one kind, and the processor seconds of the parties in them."""

    served: Served = field(default_factory=Served)
    processor: float = 0.0

    def __add__(self, other: Phases) -> Phases:
        return Phases(self.served + other.served, self.processor + other.processor)

    def __str__(self) -> str:
        each = 1000 * self.processor / max(1, len(self.served.seconds))
        return f"{self.served}; {each:.0f} ms of the parties' processors for each right answer"


def alternate(
    hostile: subprocess.Popen[str],
    serve: Callable[[float], Served],
    pids: Sequence[int],
    phases: tuple[float, float],
    until: Callable[[], bool],
) -> tuple[Phases, Phases]:
    """Serve clients beside a hostile process, which is stopped in every other phase.

    serve: serves clients for so many seconds.
    pids: those of the parties.
    phases: the seconds of a phase without the process, and of one beside it.
    until: tells at the end of two phases whether it is enough.

    Returns the phases without the process, and those beside it.
    """

    def one(seconds: float) -> Phases:
        before = processor_seconds(pids)
        served = serve(seconds)
        return Phases(served, processor_seconds(pids) - before)

    alone, beside = Phases(), Phases()
    while True:
        hostile.send_signal(signal.SIGSTOP)
        time.sleep(SETTLED)
        alone += one(phases[0])
        hostile.send_signal(signal.SIGCONT)
        time.sleep(SETTLED)
        beside += one(phases[1])
        if until():
            return alone, beside


def print_phases(alone: Phases, beside: Phases) -> None:
    """Print what clients got, and how many times later it came beside the hostile process."""
    print("alone:", alone)
    print("beside it:", beside)
    for percent in (50, 99):
        ratio = beside.served.percentile(percent) / alone.served.percentile(percent)
        print(f"p{percent} beside it / alone: {ratio:.2f}")


def processor_seconds(pids: Sequence[int]) -> float:
    """Return the processor seconds of processes, and of all that they have started and waited for."""
    return sum(_ticks(pid) for pid in _descendants(pids)) / _TICKS


def _stat(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _ticks(pid: int) -> int:
    try:
        return sum(map(int, _stat(pid)[11:15]))  # its own, and those of children that it has waited for
    except OSError:
        return 0  # it has just ended


def _descendants(pids: Sequence[int]) -> Iterator[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(_stat(entry)[1])
            except OSError:
                continue
    found = list(pids)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
        yield pid
