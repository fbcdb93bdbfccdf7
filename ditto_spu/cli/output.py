"""Print the results of commands: tables for people, JSON for programs, and progress beside them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, is_dataclass
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


def progress_console() -> Console:
    """Return a console for progress, which goes to the terminal and never into a pipe beside the result."""
    return Console(stderr=True)


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows that have the same keys as a table, or as JSON."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    print_result(table, as_json, rows)


def print_result(shown: Any, as_json: bool, data: Any = None) -> None:
    """Print a table for people, or its data as JSON."""
    if as_json:
        typer.echo(json.dumps(_plain(shown if data is None else data), indent=2))
    else:
        # A pipe has no width. Without one, rich would cut the columns to 80 characters.
        Console(width=None if sys.stdout.isatty() else 200).print(shown)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dicts"):
        return value.as_dicts()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
