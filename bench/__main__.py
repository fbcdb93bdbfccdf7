"""Run `python -m bench --case CASE [--config NAME] [--baseline NAME] [--network SPEC] [--json FILE]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from bench import generation_case, language_case
from bench.cast_case import cast_lines, cast_rows
from bench.embedding_case import embedding_lines, embedding_rows
from bench.format_sweep import format_lines, format_rows
from bench.kernel_table import kernel_rows, kernel_table
from bench.linear_case import linear_lines, linear_rows
from bench.marill_case import marill_lines, marill_rows
from bench.mpcformer import side as mpcformer
from bench.rows import BASELINES, network_table, table
from bench.sides import measure, sides_of
from ditto_spu.errors import DittoError, InputError
from ditto_spu.models import named_model
from ditto_spu.network.model import parse_network
from ditto_spu.rules.load import load_config

Row = dict[str, Any]


class OwnCase(NamedTuple):
    """A case with sides of its own.

    `rows(config, repeat, say, small)` measures them, and `shown(rows)` renders the rows.
    """

    rows: Callable[[str, int, Callable[[str], None], bool], list[Row]]
    shown: Callable[[list[Row]], Iterable[Any]]


OWN_CASES = {
    "kernels": OwnCase(
        lambda _, repeat, say, small: kernel_rows(repeat, say, small), lambda rows: [kernel_table(rows)]
    ),
    "formats": OwnCase(lambda _, repeat, say, small: format_rows(say), format_lines),
    "linear": OwnCase(lambda config, repeat, say, small: linear_rows(config, repeat, say), linear_lines),
    "casts": OwnCase(lambda config, repeat, say, small: cast_rows(config, repeat, say), cast_lines),
    "embedding": OwnCase(embedding_rows, embedding_lines),
    "marill": OwnCase(marill_rows, marill_lines),
    **{
        name: OwnCase(partial(generation_case.rows, name), generation_case.lines)
        for name in generation_case.CASES
    },
    **{name: OwnCase(partial(language_case.rows, name), language_case.lines) for name in language_case.CASES},
}


def main(
    case: Annotated[
        list[str],
        typer.Option(
            help="A model of `ditto models`, `kernels` (each alone), `linear`, `casts`, `embedding`, "
            "`marill`, `formats`, `gpt2-token`, `gpt2-agreement` (generation), `smollm2-prefix` or "
            "`smollm2-bare` (a real language model); may be given several times."
        ),
    ],
    config: Annotated[
        list[str],
        typer.Option(help="A configuration; may be given several times.", default_factory=lambda: ["ditto"]),
    ],
    mode: Annotated[
        list[str],
        typer.Option(
            help="'whole', 'ahead' (a request's offline part first, told apart) or 'masked' (masked shares, "
            "ahead too); may be given several times.",
            default_factory=lambda: ["whole"],
        ),
    ],
    baseline: Annotated[
        list[str],
        typer.Option(
            help="'puma', 'spu' (the program as it is), 'mpcformer' (BERT encoders only), or 'none'; "
            "may be given several times.",
            default_factory=lambda: ["none"],
        ),
    ],
    network: Annotated[
        list[str],
        typer.Option(
            help="Three processes a side with this between them, emulated: lan, wan, "
            '"bandwidth=100Mbps,rtt=20ms", or loopback (nothing between); may be given several times.',
            default_factory=list,
        ),
    ],
    repeat: Annotated[int, typer.Option(min=1, help="Timed runs of each side, alternating.")] = 3,
    small: Annotated[
        bool,
        typer.Option(
            "--small", help="Small operands for `kernels`, `embedding`, `marill`, `gpt2-...`, `smollm2-...`."
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
) -> None:
    """Time each side in its own process, in turns. Print medians and, with a baseline, ratios."""
    console = Console(width=None if sys.stdout.isatty() else 200)

    def say(line: str) -> None:
        console.print(f"[dim]{line}")

    try:
        for name in config:
            load_config(name)
        _check_networks(network, mode, baseline, case)
        sides = list(dict.fromkeys([*sides_of(config, mode), *_baselines(baseline, case)]))
        rows: list[Row] = []
        own: dict[str, list[Row]] = {}
        for name in case:
            if name in OWN_CASES:
                own[name] = OWN_CASES[name].rows(config[0], repeat, say, small)
                continue
            named_model(name)
            for between in network or [None]:
                rows += measure(name, sides, repeat, say, between)
    except DittoError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if rows:
        console.print(network_table(rows) if network else table(rows))
    for name, found in own.items():
        for shown in OWN_CASES[name].shown(found):
            console.print(shown)
    if json_file is not None:
        json_file.write_text(
            json.dumps([*rows, *(row for each in own.values() for row in each)], indent=2) + "\n"
        )


def _check_networks(networks: list[str], modes: list[str], baselines: list[str], cases: list[str]) -> None:
    """Refuse networks that cannot be measured, before the first side has run for minutes."""
    for each in networks:
        parse_network(each)
    if networks and (set(modes) != {"whole"} or {"mpcformer", "spu"} & set(baselines)):
        raise InputError("--network is for mode whole, and for the baseline puma alone")
    if networks and OWN_CASES.keys() & set(cases):
        raise InputError(f"--network is for models: {', '.join(OWN_CASES)} are measured in one process")


def _baselines(names: list[str], cases: list[str]) -> list[str]:
    """Return the baselines to measure. Raises InputError unless all of them can be measured."""
    for name in names:
        if name not in (*BASELINES, "none"):
            raise InputError(f"there is no baseline '{name}': choose {', '.join(BASELINES)} or none")
    if "mpcformer" in names:
        for case in cases:
            if case not in OWN_CASES:
                mpcformer.check(case)
    return [name for name in names if name != "none"]


if __name__ == "__main__":
    typer.run(main)
