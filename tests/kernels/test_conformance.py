"""Every kernel: right within its bound, exact cost, replicated, reproducible, sizes from shapes alone."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.kernel import Spec
from ditto_kernels.ring import Fxp, decode, encode

F = Fxp.parse
DOT = (((1,), (0,)), ((), ()))


@dataclass(frozen=True)
class Example:
    """Operands as (low, high, shape, format), or (low, high, shape) for a public one, drawn uniformly."""

    kernel: str
    operands: tuple[tuple[Any, ...], ...]
    out: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        notes = "-".join(str(value) for value in self.attributes.values() if isinstance(value, str))
        return f"{self.kernel}-{self.operands[0][-1]}-{self.out}{'-' + notes if notes else ''}"


EXAMPLES = [
    Example("cast", ((-7, 7, (9, 5), "fxp32.12"),), "fxp32.8"),
    Example("cast", ((-7, 7, (9, 5), "fxp16.9"),), "fxp64.18"),
    Example("multiply", ((-3, 3, (9, 5), "fxp32.12"), (-3, 3, (5,), "fxp32.12")), "fxp32.12"),
    Example("matmul", ((-1, 1, (9, 6), "fxp32.12"), (-1, 1, (6, 5), "fxp32.12")), "fxp16.8", {"dims": DOT}),
    Example("matmul", ((-1, 1, (9, 6), "fxp64.18"), (-1, 1, (6, 5), "fxp64.18")), "fxp64.18", {"dims": DOT}),
    Example(
        "matmul_public",
        ((-1, 1, (9, 6), "fxp32.12"), (-1, 1, (6, 5))),
        "fxp32.12",
        {"dims": DOT, "weight_fraction_bits": 12},
    ),
    Example("maximum", ((-3, 3, (9, 5), "fxp16.8"), (-3, 3, (9, 5), "fxp16.8")), "fxp16.8"),
    Example("reduce_max", ((-3, 3, (9, 5), "fxp16.8"),), "fxp16.8", {"dim": 1}),
    Example("exponential", ((-6, 0, (9, 5), "fxp32.12"),), "fxp32.14", {"hi": 0.0}),
    Example("reciprocal", ((1, 100, (45,), "fxp32.12"),), "fxp32.18"),
    Example("rsqrt", ((0.5, 100, (45,), "fxp32.14"),), "fxp32.14"),
    Example(
        "divide",
        ((-9, 9, (45,), "fxp32.12"), (1, 90, (45,), "fxp32.12")),
        "fxp32.12",
        {"lo": 0.5, "hi": 100.0},
    ),
    Example("softmax", ((-6, 6, (4, 7, 32), "fxp16.8"),), "fxp32.14", {"dim": 2}),
    Example("softmax", ((-6, 6, (4, 7, 32), "fxp16.8"), ("bits", 1, (4, 7, 32))), "fxp32.14", {"dim": 1}),
    Example(
        "softmax",
        ((-190, 190, (4, 6, 24), "fxp16.6"), (0, 2, (4, 6, 24))),
        "fxp32.14",
        {"dim": 2, "scale": 0.125, "inner": F("fxp32.14"), "range": 200.0, "approx": "exact"},
    ),
    Example(
        "softmax",
        ((-3, 3, (4, 7, 32), "fxp16.8"),),
        "fxp32.14",
        {"dim": 1, "range": 3.0, "approx": "bounded"},
    ),
    Example(
        "layer_norm",
        ((-3, 3, (5, 96), "fxp32.12"), (0.5, 2, (96,), "fxp32.12"), (-1, 1, (96,), "fxp32.12")),
        "fxp32.12",
        {"dim": 1},
    ),
    Example("tanh", ((-6, 6, (45,), "fxp16.9"),), "fxp32.12"),
    Example("sigmoid", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("silu", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
    Example("embedding", ((-3, 3, (37, 6), "fxp32.12"), ("integers", 37, (4, 3), "fxp64.0")), "fxp32.12"),
    Example("gelu", ((-9, 9, (45,), "fxp16.9"),), "fxp32.12"),
]


# Keys of point functions: one bit of a seed is always zero, control bits fill two bits of a byte.
BITS_APART = (":corrections", ":flips")


def _assert_uniform_bits(data: Any, kind: Any) -> None:
    """Every bit position of a 16-byte block is either never set or a fair coin."""
    bits = np.unpackbits(data[: data.size // 16 * 16].reshape(-1, 16), axis=1)
    means = bits.mean(axis=0)
    free = means > 0
    assert np.all(np.abs(means[free] - 0.5) < 3 / np.sqrt(len(bits))), f"{kind}: {means}"


def test_every_kernel_has_an_example():
    assert {each.kernel for each in EXAMPLES} == set(KERNELS)


def _draw(operand: tuple[Any, ...], rng: np.random.Generator) -> Any:
    low, high, shape, *fxp = operand
    if low == "bits":
        values = rng.integers(0, 2, shape).astype(np.float64 if fxp else bool)
    elif low == "integers":
        values = rng.integers(0, high, shape).astype(np.float64)
    else:
        values = rng.uniform(low, high, shape)
    return (values, F(fxp[0])) if fxp else values


def _specs(example: Example) -> list[Spec]:
    return [Spec(shape, F(fxp[0]) if fxp else None) for _, _, shape, *fxp in example.operands]


def _on_grid(operand: Any) -> Any:
    return decode(encode(*operand), operand[1]) if isinstance(operand, tuple) else operand


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_right_within_the_bound_at_the_stated_cost(mpc, rng, example, dealer):
    kernel, out = KERNELS[example.kernel], F(example.out)
    operands = [_draw(each, rng) for each in example.operands]
    outcome = mpc(
        kernel.run, *operands, dealer=dealer, out=out, **example.attributes
    )  # joins: replicas must agree
    expected = np.asarray(kernel.reference(*map(_on_grid, operands), **example.attributes))
    assert outcome.parts[0].fxp == out
    assert outcome.value.shape == expected.shape
    bound = kernel.error(*_specs(example), out=out, **example.attributes)
    assert np.max(np.abs(outcome.value - expected)) <= bound
    outcome.assert_cost(kernel.cost(*_specs(example), out=out, **example.attributes), dealer)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_messages_depend_on_shapes_and_seeds_alone(mpc, rng, example):
    """Other inputs: the same sizes and tags. The same seed: the same masks. Fresh seeds: other messages."""
    kernel, out = KERNELS[example.kernel], F(example.out)
    runs = []
    for seed in (b"one", b"one", None):
        operands = [_draw(each, rng) for each in example.operands]
        outcome = mpc(kernel.run, *operands, seed=seed, out=out, **example.attributes)
        runs.append({(rank, sent.to, sent.tag): sent for rank, sent in outcome.messages})
    shapes = [{key: (sent.array.shape, str(sent.array.dtype)) for key, sent in run.items()} for run in runs]
    assert shapes[0] == shapes[1] == shapes[2]
    for key, sent in runs[0].items():
        if sent.offline and np.asarray(sent.array).size > 8:  # dealt material depends on the seed alone
            assert np.array_equal(sent.array, runs[1][key].array)
            assert not np.array_equal(sent.array, runs[2][key].array)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_message_is_uniform(mpc, example):
    """Chi-square of the bytes of every kind of message over constant inputs: no value shows through."""
    kernel, out = KERNELS[example.kernel], F(example.out)
    constant = np.random.default_rng(3)
    operands = [_draw(each, constant) for each in example.operands]
    kinds: dict[tuple[int, int, str], list[bytes]] = {}
    while min((sum(map(len, seen)) for seen in kinds.values()), default=0) < 3000:
        for rank, sent in mpc(kernel.run, *operands, out=out, **example.attributes).messages:
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
            # 15 degrees of freedom: above 60 has probability 2e-7, and a few thousand kinds are tested.
            assert statistic < 60 or data.size < 80, f"{kind}: {statistic:.0f} over {data.size} bytes"
