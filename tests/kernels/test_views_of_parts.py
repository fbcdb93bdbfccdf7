"""Views of the parts of kernels that deal a dealer's share, or what it makes of masks.

`test_views.py` has the kernels that use them. Here each part is seen alone, with operands of any shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ditto_kernels.norm.layer_norm import _normalised
from ditto_kernels.norm.norm_plan import plan_norm
from ditto_kernels.products.low_bits import finish_low
from ditto_kernels.products.multiply import finish_masked, local_product, multiply_dealt
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import from_rss, to_rss
from ditto_kernels.softmax.negative_exponential import exp_negative, fit_window
from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import Rss, share
from tests.kernels.test_views import assert_simulated, full_rank

WIDE, MIDDLE = Fxp(64, 20), Fxp(32, 12)
ROWS = np.random.default_rng(0).normal(size=(2, 5))


def operand(party: Party, fxp: Fxp, values: Any) -> Rss:
    source = np.random.default_rng(np.size(values)).bytes
    return share(encode(np.asarray(values), fxp), fxp, source, party.dealer)[party.rank]


def factors(party: Party, fxp: Fxp) -> tuple[Rss, Rss]:
    return operand(party, fxp, [1.5, -2.25, 0.5]), operand(party, fxp, [[0.25, 3.0, -1.0]])


def masked(fxp: Fxp, out: Fxp, values: tuple[float, float] | None = None) -> Callable[[Party], Protocol[Rss]]:
    def run(party: Party) -> Protocol[Rss]:
        product = local_product(*factors(party, fxp))
        return finish_masked(party, product, 2 * fxp.fraction_bits, out, values)

    return run


def low(party: Party) -> Protocol[Rss]:
    return finish_low(party, local_product(*factors(party, WIDE)), 2 * WIDE.fraction_bits)


def norm(party: Party) -> Protocol[Rss]:
    plan = plan_norm((2, 5), MIDDLE, MIDDLE, MIDDLE)
    assert plan.low
    return _normalised(party, operand(party, MIDDLE, ROWS), plan)


def exponential(party: Party) -> Protocol[Rss]:
    x = operand(party, Fxp(16, 8), [0.5, 3.0, 0.0, 60.0])
    value = yield from exp_negative(party, from_rss(party, x), fit_window(x.fxp, 1.0, Fxp(16, 12)))
    return (yield from to_rss(party, value))


PARTS: dict[str, Callable[[Party], Protocol[Rss]]] = {
    "low": low,
    "plain": masked(WIDE, Fxp(64, 40)),
    "narrow": masked(WIDE, MIDDLE),
    "truncate": masked(MIDDLE, MIDDLE),
    "lift": masked(MIDDLE, Fxp(32, 10), (-8.0, 8.0)),
    "dealt whole": lambda party: multiply_dealt(party, *factors(party, WIDE), MIDDLE),
    "dealt whole and truncated": lambda party: multiply_dealt(party, *factors(party, WIDE), WIDE),
    "norm": norm,
    "exponential": exponential,
}


def at(part: str, dealer: int) -> Callable[[Party], Protocol[Any]]:
    return lambda party: PARTS[part](party.with_dealer(dealer))


@pytest.fixture(params=["few", "many"])
def branch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many":
        monkeypatch.setattr(tuning, "OCTAVES_BYTES", 0)
        monkeypatch.setattr(tuning, "ONE_HOT_BYTES", 0)


@pytest.mark.parametrize("part", PARTS)
def test_views_of_parts_are_uniform_and_simulated(part: str) -> None:
    assert_simulated(at(part, 1))


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dealer", range(3))
def test_messages_of_parts_are_independent_of_a_partys_own_keys(part: str, dealer: int, branch: None) -> None:
    assert all(full_rank(at(part, dealer), number) for number in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["norm", "exponential"])
def test_views_of_many_elements_are_simulated(part: str, branch: None) -> None:
    assert_simulated(at(part, 0))
