"""Refuse a program whose declared ranges, constants and formats do not fit together.

It also refuses what SPU would compute by opening a secret, with the user's line. This pass changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import RangeError, UnsupportedOpError
from ditto_spu.ops import find
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.decision import Decision, Kind, read
from ditto_spu.ops.public_operands import constant, source
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.rules.rule import WEIGHT

# The operands that are indices, by the number of results.
UPDATES: Mapping[str, Callable[[int], slice]] = {
    "stablehlo.scatter": lambda results: slice(results, results + 1),
    "stablehlo.dynamic_update_slice": lambda results: slice(2, None),
}
_SOLVERS = re.compile(r"\bjit\((?:solve|inv|slogdet|det|lu\w*|_lu\w*)\)")
_PIVOTS = (
    "solvers swap rows of the matrix in this way; factor a positive definite one with "
    "jax.scipy.linalg.cho_factor and cho_solve"
)
AFFINE = ("stablehlo.add", "stablehlo.subtract", "stablehlo.concatenate", "stablehlo.pad", "stablehlo.select")


def verify(module: ir.Module, public: Sequence[bool]) -> None:
    """Check every operation of the assigned module.

    public: whether each argument of @main is public.
    Raises RangeError, with path and line, for the first operation that cannot be right.
    """
    ir.verify(module)
    secret = visibility(module, public)
    for op in ir.walk(ir.main(module)):
        _openings(op, secret)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        decision = read(op)
        if decision is None:
            continue
        _declared_range(op, decision)
        encodes = op.name in AFFINE and decision.kind is not Kind.SPU
        if encodes and any(secret[each] for each in op.operands):
            _finite(op)
            if decision.kind is Kind.LOCAL:
                _constants(op, decision)


def _openings(op: ir.Op, secret: Mapping[ir.Value, bool]) -> None:
    """Raise UnsupportedOpError for an update at a secret index, and for a loop with a secret condition."""
    if op.name in UPDATES:
        first = UPDATES[op.name](len(op.results))
        if any(secret.get(each, True) for each in list(op.operands)[first]):
            remedy = "write jnp.where(jnp.arange(n) == index, new, old) instead"
            if _SOLVERS.search(ir.name_of(op)):
                remedy = _PIVOTS
            raise UnsupportedOpError(
                f"{_place(op)}: an update or scatter at a secret index would open the index: {remedy}"
            )
    if op.name == "stablehlo.while" and secret.get(ir.ops(op.regions[0].blocks[0])[-1].operands[0], True):
        raise UnsupportedOpError(
            f"{_place(op)}: a while loop has a secret condition: loop a public number of times and select "
            "results"
        )


def _declared_range(op: ir.Op, decision: Decision) -> None:
    bound, fxp = decision.range, decision.out
    if bound is None:
        return
    room = result_room(op, decision)
    if bound >= room:
        bits = fxp.ring_bits - 2 - _bits(bound)
        raise RangeError(
            f"{_place(op)}: the declared range {bound:g} leaves {fxp} no spare bit (protocols need "
            f"|x| < {room:g}); use at most {bits} fraction bits or a wider ring"
        )
    product = decision.natural
    if product is not None and bound >= product_room(product, fxp):
        raise RangeError(
            f"{_place(op)}: before truncation the product has {product.fraction_bits} fraction bits and "
            f"holds only |x| < {product_room(product, fxp):g}, but the declared range is {bound:g}: give "
            f'its operands fewer fraction bits (rule `operand`, op "{WEIGHT}") or a wider ring'
        )


def result_room(op: ir.Op, decision: Decision) -> float:
    """Return the magnitude below which every reader of a result in its format is safe."""
    rooms = (_room(each, decision.out) for each in _readers(op, decision))
    return min(rooms, default=decision.out.limit / 2)


def _readers(op: ir.Op, decision: Decision) -> list[ir.Op]:
    """Return all readers of a result, behind the cast that belongs to a product."""
    users = ir.users(op.results[0])
    if decision.natural is None:
        return users
    return [reader for user in users for reader in (ir.users(user.results[0]) if is_cast(user) else [user])]


def _room(reader: ir.Op, fxp: Fxp) -> float:
    """Return the magnitude below which an operation that reads a value is safe.

    Most protocols need a spare bit. Sums in the same format may wrap without harm, if their result is in
    range. A function with a window compares its operand only with the ends of the window.
    """
    decision, record = read(reader), find(reader)
    if decision is None or not decision.operands or decision.operands[0] != fxp:
        return fxp.limit / 2
    if decision.kind is Kind.LOCAL:
        return fxp.limit
    if record is not None and record.window is not None and record.approximation(decision.approx).windowed:
        return record.window_room(fxp, decision.out)
    return fxp.limit / 2


def product_room(product: Fxp, result: Fxp) -> float:
    """Return the magnitude that a product may reach before it is truncated to `result`.

    The truncation may need a spare bit.
    """
    narrow = result.ring_bits <= product.ring_bits - (product.fraction_bits - result.fraction_bits)
    return product.limit if narrow else product.limit / 2


def _bits(bound: float) -> int:
    return max(0, int(np.ceil(np.log2(bound))))


def _finite(op: ir.Op) -> None:
    """Raise RangeError for a constant that no format holds beside a secret operand."""
    for operand in op.operands:
        known = _magnitudes(operand) if ir.is_float(operand) else None
        if known is None or np.all(np.isfinite(known)):
            continue
        if _SOLVERS.search(ir.name_of(op)):
            raise UnsupportedOpError(f"{_place(op)}: the search for a pivot has no bound: {_PIVOTS}")
        raise RangeError(
            f"{_place(op)}: a constant beside a secret value holds NaN or infinity, which no share holds: "
            "give a large finite number; as a mask, make it a boolean used by select or a bias on softmax"
        )


def _constants(op: ir.Op, decision: Decision) -> None:
    fxp = decision.out
    for operand in op.operands:
        value = _magnitudes(operand) if ir.is_float(operand) else None
        if value is None:
            continue
        if (worst := np.max(value, initial=0.0)) >= fxp.limit:
            raise RangeError(
                f"{_place(op)}: a constant of magnitude {worst:g} does not fit {fxp}, which holds |x| < "
                f"{fxp.limit:g}: as a mask, make it a boolean used by select or a bias on softmax; else "
                "choose a wider format for this path"
            )


def _magnitudes(value: ir.Value) -> np.ndarray | None:
    """Return the magnitudes of a constant, perhaps rearranged and negated, or None for other values."""
    maker = source(value)
    negated = maker is not None and maker.name == "stablehlo.negate"
    known = constant(maker.operands[0]) if maker is not None and negated else constant(value)
    return None if known is None else np.abs(np.asarray(known, np.float64))


def _place(op: ir.Op) -> str:
    path = ir.path_of(op)
    return f"{op.name} at '{path}' ({ir.source_of(op)})" if path else f"{op.name} ({ir.source_of(op)})"
