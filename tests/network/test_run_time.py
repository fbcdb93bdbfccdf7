"""Predicted times of requests between hosts know what stages send and what hosts hide."""

import pytest

from ditto_spu.network.model import LAN, Network
from ditto_spu.network.run_time import DISTANT_SECONDS, EXCHANGE_SECONDS, Load, predicted_run

LOAD = Load(in_line=2_000_000, online=1_000_000, dealt=500_000, rounds=10)


def test_near_hosts_do_everything_in_line():
    one = 16e6 / LAN.bandwidth + 10 * (LAN.round_trip / 2 + EXCHANGE_SECONDS)
    assert predicted_run(LAN, 1.0, LOAD) == pytest.approx(1.0 + one)
    more = 3 * (1.0 + 16e6 / LAN.bandwidth)
    assert predicted_run(LAN, 1.0, LOAD, calls=4) == pytest.approx(1.0 + one + more)


def test_distant_hosts_deal_behind_the_stages():
    network = Network("", 12e6, DISTANT_SECONDS)
    expected = 1.0 + 1.0 + 10 * (1e-3 + EXCHANGE_SECONDS)
    assert predicted_run(network, 1.0, LOAD) == pytest.approx(expected)


@pytest.mark.parametrize("compute", (0.01, 1.0, 100.0))
@pytest.mark.parametrize("bandwidth", (1e5, 12e6, 1e10))
@pytest.mark.parametrize("round_trip", (DISTANT_SECONDS, 1.0))
def test_a_batch_of_distant_hosts_hides_no_more_than_there_is(compute, bandwidth, round_trip):
    network = Network("", bandwidth, round_trip)
    waiting = 10 * (round_trip / 2 + EXCHANGE_SECONDS)
    transfer = 4 * 12e6 / bandwidth
    batch = predicted_run(network, compute, LOAD, calls=4)
    assert max(waiting, transfer, 4 * compute) <= batch <= waiting + transfer + 4 * compute
    assert batch <= 4 * predicted_run(network, compute, LOAD)
