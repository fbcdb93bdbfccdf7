"""Bounds the distance of a secure run from its emulation, from the kernels' proven bounds.

Given equal operands, the run and the emulation differ at every step by at most the step's own bound. That is
2 ulp for a truncation (1.5 in place of the 0.5 of rounding), and its `error` for a kernel. To first order,
such a difference changes an output by its derivative in the emulated program. The sum of bound times
|derivative| over all values of all steps is the worst case. The root of the sum of squares is the size to
expect of independent errors of that size.
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

TRUNCATION = 2.0  # the largest distance of a protocol's truncation from rounding, in ulp
Site = tuple[str, str]  # a path and a kernel


@dataclass(frozen=True)
class Bound:
    """The bounds for each element of the first output, in its shape.

    worst: the worst case, to first order.
    independent: the bound for independent errors.
    """

    worst: NDArray[np.float64]
    independent: NDArray[np.float64]


def proven_errors(plan: Plan) -> dict[Site, float]:
    """Return the error bounds of a plan's kernels, by path and kernel.

    Where several steps share both, the largest bound counts.
    """
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
    """Return a function `bound(values)`, which computes a `Bound` for a call of the lowered shapes.

    Its cost is one gradient for each element of the first output.
    """
    program = as_function(ir.parse(lowered.as_text("formats")))
    errors = proven_errors(lowered.plan)
    sizes: list[float] = []

    def outputs(added: Sequence[Array], values: Sequence[Any]) -> Array:
        """Return the first output, with something added to the result of every step.

        The bounds of the steps are noted in `sizes`.
        """
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
    """Return the bound of one operation of the module with formats, or 0 for an exact one."""
    if is_cast(op):
        cast = read_cast(op)
        source, target = cast.source_format, cast.target
        if source is None or source.fraction_bits <= target.fraction_bits:
            return 0.0  # both round when they encode, and upcasts are exact
        return TRUNCATION * target.ulp
    decision = read(op)
    if decision is not None and decision.kind is Kind.KERNEL:
        record = record_of(op, decision.kind)
        assert record is not None
        return errors.get((decision.path, record.kernels[name_of(op)]), 0.0) + decision.out.ulp / 2
    return 0.0
