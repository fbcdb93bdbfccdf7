"""Every kernel stays within its bound at its exact cost, and its messages depend on shapes and seeds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ditto_kernels import KERNELS
from tests.kernels.examples import EXAMPLES, Example, F, draw, on_grid, specs

# In keys of point functions one bit of a seed is always zero, and control bits fill two bits of a byte.
BITS_APART = (":corrections", ":flips")


def _assert_uniform_bits(data: Any, kind: Any) -> None:
    """Assert that every bit position of a 16-byte block is either never set or a fair coin."""
    bits = np.unpackbits(data[: data.size // 16 * 16].reshape(-1, 16), axis=1)
    means = bits.mean(axis=0)
    free = means > 0
    assert np.all(np.abs(means[free] - 0.5) < 3 / np.sqrt(len(bits))), f"{kind}: {means}"


def test_every_kernel_has_an_example():
    assert {each.kernel for each in EXAMPLES} == set(KERNELS)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_right_within_the_bound_at_the_stated_cost(mpc, rng, example, dealer):
    kernel, out = KERNELS[example.kernel], F(example.out)
    operands = [draw(each, rng) for each in example.operands]
    outcome = mpc(
        kernel.run, *operands, dealer=dealer, out=out, **example.attributes
    )  # The fixture joins the shares, so that replicas must agree.
    expected = np.asarray(kernel.reference(*map(on_grid, operands), **example.attributes))
    assert outcome.parts[0].fxp == out
    assert outcome.value.shape == expected.shape
    bound = kernel.error(*specs(example), out=out, **example.attributes)
    assert np.max(np.abs(outcome.value - expected)) <= bound
    outcome.assert_cost(kernel.cost(*specs(example), out=out, **example.attributes), dealer)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_messages_depend_on_shapes_and_seeds_alone(mpc, rng, example):
    """Other inputs give the same sizes and tags.

    The same seed gives the same masks, and fresh seeds give other messages.
    """
    kernel, out = KERNELS[example.kernel], F(example.out)
    runs = []
    for seed in (b"one", b"one", None):
        operands = [draw(each, rng) for each in example.operands]
        outcome = mpc(kernel.run, *operands, seed=seed, out=out, **example.attributes)
        runs.append({(rank, sent.to, sent.tag): sent for rank, sent in outcome.messages})
    shapes = [{key: (sent.array.shape, str(sent.array.dtype)) for key, sent in run.items()} for run in runs]
    assert shapes[0] == shapes[1] == shapes[2]
    for key, sent in runs[0].items():
        if sent.offline and np.asarray(sent.array).size > 8:  # Dealt material depends on the seed alone.
            assert np.array_equal(sent.array, runs[1][key].array)
            assert not np.array_equal(sent.array, runs[2][key].array)


# Kernels in which all three parties take part alike run with ordinary shares. Their results get new masks.
CASES = [
    (each, masked)
    for each in EXAMPLES
    for masked in (False, True)
    if not (masked and KERNELS[each.kernel].all_deal)
]


@pytest.mark.slow  # `test_views.py` has a shorter one
@pytest.mark.parametrize(("example", "masked"), CASES, ids=str)
def test_every_message_is_uniform(mpc, example, masked):
    """The bytes of every kind of message over constant inputs are uniform by chi-square tests.

    So no value shows through.
    """
    kernel, out = KERNELS[example.kernel], F(example.out)
    constant = np.random.default_rng(3)
    operands = [draw(each, constant) for each in example.operands]
    kinds: dict[tuple[int, int, str], list[bytes]] = {}
    while min((sum(map(len, seen)) for seen in kinds.values()), default=0) < 3000:
        for rank, sent in mpc(
            kernel.run, *operands, out=out, dealer=0, masked=masked, **example.attributes
        ).messages:
            data = np.ascontiguousarray(sent.array).tobytes()
            if data:
                kinds.setdefault((rank, sent.to, sent.tag), []).append(data)
        if not kinds or max(map(len, kinds.values())) >= 40:
            break
    for kind, seen in kinds.items():
        data = np.frombuffer(b"".join(seen), np.uint8)
        if kind[2].endswith(BITS_APART):
            _assert_uniform_bits(data, kind)
            continue
        counts = np.bincount(data >> 4, minlength=16) + 0.0
        low = np.bincount(data & 15, minlength=16) + 0.0
        for observed in (counts, low):
            expected = data.size / 16
            statistic = np.sum((observed - expected) ** 2) / expected
            # With 15 degrees of freedom a value above 60 has probability 2e-7, and the test runs on a few
            # thousand kinds.
            assert statistic < 60 or data.size < 80, f"{kind}: {statistic:.0f} over {data.size} bytes"


def _of_scalars(example: Example) -> Example:
    """Return the same call with operands of shape ()."""
    operands = [(*each[:2], (), *each[3:]) for each in example.operands]
    attributes = {**example.attributes, **({"dims": SCALARS} if "dims" in example.attributes else {})}
    return replace(example, operands=tuple(operands), attributes=attributes)


SCALARS = (((), ()), ((), ()))  # a product of matrices that sums nothing
NEED_ROWS = (
    "layer_norm",
    "rms_norm",
    "embedding",
    "matmul_adapted",
    "product_guard",
    "element_guard",
    "spread_guard",
)


@pytest.mark.parametrize(
    "example",
    [
        each
        for each in EXAMPLES
        if not {"dim", "products"} & each.attributes.keys() and each.kernel not in NEED_ROWS
    ],
    ids=str,
)
def test_scalars_stay_in_their_ring(mpc, rng, example):
    """numpy computes scalars times Python's integers in ring 64, which shows for some masks alone."""
    kernel, out, scalars = KERNELS[example.kernel], F(example.out), _of_scalars(example)
    bound = kernel.error(*specs(scalars), out=out, **scalars.attributes)
    for _ in range(8):
        operands = [draw(each, rng) for each in scalars.operands]
        value = mpc(kernel.run, *operands, out=out, **scalars.attributes).value
        expected = np.asarray(kernel.reference(*map(on_grid, operands), **scalars.attributes))
        assert np.max(np.abs(value - expected)) <= bound
