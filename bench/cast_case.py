"""Measure the cost of changes of format in a layer of BERT-base, apart from all else (`--case casts`).

A cast is part of the kernel before it. So each product's way back to replicated shares is run twice: once
with the cast to its format, and once as a reshare alone. Each upcast of a layer normalisation into ring 64 is
run once. The difference is the cost of casts, in bytes and seconds. The layer itself runs in between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ditto_kernels.products.multiply import finish, symmetric
from ditto_kernels.protocol.party import run
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import share
from ditto_spu import secure
from ditto_spu.models import named_model
from ditto_spu.plan.plan import KernelStep, Plan

MODEL = "bert-base-layer"
_PRODUCTS = ("matmul", "multiply")
Protocols = Callable[[Any], Any]  # from a party to the protocol that it runs


def cast_rows(config: str, repeat: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return one row: the casts of a layer beside the layer itself, which take turns."""
    program = named_model(MODEL).build()
    function = secure(program.fn, config=config, check=False, **program.options).hold(**program.held)
    plan = function.lower(*program.inputs).plan
    with_casts, without = _parts(plan)
    function.run(*program.inputs)  # the first run compiles
    _spent(with_casts)
    layer, casts, sent = [], [], 0
    for turn in range(repeat):
        report = function.run(*program.inputs).report
        layer.append(report.seconds)
        sent = sum(report.bytes_sent_per_party)
        (seconds, own), (bare_seconds, bare) = _spent(with_casts), _spent(without)
        casts.append((seconds - bare_seconds, own - bare))
        say(f"casts: run {turn + 1} of {repeat}: {casts[-1][0]:.4f} s of {layer[-1]:.4f} s")
    seconds, size = statistics.median(each for each, _ in casts), casts[-1][1]
    return [
        {
            "case": "casts",
            "config": config,
            "casts": len(with_casts),
            "megabytes": size / 3e6,
            "bytes_percent": 100 * size / sent,
            "seconds": seconds,
            "seconds_percent": 100 * statistics.median(a / b for (a, _), b in zip(casts, layer, strict=True)),
        }
    ]


def cast_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as text."""
    return [
        f"casts of {MODEL}, {row['config']}: {row['casts']} places, {row['megabytes']:.2f} MB a party "
        f"({row['bytes_percent']:.1f} % of the bytes), {row['seconds']:.4f} s "
        f"({row['seconds_percent']:.1f} % of the time)"
        for row in rows
    ]


def _parts(plan: Plan) -> tuple[list[Protocols], list[Protocols]]:
    """Return two lists of protocols: the plan's casts with the work they are part of, and this work alone."""
    with_casts: list[Protocols] = []
    without: list[Protocols] = []
    for step in plan.steps:
        if not isinstance(step, KernelStep):
            continue
        out, first = plan.vars[step.outputs[0]], plan.vars[step.inputs[0]]
        assert out.fxp is not None
        assert first.fxp is not None
        if step.kernel in _PRODUCTS:
            second = plan.vars[step.inputs[1]].fxp
            assert second is not None
            bits = first.fxp.fraction_bits + second.fraction_bits
            if bits == out.fxp.fraction_bits:
                continue
            draw = np.random.default_rng(0)
            z = draw.integers(-(2**12), 2**12, out.shape).astype(first.fxp.dtype)
            values = symmetric(dict(step.attributes).get("range"))
            with_casts.append(_finished(z, bits, out.fxp, values))
            without.append(_finished(z.astype(out.fxp.dtype), out.fxp.fraction_bits, out.fxp, None))
        elif step.kernel in ("cast", "layer_norm"):
            target = out.fxp if step.kernel == "cast" else Fxp(64, first.fxp.fraction_bits)
            if target != first.fxp:
                with_casts.append(_converted(first.shape, first.fxp, target))
    return with_casts, without


def _finished(z: Any, bits: int, out: Fxp, values: tuple[float, float] | None) -> Protocols:
    return lambda party: finish(party, z, bits, out, values)


def _converted(shape: tuple[int, ...], source: Fxp, target: Fxp) -> Protocols:
    draw = np.random.default_rng(0)
    shares = share(draw.integers(-99, 99, shape).astype(source.dtype), source, draw.bytes)
    return lambda party: convert(party, shares[party.rank], target)


def _spent(parts: list[Protocols]) -> tuple[float, int]:
    """Run the protocols and return their seconds, and the bytes that all parties sent."""
    started, sent = time.perf_counter(), 0
    for number, part in enumerate(parts):
        _, traffic = run_three(
            lambda party, link, part=part, number=number: run(link, part(party.at(f"cast {number}")))
        )
        sent += sum(each.bytes_sent + each.offline_bytes for each in traffic)
    return time.perf_counter() - started, sent
