"""How far a secure run may lie from its emulation: the kernels' proven bounds, carried to the outputs.

At every step the run and the emulation differ by at most the step's own bound, given equal operands: 2 ulp
for a truncation (1.5 against the 0.5 of rounding), its `error` for a kernel. What such a difference does to
an output is, to first order, its derivative in the emulated program. The sum of bound times |derivative|
over all values of all steps is the worst case; the root of the sum of squares is what independent errors of
that size give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.emulation.interpreter import as_function
from ditto_spu.ops import record_of
from ditto_spu.ops.cast import is_cast, read_cast
from ditto_spu.ops.decision import Kind, read
from ditto_spu.ops.op import name_of
from ditto_spu.plan.plan import KernelStep, Plan

TRUNCATION = 2.0  # ulp between a protocol's truncation and rounding
Site = tuple[str, str]  # path and kernel


@dataclass(frozen=True)
class Bound:
    """Of each element of the first output: the worst case to first order, and for independent errors."""

    worst: NDArray[np.float64]
    independent: NDArray[np.float64]


def proven_errors(plan: Plan) -> dict[Site, float]:
    """The bounds of a plan's kernels by path and kernel: the largest where several steps share both."""
    errors: dict[Site, float] = {}
    for step in plan.steps:
        if isinstance(step, KernelStep):
            out = plan.vars[step.outputs[0]].fxp
            assert out is not None
            specs = [Spec(plan.vars[var].shape, plan.vars[var].fxp) for var in step.inputs]
            bound = KERNELS[step.kernel].error(*specs, out=out, **dict(step.attributes))
            errors[step.path, step.kernel] = max(errors.get((step.path, step.kernel), 0.0), bound)
    return errors


def error_bound(lowered: Lowered) -> Callable[[Sequence[Any]], Bound]:
    """`bound(values)` for calls of the lowered shapes. Cost: a gradient for each element of the first
    output.
    """
    program = as_function(ir.parse(lowered.as_text("formats")))
    errors = proven_errors(lowered.plan)
    sizes: list[float] = []

    def outputs(added: Sequence[Array], values: Sequence[Any]) -> Array:
        """The first output with something added to every step's result; notes the bounds of the steps."""
        sizes.clear()
        rest = iter(added)

        def watch(op: ir.Op, operands: list[Array], results: list[Array]) -> list[Array]:
            size = _size(op, errors)
            if not size:
                return results
            sizes.append(size)
            return [results[0] + next(rest, jnp.zeros_like(results[0])), *results[1:]]

        return program(values, watch)[0].ravel()

    def shapes(values: Sequence[Any]) -> list[Array]:
        made: list[Array] = []

        def watch(op: ir.Op, operands: list[Array], results: list[Array]) -> list[Array]:
            if _size(op, errors):
                made.append(jnp.zeros_like(results[0]))
            return results

        program(values, watch)
        return made

    @jax.jit
    def bound(values: Sequence[Any]) -> tuple[Array, Array]:
        value, pull = jax.vjp(lambda added: outputs(added, values), shapes(values))
        (slopes,) = jax.vmap(pull)(jnp.eye(value.size, dtype=value.dtype))
        terms = [
            jnp.abs(each).reshape(value.size, -1) * size for each, size in zip(slopes, sizes, strict=True)
        ]
        worst = jnp.stack([jnp.sum(each, 1) for each in terms])
        squares = jnp.stack([jnp.sum(jnp.square(each), 1) for each in terms])
        return jnp.sum(worst, 0), jnp.sqrt(jnp.sum(squares, 0))

    def run(values: Sequence[Any]) -> Bound:
        worst, independent = bound([jnp.asarray(each) for each in values])
        shape = lowered.traced.outputs[0].shape
        return Bound(
            np.asarray(worst, np.float64).reshape(shape), np.asarray(independent, np.float64).reshape(shape)
        )

    return run


def _size(op: ir.Op, errors: dict[Site, float]) -> float:
    """The bound of one operation of the formats module; 0 for what is exact."""
    if is_cast(op):
        cast = read_cast(op)
        source, target = cast.source_format, cast.target
        if source is None or source.fraction_bits <= target.fraction_bits:
            return 0.0  # encoding rounds in both; upcasts are exact
        return TRUNCATION * target.ulp
    decision = read(op)
    if decision is not None and decision.kind is Kind.KERNEL:
        record = record_of(op, decision.kind)
        assert record is not None
        return errors.get((decision.path, record.kernels[name_of(op)]), 0.0) + decision.out.ulp / 2
    return 0.0
