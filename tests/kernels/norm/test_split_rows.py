"""Norms are cut along their rows, with a dealer for each part, and every part takes the weights whole."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTH, ROUND_WORTHS
from ditto_kernels.protocol.split_dealers import cut, spread, spread_costs
from ditto_kernels.values.formats import Fxp

FXP, WEIGHT = Fxp(32, 12), Fxp(64, 12)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("worth", [ROUND_WORTH, ROUND_WORTHS[2]])
def test_rows_with_dealers_of_their_own(mpc, rng, name, worth):
    kernel, shape, dealers = KERNELS[name], (2, 13, 32), (2, 0, 1)
    x = np.rint(rng.normal(size=shape) * 4096) / 4096
    vectors = [np.rint(rng.uniform(-2, 2, 32) * 4096) / 4096 for _ in range(kernel.vectors)]
    specs = [Spec(shape, FXP), *(Spec((32,), WEIGHT) for _ in vectors)]
    assert cut(kernel, [each.shape for each in specs], 3, dim=2) == (1, (0, 4, 8, 13))

    def run(party, *operands):
        return spread(kernel, party._replace(worth=worth), operands, FXP, dealers, dim=2)

    outcome = mpc(run, (x, FXP), *((each, WEIGHT) for each in vectors))
    error = np.max(np.abs(outcome.value - kernel.reference(x, *vectors)))
    assert error <= kernel.error(*specs, out=FXP, dim=2)
    costs = spread_costs(kernel, specs, FXP, 3, worth, dim=2)
    online, offline = zip(
        *(each.by_rank(dealer) for each, dealer in zip(costs, dealers, strict=True)), strict=True
    )
    assert [each.bytes_sent for each in outcome.traffic] == [sum(each) for each in zip(*online, strict=True)]
    assert [each.offline_bytes for each in outcome.traffic] == [
        sum(each) for each in zip(*offline, strict=True)
    ]
    assert max(each.rounds for each in outcome.traffic) == max(each.rounds for each in costs)
