"""Elementwise kernels on thirds with a dealer each: same result, level traffic, shared rounds."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.kernel import Spec
from ditto_kernels.ring import Fxp, decode, encode
from ditto_kernels.spread import spread, spread_costs, thirds


@pytest.mark.parametrize("size", [1, 64, 65, 191, 192, 193, 1000])
def test_thirds_are_whole_words_and_cover_everything(size):
    cuts = thirds(size)
    assert cuts[0] == 0 and cuts[-1] == size and list(cuts) == sorted(cuts)
    assert all(cut % 64 == 0 or cut == size for cut in cuts)


@pytest.mark.parametrize("shape", [(), (5,), (4, 160)])
def test_a_spread_kernel_is_right_and_costs_what_it_says(mpc, rng, shape):
    kernel, fxp, out = KERNELS["gelu"], Fxp(16, 9), Fxp(32, 12)
    values = rng.uniform(-9, 9, shape)
    outcome = mpc(lambda party, x, out: spread(kernel, party, x, out), (values, fxp), out=out)
    expected = kernel.reference(decode(encode(values, fxp), fxp))
    assert outcome.value.shape == shape
    assert np.max(np.abs(outcome.value - expected)) <= kernel.error(Spec(shape, fxp), out=out)
    sent = [each.bytes_sent + each.offline_bytes for each in outcome.traffic]
    costs = [cost.by_rank(dealer) for dealer, cost in enumerate(spread_costs(kernel, Spec(shape, fxp), out))]
    assert sent == [sum(online[rank] + offline[rank] for online, offline in costs) for rank in range(3)]
    assert max(each.rounds for each in outcome.traffic) == kernel.cost(Spec(shape, fxp), out=out).rounds


def test_the_parties_send_alike(mpc, rng):
    kernel = KERNELS["gelu"]
    outcome = mpc(
        lambda party, x, out: spread(kernel, party, x, out),
        (rng.normal(size=1920), Fxp(16, 9)),
        out=Fxp(32, 12),
    )
    assert len({each.bytes_sent + each.offline_bytes for each in outcome.traffic}) == 1
