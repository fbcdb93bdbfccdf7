"""Tell where a simulated run spends the processor's time: `python -m bench.profile [--model M] [--rows N]`.

The three parties run in one thread, one after the other, so that each second belongs to one kind of work.
Figures are those of the run that took the least time, in milliseconds of the processor, for all parties.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer

from ditto_kernels.machine import generated
from ditto_kernels.machine.fused import FusedStep
from ditto_kernels.protocol import in_turns
from ditto_kernels.protocol.randomness import Randomness
from ditto_spu import secure
from ditto_spu.models import named_model
from ditto_spu.runtime import executor

KINDS: dict[str, tuple[Any, str]] = {
    "products": (generated.Generated, "multiply"),
    "packing of operands": (generated.Generated, "prepare"),
    "fused steps": (FusedStep, "__call__"),
    "streams": (Randomness, "draw"),
}


def main(
    model: Annotated[str, typer.Option(help="A model of `ditto models`.")] = "bert-base-layer",
    config: Annotated[str, typer.Option(help="A configuration.")] = "ditto",
    rows: Annotated[int, typer.Option(help="Keep so many rows of the input, or all of them.")] = 0,
    repeat: Annotated[int, typer.Option(min=1, help="Measured runs.")] = 15,
) -> None:
    """Print a table by kind of work. "The rest" is numpy's calls and Python."""
    program = named_model(model).build()
    inputs = [np.asarray(each)[:, :rows] if rows and np.ndim(each) > 1 else each for each in program.inputs]
    function = secure(program.fn, config=config, check=False, **program.options).hold(**program.held)
    with _one_thread():
        for _ in range(3):
            function.run(*inputs)  # These compile.
        best = min((_measured(lambda: function.run(*inputs)) for _ in range(repeat)), key=_total)
    for kind, seconds in best.items():
        print(f"| {kind} | {1e3 * seconds:.1f} | {100 * seconds / _total(best):.0f} % |")
    print(f"| all | {1e3 * _total(best):.1f} | |")


def _total(seconds: Counter[str]) -> float:
    return sum(seconds.values())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let parties take turns only, and products take one thread."""
    never = 1 << 62
    with (
        patch.object(executor, "SIDE_BY_SIDE", never),
        patch.object(in_turns.tuning, "LONG_TURN_SECONDS", float(never)),
        patch.object(generated, "_processors", lambda: 1),
    ):
        yield


def _measured(run: Callable[[], Any]) -> Counter[str]:
    """Return the processor's seconds of a run by kind of work. No kind runs inside of another one."""
    seconds: Counter[str] = Counter()

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                seconds[kind] += time.thread_time() - started

        return call

    patches = [
        patch.object(owner, name, timed(kind, getattr(owner, name))) for kind, (owner, name) in KINDS.items()
    ]
    for each in patches:
        each.start()
    started = time.thread_time()
    run()
    whole = time.thread_time() - started
    for each in patches:
        each.stop()
    seconds["the rest"] = whole - _total(seconds)
    return seconds


if __name__ == "__main__":
    typer.run(main)
