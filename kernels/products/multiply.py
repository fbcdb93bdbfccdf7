"""Multiply shared values locally and take the cheapest way back to replicated shares.

The local products are 3-of-3 shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, deal
from ditto_kernels.sharing.additive import Additive, to_rss
from ditto_kernels.sharing.casts import (
    Masks,
    lift_opened,
    narrow,
    narrowed,
    narrowing_bias,
    own_half,
    truncate_additive,
    truncate_opened,
    truncation_bias,
    upcast,
)
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, signed
from ditto_kernels.values.replicated import Rss

_LIFTED = 16  # the ring of the opening from which a lift starts


def zero_share(party: Party, name: str, shape: tuple[int, ...], ring: int) -> Array:
    """Return a fresh 3-of-3 share of zero: F_i - F_{i+1}."""
    mine, following = _zero_halves(party, name, shape, ring)
    return mine - following


def _zero_halves(party: Party, name: str, shape: tuple[int, ...], ring: int) -> tuple[Array, Array]:
    """Draw F_i and F_{i+1}, whose difference is a party's 3-of-3 share of zero."""
    mine, following = (party.draw(party.rank + each, name, shape, signed(ring)) for each in range(2))
    return mine, following


@fused()
def _plus_zero(z: Array, mine: Array, following: Array) -> Array:
    return z + (mine - following)


@fused()
def _narrowed_with_zero(
    z: Array, mine: Array, following: Array, bias: Array, *, dropped: int, ring: int
) -> Array:
    made: Array = narrowed.plain(z + (mine - following), bias, bits=dropped, ring=ring)
    return made


def finish_kind(ring: int, dropped: int, out: Fxp) -> str:
    """Return the kind that needs no declared range: 'plain', 'narrow' (a free truncation) or 'truncate'.

    Raises ValueError if `out` has a larger ring than the product, or more fraction bits.
    """
    if out.ring_bits > ring:
        raise ValueError(f"a product in ring {ring} cannot be widened to {out} in one step")
    if dropped < 0:
        raise ValueError(f"{out} has {-dropped} fraction bits more than the product")
    if out.ring_bits <= ring - dropped:
        return "narrow" if dropped or out.ring_bits < ring else "plain"
    return "truncate"


@dataclass(frozen=True)
class Finish:
    """The way in which a 3-of-3 product share becomes replicated shares in `out`: see `finish`."""

    ring: int
    dropped: int  # the number of fraction bits to drop
    out: Fxp
    kind: str
    bias: int = 0  # makes the value of a lift positive, in ulp of `out`

    @property
    def target(self) -> Fxp:
        """The format into which shares are shifted, where no truncation follows."""
        return Fxp(_LIFTED if self.kind == "lift" else self.out.ring_bits, self.out.fraction_bits)


def lift_bias(out: Fxp, least: float, most: float) -> int | None:
    """Return the bias for a lift of a value in [least, most], or None if no bias serves.

    The bias makes the value and its rounding positive and below 2^15 ulp.
    """
    bias = max(0, math.ceil(-least / out.ulp + 2))
    fits = out.fraction_bits < _LIFTED and most / out.ulp + 2 + bias < 2 ** (_LIFTED - 1)
    return bias if fits else None


def how_to_finish(
    ring: int, fraction_bits: int, out: Fxp, values: tuple[float, float] | None = None
) -> Finish:
    """Return the cheapest way to `out` for a product with so many fraction bits.

    `values` is the declared range of the product. Raises ValueError if no way leads to `out`.
    """
    dropped = fraction_bits - out.fraction_bits
    kind = finish_kind(ring, dropped, out)
    if kind != "truncate":
        return Finish(ring, dropped, out, kind)
    if values is not None and out.ring_bits == ring == 2 * _LIFTED and dropped <= ring - _LIFTED:
        bias = lift_bias(out, *values)
        if bias is not None:
            return Finish(ring, dropped, out, "lift", bias)
    if out.ring_bits != ring:
        raise ValueError(
            f"product in ring {ring} with {fraction_bits} fraction bits cannot be truncated to {out}"
        )
    return Finish(ring, dropped, out, "truncate")


def finish(
    party: Party, z: Array, fraction_bits: int, out: Fxp, values: tuple[float, float] | None = None
) -> Protocol[Rss]:
    """Turn a party's 3-of-3 product share with `fraction_bits` into replicated shares in `out`.

    - plain: the same ring, and nothing is dropped. 3k bits, 1 round, exact.
    - narrow: into a ring of l <= k - dropped bits. 3l bits, 1 round, |e| <= 1.5 ulp with mean 0. Range: |x| <
      2^(l-1) in `out`.
    - lift: shares are shifted into ring 16, whose opening is lifted to ring 32. 128 bits, 2 rounds, |e| <=
      1.5 ulp with mean 0. Range: the declared `values`, which fit 2^15 ulp.
    - truncate: in the same ring. 4k + 4w bits, 2 rounds, |e| < 1.5 ulp with mean 0. Range: |z| < 2^(k-2).

    Many elements that are lifted or truncated take one round more and fewer bits, 98 or 3k + w + 2: A takes
    over the dealer's share first (`_gathered`). The error of a truncation is then less than 1 ulp.

    Security: every share leaves under a fresh zero share, and A and B open values under full-width masks.
    With masked shares the dealer deals its share in the offline phase (`finish_masked`).
    """
    if party.masked:
        return (yield from finish_masked(party, z, fraction_bits, out, values))
    plan = how_to_finish(8 * z.dtype.itemsize, fraction_bits, out, values)
    halves = _zero_halves(party, "zero", tuple(z.shape), plan.ring)
    if plan.kind in ("narrow", "lift"):
        bias = np.asarray(narrowing_bias(plan.dropped) if party.rank == 0 else 0, z.dtype)
        mine = _narrowed_with_zero(z, *halves, bias, dropped=plan.dropped, ring=plan.target.ring_bits)
    else:
        z = mine = _plus_zero(z, *halves)
    if plan.kind in ("truncate", "lift") and _gathers(party, z):
        fxp = plan.target if plan.kind == "lift" else Fxp(plan.ring, fraction_bits)
        gathered = yield from _gathered(party, mine, fxp)
        if plan.kind == "lift":
            return (yield from upcast(party, gathered, out.ring_bits, plan.bias))
        return (yield from truncate_additive(party, gathered, plan.dropped))
    if plan.kind == "truncate":
        c, masks = yield from _open_product(party, z, truncation_bias(plan.ring, plan.dropped))
        return (yield from truncate_opened(party, c, masks, out, plan.dropped))
    if plan.kind == "lift":
        c, masks = yield from _open_product(party, mine, plan.bias)
        return (yield from lift_opened(party, c, masks, plan.target, out.ring_bits, plan.bias))
    (following,) = yield Round(
        (party.send((party.rank - 1) % 3, "reshare", mine),),
        (party.expect((party.rank + 1) % 3, "reshare", z.shape, out.dtype),),
    )
    return Rss(mine, following, out)


def shifted(party: Party, z: Array, plan: Finish) -> Array:
    """Return a party's 3-of-3 share in `plan.target`."""
    bias = narrowing_bias(plan.dropped) if party.rank == 0 else 0
    moved: Array = narrow(z, plan.dropped, plan.target.ring_bits, bias)
    return moved


def finish_masked(
    party: Party, z: Array, fraction_bits: int, out: Fxp, values: tuple[float, float] | None = None
) -> Protocol[Rss]:
    """Do `finish` for a product whose operands are masks at the dealer, such as results of `to_rss` or casts.

    The dealer's share then depends on no input. It is dealt, after it has been shifted where no truncation
    follows, and A and B go on with a 2-of-2 sharing. The result is a mask at the dealer, too. The forms,
    ranges and errors are those of `finish`. Cost: plain and narrow 3l bits and 1 round; lift 98 and truncate
    3k + w + 2 bits, both in 2 rounds.
    """
    plan = how_to_finish(8 * z.dtype.itemsize, fraction_bits, out, values)
    if plan.kind == "truncate":
        (dealt,) = yield from deal(party, [Deal("product", z.shape, z.dtype)], lambda: [z])
        return (
            yield from truncate_additive(
                party, Additive(z + dealt, Fxp(plan.ring, fraction_bits)), plan.dropped
            )
        )
    mine = shifted(party, z, plan)
    (dealt,) = yield from deal(party, [Deal("product", mine.shape, mine.dtype)], lambda: [mine])
    return (yield from _replicated(party, Additive(mine + dealt, plan.target), plan))


def finish_additive(
    party: Party, z: Additive, out: Fxp, values: tuple[float, float] | None = None
) -> Protocol[Rss]:
    """Do `finish` for a product of which A and B alone hold a 2-of-2 sharing.

    The forms, ranges and errors are the same. Cost: plain and narrow 2l bits and 1 round; lift 82 bits and
    truncate 2k + w + 2 bits, both in 2 rounds.
    """
    plan = how_to_finish(z.fxp.ring_bits, z.fxp.fraction_bits, out, values)
    if plan.kind == "truncate":
        return (yield from truncate_additive(party, z, plan.dropped))
    bias = narrowing_bias(plan.dropped, shares=2) if party.role == "A" else 0
    small = Additive(narrow(z.share, plan.dropped, plan.target.ring_bits, bias), plan.target)
    return (yield from _replicated(party, small, plan))


def _replicated(party: Party, small: Additive, plan: Finish) -> Protocol[Rss]:
    """Turn shares in `plan.target` into replicated ones in `plan.out`."""
    if plan.kind == "lift":
        return (yield from upcast(party, small, plan.out.ring_bits, plan.bias))
    return (yield from to_rss(party, small))


def _gathers(party: Party, z: Array) -> bool:
    """Return whether there are so many elements that a round more costs less than it saves."""
    return math.prod(z.shape) >= party.limit(tuning.GATHERED_ELEMENTS)


def _gathered(party: Party, z: Array, fxp: Fxp) -> Protocol[Additive]:
    """Turn a 3-of-3 sharing into a 2-of-2 sharing: the dealer's share goes to A, under a pad of B.

    Cost: k bits in 1 round. Security: A lacks the pad, and B receives nothing.
    """
    shape, dtype = tuple(z.shape), z.dtype
    if party.role == "A":
        (received,) = yield Round((), (party.expect(party.dealer, "gathered", shape, dtype),))
        return Additive(z + received, fxp)
    pad = party.draw(party.dealer, "gathered", shape, dtype)  # B and the dealer have this stream
    if party.role == "B":
        yield Round()
        return Additive(z - pad, fxp)
    yield Round((party.send(party.a, "gathered", z + pad),))
    return Additive(absent(shape, dtype), fxp)


@fused()
def _sum(x: Array, y: Array, z: Array) -> Array:
    return x + y + z


def _open_product(party: Party, share: Array, bias: int) -> Protocol[tuple[Array, Masks]]:
    """Open c = z + bias + r to A and B in one round.

    The dealer adds r to its own share and sends the sum to both.
    """
    shape, dtype = tuple(share.shape), share.dtype
    if party.role == "D":
        masks = party.draw_both("mask", shape, dtype)
        share = _sum(share, *masks)
        yield Round((party.send(party.a, "product", share), party.send(party.b, "product", share)))
        return absent(shape, dtype), masks
    mask = party.draw_with_dealer("mask", shape, dtype)
    if party.role == "A":
        share = share + dtype.type(bias)
    other = party.b if party.role == "A" else party.a
    received = yield Round(
        (party.send(other, "product", share),),
        (party.expect(other, "product", shape, dtype), party.expect(party.dealer, "product", shape, dtype)),
    )
    return _sum(share, *received), own_half(party, mask)


@fused()
def _product(x_mine: Array, x_next: Array, y_mine: Array, y_next: Array) -> Array:
    return (x_mine + x_next) * y_mine + x_mine * y_next


def local_product(x: Rss, y: Rss) -> Array:
    """Return a party's own 3-of-3 share of the elementwise product, without its zero share."""
    made: Array = _product(x.mine, x.next, y.mine, y.next)
    return made


def multiply(
    party: Party, x: Rss, y: Rss, out: Fxp, values: tuple[float, float] | None = None
) -> Protocol[Rss]:
    """Compute x * y elementwise with numpy broadcasting, truncated to `out`.

    `values` is the declared range of the result. Formats: x and y are in one ring k, and `out` is in ring k
    or a smaller one (`finish` chooses the way). Raises ValueError if the rings differ. Range, error, cost and
    security: those of `finish`. Source: ABY3 section 5.1 for the local product; truncation as in `truncate`.
    """
    if x.fxp.ring_bits != y.fxp.ring_bits:
        raise ValueError(f"operands in different rings: {x.fxp} and {y.fxp}")
    z = local_product(x, y)
    return (yield from finish(party, z, x.fxp.fraction_bits + y.fxp.fraction_bits, out, values))


def multiply_masked(
    party: Party, x: Rss, y: Rss, out: Fxp, values: tuple[float, float] | None = None
) -> Protocol[Rss]:
    """Do `multiply` for operands of which the dealer has masks alone, such as results of `to_rss`."""
    z = local_product(x, y)
    return (yield from finish_masked(party, z, x.fxp.fraction_bits + y.fxp.fraction_bits, out, values))


def multiply_dealt(party: Party, x: Rss, y: Rss, out: Fxp) -> Protocol[Rss]:
    """Do `multiply_masked` with a narrow result that errs by less than 1 ulp in place of 1.5, with mean 0.

    The dealer's share is dealt whole, so that two shares lose fractions instead of three. It takes k bits in
    place of l. Other results are those of `multiply_masked`.
    """
    z = local_product(x, y)
    (dealt,) = yield from deal(party, [Deal("product", z.shape, z.dtype)], lambda: [z])
    whole = Additive(z + dealt, Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + y.fxp.fraction_bits))
    return (yield from finish_additive(party, whole, out))


def symmetric(range: float | None) -> tuple[float, float] | None:
    """Return a declared magnitude as a range of values."""
    return None if range is None else (-range, range)


def _run(party: Party, x: Rss, y: Rss, out: Fxp, range: float | None = None) -> Protocol[Rss]:
    """Run `multiply`, where `range` is a declared bound of |result|."""
    return (yield from multiply(party, x, y, out, symmetric(range)))


def _multiply_reference(x: Array, y: Array, range: float | None = None) -> Array:
    return np.asarray(x) * np.asarray(y)


def _multiply_error(x: Spec, y: Spec, out: Fxp, range: float | None = None) -> float:
    return 1.5 * out.ulp


MULTIPLY = Kernel("multiply", _run, _multiply_reference, _multiply_error, "ABY3 (2018), 5.1")
