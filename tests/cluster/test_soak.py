"""Tests many requests of several clients at three party processes: right outputs, no growth of memory."""

import pytest

from bench.soak import party_processes, soak

CLIENTS = ["one", "two", "three", "four"]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_two_hundred_requests_of_four_clients(masked):
    with party_processes(CLIENTS) as (file, pids):
        figures = soak(file, pids, CLIENTS, requests=200, warm_up=80, masked=masked)
    print(figures)
    assert figures.right == figures.requests == 200
    assert figures.growth < 0.05
