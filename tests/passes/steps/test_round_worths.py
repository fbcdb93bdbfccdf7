"""A plan for a network takes fewer rounds where the predicted time falls, and says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_spu.network.model import LAN, LOOPBACK, WAN, parse_network
from ditto_spu.passes.steps.round_worths import choose_worths
from ditto_spu.plan.codec import decode_plan, encode_plan
from ditto_spu.plan.plan import KernelStep

ROWS = np.random.default_rng(3).normal(size=(64, 96)).astype(np.float32)


GAMMA, BETA = (np.linspace(low, 2, 96, dtype=np.float32) for low in (0.5, -1))


def norm_and_softmax(x, gamma, beta):
    centred = x - x.mean(-1, keepdims=True)
    root = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return jax.nn.softmax(centred * root * gamma + beta)


def lowered(network=None, fn=norm_and_softmax, args=(ROWS, GAMMA, BETA), **options):
    return ditto.secure(fn, config="ditto", network=network, **options).lower(*args)


def worths(plan):
    return [step.worth for step in plan.steps if isinstance(step, KernelStep)]


def test_between_parties_of_one_host_nothing_changes():
    plan = lowered().plan
    assert lowered("loopback").plan.hash() == plan.hash()
    assert set(worths(plan)) == {ROUND_WORTH} and "round_worth" not in str(plan)


@pytest.mark.parametrize("masked", [False, True])
def test_on_a_slow_network_rounds_are_saved(masked):
    usual, wan = lowered(masked=masked), lowered("wan", masked=masked)
    costs = [each.cost_analysis() for each in (usual, wan)]
    assert costs[1].rounds <= costs[0].rounds - 8
    assert costs[1].predicted_seconds(WAN) < 0.8 * costs[0].predicted_seconds(WAN)
    assert wan.plan.hash() != usual.plan.hash() and "round_worth=" in str(wan.plan)
    assert "(five rounds)" in str(wan.plan) and "by octaves" in str(wan.plan)
    assert decode_plan(encode_plan(wan.plan)) == wan.plan


def test_the_choice_has_the_least_predicted_time():
    plan = lowered().plan
    for network in (LAN, WAN, parse_network("bandwidth=20Mbps,rtt=40ms")):
        costs = {each: lowered(each).cost_analysis() for each in (LOOPBACK, LAN, WAN, network)}
        predicted = {each: cost.predicted_seconds(network) for each, cost in costs.items()}
        computing = {each: 1e-9 * sum(cost.bytes_sent_per_party) for each, cost in costs.items()}
        assert predicted[network] <= min(predicted[each] + computing[each] for each in costs)
    narrow = parse_network("bandwidth=100kbps,rtt=1ms")
    assert choose_worths(plan.steps, plan.vars, narrow) == list(plan.steps)


def test_the_results_are_right_and_differ_by_rounding_alone():
    expected = np.asarray(norm_and_softmax(ROWS, GAMMA, BETA))
    for network in ("loopback", "wan"):
        found = ditto.secure(norm_and_softmax, config="ditto", network=network)(ROWS, GAMMA, BETA)
        assert np.max(np.abs(found - expected)) < 2.0**-6  # scores have six fraction bits


def test_a_kernel_beside_a_longer_one_sends_no_more():
    """Maxima of short rows share their rounds with an argmax of longer ones."""

    def fn(x, y):
        return x.max(-1), jnp.argmax(y, -1)

    def alone(x, y):
        return x.max(-1), y + 1

    def sent(lowered):
        (row,) = (row for row in lowered.cost_analysis().rows if row.kind == "reduce_max")
        return sum(row.online_bytes) + sum(row.offline_bytes)

    args = (ROWS[:, :24], ROWS[:2])
    assert sent(lowered("wan", alone, args)) > sent(lowered(None, alone, args))
    assert sent(lowered("wan", fn, args)) <= sent(lowered(None, fn, args))


@pytest.mark.parametrize(
    ("network", "said"), [("wann", "'wann'"), (7, "network is 7"), ("bandwidth=1Gbps", "lacks rtt")]
)
def test_networks_that_are_none(network, said):
    with pytest.raises(ditto.DittoError, match=said):
        ditto.secure(norm_and_softmax, network=network)
