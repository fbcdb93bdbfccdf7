"""Whole numbers near a value: floor, ceiling, the nearest one by two rules for ties, and towards zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, to_planes
from ditto_kernels.bits.bit_products import evaluate
from ditto_kernels.bits.select import to_arithmetic
from ditto_kernels.bits.signs import borrows, complement, signs
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, Opened, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, unsigned
from ditto_kernels.values.replicated import Rss


def _away(x: Array) -> Any:
    return np.trunc(np.asarray(x) + np.copysign(0.5, x))


MODES: dict[str, Any] = {"floor": np.floor, "ceil": np.ceil, "even": np.rint, "away": _away, "zero": np.trunc}


def _offsets(mode: str, bits: int) -> tuple[int, ...]:
    """What is added before the floor, in ulp. With a second one, the second floor is chosen by a bit."""
    half, most = 1 << (bits - 1), (1 << bits) - 1
    return {
        "floor": (0,),
        "ceil": (most,),
        "even": (half - 1, half),
        "away": (half - 1, half),
        "zero": (0, most),
    }[mode]


def _whole(value: Array, bits: int, ring: int) -> Array:
    """The bits above the fraction, as an unsigned number in another ring."""
    word = value.view(unsigned(8 * value.dtype.itemsize))
    return (word >> word.dtype.type(bits)).astype(unsigned(ring)).view(f"int{ring}")


@local_step(
    lambda values, place: absent(
        (1, -(-values.size // (8 * values.dtype.itemsize))), unsigned(8 * values.dtype.itemsize)
    )
)
def _plane(values: Array, place: int) -> Array:
    """One bit of every element."""
    ring = 8 * values.dtype.itemsize
    return to_planes(values.view(unsigned(ring)), ring)[place : place + 1]


def _odd(party: Party, x: Opened, offset: int, bits: int, borrow: Array) -> Protocol[Array]:
    """[floor(x + offset) is odd], from its borrow: the lowest bits of c, of the mask, and the borrow."""
    plane = absent((1, borrow.shape[-1]), borrow.dtype)
    items = [Deal("odd", plane.shape, plane.dtype, xor=True)]
    (dealt,) = yield from deal(party, items, lambda: [_plane(x.mask, bits)])
    share = dealt ^ borrow
    return share ^ _plane(x.c + x.c.dtype.type(offset), bits) if party.role == "A" else share


def _rounded_up(
    party: Party, x: Opened, mode: str, offsets: tuple[int, ...], bits: int, borrowed: Bits, bias: int
) -> Protocol[Array]:
    """Words of [the second floor is taken and is larger than the first]."""
    first, second = borrowed.words[:1], borrowed.words[1:]
    larger = first ^ second
    if party.role == "A":
        apart = [_plane(x.c + x.c.dtype.type(offset), bits) for offset in offsets]
        larger = larger ^ apart[0] ^ apart[1]
    if mode == "even":
        taken = yield from _odd(party.at("odd"), x, offsets[0], bits, first)
        taken = ~taken if bias >> bits & 1 and party.role == "A" else taken
    else:
        below = yield from signs(party.at("sign"), x, (-bias,))
        taken = (complement(party, below) if mode == "away" else below).words
    (product,) = yield from evaluate(party.at("taken"), [larger, taken], (((0, 1),),))
    return product


def _run(party: Party, x: Rss, out: Fxp, mode: str = "floor") -> Protocol[Rss]:
    """The whole numbers that `mode` of `MODES` gives, in any format `out`.

    c = x + r is opened, and floor(x) = floor(c) - floor(r) - [c_low < r_low], where the lower bits are the
    fraction. Other modes add a public offset to c, and the two to nearest and the one towards zero choose
    between two such floors by a shared bit.
    Range: |x| < 2^(k-2) ulp less 1. Where `out` has at least as many fraction bits as x and the same ring,
    "floor", "ceil" and "even" serve every x that does not wrap by the offset. Error: none. Rounds: open,
    compare the fractions (1 for up to 16 bits, else 2), 1 for the bit that chooses, 1 to make bits
    arithmetic, 1 to reshare. Security: x is opened under a full-width one-time mask of which the dealer deals
    the whole part, the highest bit and the digits of the fraction; see `borrows` and `evaluate`.
    """
    if mode not in MODES:
        raise ValueError(f"there is no rounding '{mode}'")
    fxp, bits, ring = x.fxp, x.fxp.fraction_bits, x.fxp.ring_bits
    if bits > ring - 2:
        raise ValueError(f"{fxp} has no bits for whole numbers")
    if not bits:
        return (yield from convert(party, x, out))
    offsets = _offsets(mode, bits)
    lifts = ring - bits + out.fraction_bits < out.ring_bits
    bias = 1 << (ring - 2) if lifts else 0
    opened = yield from open_masked(party, from_rss(party, x.reshape((x.size,))), bias=bias)
    items = [Deal(name, (x.size,), out.dtype) for name in (("whole", "top") if lifts else ("whole",))]

    def parts() -> list[Array]:
        whole = _whole(opened.mask, bits, out.ring_bits)
        return [whole, (opened.mask < 0).astype(out.dtype)][: len(items)]

    dealt, borrowed = yield from parallel(
        deal(party, items, parts), borrows(party.at("fraction"), opened, offsets, bits)
    )
    rows = borrowed.words[:1]
    if len(offsets) > 1:
        chosen = yield from _rounded_up(party.at("up"), opened, mode, offsets, bits, borrowed, bias)
        rows = np.concatenate([rows, chosen])
    digits = yield from to_arithmetic(
        party.at("bits"), Bits(rows, borrowed.word_bits), x.size, Fxp(out.ring_bits, 0)
    )
    share = -dealt[0] - digits.share[0]
    if len(offsets) > 1:
        share = share + digits.share[1]
    c = opened.c + fxp.dtype.type(offsets[0])
    if lifts:
        share = share + (((c >= 0).astype(out.dtype) * dealt[1]) << out.dtype.type(ring - bits))
    if party.role == "A":
        share = share + _whole(c, bits, out.ring_bits) - out.dtype.type(bias >> bits)
    share = share << out.dtype.type(out.fraction_bits)
    return (yield from to_rss(party, Additive(share.reshape(x.shape), out)))


def _reference(x: Array, mode: str = "floor") -> Any:
    return MODES[mode](x)


def _error(x: Spec, out: Fxp, mode: str = "floor") -> float:
    return 0.0


ROUND = Kernel(
    "round", _run, _reference, _error, "masked comparison as in Rabbit, ePrint 2021/119", elementwise=True
)
