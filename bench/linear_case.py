"""Compare a layer's matrix products under MPC with the bare integer products of XLA (`--case linear`).

The bare side computes two int32 dots per product and party, with three threads at once. Replicated sharing
computes the same if each party multiplies twice. Our side includes all work of those steps: dots, masks,
messages and truncation.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditto_kernels.products.matmul import Dimensions
from ditto_spu import secure
from ditto_spu.models import named_model
from ditto_spu.plan.plan import KernelStep, Plan

MODEL = "bert-base-layer"
Operands = tuple[Any, Any, Dimensions]


def linear_rows(config: str, repeat: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return one row. Both sides take turns."""
    program = named_model(MODEL).build()
    function = secure(
        program.fn, config=config, public=program.public, owner=program.owner, check=False
    ).hold(**program.held)
    products = _products(function.lower(*program.inputs).plan)
    function.run(*program.inputs)  # the first run compiles
    _bare(products)
    ours, bare = [], []
    for turn in range(repeat):
        report = function.run(*program.inputs).report
        ours.append(sum(row.seconds for row in report.rows if row.kind == "matmul"))
        bare.append(_bare(products))
        say(f"linear: run {turn + 1} of {repeat}: {ours[-1]:.4f} s, bare {bare[-1]:.4f} s")
    seconds, bare_seconds = statistics.median(ours), statistics.median(bare)
    return [
        {
            "case": "linear",
            "config": config,
            "seconds": seconds,
            "bare_seconds": bare_seconds,
            "ratio": statistics.median([a / b for a, b in zip(ours, bare, strict=True)]),
        }
    ]


def linear_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as text."""
    return [
        f"linear layers of {MODEL}, {row['config']}: {row['seconds']:.4f} s, {row['ratio']:.2f} times the "
        f"{row['bare_seconds']:.4f} s of bare int32 dots, two a product and party"
        for row in rows
    ]


def _products(plan: Plan) -> list[Operands]:
    steps = [step for step in plan.steps if isinstance(step, KernelStep) and step.kernel == "matmul"]
    rng = np.random.default_rng(0)
    return [
        (
            *(jnp.asarray(rng.integers(-99, 99, plan.vars[var].shape, np.int32)) for var in step.inputs),
            dict(step.attributes)["dims"],
        )
        for step in steps
    ]


@partial(jax.jit, static_argnames="dims")
def _dot(x: Any, w: Any, dims: Dimensions) -> Any:
    return jax.lax.dot_general(x, w, dims)


def _bare(products: list[Operands]) -> float:
    """Return the seconds of all products. Three threads compute each at once, twice per thread."""
    started = time.perf_counter()
    for x, w, dims in products:
        threads = [threading.Thread(target=_twice, args=(x, w, dims)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return time.perf_counter() - started


def _twice(x: Any, w: Any, dims: Dimensions) -> None:
    for _ in range(2):
        _dot(x, w, dims).block_until_ready()
