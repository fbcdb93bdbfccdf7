"""Tests that clients are served while another one, with a certificate, does what it can against them."""

import contextlib
import random
import threading

import numpy as np
import pytest

from bench.attacks import ATTACKS, HOSTILE_CLIENT, PLAN, VICTIM, W, X, attack, layer
from bench.hostile import HOSTILE_CLIENTS, under_fire
from bench.hostile_plans import with_hostile_numbers
from bench.siege import CLIENTS, LIMITS, serve
from bench.soak import party_processes, resident
from ditto_spu import connect
from ditto_spu.errors import ClusterError, DittoError
from ditto_spu.plan.resources import PlanLimits
from ditto_spu.runtime.simulate import simulate
from tests.cluster.conftest import plan_checker

SECONDS = 30.0


@pytest.mark.slow
def test_others_are_served_during_every_attack():
    over = threading.Event()
    with party_processes([*CLIENTS, HOSTILE_CLIENT], LIMITS) as (file, pids):
        with connect(file, "owner") as owner:
            owner.upload(layer.hold(w=W), X, name=VICTIM, users=CLIENTS)
        assert serve(file, CLIENTS, 5.0, 0.1).seconds
        before, counts = [resident(pid) for pid in pids], []
        hostile = threading.Thread(target=lambda: counts.append(attack(file, ATTACKS, over.wait)))
        hostile.start()
        served = serve(file, CLIENTS, SECONDS, 0.1)
        over.set()
        hostile.join()
        assert len(served.seconds) >= len(CLIENTS) and served.wrong == 0, served
        assert not served.errors, served
        assert set(counts[0]) == {each.__name__ for each in ATTACKS}
        for pid, size in zip(pids, before, strict=True):  # a party that had died would have no memory
            assert resident(pid) - size < 1 << 30


@pytest.mark.slow
def test_another_client_is_served_while_hostile_plans_and_messages_arrive():
    with party_processes(["owner", *HOSTILE_CLIENTS], LIMITS) as (file, pids):
        with connect(file, "owner") as owner:
            owner.upload(layer.hold(w=W), X, name=VICTIM)
        assert serve(file, ("owner",), 5.0, 0.1).seconds
        before = [resident(pid) for pid in pids]
        _, beside, outcomes = under_fire(file, pids, plan_count=200, message_count=50, seconds=600.0)
        served = beside.served
        assert served.seconds and not served.wrong and not served.errors, served
        assert outcomes["plans refused"] > 100 and outcomes["plans run"] > 0 and outcomes["messages"] == 50
        for pid, size in zip(pids, before, strict=True):
            assert resident(pid) - size < 1 << 29


@pytest.mark.slow
def test_plans_with_hostile_numbers_are_refused_or_run_in_bounded_time():
    """Each plan is checked as a party does it. Those that pass run in the simulator, or are refused there."""
    limits = PlanLimits(1 << 30, 1 << 34, 10**13)
    rng, passed = random.Random(3), 0
    for _ in range(10_000):
        data = with_hostile_numbers(PLAN, rng)
        try:
            checked = plan_checker().check("bob", data, limits, 20.0)
        except ClusterError as error:
            assert "ended early" not in str(error), data
            continue
        passed += 1
        assert checked.need.bytes < 1 << 24 and checked.need.work < 10**9, data
        inputs = [checked.plan.vars[each.var] for each in checked.plan.inputs]
        with contextlib.suppress(DittoError):
            simulate(checked.plan, [np.zeros(each.shape) for each in inputs])
    assert 0 < passed < 10_000
