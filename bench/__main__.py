"""`python -m bench --case CASE [--config NAME] [--baseline NAME] [--repeat N] [--small] [--json FILE]`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.cast_case import cast_lines, cast_rows
from bench.format_sweep import format_lines, format_rows
from bench.kernel_table import kernel_rows, kernel_table
from bench.linear_case import linear_lines, linear_rows
from bench.mpcformer import side as mpcformer
from bench.rows import BASELINES, table
from bench.sides import measure, sides_of
from ditto_spu.config import load_config
from ditto_spu.errors import DittoError, InputError
from ditto_spu.models import named_model


def main(
    case: Annotated[
        list[str],
        typer.Option(
            help="A model of `ditto models`, `kernels` (each alone), `linear`, `casts` or `formats`; "
            "may be given several times."
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
            help="'puma', 'mpcformer' (BERT encoders only), or 'none'; may be given several times.",
            default_factory=lambda: ["none"],
        ),
    ],
    repeat: Annotated[int, typer.Option(min=1, help="Timed runs of each side, alternating.")] = 3,
    small: Annotated[bool, typer.Option("--small", help="Small operands for `--case kernels`.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
) -> None:
    """Time each side in its own process, alternating; print medians and, with a baseline, ratios."""
    console = Console(width=None if sys.stdout.isatty() else 200)

    def say(line: str) -> None:
        console.print(f"[dim]{line}")

    try:
        for name in config:
            load_config(name)
        sides = list(dict.fromkeys([*sides_of(config, mode), *_baselines(baseline, case)]))
        rows, kernels, formats, linear, casts = [], [], [], [], []
        for name in case:
            if name == "kernels":
                kernels += kernel_rows(repeat, say, small)
                continue
            if name == "formats":
                formats += format_rows(say)
                continue
            if name == "linear":
                linear += linear_rows(config[0], repeat, say)
                continue
            if name == "casts":
                casts += cast_rows(config[0], repeat, say)
                continue
            named_model(name)
            rows += measure(name, sides, repeat, say)
    except DittoError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if rows:
        console.print(table(rows))
    if kernels:
        console.print(kernel_table(kernels))
    for line in (*format_lines(formats), *linear_lines(linear), *cast_lines(casts)):
        console.print(line)
    if json_file is not None:
        json_file.write_text(json.dumps(rows + kernels + formats + linear + casts, indent=2) + "\n")


def _baselines(names: list[str], cases: list[str]) -> list[str]:
    """The baselines to measure, when all can be."""
    for name in names:
        if name not in (*BASELINES, "none"):
            raise InputError(f"there is no baseline '{name}': choose {', '.join(BASELINES)} or none")
    if "mpcformer" in names:
        for case in cases:
            if case not in ("kernels", "formats", "linear", "casts"):
                mpcformer.check(case)
    return [name for name in names if name != "none"]


if __name__ == "__main__":
    typer.run(main)
