"""Open one bit about many counts of wraps: whether all of them are zero."""

from __future__ import annotations

import numpy as np

from ditto_kernels.bits.bit_planes import word_count
from ditto_kernels.bits.signs import signs
from ditto_kernels.guard.top_bits import subset_parities
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss

ANSWER = Fxp(64, 0)
_LEAST = 8  # so many words at least, so that A's shares of the parities are uniform but for 2^-128
_HALF = 1 << (WRAPS.fraction_bits - 1)


def all_in_range(party: Party, *wraps: Rss, out: Fxp) -> Protocol[Rss]:
    """Return 0 if every operand's magnitude is below one half, and a random number otherwise.

    wraps: results of `guard_products`, of any shapes. Returns `out` = fxp64.0 [1].

    The number tells one bit and nothing else. A and B draw 64 random subsets of the bits "out of range", and
    compute the parity of each. If no bit is set, all parities are even. Otherwise the parities are uniform,
    whichever bits are set. A's shares of them less B's are zero if and only if all parities are even, and
    uniform up to that otherwise. Whoever sees the number does not know the subsets.

    Range: any. Error: none, but with probability 2^-64 the number is 0 although it should not be.

    Cost: 56 bits online and 83 bits offline an element, in 3 rounds. Security: values are opened under
    full-width masks, the subsets come from a stream that A and B have in common, and the result is reshared.
    Source: random parities are folklore (Naor and Naor 1990); the difference of XOR shares is our own.
    """
    if out != ANSWER or any(each.fxp != WRAPS for each in wraps):
        raise ValueError(f"counts of wraps are in {WRAPS}, and the answer is in {ANSWER}")
    flat = [from_rss(party, each).share.reshape(-1) for each in wraps]
    size = sum(each.shape[0] for each in flat)
    words = max(_LEAST, word_count(size, WRAPS.ring_bits))
    spare = words * WRAPS.ring_bits - size  # zeros are in range, and fill the last word
    if party.role == "D":
        share = absent((size + spare,), WRAPS.dtype)
    else:
        share = np.concatenate([*flat, np.zeros(spare, WRAPS.dtype)])
    opened = yield from open_masked(party, Additive(share, WRAPS))
    bits = yield from signs(party.at("signs"), opened, (_HALF, -_HALF))
    if party.role == "D":
        return (yield from to_rss(party, Additive(absent((1,), ANSWER.dtype), ANSWER)))
    below, reached = bits.words[0], bits.words[1]
    outside = np.concatenate([below, ~reached if party.role == "A" else reached])
    share = subset_parities(party, "subsets", outside, ANSWER.dtype.itemsize).view(ANSWER.dtype)
    return (yield from to_rss(party, Additive(share if party.role == "A" else -share, ANSWER)))
