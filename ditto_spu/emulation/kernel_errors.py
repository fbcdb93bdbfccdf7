"""Measures, on small operands, the errors that the kernels of a plan add beyond the rounding of formats."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_kernels.protocol.party import run
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import reconstruct, share
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.ops import BY_KERNEL
from ditto_spu.ops.op import Sample
from ditto_spu.plan.plan import Attributes, KernelStep, Plan

_ELEMENTS = 2048
_ROWS = 16


def kernel_errors(plan: Plan, calibration: Calibration) -> dict[tuple[str, str], float]:
    """Return the largest error of every approximate kernel of a plan, by path and kernel.

    Each kernel runs among three parties on a sample. The sample is normally distributed, with the size that
    the calibration observed where the operand is made. It is clipped to the range that the operand's format
    and the kernel admit. Kernels with equal formats and similar operands run once.
    """
    spread = {path: 0.0 for path, _ in calibration.values}
    for (path, _), seen in calibration.values.items():
        squares = sum(count * 2.0 ** ((each + 0.5) / 2) for each, count in seen.histogram.items())
        spread[path] = max(spread[path], (squares / max(1, seen.count)) ** 0.5)
    errors: dict[tuple[str, str], float] = {}
    # A cast has the path of the operation that reads it, whose values may have another size.
    cast = {s.outputs[0]: s.inputs[0] for s in plan.steps if isinstance(s, KernelStep) and s.kernel == "cast"}
    for step in plan.steps:
        if isinstance(step, KernelStep) and _is_approximate(step.kernel):
            operands = []
            for var in step.inputs:
                info = plan.vars[var]
                size = spread.get(plan.vars[cast.get(var, var)].path, 1.0) or 1.0
                # Sizes are rounded to the nearest octave, so that layers share a measurement.
                operands.append((info.shape, info.fxp, 2.0 ** round(np.log2(size))))
            out = plan.vars[step.outputs[0]].fxp
            assert out is not None
            found = _measured(step.kernel, tuple(operands), out, step.attributes)
            site = (step.path, step.kernel)
            errors[site] = max(errors.get(site, 0.0), found)
    return errors


def _is_approximate(kernel: str) -> bool:
    record = BY_KERNEL.get(kernel)
    return record is not None and record.sample is not None


Operand = tuple[tuple[int, ...], Fxp | None, float]


@lru_cache(maxsize=1024)
def _measured(kernel: str, operands: tuple[Operand, ...], out: Fxp, attributes: Attributes) -> float:
    """Return the largest error against the plaintext meaning, on operands that lie on their grids."""
    record, options, sample = KERNELS[kernel], dict(attributes), BY_KERNEL[kernel].sample
    assert sample is not None
    operands = operands[: sample.operands]
    arrays = [_drawn(sample, place, each, options) for place, each in enumerate(operands)]
    formats = [fxp for _, fxp, _ in operands]
    draw = np.random.default_rng(1).bytes
    shared = [
        share(encode(array, fxp), fxp, draw) if fxp else [array] * 3
        for array, fxp in zip(arrays, formats, strict=True)
    ]
    plain = [decode(encode(a, f), f) if f else a for a, f in zip(arrays, formats, strict=True)]

    def program(party: Any, link: Any) -> Any:
        return run(link, record.run(party, *(each[party.rank] for each in shared), out=out, **options))

    results, _ = run_three(program, seed=b"kernel errors")
    value = decode(reconstruct(results), out)
    return float(np.max(np.abs(value - np.asarray(record.reference(*plain, **options)))))


def _drawn(sample: Sample, place: int, operand: Operand, options: dict[str, Any]) -> NDArray[np.float64]:
    shape, fxp, size = operand
    if sample.rows:
        along = int(options.get("dim", -1)) % len(shape)
        if place == 0 and len(shape) > 1:  # up to _ROWS rows, along the longest other dimension
            rows = max((axis for axis in range(len(shape)) if axis != along), key=lambda axis: shape[axis])
            kept = {along: shape[along], rows: min(shape[rows], _ROWS)}
            shape = tuple(kept.get(axis, 1) for axis in range(len(shape)))
    else:
        shape = (min(_ELEMENTS, int(np.prod(shape, dtype=np.int64))),)
    values = size * np.random.default_rng(place).standard_normal(shape)
    if place in sample.positive:
        values = np.abs(values) + max(size / 4, sample.positive[place])
    limit = min((fxp.limit / 2 if fxp else 100.0) * 0.9, sample.limit)
    return np.clip(values, -limit, limit)
