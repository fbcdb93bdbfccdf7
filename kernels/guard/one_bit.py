"""Open one bit about many counts of wraps and comparisons: whether all values are in range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditto_kernels.bits.bit_planes import word_count
from ditto_kernels.bits.signs import signs
from ditto_kernels.guard.top_bits import subset_parities
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.sharing.additive import Additive, Opened, from_rss, to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

ANSWER = Fxp(64, 0)
_LEAST = 8  # so many words at least, so that A's shares of the parities are uniform but for 2^-128
_HALF = 1 << (WRAPS.fraction_bits - 1)


def out_of_range(party: Party, counts: Sequence[Array], wraps: Sequence[Rss]) -> Protocol[Array]:
    """Return packed XOR shares at A and B of bits, of which some are set if a magnitude reaches one half.

    counts: 3-of-3 shares of numbers of wraps, in one dimension. They must not leave a party as they are.
    wraps: replicated shares of such numbers, of any shapes.

    Range: any. Error: none. Cost: 64 bits online for a count, 32 for a replicated one, and 24 more online and
    83 offline for both, in 2 rounds. Security: see `_opened` and `signs`.
    """
    opened = yield from _opened(party, counts, wraps)
    bits = yield from signs(party.at("signs"), opened, (_HALF, -_HALF))
    below, reached = bits.words
    return np.concatenate([below, ~reached if party.role == "A" else reached]).view(np.uint8)


def _opened(party: Party, counts: Sequence[Array], wraps: Sequence[Rss]) -> Protocol[Opened]:
    """Open all numbers under masks to A and B, and zeros behind them that fill the last word.

    D sends its shares of the counts to both. Security: they leave under the sum of two masks, of which A and
    B know one each and take it off their own shares. These leave under a further mask, as in `open_masked`.
    """
    dtype = WRAPS.dtype
    known = sum(each.size for each in counts)
    size = known + sum(each.size for each in wraps)
    words = max(_LEAST, word_count(size, WRAPS.ring_bits))
    shape = (words * WRAPS.ring_bits,)
    if party.role == "D":
        first, second = party.draw_to_deal("open", shape, dtype)
        mine = np.concatenate(counts) if counts else np.zeros(0, dtype)
        for mask in party.draw_both("counts", (known,), dtype):
            mine = mine + mask
        yield Round(tuple(party.send(to, "counts", mine) for to in (party.a, party.b)) if known else ())
        return Opened(absent(shape, dtype), first + second, WRAPS, first)
    mask = party.draw_with_dealer("open", shape, dtype)
    shares = [*counts, *(from_rss(party, each).share.reshape(-1) for each in wraps)]
    mine = mask + np.concatenate([*shares, np.zeros(shape[0] - size, dtype)])
    mine[:known] -= party.draw_with_dealer("counts", (known,), dtype)
    other = party.b if party.role == "A" else party.a
    expected = [party.expect(other, "open", shape, dtype)]
    if known:
        expected.append(party.expect(party.dealer, "counts", (known,), dtype))
    theirs, *of_dealer = yield Round((party.send(other, "open", mine),), tuple(expected))
    c = mine + theirs
    for each in of_dealer:
        c[:known] += each
    return Opened(c, mask, WRAPS)


def one_bit(party: Party, outside: Sequence[Array]) -> Protocol[Rss]:
    """Return 0 if no bit is set, and a random number otherwise, as `ANSWER` [1].

    outside: packed XOR shares of bits at A and B.

    The number tells one bit and nothing else. A and B draw 64 random subsets of the bits, and compute the
    parity of each. If no bit is set, all parities are even. Otherwise the parities are uniform, whichever
    bits are set. A's shares of them less B's are zero if and only if all parities are even, and uniform up
    to that otherwise. Whoever sees the number does not know the subsets.

    Error: none, but with probability 2^-64 the number is 0 although it should not be.

    Cost: 128 bits in 1 round. Security: the subsets come from a stream that A and B have in common, and the
    result is reshared. Source: random parities are folklore (Naor and Naor 1990); the difference of XOR
    shares is our own.
    """
    if party.role == "D":
        return (yield from to_rss(party, Additive(absent((1,), ANSWER.dtype), ANSWER)))
    bits = np.concatenate(outside) if len(outside) > 1 else outside[0]
    share = subset_parities(party, "subsets", bits, ANSWER.dtype.itemsize).view(ANSWER.dtype)
    return (yield from to_rss(party, Additive(share if party.role == "A" else -share, ANSWER)))
