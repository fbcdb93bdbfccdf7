"""Casts change formats: truncation without catastrophic error, masked upcasts and local downcasts.

They use numpy and not XLA, as most protocols do. A few passes over memory cost as much as XLA's calls, and
XLA would compile for a tenth of a second per shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, deal, exchange
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.sharing.two_shares import lift_to_rss, truncate_to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, container_bits, signed, unsigned
from ditto_kernels.values.replicated import Rss

Make = Callable[[], tuple[Array, Array]]
Masks = tuple[Array, Array]  # A's and B's half of an opening's mask. The half that a party lacks is absent.


def _logical(value: Array, bits: int) -> Array:
    """Shift right as an unsigned number."""
    return (value.view(unsigned(8 * value.dtype.itemsize)) >> bits).view(value.dtype)


@fused()
def carry_and_top(r1: Array, r3: Array, *, width: int) -> tuple[Array, Array]:
    """Return the carry of r1 + r3 and msb(r1 + r3 mod 2^k), in the container of the wrap correction."""
    total, word = r1 + r3, unsigned(8 * r1.dtype.itemsize)
    return (total.view(word) < r1.view(word)).astype(signed(width)), (total < 0).astype(signed(width))


@fused()
def _joined_carry_and_top(r1: Array, r3: Array, *, ring: int, bits: int) -> tuple[Array, Array]:
    """Return (carry, msb(r)) as a truncation adds them: shifted, and with the low bits' carry taken off."""
    total, word, mask = r1 + r3, unsigned(ring), (1 << bits) - 1
    low = (((r1 & mask) + (r3 & mask)).view(word) >> bits).astype(r1.dtype)
    carry = (total.view(word) < r1.view(word)).astype(r1.dtype)
    return (carry << (ring - bits)) - low, (total < 0).astype(r1.dtype) << (ring - bits)


@fused()
def _wraps(c: Array, carry: Array, top: Array) -> Array:
    return carry + (c >= 0).astype(top.dtype) * top


@fused()
def _padded_wraps(c: Array, carry: Array, top: Array, pad: Array) -> Array:
    made: Array = _wraps.plain(c, carry, top)
    return made - pad


def _dealt_wrap(party: Party, c: Array, width: int, make: Make) -> Protocol[tuple[Array, Array]]:
    """Deal shares of carry and of msb(r): the number of wraps is carry + (1 - msb c) msb(r)."""
    items = [Deal("carry", c.shape, signed(width)), Deal("top", c.shape, signed(width))]
    carry, top = yield from deal(party, items, make)
    return carry, top


def reshared_wrap(
    party: Party, c: Array, width: int, masks: Masks, make: Make | None = None
) -> Protocol[tuple[Array, Array]]:
    """Return components (mine, next) of v, the number of wraps: c - r = c - r_A - r_B + 2^k v.

    A and B know the opening c, and c - r lies in [0, 2^(k-1)). v = carry(r_A + r_B) + (1 - msb c) msb(r) is
    sent in a container ring of `width` bits, which pads always fill. Cost: 2w bits online and 2w bits
    offline, in 1 round. Error: none. `make` returns other numbers in the place of (carry, msb(r)), and v is
    made from these.

    Security: carry and msb(r) are dealt, and v leaves under pads that are shared with the dealer.
    """
    shape, dtype = c.shape, signed(width)
    carry, top = yield from _dealt_wrap(party, c, width, make or partial(carry_and_top, *masks, width=width))
    if party.role == "D":
        yield Round()
        pad_a, pad_b = party.draw_both("wrap_pad", shape, dtype)
        return pad_b, pad_a
    pad = party.draw_with_dealer("wrap_pad", shape, dtype)
    mine = _padded_wraps(c, carry, top, pad)
    other = yield from exchange(party, "wrap", mine)
    joined = mine + other
    return (pad, joined) if party.role == "A" else (joined, pad)


def joins_low_carry(ring: int, bits: int) -> bool:
    """Return whether the number of wraps is shared in the whole ring, so that it has room for low bits."""
    return container_bits(bits) == ring


def truncation_bias(ring: int, bits: int) -> int:
    """Return the number to add before masking. It makes x + bias positive and centres the rounding error."""
    return (1 << (ring - 2)) - (0 if joins_low_carry(ring, bits) else 1 << (bits - 1))


@fused()
def _shifted_mask(mask: Array, wrap: Array, *, lift: int, bits: int) -> Array:
    return (wrap.astype(mask.dtype) << lift) - _logical(mask, bits)


@fused()
def _shifted_opening(c: Array, wrap: Array, *, lift: int, bits: int, lowest: int) -> Array:
    return (wrap.astype(c.dtype) << lift) + _logical(c, bits) - c.dtype.type(lowest)


def truncate_opened(party: Party, c: Array, masks: Masks, fxp: Fxp, bits: int) -> Protocol[Rss]:
    """Do the second half of a truncation: from c = x + bias + r to shares of x / 2^bits.

    Range: |x| < 2^(k-2) as ring element. Error: less than 1.5 ulp of the result with mean 0, or 1 ulp where
    the low bits' carry is joined. Let {z} be the fraction of z / 2^bits, and v the number of wraps. The
    parties add up (c >> bits) - (r_A >> bits) - (r_B >> bits) + 2^(k - bits) v, which exceeds (x + bias) /
    2^bits by {r_A} + {r_B} - {c}. The low bits of the masks have a carry t = [{r_A} + {r_B} >= 1], and {r_A}
    + {r_B} - t = {r}. With -t the excess is {r} - {c}, between -1 and 1. As c = x + bias + r, it is
    -{x + bias} or 1 - {x + bias}, with mean 0 for a uniform r.

    The dealer knows t. It costs nothing where v is shared in the whole ring (`joins_low_carry`): the dealer
    deals 2^(k - bits) carry - t and 2^(k - bits) msb(r) in the place of carry and msb(r), in messages of the
    same size and under the same pads. Elsewhere v has only `bits` bits, which have no room for t.
    """
    ring, width = fxp.ring_bits, container_bits(bits)
    joined = joins_low_carry(ring, bits)
    make = partial(_joined_carry_and_top, *masks, ring=ring, bits=bits) if joined else None
    wraps = yield from reshared_wrap(party, c, width, masks, make)
    lift, lowest = 0 if joined else ring - bits, 1 << (ring - 2 - bits)
    of_mask = partial(_shifted_mask, lift=lift, bits=bits)
    of_opening = partial(_shifted_opening, lift=lift, bits=bits, lowest=lowest)
    return Rss(*components(party, c, masks, wraps, of_mask, of_opening), fxp)


def components(
    party: Party,
    c: Array,
    masks: Masks,
    wraps: tuple[Array, Array],
    of_mask: Callable[[Array, Array], Array],
    of_opening: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
    """Return the components (mine, next) of x = c - r.

    Components D + 1 and D are made from the masks of A and B. Component D + 2, which A and B hold, is made
    from c.
    """
    mine, following = wraps
    if party.role == "A":
        return of_mask(masks[0], mine), of_opening(c, following)
    if party.role == "B":
        return of_opening(c, mine), of_mask(masks[1], following)
    return of_mask(masks[1], mine), of_mask(masks[0], following)


def truncate(party: Party, x: Rss, bits: int) -> Protocol[Rss]:
    """Compute x / 2^bits in the same ring, which drops `bits` fraction bits.

    Range: |x| < 2^(k-2) as ring element. Outside of it the result is wrong. Error: e in (-1, 1) ulp of the
    result, with mean 0: one of the two neighbours is taken, and what needs no rounding stays exact. There is
    no catastrophic failure. Raises ValueError if x has no such bits to drop.

    Cost: 2k + w + 2 bits with w the container of `bits`, in 2 rounds. Security: that of `open_high_bits` and
    `to_rss`. Source: `two_shares.py`.
    """
    ring = x.fxp.ring_bits
    if not 0 < bits <= ring - 2:
        raise ValueError(f"cannot truncate {x.fxp} by {bits} bits")
    if x.fxp.fraction_bits < bits:
        raise ValueError(f"truncating {x.fxp} by {bits} bits leaves no fraction bits")
    return (yield from truncate_additive(party, from_rss(party, x), bits))


def truncate_additive(party: Party, x: Additive, bits: int) -> Protocol[Rss]:
    """Truncate a 2-of-2 sharing, as `truncate` does."""
    return (yield from truncate_to_rss(party, x, bits))


def open_biased(party: Party, x: Additive, bias: int) -> Protocol[tuple[Array, Masks]]:
    """Return (c = x + bias + r, which A and B know; the masks)."""
    dtype = x.fxp.dtype
    if party.role == "D":
        masks = party.draw_both("mask", x.shape, dtype)
        yield Round()
        return x.share, masks
    mask = party.draw_with_dealer("mask", x.shape, dtype)
    mine = x.share + mask
    if party.role == "A":
        mine = mine + np.asarray(bias).astype(dtype)
    other = yield from exchange(party, "opening", mine)
    return mine + other, own_half(party, mask)


def own_half(party: Party, mask: Array) -> Masks:
    """Return the halves of a mask as A or B knows them."""
    lacking = absent(mask.shape, mask.dtype)
    return (mask, lacking) if party.role == "A" else (lacking, mask)


@fused()
def _lifted_mask(mask: Array, wrap: Array, *, ring: int, target: int) -> Array:
    return (wrap.astype(signed(target)) << ring) - mask.view(unsigned(ring)).astype(signed(target))


@fused()
def _lifted_opening(c: Array, wrap: Array, bias: Array, *, ring: int, target: int) -> Array:
    return (wrap.astype(signed(target)) << ring) + c.view(unsigned(ring)).astype(signed(target)) - bias


def upcast(party: Party, x: Rss | Additive, ring: int, bias: int | None = None) -> Protocol[Rss]:
    """Bring a value into a larger ring.

    Range: 0 <= x + bias < 2^(k-1) as ring element. The default bias 2^(k-2) serves |x| < 2^(k-2), and a value
    that is never negative may take bias 0. Error: none. Raises ValueError if the ring is not larger. Cost: 2l
    + w + 2 bits, with l the larger ring and w the container of (l - k) bits, in 2 rounds. Security: that of
    `open_high_bits` and `to_rss`. Source: `two_shares.py`.
    """
    source = x.fxp.ring_bits
    if ring <= source:
        raise ValueError(f"upcast from ring {source} to ring {ring}: use downcast")
    bias = 1 << (source - 2) if bias is None else bias
    additive = from_rss(party, x) if isinstance(x, Rss) else x
    return (yield from lift_to_rss(party, additive, ring, bias))


def lift_opened(party: Party, c: Array, masks: Masks, source: Fxp, ring: int, bias: int) -> Protocol[Rss]:
    """Do the second half of an upcast: from c = x + bias + r in `source` to x in the larger ring.

    Range and error are those of `upcast`.
    """
    fxp, width = Fxp(ring, source.fraction_bits), container_bits(ring - source.ring_bits)
    wraps = yield from reshared_wrap(party, c, width, masks)
    of_mask = partial(_lifted_mask, ring=source.ring_bits, target=ring)

    def of_opening(opened: Array, wrap: Array) -> Array:
        minus = np.asarray(bias, signed(ring))
        made: Array = _lifted_opening(opened, wrap, minus, ring=source.ring_bits, target=ring)
        return made

    return Rss(*components(party, c, masks, wraps, of_mask, of_opening), fxp)


def narrowing_bias(bits: int, shares: int = 3) -> int:
    """Return the number to add to one share before all are shifted.

    It makes up for the floors, each of which loses half a unit on average.
    """
    return shares * ((1 << bits) - 1) // 2


@fused()
def narrowed(component: Array, bias: Array, *, bits: int, ring: int) -> Array:
    """Do `narrow` with the bias as an operand."""
    return _logical(component + bias, bits).astype(signed(ring))


def narrow(component: Array, bits: int, ring: int, bias: int) -> Array:
    """Add the bias to a component and shift it right, as an unsigned number, into a smaller ring."""
    return narrowed(component, np.asarray(bias, component.dtype), bits=bits, ring=ring)


def downcast(party: Party, x: Rss, fxp: Fxp) -> Rss:
    """Bring a value into a smaller ring and drop fraction bits on the way. It is local.

    Range: |x| < 2^(l-1) in the new ring, and l <= k - dropped bits (else ValueError). Error: |e| <= 1.5 ulp
    of the result, with mean 0, and none if no bit is dropped. Cost: nothing.
    """
    bits = x.fxp.fraction_bits - fxp.fraction_bits
    if bits < 0 or fxp.ring_bits > x.fxp.ring_bits - bits:
        raise ValueError(f"{x.fxp} cannot be downcast to {fxp} locally")
    bias = narrowing_bias(bits)
    mine = narrow(x.mine, bits, fxp.ring_bits, bias if party.rank == 0 else 0)
    following = narrow(x.next, bits, fxp.ring_bits, bias if party.rank == 2 else 0)
    return Rss(mine, following, fxp)


def convert(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """Cast to any format by the cheapest sequence of local shifts, a downcast, a truncation or an upcast.

    Range: the value fits both formats with one bit to spare (`upcast`, `truncate`). Error: 1.5 ulp of `out`
    if fraction bits are dropped, else none. Cost and security: those of its parts.
    """
    if x.fxp == out:
        return x
    dropped = x.fxp.fraction_bits - out.fraction_bits
    if (
        out.ring_bits <= x.fxp.ring_bits - max(dropped, 0)
        and out.ring_bits < x.fxp.ring_bits
        and dropped >= 0
    ):
        return downcast(party, x, out)
    if dropped > 0 and out.ring_bits <= x.fxp.ring_bits:
        x = yield from truncate(party.at("truncate"), x, dropped)
        return downcast(party, x, out) if out.ring_bits < x.fxp.ring_bits else x
    if out.ring_bits > x.fxp.ring_bits:
        if dropped > 0:
            x = yield from truncate(party.at("truncate"), x, dropped)
        x = yield from upcast(party.at("upcast"), x, out.ring_bits)
    elif out.ring_bits < x.fxp.ring_bits:
        x = downcast(party, x, Fxp(out.ring_bits, x.fxp.fraction_bits))
    rise = out.fraction_bits - x.fxp.fraction_bits
    if rise:
        x = Rss(x.mine << out.dtype.type(rise), x.next << out.dtype.type(rise), out)
    return x


def _cast_reference(x: Array) -> Array:
    return x


def _cast_error(x: Spec, out: Fxp) -> float:
    assert x.fxp is not None
    return 1.5 * out.ulp if out.fraction_bits < x.fxp.fraction_bits else 0.0


CAST = Kernel(
    "cast",
    convert,
    _cast_reference,
    _cast_error,
    "wraps by highest bits as in SIRNN (ePrint 2021/459); our own with dealt products",
)
