"""Choose operand format and approximation of an op by cost, under the error limit that a rule sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ditto_kernels import KERNELS
from ditto_kernels.products.multiply import MULTIPLY
from ditto_kernels.protocol.cost import Cost, elements
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import ConfigError
from ditto_spu.network.model import LAN, predicted_seconds
from ditto_spu.ops import BY_NAME
from ditto_spu.ops.decision import Decision, Kind
from ditto_spu.ops.op import Call, Choice, Op, Secret, name_of
from ditto_spu.passes.analysis.classify import LAYOUT, SUMS

NARROW = [Fxp(16, bits) for bits in range(4, 13)]
WIDE = [Fxp(32, bits) for bits in range(8, 15)]
_PRODUCT_BITS = 14  # fraction bits that a product has beyond those of its result
DeclaredRange = Callable[[ir.Op], float | None]


def cheapest(op: ir.Op, choice: Choice, secret: Secret, declared: DeclaredRange) -> Choice:
    """Return the choice, completed by the cheapest operand format and approximation within the limit.

    The cost is that of the kernel and of bringing its operand to the format, as seconds on a LAN. The error
    is the kernel's bound plus the rounding of the operand.
    declared: gives the range that rules promise for the result of an operation. Narrow formats are considered
        only if this range fits them.
    Raises ConfigError if nothing stays within the limit.
    """
    assert choice.error is not None
    record = BY_NAME[name_of(op)]
    best: tuple[float, Choice] | None = None
    least = float("inf")
    reach = _reach(op.operands[0], declared)
    for candidate in _candidates(record, choice, reach):
        kernel, attributes = _kernel(op, record, candidate, secret, reach)
        specs = _specs(op, candidate)
        error = _error(record, kernel, specs, candidate, attributes)
        if error is None:
            continue
        least = min(least, error)
        if error <= choice.error:
            cost = kernel.cost(*specs, out=candidate.format, **attributes)
            cost = _brought(op.operands[0], candidate, reach) + cost
            price = predicted_seconds(LAN, 0.0, [cost.total_bytes // 3], cost.rounds)
            if best is None or price < best[0]:
                best = price, candidate
    if best is None:
        raise ConfigError(
            f"{record.name} at '{ir.path_of(op)}': no format and approximation stays within error = "
            f"{choice.error:g}; the least bound is {least:g}: raise the limit, take a finer `format`, or "
            "declare the range of what it reads"
        )
    return best[1]


def _candidates(record: Op, choice: Choice, reach: float | None) -> Iterator[Choice]:
    operands = [choice.operand] if choice.operand else [*NARROW, *WIDE]
    names = [name for name, each in record.approximations.items() if not each.needs_training]
    for operand in operands:
        fits = operand.ring_bits > 16 if reach is None else reach < operand.limit / 2
        if fits or choice.operand:
            for approx in [choice.approx] if choice.approx else names:
                yield replace(choice, operand=operand, approx=approx)


def _kernel(
    op: ir.Op, record: Op, candidate: Choice, secret: Secret, reach: float | None
) -> tuple[Kernel, dict[str, Any]]:
    """Return the kernel that the candidate would call, and its attributes."""
    decision = Decision(
        Kind.KERNEL, "", format=candidate.format, approx=candidate.approx, inner=candidate.inner
    )
    call = record.kernel_call(Call(op, decision, secret, lambda _: reach))
    return KERNELS[call.kernel], dict(call.attributes)


def _error(
    record: Op, kernel: Kernel, specs: Sequence[Spec], candidate: Choice, attributes: Mapping[str, Any]
) -> float | None:
    """Return the bound for the kernel and for rounding its operand.

    None means that the kernel does not take this format.
    """
    assert candidate.operand is not None and record.steepness is not None
    try:
        own = kernel.error(*specs, out=candidate.format, **attributes)
    except ValueError:
        return None
    steepness = record.steepness * abs(float(attributes.get("scale", 1.0)))
    return own + steepness * 1.5 * candidate.operand.ulp


def _brought(value: ir.Value, candidate: Choice, reach: float | None) -> Cost:
    """Return the cost of bringing the operand to its format.

    The change of format is part of the product that computes the operand, or else a cast.
    """
    maker, operand = _maker(value), candidate.operand
    assert operand is not None
    count = elements(ir.shape(value))
    if maker is not None and maker.name == "stablehlo.dot_general":
        ring = max(32, operand.ring_bits)
        factors = Fxp(ring, operand.fraction_bits), Fxp(ring, _PRODUCT_BITS)
        return MULTIPLY.cost(*(Spec((count,), each) for each in factors), out=operand, range=reach)
    return cost_of(convert, Spec((count,), candidate.format), out=operand)


def _specs(op: ir.Op, candidate: Choice) -> list[Spec]:
    masks = [Spec(ir.shape(each)) for each in list(op.operands)[1:]]
    return [Spec(ir.shape(op.operands[0]), candidate.operand), *masks]


def _maker(value: ir.Value) -> ir.Op | None:
    """Return the operation that computes a value, behind sums and layout."""
    maker = ir.define(value)
    while maker is not None and maker.name in (*LAYOUT, *SUMS):
        value = next((each for each in maker.operands if _computed(each)), maker.operands[0])
        maker = ir.define(value)
    return maker


def _computed(value: ir.Value) -> bool:
    maker = ir.define(value)
    return maker is not None and maker.name not in ("stablehlo.broadcast_in_dim", "stablehlo.constant")


def _reach(value: ir.Value, declared: DeclaredRange) -> float | None:
    """Return the range that rules declare for a value, behind layout, or None."""
    maker = ir.define(value)
    while maker is not None:
        known = declared(maker)
        if known is not None or maker.name not in LAYOUT:
            return known
        maker = ir.define(maker.operands[0])
    return None
