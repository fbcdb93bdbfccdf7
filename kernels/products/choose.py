"""One of two values by a shared boolean, and the logic of shared booleans: products with 0 or 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_kernels.products.multiply import finish, local_product
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, to_rss
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

LOGIC_OPERATIONS: dict[str, Any] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "not": np.logical_not,
}


def _elements(value: Array, fxp: Fxp) -> Array:
    """A public value as ring elements, exactly where it is an integer. ValueError beyond the range."""
    if is_absent(value):
        return absent(np.shape(value), fxp.dtype)
    array = np.asarray(value)
    if array.dtype.kind != "f" and not fxp.fraction_bits:
        return array.astype(fxp.dtype)
    return encode(array, fxp)


def _public(party: Party, elements: Array, fxp: Fxp) -> Rss:
    """A public value as replicated shares. Component D + 2, which A and B hold, has all of it."""
    nothing = np.zeros(elements.shape, elements.dtype)
    if party.role == "D":
        return Rss(nothing, nothing, fxp)
    return Rss(nothing, elements, fxp) if party.role == "A" else Rss(elements, nothing, fxp)


def _in_ring(bit: Rss, ring: int) -> Rss:
    """0 or 1 in another format: a smaller ring drops high bits, which is local and exact."""
    if ring > bit.fxp.ring_bits:
        raise ValueError(f"a boolean in {bit.fxp} cannot choose values in ring {ring}")
    fxp = Fxp(ring, 0)
    return Rss(bit.mine.astype(fxp.dtype), bit.next.astype(fxp.dtype), fxp)


def _scaled(party: Party, bit: Rss, one: Array, zero: Array, out: Fxp) -> Protocol[Rss]:
    """zero + bit (one - zero) for public ring elements: local, unless shares are masked."""
    factor = one - zero
    if party.masked:  # the dealer's shares must depend on no public value either
        own = from_rss(party, bit).share * factor
        share = own + zero if party.role == "A" else own + np.zeros_like(zero)
        return (yield from to_rss(party, Additive(share, out)))
    base = _public(party, zero, out)
    return Rss(bit.mine * factor + base.mine, bit.next * factor + base.next, out)


def choose(party: Party, predicate: Rss, x: Rss | Array, y: Rss | Array, out: Fxp) -> Protocol[Rss]:
    """x where the shared predicate is 1, y where it is 0: y + p (x - y), with numpy broadcasting.

    Formats: the predicate is 0 or 1 without fraction bits, in a ring not smaller than that of `out`. Shared
    branches are in `out`, public ones are rounded to its grid. Range: any branches, differences may wrap.
    Error: none; half an ulp of `out` in public branches. Cost: 3k bits, 1 round; nothing if both branches are
    public. Security: the local product leaves under a fresh zero share, see `finish`.
    Source: ABY3 section 5.1.
    """
    if predicate.fxp.fraction_bits or any(isinstance(each, Rss) and each.fxp != out for each in (x, y)):
        raise ValueError(f"the predicate must have no fraction bits, and shared branches the format {out}")
    bit = _in_ring(predicate, out.ring_bits)
    if not isinstance(x, Rss) and not isinstance(y, Rss):
        return (yield from _scaled(party, bit, _elements(x, out), _elements(y, out), out))
    one, zero = (
        each if isinstance(each, Rss) else _public(party, _elements(each, out), out) for each in (x, y)
    )
    difference = Rss(one.mine - zero.mine, one.next - zero.next, out)
    share = local_product(bit, difference)
    share = share + zero.mine
    return (yield from finish(party, share, out.fraction_bits, out))


def _logic(
    party: Party, x: Rss | Array, y: Rss | Array | None = None, *, out: Fxp, operation: str = "and"
) -> Protocol[Rss]:
    """A logical operation on booleans that are 0 or 1 in the format `out`: "and", "or", "xor", or "not" of x.

    Formats: shared operands and `out` are one format without fraction bits; one operand may be public. x and
    y = xy, x or y = x + y - xy, x xor y = x + y - 2xy. Error: none. Cost: 3k bits, 1 round for two shared
    operands; nothing otherwise. Security: the local product leaves under a fresh zero share, see `finish`.
    Source: ABY3 section 5.1.
    """
    if operation not in LOGIC_OPERATIONS or (operation == "not") != (y is None):
        raise ValueError(f"there is no logical operation '{operation}' of so many operands")
    if out.fraction_bits or any(isinstance(each, Rss) and each.fxp != out for each in (x, y)):
        raise ValueError(f"booleans are combined in one format without fraction bits, not in {out}")
    if isinstance(x, Rss) and isinstance(y, Rss):
        share = local_product(x, y)
        if operation != "and":
            share = x.mine + y.mine - (share if operation == "or" else share + share)
        return (yield from finish(party, share, 0, out))
    shared, known = (x, y) if isinstance(x, Rss) else (y, x)
    if not isinstance(shared, Rss):
        raise ValueError("at least one operand must be shared")
    public = np.ones((), out.dtype) if known is None or isinstance(known, Rss) else _elements(known, out)
    ones, zeros = np.ones_like(public), np.zeros_like(public)
    if operation == "and":
        return (yield from _scaled(party, shared, public, zeros, out))
    return (yield from _scaled(party, shared, ones if operation == "or" else ones - public, public, out))


def _select_reference(predicate: Array, x: Array, y: Array) -> Array:
    return np.where(np.asarray(predicate) != 0, x, y)


def _select_error(predicate: Spec, x: Spec, y: Spec, out: Fxp) -> float:
    return 0.0 if x.fxp and y.fxp else out.ulp / 2


def _logic_reference(*operands: Array, operation: str = "and") -> Any:
    return LOGIC_OPERATIONS[operation](*operands)


def _logic_error(*_: Spec, out: Fxp, operation: str = "and") -> float:
    return 0.0


_PAPER = "ABY3 (2018), 5.1"
SELECT = Kernel("select", choose, _select_reference, _select_error, _PAPER)
LOGIC = Kernel("logic", _logic, _logic_reference, _logic_error, _PAPER)
