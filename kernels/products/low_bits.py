"""A product is reshared modulo 2^48, where nothing reads the higher bits of ring 64.

That takes three quarters of the bytes. Arrays keep 64 bits, of which the high ones have no meaning, and
messages have three words of 16 bits for each element.
"""

from __future__ import annotations

import numpy as np

from ditto_kernels.products.multiply import Finish, shifted
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Dealing, Party, Protocol, Round, exchange
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

LOW = 48
_WIDE = 64
_WORD = np.dtype(np.uint16)
_WORDS = LOW // 16


@local_step(lambda value: absent((_WORDS, *value.shape), _WORD))
def packed(value: Array) -> Array:
    """Return the low bits of int64 elements as words, the lowest first: (3, *shape)."""
    words = np.ascontiguousarray(value).view(_WORD).reshape(*value.shape, _WIDE // 16)
    return np.stack([words[..., place] for place in range(_WORDS)])


@local_step(lambda words: absent(words.shape[1:], np.dtype(np.int64)))
def unpacked(words: Array) -> Array:
    """Return int64 elements with these low bits, and zeros above them."""
    value = np.zeros(words.shape[1:], np.int64)
    parts = value.reshape(-1).view(_WORD).reshape(*value.shape, _WIDE // 16)
    for place, word in enumerate(words):
        parts[..., place] = word
    return value


def finish_low(party: Party, z: Array, fraction_bits: int) -> Protocol[Rss]:
    """Turn a 3-of-3 product share in ring 64 into replicated shares modulo 2^48, with 16 fraction bits less.

    The operands must be masks at the dealer, as results of `to_rss` and of casts are. The result is a mask
    there, too. Its format names ring 64, but its components are right modulo 2^48 alone: sums and products of
    them are, and a narrowing by d bits into a ring of at most 48 - d bits. Range: the product, without the 16
    bits, lies below 2^47. Error: at most 1.5 ulp of the result, with mean 0. Cost: 96 bits online and 48 bits
    offline, in 1 round.

    Security: the dealer deals its share under a pad of A. A's and B's messages are padded by streams that the
    dealer has, too. All pads fill 48 bits.
    """
    out = Fxp(_WIDE, fraction_bits - (_WIDE - LOW))
    share = yield from _dealt(party, shifted(party, z, Finish(_WIDE, _WIDE - LOW, out, "narrow")))
    if party.role == "D":
        first, second = party.draw_both("reshare", z.shape, out.dtype)
        yield Round()
        return Rss(second, first, out)
    pad = party.draw_with_dealer("reshare", z.shape, out.dtype)
    difference = share - pad
    other = yield from exchange(party, "reshare", packed(difference))
    opened = difference + unpacked(other)
    return Rss(pad, opened, out) if party.role == "A" else Rss(opened, pad, out)


def _dealt(party: Party, mine: Array) -> Protocol[Array]:
    """Return A's and B's shares of a sum of three, of which the dealer deals its own."""
    shape = (_WORDS, *mine.shape)
    if party.role == "B":
        (received,) = yield Dealing((), (party.expect(party.dealer, "product", shape, _WORD),))
        return mine + unpacked(received)
    if party.role == "D" and party.phase == "online":
        yield Dealing()
        return mine
    pad = unpacked(party.draw(party.dealer + 1, "deal product", shape, _WORD))
    if party.role == "A":
        yield Dealing()
        return mine + pad
    yield Dealing((party.send(party.b, "product", packed(mine - pad), offline=True),))
    return mine
