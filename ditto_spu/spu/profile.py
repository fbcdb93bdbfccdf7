"""Read the cost of SPU runs, in bytes and messages, from the profile that SPU writes to the process's log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from spu import libspu

_RECORD = re.compile(
    r"\[Profiling\] SPU execution (?P<name>\S+)@(?P<rank>\d) completed, .*? "
    r"execution took (?P<took>[\d.e+-]+)s"
    r"|- (?P<op>[\w.]+), executed (?P<times>\d+) times, duration (?P<duration>[\d.e+-]+)s, "
    r"send bytes (?P<op_bytes>\d+) recv bytes \d+, send actions (?P<op_messages>\d+)"
    r"|Link details: total send bytes (?P<bytes>\d+), recv bytes \d+, send actions (?P<messages>\d+)"
)


@dataclass(frozen=True)
class OpCost:
    """All ops of one kind in one execution.

    Bytes and messages are sums over the parties that logged. Seconds are those of the slowest party.
    """

    op: str
    times: int
    seconds: float
    bytes_sent: int
    messages: int


@dataclass(frozen=True)
class ExecutionCost:
    """One execution of a program: the traffic that each party sent, by rank, and the cost of its ops.

    Only parties that logged are included.
    """

    name: str
    seconds: float
    bytes_sent: tuple[int, ...]
    messages: tuple[int, ...]
    ops: tuple[OpCost, ...]


@dataclass
class _Block:
    """The record of one party about one execution."""

    name: str
    rank: int
    seconds: float
    bytes_sent: int = 0
    messages: int = 0
    ops: list[OpCost] = field(default_factory=list)


def log_to(path: Path) -> None:
    """Send the log of this process's SPU to a file: its warnings, and the costs of parties that profile."""
    options = libspu.logging.LogOptions()
    options.enable_console_logger = False
    options.system_log_path = str(path)
    options.log_level = libspu.logging.LogLevel.INFO
    libspu.logging.setup_logging(options)


def read_costs(path: Path, parties: int = 3) -> list[ExecutionCost]:
    """Return the executions in a log, in order.

    `parties` is the number of parties that logged to it: three threads of a process, or one alone. A party
    that profiles waits for the others after each execution, so the records of two executions never mix. The
    lines of two threads may mix. Then ops of one party count as another's, which does not change a sum over
    the parties.
    """
    blocks: list[_Block] = []
    closed = 0
    for line in path.read_text().splitlines():
        found = _RECORD.search(line)
        if found is None:
            continue
        if found["name"]:
            blocks.append(_Block(found["name"], int(found["rank"]), float(found["took"])))
        elif found["op"]:
            numbers = int(found["op_bytes"]), int(found["op_messages"])
            cost = OpCost(found["op"], int(found["times"]), float(found["duration"]), *numbers)
            blocks[-1].ops.append(cost)
        else:
            blocks[closed].bytes_sent, blocks[closed].messages = int(found["bytes"]), int(found["messages"])
            closed += 1
    return [
        _joined(blocks[start : start + parties]) for start in range(0, closed // parties * parties, parties)
    ]


def _joined(blocks: list[_Block]) -> ExecutionCost:
    blocks = sorted(blocks, key=lambda block: block.rank)
    ops: dict[str, OpCost] = {}
    for cost in (cost for block in blocks for cost in block.ops):
        seen = ops.get(cost.op, OpCost(cost.op, 0, 0.0, 0, 0))
        ops[cost.op] = OpCost(
            cost.op,
            max(seen.times, cost.times),
            max(seen.seconds, cost.seconds),
            seen.bytes_sent + cost.bytes_sent,
            seen.messages + cost.messages,
        )
    return ExecutionCost(
        blocks[0].name,
        max(block.seconds for block in blocks),
        tuple(block.bytes_sent for block in blocks),
        tuple(block.messages for block in blocks),
        tuple(ops.values()),
    )
