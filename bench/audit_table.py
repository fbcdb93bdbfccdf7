"""The table of kernels in docs/auditing.md, from their runs; `python -m bench.audit_table` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench.protocol_costs import pages, rows
from ditto_kernels import KERNELS
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.link import MemLink, Send
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.replicated import Rss
from tests.kernels.examples import F, specs
from tests.kernels.small_calls import ALL_CALLS, Call

DOCUMENT = Path(__file__).parent.parent / "docs" / "auditing.md"
START, STOP = "<!-- kernels -->\n", "<!-- end -->"


class Message(NamedTuple):
    """One message of a kernel: the last word of its tag, its phase, and the roles of both ends."""

    kind: str
    phase: str
    way: str


def messages(call: Call) -> Iterator[Message]:
    """Yield the messages of one run of a call."""
    sent: list[tuple[int, Send]] = []
    program = call.program()

    def noted(party: Party, link: MemLink) -> Protocol[Rss]:
        link.observer = lambda rank, send: sent.append((rank, send))
        return program(party)

    with call.branch():
        run_in_turns(noted)
    for rank, send in sent:
        scope, _, kind = send.tag.rpartition(":")
        dealer = int(scope[-1]) if scope.endswith(("/dealer0", "/dealer1", "/dealer2")) else call.dealer
        if scope.endswith("/index"):  # the opening for one of the three retrievals of an embedding
            dealer = int(scope.removesuffix("/index")[-1])
        ends = ("DAB"[(each - dealer) % 3] for each in (rank, send.to))
        yield Message(kind.rstrip("0123456789"), "offline" if send.offline else "online", " → ".join(ends))


@cache
def all_messages() -> dict[str, set[Message]]:
    """Return the messages of every kernel in all of its calls."""
    found: dict[str, set[Message]] = {name: set() for name in KERNELS}
    for call in ALL_CALLS:
        found[call.example.kernel].update(messages(call))
    return found


def table() -> str:
    """Return the table: one row for each kernel."""
    lines = [
        "| kernel | page | result | messages | the dealer receives | source |",
        "|---|---|---|---|---|---|",
    ]
    places = {row["kernel"]: page for page, text in pages().items() for row in rows(text, "kernel")}
    for name, kernel in KERNELS.items():
        exact = {_bound(each) == 0 for each in ALL_CALLS if each.example.kernel == name}
        found = all_messages()[name]
        cells = (
            f"`{name}`",
            f"[{places[name].removesuffix('.md')}](protocols/{places[name]})",
            " or ".join(word for word, seen in (("exact", True), ("rounded", False)) if seen in exact),
            _listed({each.kind for each in found}),
            _listed({each.kind for each in found if each.way.endswith("D")}),
            kernel.paper,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bound(call: Call) -> float:
    example = call.example
    return KERNELS[example.kernel].error(*specs(example), out=F(example.out), **example.attributes)


def _listed(kinds: set[str]) -> str:
    return ", ".join(f"`{each}`" for each in sorted(kinds)) or "nothing"


def rewritten(document: str) -> str:
    """Return the document with the table that the kernels give now."""
    before, after = document.index(START) + len(START), document.index(STOP)
    return document[:before] + table() + document[after:]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
