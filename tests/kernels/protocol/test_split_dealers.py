"""Kernels on parts with a dealer each give the same result, level the traffic and share rounds."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.split_dealers import cut, spread, spread_costs
from ditto_kernels.values.formats import Fxp, decode, encode


@pytest.mark.parametrize("size", [192, 193, 1000, 4096])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_are_whole_words_and_cover_everything(size, parts):
    axis, cuts = cut(KERNELS["gelu"], [(size,)], parts)
    assert axis is None and len(cuts) == parts + 1
    assert cuts[0] == 0 and cuts[-1] == size and list(cuts) == sorted(cuts)
    assert all(cut % 64 == 0 or cut == size for cut in cuts)


@pytest.mark.parametrize("dealers", [(0, 1, 2), (2, 0), (1, 2)])
@pytest.mark.parametrize("shape", [(200,), (4, 160)])
def test_a_spread_kernel_is_right_and_costs_what_it_says(mpc, rng, shape, dealers):
    kernel, fxp, out = KERNELS["gelu"], Fxp(16, 9), Fxp(32, 12)
    values = rng.uniform(-9, 9, shape)
    outcome = mpc(lambda party, x, out: spread(kernel, party, [x], out, dealers), (values, fxp), out=out)
    expected = kernel.reference(decode(encode(values, fxp), fxp))
    assert outcome.value.shape == shape
    assert np.max(np.abs(outcome.value - expected)) <= kernel.error(Spec(shape, fxp), out=out)
    sent = [each.bytes_sent + each.offline_bytes for each in outcome.traffic]
    parts = spread_costs(kernel, [Spec(shape, fxp)], out, len(dealers))
    costs = [cost.by_rank(dealer) for dealer, cost in zip(dealers, parts, strict=True)]
    assert sent == [sum(online[rank] + offline[rank] for online, offline in costs) for rank in range(3)]
    assert max(each.rounds for each in outcome.traffic) == kernel.cost(Spec(shape, fxp), out=out).rounds


def test_the_parties_send_alike(mpc, rng):
    kernel = KERNELS["gelu"]
    outcome = mpc(
        lambda party, x, out: spread(kernel, party, [x], out, (0, 1, 2)),
        (rng.normal(size=1920), Fxp(16, 9)),
        out=Fxp(32, 12),
    )
    assert len({each.bytes_sent + each.offline_bytes for each in outcome.traffic}) == 1


def test_a_kernel_along_one_dimension_is_cut_along_another(mpc, rng):
    kernel, fxp, out = KERNELS["softmax"], Fxp(16, 8), Fxp(32, 14)
    assert cut(kernel, [(2, 12, 7)], 3, dim=2) == (1, (0, 4, 8, 12))
    assert cut(kernel, [(2, 7)], 3, dim=1) is None
    assert cut(KERNELS["gelu"], [(191,)], 3) is None
    assert cut(KERNELS["matmul"], [(6, 6), (6, 6)], 3) is None
    values, mask = rng.uniform(-4, 4, (2, 6, 8)), rng.integers(0, 2, (2, 6, 8)).astype(bool)
    outcome = mpc(
        lambda party, x, mask, out: spread(kernel, party, [x, mask], out, (0, 1, 2), dim=2),
        (values, fxp),
        mask,
        out=out,
    )
    expected = kernel.reference(decode(encode(values, fxp), fxp), mask, dim=2)
    assert np.max(np.abs(outcome.value - expected)) < 0.002
