"""Hold generated tokens with their cost, and the texts that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.printed import printed


@dataclass(frozen=True)
class Token:
    """One generated token of every text of the batch, and its cost.

    A pass that accepts drafts yields several tokens. Its cost stands at the first, and the others are free.
    """

    position: int  # in the longest text, with the prefix, if there is one
    ids: NDArray[np.int64]  # [batch]
    report: CostReport
    seconds: float  # at the client, including sharing and reconstruction


@dataclass(frozen=True)
class Generation:
    """Prompt and generated tokens, and the cost of each token. Rich prints it as a table.

    ids: [batch, prompt + tokens], or a list of arrays where the prompts have unequal lengths.
    """

    ids: Any
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, prompt: Any, tokens: Sequence[Token]) -> Generation:
        """Join prompts, as `Generator.stream` takes them, and the tokens that it gave for them."""
        if isinstance(prompt, list | tuple) and len({np.size(each) for each in prompt}) > 1:
            rows = [np.append(each, [token.ids[row] for token in tokens]) for row, each in enumerate(prompt)]
            return cls([each.astype(np.int64) for each in rows], tuple(tokens))
        start = np.atleast_2d(np.asarray(prompt, np.int64))
        return cls(np.concatenate([start, *(each.ids[:, None] for each in tokens)], axis=1), tuple(tokens))

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one row of plain data per token."""
        return [
            {
                "position": each.position,
                "ids": each.ids.tolist(),
                "seconds": each.seconds,
                "party_seconds": each.report.seconds,
                "bytes_sent_per_party": each.report.bytes_sent_per_party,
                "rounds": each.report.rounds,
            }
            for each in self.tokens
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table("position", "ids", "seconds", "parties' seconds", "MB sent per party", "rounds")
        for row in self.as_dicts():
            table.add_row(
                str(row["position"]),
                " ".join(map(str, row["ids"])),
                f"{row['seconds']:.3f}",
                f"{row['party_seconds']:.3f}",
                f"{sum(row['bytes_sent_per_party']) / 3e6:.2f}",
                str(row["rounds"]),
            )
        yield table

    def __str__(self) -> str:
        return printed(self)
