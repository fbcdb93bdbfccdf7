"""Casts of two shares are right for every value and every pair of shares of ring 8, up to the ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, to_rss
from ditto_kernels.sharing.two_shares import lift_shares, lift_to_rss, truncate_to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss, reconstruct
from tests.kernels.views import views


def cast(x: Any, bits: int, run: Callable[[Party, Additive], Protocol[Rss]], dealer: int, out: Fxp) -> Any:
    """Return the result for each of some integers (rows) and each of B's 256 shares of it (columns)."""
    b = np.broadcast_to(np.arange(256), (len(x), 256))
    a = x[:, None] - b
    parts = {"A": a.astype(np.uint8).view(np.int8), "B": b.astype(np.uint8).view(np.int8)}
    parts["D"] = absent(b.shape, np.dtype(np.int8))

    def program(party: Party) -> Protocol[Rss]:
        party = party.with_dealer(dealer)
        return run(party, Additive(parts[party.role], Fxp(8, bits)))

    seen = views(program, b"two shares")
    return reconstruct([Rss(each.results[0].array, each.results[1].array, out) for each in seen])


@pytest.mark.parametrize("ring", [16, 32, 64])
@pytest.mark.parametrize("bias", [0, 3, 64, 127])
def test_every_value_is_lifted(ring: int, bias: int) -> None:
    def apart(party: Party, x: Additive) -> Protocol[Rss]:
        return (yield from to_rss(party, (yield from lift_shares(party.at("lift"), x, ring, bias))))

    x = np.arange(-bias, 128 - bias)
    expected = np.broadcast_to(x[:, None], (len(x), 256))
    for dealer, run in ((0, apart), (1, lambda party, x: lift_to_rss(party, x, ring, bias))):
        np.testing.assert_array_equal(cast(x, 0, run, dealer, Fxp(ring, 0)), expected)


@pytest.mark.parametrize("bits", range(1, 7))
def test_every_value_is_truncated_to_a_neighbour_and_right_on_average(bits: int) -> None:
    x = np.arange(-64, 64)
    result = cast(x, bits, lambda party, x: truncate_to_rss(party, x, bits), bits % 3, Fxp(8, 0))
    error = result - x[:, None] / 2.0**bits
    assert np.abs(error).max() < 1
    assert not error.mean(axis=1).any()
    assert not error[x % (1 << bits) == 0].any()
