"""Measure error against fraction bits, with one format everywhere, by emulation (`--case formats`).

No parties run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ditto_spu import secure
from ditto_spu.compare.table import accuracy
from ditto_spu.models import Program, named_model

MODEL = "bert-base-layer"
FRACTION_BITS = tuple(range(6, 23, 2))


def format_rows(
    say: Callable[[str], None], program: Program | None = None, bits: Sequence[int] = FRACTION_BITS
) -> list[dict[str, Any]]:
    """Return one row per format: the error of rounding every value to it.

    The errors of approximations and of truncation are left out.
    """
    program = named_model(MODEL).build() if program is None else program
    leaves = jax.tree_util.tree_leaves
    expected = leaves(jax.jit(program.fn)(*program.args))
    rows: list[dict[str, Any]] = []
    for fraction_bits in bits:
        name = f"fxp64.{fraction_bits}"
        say(f"formats: {name}")
        lowered = secure(program.fn, config={"default": name}, **program.options).lower(*program.args)
        figures = accuracy(lowered.emulate(leaves(program.args)), expected)
        rows.append({"case": "formats", "config": name, "fraction_bits": fraction_bits, **figures})
    return rows


def format_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rows as lines for a terminal."""
    return [
        f"{row['config']:>9}  max error {row['max_abs_error']:.6f}  mean error {row['mean_abs_error']:.6f}"
        for row in rows
    ]
