"""Products that are reshared modulo 2^48 are right, and their messages have 48 bits an element."""

import numpy as np
import pytest

from ditto_kernels.products.low_bits import LOW, finish_low, packed, unpacked
from ditto_kernels.products.multiply import local_product
from ditto_kernels.sharing.casts import downcast
from ditto_kernels.sharing.deal_ahead import remask
from ditto_kernels.values.formats import Fxp

FINE, COARSE, OUT = Fxp(64, 14), Fxp(64, 18), Fxp(32, 11)


def low_product(party, x, y):
    x = yield from remask(party, x, "x")
    y = yield from remask(party, y, "y")
    product = yield from finish_low(
        party.at("low"), local_product(x, y), FINE.fraction_bits + COARSE.fraction_bits
    )
    assert product.fxp == Fxp(64, 16)
    return downcast(party, product, OUT)


@pytest.mark.parametrize("masked", [False, True])
def test_products_are_right_modulo_2_to_the_48(mpc, masked):
    rng = np.random.default_rng(0)
    x, y = (
        np.rint(rng.uniform(-400, 400, (300, 7)) * 2**14) / 2**14,
        np.rint(rng.normal(size=7) * 2**18) / 2**18,
    )
    for dealer in range(3):
        outcome = mpc(low_product, (x, FINE), (y, COARSE), dealer=dealer, masked=masked)
        assert np.max(np.abs(outcome.value - x * y)) <= 1.5 * (2.0**-16 + OUT.ulp)
        sizes = {sent.array.nbytes for _, sent in outcome.messages if sent.tag.endswith("low:reshare")}
        assert sizes == {x.size * LOW // 8}


def test_words_hold_the_low_bits():
    value = np.random.default_rng(1).integers(-(2**63), 2**63, (5, 3))
    assert np.array_equal(unpacked(packed(value)), value & (2**LOW - 1))
