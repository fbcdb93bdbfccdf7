"""Choose operand format and approximation of an op by cost, under the error limit that a rule sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from ditto_spu.passes.analysis.classify import KERNEL_OPS, LAYOUT, LINEAR, op_name
from ditto_spu.rules.rule import APPROXIMATIONS, ERROR_LIMITED, REPLACEMENTS, Choice

NARROW = [Fxp(16, bits) for bits in range(4, 13)]
WIDE = [Fxp(32, bits) for bits in range(8, 15)]
_PRODUCT_BITS = 14  # fraction bits that a product brings beyond those of its result
DeclaredRange = Callable[[ir.Op], float | None]


def cheapest(op: ir.Op, choice: Choice, declared: DeclaredRange) -> Choice:
    """The choice with what its rules leave open: the cheapest operand format and approximation in the limit.

    The cost is that of the kernel and of bringing its operand there, as seconds on a LAN; the error is the
    kernel's bound and that of rounding the operand. `declared` gives the range that rules promise for what an
    operation computes: narrow formats are considered only if it fits. ConfigError if nothing stays within.
    """
    assert choice.error is not None
    rule_op = KERNEL_OPS[op_name(op)][1]
    best: tuple[float, Choice] | None = None
    least = float("inf")
    reach = _reach(op.operands[0], declared)
    for candidate in _candidates(rule_op, choice, reach):
        error = _error(op, rule_op, candidate, reach)
        if error is None:
            continue
        least = min(least, error)
        if error <= choice.error:
            price = _price(op, candidate, reach)
            if best is None or price < best[0]:
                best = price, candidate
    if best is None:
        raise ConfigError(
            f"{rule_op} at '{ir.path_of(op)}': no format and approximation stays within error = "
            f"{choice.error:g}; the least bound is {least:g}: raise the limit, take a finer `format`, or "
            "declare the range of what it reads"
        )
    return best[1]


def _candidates(rule_op: str, choice: Choice, reach: float | None) -> Iterator[Choice]:
    operands = [choice.operand] if choice.operand else [*NARROW, *WIDE]
    names = [name for name in APPROXIMATIONS[rule_op] if name not in REPLACEMENTS]
    for operand in operands:
        fits = operand.ring_bits > 16 if reach is None else reach < operand.limit / 2
        if fits or choice.operand:
            for approx in [choice.approx] if choice.approx else names:
                yield replace(choice, operand=operand, approx=approx)


def _error(op: ir.Op, rule_op: str, candidate: Choice, reach: float | None) -> float | None:
    """Bound of kernel and operand rounding; None if the kernel does not take this format."""
    kernel, attributes = _kernel(op, candidate, reach)
    assert candidate.operand is not None
    try:
        own = kernel.error(*_specs(op, candidate), out=candidate.format, **attributes)
    except ValueError:
        return None
    steepness = ERROR_LIMITED[rule_op] * abs(float(attributes.get("scale", 1.0)))
    return own + steepness * 1.5 * candidate.operand.ulp


def _price(op: ir.Op, candidate: Choice, reach: float | None) -> float:
    kernel, attributes = _kernel(op, candidate, reach)
    cost = kernel.cost(*_specs(op, candidate), out=candidate.format, **attributes)
    cost = _brought(op.operands[0], candidate, reach) + cost
    return predicted_seconds(LAN, 0.0, [cost.total_bytes // 3], cost.rounds)


def _brought(value: ir.Value, candidate: Choice, reach: float | None) -> Cost:
    """Cost of the operand in its format: fused into the product that makes it, or a cast."""
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


def _kernel(op: ir.Op, candidate: Choice, reach: float | None) -> tuple[Kernel, dict[str, Any]]:
    name = op_name(op)
    attributes: dict[str, Any] = dict(ir.composite_attributes(op)) if name.startswith("ditto.") else {}
    attributes["approx"] = candidate.approx
    if candidate.inner is not None:
        attributes["inner"] = candidate.inner
    if name == "ditto.softmax" and reach is not None:
        attributes["range"] = reach
    return KERNELS[KERNEL_OPS[name][0]], attributes


def _maker(value: ir.Value) -> ir.Op | None:
    """What computed a value, behind sums and layout."""
    maker = ir.define(value)
    while maker is not None and maker.name in (*LAYOUT, *LINEAR):
        value = next((each for each in maker.operands if _computed(each)), maker.operands[0])
        maker = ir.define(value)
    return maker


def _computed(value: ir.Value) -> bool:
    maker = ir.define(value)
    return maker is not None and maker.name not in ("stablehlo.broadcast_in_dim", "stablehlo.constant")


def _reach(value: ir.Value, declared: DeclaredRange) -> float | None:
    """The range that rules declare for a value, behind layout."""
    maker = ir.define(value)
    while maker is not None:
        known = declared(maker)
        if known is not None or maker.name not in LAYOUT:
            return known
        maker = ir.define(maker.operands[0])
    return None
