"""Whole digits are right for every pair of public and masked bits, in words of any number."""

import numpy as np
import pytest

from ditto_kernels.bits.one_hot_digits import (
    dealt_sign,
    onehot,
    onehot_item,
    packed_truth,
    parities,
    serves,
    sign_shares,
)
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.party import deal
from ditto_kernels.protocol.round_worth import ROUND_WORTH, ROUND_WORTHS


@pytest.mark.parametrize("bits", [2, 6, 8])
def test_any_function_of_public_and_dealt_bits(bits, rng):
    truth = rng.random((3, 1 << bits, 1 << bits)) < 0.5
    c, r = (each.reshape(-1) for each in np.meshgrid(*[np.arange(1 << bits)] * 2))
    dealt = onehot(r, bits)
    assert dealt.shape == onehot_item(len(r), bits).shape
    assert cost_of(deal, [onehot_item(len(r), bits)], list).offline[2] == dealt.nbytes
    pad = rng.integers(0, 2**64, dealt.shape, dtype=np.uint64)
    masks = packed_truth(truth)
    first, second = (parities(share, np.take(masks, c, axis=2)) for share in (pad, dealt ^ pad))
    assert np.array_equal((first ^ second) == 1, truth[:, c, r])


@pytest.mark.parametrize(("low", "width"), [(0, 8), (1, 7), (3, 5), (0, 2)])
def test_signs_of_every_byte_under_every_mask(low, width, rng):
    x, r = (each.reshape(-1) for each in np.meshgrid(*[np.arange(256)] * 2))
    c = (x + r).astype(np.uint8).view(np.int8)
    dealt = dealt_sign(r.astype(np.uint8).view(np.int8), low, width)
    pad = rng.integers(0, 2**64, dealt.shape, dtype=np.uint64)
    a = sign_shares(c[None], pad, low, width, True)
    b = sign_shares(c[None], dealt ^ pad, low, width, False)
    top = 1 << (width - 1)
    apart = ((c.view(np.uint8) >> low).astype(int) - (r >> low)) % (2 * top)
    assert np.array_equal((a ^ b)[0] == 1, apart >= top)


def test_only_few_elements_are_served():
    assert serves(12, 10, ROUND_WORTH) and serves(1500, 7, ROUND_WORTH)
    assert not serves(12, 15, ROUND_WORTHS[-1]) and not serves(3072, 8, ROUND_WORTH)
    assert serves(3072, 8, 4 * ROUND_WORTH)
