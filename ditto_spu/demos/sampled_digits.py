"""Run `make demo-pictures`: ten digits drawn by three simulated parties, beside those that floats draw.

The weights, the classes asked for and the pictures are secret. A classifier that was trained apart judges
them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ditto_spu.diffusion.pictures import blocks, psnr, save_png
from ditto_spu.diffusion.sampler import Sampler, Samples
from ditto_spu.errors import DittoError
from ditto_spu.models import digits

LABELS = np.arange(digits.CLASSES)
SEED, ZOOM, EXAMPLES = 7, 12, 1


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Sample the digits both ways, show them, and return what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("digits.png"))
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(
        "[bold]Pictures in shares.[/] Three parties draw ten digits. None of them learns the weights, the "
        "classes or the pictures. The timesteps alone are public."
    )
    params, judge = digits.load()
    shape = (len(LABELS), digits.SIZE, digits.SIZE, 1)
    plain = Sampler(digits.unet(), params, shape, digits.SCHEDULE, steps=options.steps)
    expected = plain.plaintext(LABELS, options.seed)
    calibration = plain.calibrate(LABELS, options.seed + EXAMPLES)
    runs = {}
    for name, each in (("auto", None), ("auto, calibrated", calibration)):
        sampler = Sampler(
            digits.unet(), params, shape, digits.SCHEDULE, steps=options.steps, calibration=each
        )
        runs[name] = _watched(console, name, sampler, options.seed, options.steps)
    table = Table("", "seconds a step", "MB a step", "rounds a step", "PSNR to float, dB", "classes right")
    table.add_row("float", "", "", "", "", _right(judge, expected))
    measured = {}
    for name, made in runs.items():
        report, likeness = made.steps[-1].report, psnr(made.pictures, expected)
        seconds = float(np.median([step.seconds for step in made.steps[1:]]))
        megabytes = sum(report.bytes_sent_per_party) / 3e6
        numbers = f"{seconds:.2f}", f"{megabytes:.2f}", str(report.rounds), f"{likeness:.1f}"
        table.add_row(name, *numbers, _right(judge, made.pictures))
        measured[name] = likeness
    console.print(blocks(made.pictures, columns=5), highlight=False)
    console.print(table)
    save_png(options.out, np.concatenate([expected, *(each.pictures for each in runs.values())]), 10, ZOOM)
    console.print(f"wrote {options.out}: float above, three parties below")
    return {"psnr": measured, "expected": expected, "runs": runs}


def _watched(console: Console, name: str, sampler: Sampler, seed: int, steps: int) -> Samples:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{name}, {len(LABELS)} pictures under MPC", total=steps)
        return sampler.sample(LABELS, seed, lambda done, of: progress.update(task, completed=done, total=of))


def _right(judge: Any, pictures: Any) -> str:
    found = digits.classes_of(judge, pictures)
    return f"{int(np.sum(found == LABELS))} of {len(LABELS)}"


if __name__ == "__main__":
    try:
        main()
    except DittoError as error:
        sys.exit(f"ditto: {error}")
