"""Tests how networks are named, which names are refused, and the predicted time."""

import pytest

from ditto_spu.errors import InputError
from ditto_spu.network.model import LAN, LOOPBACK, WAN, parse_network, predicted_seconds


def test_networks_of_the_table():
    assert [parse_network(each) for each in ("lan", "WAN", " Loopback ")] == [LAN, WAN, LOOPBACK]
    assert (LAN.bandwidth, LAN.round_trip) == (5e9, 0.4e-3)
    assert (WAN.bandwidth, WAN.round_trip) == (400e6, 40e-3)


@pytest.mark.parametrize(
    ("text", "bandwidth", "round_trip", "name"),
    [
        ("bandwidth=100Mbps,rtt=20ms", 1e8, 0.02, "100 Mbps, 20 ms"),
        (" rtt = 0ms , bandwidth = 1.5 gbps", 1.5e9, 0.0, "1.5 Gbps, 0 ms"),
        ("bandwidth=9600bps,rtt=1.5s", 9600.0, 1.5, "9.6 kbps, 1500 ms"),
        ("bandwidth=.5bps,rtt=50us", 0.5, 5e-5, "0.5 bps, 0.05 ms"),
    ],
)
def test_a_network_of_ones_own(text, bandwidth, round_trip, name):
    network = parse_network(text)
    assert network.bandwidth == pytest.approx(bandwidth)
    assert network.round_trip == pytest.approx(round_trip)
    assert network.name == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lam", "no network 'lam': did you mean 'lan'"),
        ("", "no network ''.* or \"bandwidth=100Mbps,rtt=20ms\""),
        ("bandwidth=100Mbps", "lacks rtt"),
        ("rtt=1ms", "lacks bandwidth"),
        ("bandwidth=100Mbps,rtt=20ms,rtt=1ms", "gives rtt twice"),
        ("bandwith=100Mbps,rtt=20ms", "no 'bandwith': did you mean 'bandwidth'"),
        ("bandwidth=100,rtt=20ms", "bandwidth is a number with one of bps, kbps, Mbps, Gbps, not '100'"),
        ("bandwidth=100MB,rtt=20ms", "not '100MB'"),
        ("bandwidth=100Mbps,rtt=-1ms", "rtt is a number with one of us, ms, s, not '-1ms'"),
        ("bandwidth=0bps,rtt=20ms", "positive"),
        (f"bandwidth={'9' * 400}bps,rtt=20ms", "finite"),
        ("bandwidth=100Mbps,rtt=20ms,", "there is no ''"),
    ],
)
def test_what_is_wrong_is_named(text, reason):
    with pytest.raises(InputError, match=reason):
        parse_network(text)


def test_a_prediction_adds_compute_bytes_and_rounds():
    assert predicted_seconds(WAN, 1.0, (50_000_000, 0, 1), 10) == pytest.approx(1.0 + 1.0 + 0.2)


def test_the_spec_of_a_network_names_it():
    for network in (LAN, WAN, LOOPBACK, parse_network("bandwidth=1.5Gbps,rtt=0.7ms")):
        assert parse_network(network.spec) == network
