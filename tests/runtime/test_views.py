"""Views over several runs: held weights, kept outputs and batches let nobody learn more than one run does.

`tests/kernels/test_views.py` has the same for every kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.protocol.link import memory_links
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import Rss, share
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.executor import Member, executing
from tests.kernels.test_views import assert_simulated, assert_uniform, full_rank, real_views
from tests.kernels.views import SAMPLES, dependent, views

F = Fxp(32, 12)
X, W = np.linspace(-1, 1, 4).reshape(2, 2), np.linspace(-0.5, 0.5, 4).reshape(2, 2)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.tanh(x @ w), 0.25) @ w


def plan_of(masked: bool) -> Plan:
    return ditto.secure(layer, config={"default": str(F)}, masked=masked).lower(X, W).plan


def parts(values: Any, seed: int, dealer: int) -> tuple[Rss, Rss, Rss]:
    return share(encode(values, F), F, np.random.default_rng(seed).bytes, dealer)


def held(party: Party, plan: Plan, dealer: int) -> Protocol[Any]:
    """Run two requests with the same shares of weights."""
    weights, link = parts(W, 1, dealer)[party.rank], memory_links()[party.rank]
    results = []
    for number in range(2):
        inputs = [parts(X + number, 2 + number, dealer)[party.rank], weights]
        member = Member(party.at(f"request{number}"), inputs)
        results.append((yield from executing(plan, [member], link)))
    return results


def kept(party: Party, plan: Plan, dealer: int) -> Protocol[Any]:
    """Run a request on an output that an earlier one kept."""
    weights, link = parts(W, 1, dealer)[party.rank], memory_links()[party.rank]
    first = Member(party.at("request0"), [parts(X, 2, dealer)[party.rank], weights])
    outputs, _ = yield from executing(plan, [first], link, keep=(0,))
    second = Member(party.at("request1"), [outputs[0][0], weights])
    return (yield from executing(plan, [second], link))


def batch(party: Party, plan: Plan, dealer: int) -> Protocol[Any]:
    """Run two calls at once."""
    weights = parts(W, 1, dealer)[party.rank]
    members = [
        Member(party.at(f"member{number}"), [parts(X, 2, dealer)[party.rank], weights]) for number in range(2)
    ]
    return (yield from executing(plan, members, memory_links()[party.rank]))


RUNS = [(held, False), (held, True), (kept, False), (batch, False), (batch, True)]


@pytest.mark.parametrize(("run", "masked"), RUNS[1:4])
def test_views_over_several_runs_are_uniform(run: Callable[..., Any], masked: bool) -> None:
    plan = plan_of(masked)
    for seen in real_views(partial(run, plan=plan, dealer=plan.mask_dealer or 0)):
        assert_uniform(seen)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "masked"), RUNS)
def test_views_over_several_runs_are_simulated(run: Callable[..., Any], masked: bool) -> None:
    plan = plan_of(masked)
    program = partial(run, plan=plan, dealer=plan.mask_dealer or 0)
    assert_simulated(program)
    assert all(full_rank(program, number) for number in range(3))


def test_a_client_sees_shares_of_which_any_two_are_independent() -> None:
    plan = ditto.secure(lambda x: x + x, config={"default": str(F)}).lower(X).plan

    def program(party: Party) -> Protocol[Any]:
        member = Member(party, [parts(X, 2, 0)[party.rank]])
        return (yield from executing(plan, [member], memory_links()[party.rank]))

    runs = [views(program, b"%d" % seed) for seed in range(SAMPLES + 1)]
    shares = [[view.results[0].bits().reshape(-1) for view in run] for run in runs]
    for missing in range(3):
        two = [np.concatenate([*run[:missing], *run[missing + 1 :]]) for run in shares]
        assert not dependent(np.array(two))
    whole = np.array([np.concatenate([share.reshape(4, 32)[:, 0] for share in run]) for run in shares])
    assert dependent(whole) == {frozenset({place, place + 4, place + 8}) for place in range(4)}
