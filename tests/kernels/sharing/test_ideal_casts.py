"""Truncations are the ideal ones of docs/auditing.md, and tell a party with client what that page says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import from_rss
from ditto_kernels.sharing.casts import (
    downcast,
    joins_low_carry,
    open_biased,
    truncate,
    truncate_opened,
    truncation_bias,
)
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss, reconstruct, share
from tests.kernels.views import View, views

DROPPED = 12
SOURCE, TARGET = Fxp(32, 24), Fxp(32, 12)
VALUES = np.random.default_rng(4).integers(-(2**29), 2**29, 500).astype(np.int32)


def by_opening(party: Party, x: Rss, bits: int) -> Protocol[Rss]:
    """Truncate as products do, whose shares are opened under a mask."""
    fxp = Fxp(x.fxp.ring_bits, x.fxp.fraction_bits - bits)
    bias = truncation_bias(x.fxp.ring_bits, bits)
    c, masks = yield from open_biased(party, from_rss(party, x), bias)
    return (yield from truncate_opened(party, c, masks, fxp, bits))


def truncated(values: Any, seed: int, how: Any) -> tuple[Any, tuple[View, View, View], list[Rss]]:
    """Return the result of a truncation, the parties' views, of which 2 is the dealer, and their shares."""
    parts = share(values, SOURCE, np.random.default_rng(seed).bytes)

    def program(party: Party) -> Protocol[Rss]:
        return how(party, parts[party.rank], DROPPED)  # type: ignore[no-any-return]

    seen = views(program, b"%d" % seed)
    components = [view.results[0].array for view in seen]
    following = [view.results[1].array for view in seen]
    pairs = zip(components, following, strict=True)
    return reconstruct([Rss(mine, after, TARGET) for mine, after in pairs]), seen, [*parts]


def masks(view: View) -> list[Any]:
    """Return the masks of the opening that a party draws, as unsigned numbers."""
    return [each.array.view(np.uint32).astype(np.int64) for each in view.drawn if each.kind == "mask"]


def positive(values: Any) -> Any:
    return values.astype(np.int64) + truncation_bias(32, DROPPED)


def low_bits(share_of: Any) -> Any:
    return share_of.view(np.uint32).astype(np.int64) % 2**DROPPED


def test_a_truncation_is_the_ideal_one() -> None:
    """B's share of x has low bits b, and the result is that of X - b, rounded up."""
    result, _, parts = truncated(VALUES, 1, truncate)
    values = VALUES.astype(np.int64) + (1 << 30)
    ideal = -((low_bits(parts[1].next) - values) >> DROPPED) - (1 << (30 - DROPPED))
    np.testing.assert_array_equal(result, ideal)
    assert np.max(np.abs(result - VALUES / 2.0**DROPPED)) < 1


def test_a_truncation_of_a_product_is_the_ideal_one() -> None:
    result, seen, _ = truncated(VALUES, 1, by_opening)
    dithers = sum(each % 2**DROPPED for each in masks(seen[2]))
    ideal = ((positive(VALUES) + dithers) >> DROPPED) - (1 << (30 - DROPPED))
    np.testing.assert_array_equal(result, ideal)
    error = result - VALUES / 2.0**DROPPED
    assert np.max(np.abs(error)) < 1.5


@pytest.mark.parametrize(("ring", "bits"), [(8, 1), (8, 6), (16, 4), (16, 14), (32, 12), (32, 30), (64, 62)])
def test_a_truncation_rounds_to_a_neighbour(ring: int, bits: int) -> None:
    """Numbers that need no rounding stay exact, up to the ends of the range."""
    fxp, half = Fxp(ring, bits), 1 << (ring - 2)
    rng = np.random.default_rng(ring + bits)
    values = rng.integers(-half, half, 4000)
    values[:100] &= -1 << bits
    values[100:102] = -half, half - 1
    parts = share(values.astype(fxp.dtype), fxp, rng.bytes)
    seen = views(lambda party: truncate(party, parts[party.rank], bits), b"%d" % bits)
    joined = [each.results[0].array for each in seen], [each.results[1].array for each in seen]
    result = reconstruct([Rss(*each, Fxp(ring, 0)) for each in zip(*joined, strict=True)])
    b = parts[1].next.view(f"u{ring // 8}").astype(object) % 2**bits
    np.testing.assert_array_equal(result, -((b - values.astype(object)) >> bits))
    np.testing.assert_array_equal(result[:100], values[:100] >> bits)


@pytest.mark.parametrize(
    ("ring", "bits"), [(8, 1), (8, 6), (16, 9), (16, 14), (32, 17), (32, 30), (64, 33), (64, 62)]
)
def test_a_product_truncated_by_many_bits_rounds_to_a_neighbour(ring: int, bits: int) -> None:
    """The low bits of the masks act as one uniform number, and numbers that need no rounding stay exact."""
    assert joins_low_carry(ring, bits)
    fxp, word, half = Fxp(ring, bits), f"u{ring // 8}", 1 << (ring - 2)
    rng = np.random.default_rng(ring + bits)
    values = rng.integers(-half, half, 4000)
    values[:100] &= -1 << bits
    values[100:102] = -half, half - 1
    parts = share(values.astype(fxp.dtype), fxp, rng.bytes)
    seen = views(lambda party: by_opening(party, parts[party.rank], bits), b"%d" % bits)
    joined = [each.results[0].array for each in seen], [each.results[1].array for each in seen]
    result = reconstruct([Rss(*each, Fxp(ring, 0)) for each in zip(*joined, strict=True)])
    halves = [each.array.view(word).astype(object) for each in seen[2].drawn if each.kind == "mask"]
    dither = sum(halves) % 2**bits
    np.testing.assert_array_equal(result, (values.astype(object) + dither) >> bits)
    np.testing.assert_array_equal(result[:100], values[:100] >> bits)


def test_a_downcast_is_the_ideal_one() -> None:
    fxp = Fxp(16, 12)
    parts = share(VALUES, SOURCE, np.random.default_rng(1).bytes)
    components = [each.mine.view(np.uint32).astype(np.int64) for each in parts]
    components[0] += 3 * (2**DROPPED - 1) // 2
    ideal = sum(each % 2**32 >> DROPPED for each in components).astype(np.int16)
    parties = [Party(rank, None) for rank in range(3)]  # type: ignore[arg-type]  # nothing is drawn
    result = reconstruct([downcast(party, parts[party.rank], fxp) for party in parties])
    np.testing.assert_array_equal(result, ideal)


@pytest.mark.parametrize("role", "ABD")
def test_repeated_runs_tell_a_party_with_client_bits_below_the_last_one(role: str) -> None:
    """Each run tells an interval. Twenty runs narrow it to about a tenth of the last bit."""
    runs, least, most = 20, None, None
    for seed in range(runs):
        result, _, parts = truncated(VALUES, seed, truncate)
        top = (result.astype(np.int64) + (1 << (30 - DROPPED))) << DROPPED
        if role == "A":
            low = top - -low_bits(parts[0].mine + parts[0].next) % 2**DROPPED
        else:
            low = top - 2**DROPPED + 1 + low_bits(parts[1].next)  # D has it, too
        least = low if least is None else np.maximum(least, low)
        most = low + 2**DROPPED - 1 if most is None else np.minimum(most, low + 2**DROPPED - 1)
    values = VALUES.astype(np.int64) + (1 << 30)
    assert np.all((least <= values) & (values <= most))
    assert np.mean(most - least) < 2.5 * 2**DROPPED / runs


def test_a_client_alone_learns_them_by_averaging() -> None:
    """The result is right on average. It is the upper neighbour as often as the fraction says."""
    results = np.array([truncated(VALUES, seed, truncate)[0] for seed in range(200)])
    exact = VALUES / 2.0**DROPPED
    assert abs(np.mean(results - exact)) < 0.005
    fraction = exact % 1
    assert abs(np.std(results - exact) - np.sqrt(np.mean(fraction * (1 - fraction)))) < 0.005
