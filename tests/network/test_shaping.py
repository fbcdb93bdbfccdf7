"""Tests when bytes arrive, with a clock that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditto_spu.network.model import LAN, WAN, Network
from ditto_spu.network.shaping import BACKLOG_SECONDS, Uplink

SLOW = Network("", 8e6, 0.2)  # one megabyte per second, 0.1 s one way


def test_bytes_leave_at_the_bandwidth_and_travel_half_a_round_trip():
    assert Uplink(SLOW).arrival(5.0, 500_000) == pytest.approx(5.0 + 0.5 + 0.1)


def test_what_a_host_sends_to_anybody_leaves_in_order():
    uplink = Uplink(SLOW)
    assert uplink.arrival(0.0, 1_000_000) == pytest.approx(1.1)
    assert uplink.arrival(0.5, 1_000_000) == pytest.approx(2.1)  # waits half a second for the first
    assert uplink.arrival(0.5, 0) == pytest.approx(2.1)  # the end of a stream waits too
    assert uplink.arrival(4.0, 100_000) == pytest.approx(4.2)  # idle time is not saved up


def test_a_link_takes_no_more_while_much_waits_to_leave():
    uplink = Uplink(SLOW)
    assert uplink.pause(0.0) == 0.0
    uplink.arrival(0.0, 1_000_000)
    assert uplink.pause(0.25) == pytest.approx(0.75 - BACKLOG_SECONDS)
    assert uplink.pause(1.0) == 0.0


def test_turns_are_short_and_memory_is_bounded():
    assert Uplink(WAN).turn == 50_000
    assert Uplink(LAN).turn == 1 << 18
    assert Uplink(SLOW).turn == 1 << 14
    assert 1_000_000 < Uplink(WAN).in_flight < 1_500_000


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_never_faster_than_the_link(sends):
    uplink, ready, arrivals = Uplink(SLOW), 0.0, []
    for wait, count in sends:
        ready += wait
        arrivals.append(uplink.arrival(ready, count))
        assert arrivals[-1] >= ready + count / 1e6 + 0.1 - 1e-9
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] >= sum(count for _, count in sends) / 1e6 + 0.1 - 1e-9
