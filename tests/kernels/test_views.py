"""What a party receives is uniform, whatever it draws: in every kernel, role, mode and branch.

A short test looks at views in which all keys are fresh. Its columns are bits that a party draws or receives.
A slow test keeps the keys of the party, so that its own draws are the same in every run and only messages
differ. It takes the rank of many bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.party import Party, Protocol, exchange
from ditto_kernels.values.formats import Array, signed
from tests.kernels.small_calls import ALL_CALLS, CALLS, Call
from tests.kernels.views import PAIRED, SAMPLES, View, chi_square, dependent, matrix, rank, simulated, views

Program = Callable[[Party], Protocol[Any]]
UNUSUAL = 60.0  # With 15 degrees of freedom a greater chi-square has probability 2e-7.
RANKED = 200  # The rank of so many bits is taken, from SPARE more runs.
SPARE = 24  # Chance makes them dependent with a probability of 2^-24.
COLUMNS = 1 << 14  # The most columns among which equal ones are looked for.


def test_no_kernel_mode_or_branch_is_left_out() -> None:
    assert {each.example.kernel for each in CALLS} == set(KERNELS)
    masked = {each.example.kernel for each in CALLS if each.masked}
    assert masked == {name for name, kernel in KERNELS.items() if not kernel.all_deal}
    of_many = {each.example.kernel for each in CALLS if not each.few}
    assert of_many >= {"softmax", "layer_norm", "rms_norm", "gelu", "argmax", "reduce_max", "reciprocal"}


USUAL = [each for each in CALLS if each.few and not each.masked]


@pytest.mark.parametrize("call", USUAL, ids=str)
def test_real_and_simulated_views_are_uniform_and_alike(call: Call) -> None:
    with call.branch():
        assert_simulated(call.program())


@pytest.mark.parametrize("call", [each for each in CALLS if each not in USUAL], ids=str)
def test_views_with_masked_shares_and_of_many_elements_are_uniform(call: Call) -> None:
    with call.branch():
        for seen in real_views(call.program()):
            assert_uniform(seen)


@pytest.mark.slow
@pytest.mark.parametrize("call", ALL_CALLS, ids=str)
def test_views_of_every_example_are_simulated(call: Call) -> None:
    with call.branch():
        assert_simulated(call.program())


@pytest.mark.slow
@pytest.mark.parametrize("call", ALL_CALLS, ids=str)
def test_messages_are_independent_of_a_partys_own_keys(call: Call) -> None:
    with call.branch():
        for number in range(3):
            assert full_rank(call.program(), number)


def _leaking(party: Party, leak: Callable[[Party, Array], Array]) -> Protocol[Array]:
    """Let B send A what `leak` makes of a constant, as an exchange does."""
    secret = np.arange(4, dtype=np.int32)
    return (yield from exchange(party, "leak", leak(party, secret) if party.role == "B" else secret))


def _masked(party: Party, name: str, component: int) -> Array:
    return party.draw(component, name, (4,), signed(32))


LEAKS: dict[str, Callable[[Party, Array], Array]] = {
    "no mask": lambda party, x: x,
    "a mask over half of the ring": lambda party, x: x + (_masked(party, "m", party.dealer) & 0xFFFF),
    "a mask that A has, too": lambda party, x: x + _masked(party, "m", party.a + 1),
    "a mask for two elements": lambda party, x: x + _masked(party, "m", party.dealer)[:1],
    "three times a mask": lambda party, x: x + _masked(party, "m", party.dealer)[[0, 1, 2, 2]] * 3,
    "a bit that is never set": lambda party, x: (x + _masked(party, "m", party.dealer)) & 0x7FFFFFFF,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found(leak: str) -> None:
    def program(party: Party) -> Protocol[Any]:
        if party.role == "A":  # A knows the streams of its components
            _masked(party, "m", party.a), _masked(party, "m", party.a + 1)
        return (yield from _leaking(party, LEAKS[leak]))

    seen = real_views(program)[0]
    with pytest.raises(AssertionError):
        assert_uniform(seen)
    assert not full_rank(program, 0)


def test_a_mask_that_hides_is_no_leak() -> None:
    def program(party: Party) -> Protocol[Any]:
        return (yield from _leaking(party, lambda party, x: x + _masked(party, "m", party.dealer)))

    assert_uniform(real_views(program)[0])
    assert full_rank(program, 0)


def full_rank(program: Program, number: int) -> bool:
    """Return whether many bits of a party's messages are independent while its own keys stay the same."""
    bits = views(program, b"0", fixed=number)[number].messages().size
    places = np.sort(np.random.default_rng(11).permutation(bits)[:RANKED])
    rows = [
        views(program, b"%d" % each, fixed=number)[number].messages()[places]
        for each in range(places.size + SPARE if bits else 1)
    ]
    return rank(np.array(rows)) == places.size + 1


def real_views(program: Program) -> list[list[View]]:
    """Return the views of each party over fresh keys."""
    runs = [views(program, b"%d" % number) for number in range(SAMPLES + 1)]
    return [[each[number] for each in runs] for number in range(3)]


def assert_uniform(seen: Sequence[View]) -> None:
    """Assert that no few columns of these views depend on each other, and that messages are uniform."""
    assert not dependent(matrix(seen, lowest=True, limit=PAIRED))
    assert not dependent(matrix(seen, limit=COLUMNS))
    kinds: dict[str, list[Any]] = {}
    for view in seen:
        for each in view.received:
            kinds.setdefault(each.kind, []).append(each.bits())
    for kind, bits in kinds.items():
        assert chi_square(bits) < UNUSUAL, kind


def assert_simulated(program: Program) -> None:
    """Assert that real and simulated views are uniform, and that components depend on both in one way."""
    for number, seen in enumerate(real_views(program)):
        made = [simulated(program, number, b"%d" % each) for each in range(SAMPLES + 1)]
        assert shapes(seen[0]) == shapes(made[0])
        assert_uniform(seen)
        assert_uniform(made)
        assert dependent(with_components(seen)) == dependent(with_components(made))


def shapes(view: View) -> list[tuple[Any, ...]]:
    """Return what a party draws and receives, in order."""
    return [
        (each.name, each.source, each.array.shape, each.array.dtype)
        for each in (*view.drawn, *view.received, *view.results)
    ]


def with_components(seen: Sequence[View]) -> Any:
    """Return columns of draws and messages, followed by the lowest bits of the party's components."""
    components = np.stack([each.components() for each in seen])
    return np.concatenate([matrix(seen, lowest=True, limit=PAIRED // 2), components], axis=1)
