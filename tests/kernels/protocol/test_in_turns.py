"""Parties that take turns in one thread give the results and counts of threads, and raise errors."""

import os

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Heavy, Round, Together, run
from ditto_kernels.protocol.randomness import PairKeys, Randomness
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import reconstruct, share

FXP = Fxp(16, 8)
X = np.random.default_rng(0).uniform(-6, 6, (3, 40))
SHARES = share(encode(X, FXP), FXP, os.urandom)


def softmax(party, link):
    return KERNELS["softmax"].run(party, SHARES[party.rank], out=Fxp(32, 14), dim=1)


def heavily(party, link):
    yield Heavy()
    result = yield from softmax(party, link)
    step = yield Heavy()
    assert step == []
    return result


def test_turns_give_what_threads_give():
    apart, counted = run_three(lambda party, link: run(link, softmax(party, link)), seed=b"same")
    turned, also = run_in_turns(softmax, seed=b"same")
    assert counted == also
    for a, b in zip(apart, turned, strict=True):
        assert np.array_equal(a.mine, b.mine) and np.array_equal(a.next, b.next)


def test_heavy_turns_run_side_by_side_with_the_same_result():
    plain, _ = run_in_turns(softmax, seed=b"same")
    heavy, _ = run_in_turns(heavily, seed=b"same")
    for a, b in zip(plain, heavy, strict=True):
        assert np.array_equal(a.mine, b.mine) and np.array_equal(a.next, b.next)
    expected = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    assert np.max(np.abs(decode(reconstruct(heavy), Fxp(32, 14)) - expected)) < 0.01


def test_parties_that_begin_together_wait_for_who_can_still_come():
    order = []

    def comes(party, link):
        for _ in range(party.rank):  # Each party comes later than those before it.
            yield Round()
        order.append(("there", party.rank))
        yield Together()
        order.append(("begun", party.rank))

    run_in_turns(comes)
    assert order[:3] == [("there", rank) for rank in range(3)]
    assert sorted(order[3:]) == [("begun", rank) for rank in range(3)]


def test_nobody_waits_for_a_party_that_cannot_come():
    def comes(party, link):
        if party.rank == 2:
            yield Round((), (party.expect(0, "late", (1,), np.dtype(np.int32)),))
        yield Together()
        if party.rank == 0:
            yield Round((party.send(2, "late", np.zeros(1, np.int32)),))
        return party.rank

    assert run_in_turns(comes)[0] == [0, 1, 2]


def test_what_nobody_sends_is_an_error_at_once():
    def waits(party, link):
        yield Round((), (party.expect((party.rank + 1) % 3, "never", (1,), np.dtype(np.int32)),))

    with pytest.raises(LinkError, match=r"all parties wait, one of them for '.*never'"):
        run_in_turns(waits)


@pytest.mark.parametrize("first", [Round, Heavy, Together])
def test_the_error_of_one_party_reaches_the_caller(first):
    def fails(party, link):
        yield first()
        if party.rank == 1:
            raise ValueError("broken at 1")
        yield Round()

    with pytest.raises(ValueError, match="broken at 1"):
        run_in_turns(fails)


def test_sending_the_same_tensor_twice_is_an_error():
    def twice(party, link):
        for _ in range(2):
            yield Round((party.send((party.rank + 1) % 3, "x", np.zeros(1, np.int32)),))

    with pytest.raises(LinkError, match="sent ':x' twice"):
        run_in_turns(twice)


def test_short_and_long_draws_are_the_same_stream():
    keys = PairKeys(0, b"a" * 16, b"b" * 16)
    for component in (0, 1):
        long = Randomness(keys).draw(component, "s", (5000,), np.dtype(np.int32))
        for size in (0, 1, 3, 4, 5, 1023, 1024, 1025):
            short = Randomness(keys).draw(component, "s", (size,), np.dtype(np.int32))
            assert np.array_equal(short, long[:size])
            short += 1  # The drawn array is writable.
    with pytest.raises(ValueError, match="does not hold the key of component 2"):
        Randomness(keys).draw(2, "s", (1,), np.dtype(np.int32))
