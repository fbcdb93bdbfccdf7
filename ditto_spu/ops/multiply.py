"""Multiply elementwise: two secret values, or a secret and a public one.

JAX writes `x * y`, which is `stablehlo.multiply`, so no pattern is needed. A product with a public value is
local, up to the truncation after it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.products.scale import FACTOR_BITS as SCALE_BITS
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.observed import operand_and_second
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.ops.products import (
    SCALED_BITS,
    declared_range,
    in_ring,
    is_sum,
    secret_factors,
    truncated,
    zeros_below_one,
    zeros_in_readers,
)
from ditto_spu.ops.public_operands import (
    constant,
    digits_below_one,
    is_integral,
    largest,
    of_any_size,
    power_of_two,
    quotient,
)
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER

FACTOR_BITS = {16: 8, 32: 11, 64: 20}  # significant bits of a public factor, by ring
MOST_FACTOR_BITS = 26  # fraction bits of one whose smallest element needs them
# The mean of 2^6 elements or more: bits of the sum that 1/n moves behind the last one are dropped first, but
# for these. They would take as much room from the product, and the mean of 1,000 salaries would not fit.
LONG_SUM, GUARD_BITS = 5, 2
SPREAD_BITS = 3  # elements of a factor may be smaller than the largest by so many bits, in a narrow ring


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let two secret factors meet in one ring, and encode a public one where the product has room."""
    left, right = op.operands
    if not ir.is_float(op.results[0]):  # whole numbers: in ring 64, as sums of them
        secrets = [each for each in (left, right) if chooser.is_secret(each)]
        return Formats(dict.fromkeys(secrets, INTEGER), INTEGER, factor=INTEGER)
    if not (chooser.is_secret(left) and chooser.is_secret(right)):
        return _scaled(chooser, op, choice, default)
    asked = choice.operand or chooser.default_format
    formats = secret_factors(chooser, op, choice, {right: asked, left: asked})
    ring = max([32, default.ring_bits, *(each.ring_bits for each in formats.values())])
    if choice.range is None:
        # No range promises that the product, with the fraction bits of both factors, fits a narrow ring.
        ring = 64
    bits = formats[left].fraction_bits + formats[right].fraction_bits
    wanted = Fxp(default.ring_bits, default.fraction_bits + zeros_in_readers(op, choice))
    if default.ring_bits == 64 and not all(each.fraction_bits for each in formats.values()):
        wanted = Fxp(64, max(bits, wanted.fraction_bits))  # a multiple of a value is exact
    return truncated(in_ring(formats, ring), Fxp(ring, bits), wanted, most=bits)


def _scaled(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose the formats of a product with a public value.

    A power of two only moves the point, and an integer needs no truncation. A factor of which only a run
    knows the size has a kernel of its own. Other factors are encoded in ring 64, where the product has room
    and narrowing is free, unless a declared range says that the product fits the ring of the value.
    """
    value, other = op.operands if chooser.is_secret(op.operands[0]) else tuple(op.operands)[::-1]
    known = constant(other)
    current = chooser.settle(value, default)
    if of_any_size(other):
        return Formats({value: Fxp(64, current.fraction_bits)}, default, kind=Kind.KERNEL)
    bound = largest(other)
    lead = math.ceil(math.log2(bound)) if bound else 0
    zeros = 0
    if default.ring_bits == 64:
        zeros = max(0, -lead)  # the result is as much smaller, and keeps the digits that are asked for
        if default.fraction_bits <= choice.format.fraction_bits:
            more = zeros_below_one(chooser, op, choice, bound, current.fraction_bits)
            default = Fxp(default.ring_bits, default.fraction_bits + more)
    if known is not None and (shift := power_of_two(known)) is not None:
        bits = current.fraction_bits - shift
        if 0 <= bits < current.ring_bits:
            # Fraction bits beyond those asked for would take room from the values that the result meets, so
            # they are dropped.
            kept = Fxp(current.ring_bits, min(bits, max(default.fraction_bits, current.fraction_bits)))
            return Formats({value: current}, kept, Fxp(current.ring_bits, bits), kind=Kind.RETAG)
    target = Fxp(current.ring_bits, min(current.fraction_bits + zeros, default.fraction_bits))
    narrow = FACTOR_BITS[max(16, current.ring_bits)] - lead
    finest = _bits_of_smallest(quotient(other) if known is None else known)
    if is_integral(other):
        bits, target = 0, current
    elif bound is not None and finest <= narrow + SPREAD_BITS and _fits(choice.range, current, narrow):
        bits = narrow
    else:
        current = Fxp(64, current.fraction_bits)
        spare = current.fraction_bits - chooser.default_format.fraction_bits  # they take the product's room
        digits = FACTOR_BITS[64] - min(max(spare, 0), MOST_FACTOR_BITS - SCALED_BITS)
        bits = max(digits - lead, min(finest, MOST_FACTOR_BITS))
        if -lead > LONG_SUM and is_sum(value):
            current = Fxp(64, max(0, current.fraction_bits + lead + GUARD_BITS))
    bits = max(0, min(bits, current.ring_bits - 2 - current.fraction_bits))
    if known is not None:
        bits = min(bits, digits_below_one(known))
    factor, natural = Fxp(current.ring_bits, bits), Fxp(current.ring_bits, current.fraction_bits + bits)
    if not current.fraction_bits:  # a whole number times a fraction: the factor's bits count
        target = Fxp(target.ring_bits, min(natural.fraction_bits, default.fraction_bits))
    return Formats({value: current}, target, natural, factor)


def _bits_of_smallest(known: NDArray[Any] | None) -> int:
    """Return the fraction bits that the smallest element of a constant needs, if it scales columns.

    Such a constant varies along one dimension at most. In tables small elements may be rounded away.
    """
    if known is None:
        return 0
    values = np.abs(np.asarray(known, np.float64))
    varying = [axis for axis in range(values.ndim) if np.any(values != np.take(values, [0], axis))]
    if len(varying) > 1 or not np.isfinite(values).all():
        return 0
    smallest = float(np.min(values[values > 0], initial=math.inf))
    return 0 if math.isinf(smallest) else FACTOR_BITS[32] - math.floor(math.log2(smallest))


def _fits(declared: float | None, fxp: Fxp, factor_bits: int) -> bool:
    """Tell whether a declared range lets the product be truncated in the ring of the value.

    factor_bits: the fraction bits of the public factor.
    """
    return declared is not None and declared < 2.0 ** (
        fxp.ring_bits - 2 - fxp.fraction_bits - max(0, factor_bits)
    )


def kernel_call(call: Call) -> KernelCall:
    """Return the call of the kernel for two secret factors, or of that for a public one of any size."""
    left, right = call.op.operands
    if call.secret(left) and call.secret(right):
        return KernelCall("multiply", declared_range(call), (left, right))
    return KernelCall("scale", declared_range(call), (left, right) if call.secret(left) else (right, left))


def operand_limit(call: Call, fxp: Fxp) -> float:
    """Return the largest magnitude of a factor. One beside a public factor of any size leaves it room."""
    scaled = call.decision.kind is Kind.KERNEL
    return fxp.limit / 2 ** (SCALE_BITS + 1) if scaled else fxp.limit / 2


def halves(op: ir.Op) -> bool:
    """Tell whether one factor is the constant 1, 1/2, 1/4 or a smaller power of two."""
    shifts = (power_of_two(known) for each in op.operands if (known := constant(each)) is not None)
    return any(shift is not None and shift <= 0 for shift in shifts)


MULTIPLY = Op(
    name="multiply",
    summary="an elementwise product",
    kernels={"stablehlo.multiply": "multiply"},
    kind=Kind.MULTIPLY,
    formats=choose_formats,
    keeps_room=halves,
    call=kernel_call,
    operand_limit=operand_limit,
    mixed=lambda op: ir.element(op.results[0]) != "i1",
    facts=operand_and_second,
    search=Tries(slopes=slopes.product),
)
