"""Chosen values are exact in the larger ring, up to the ends of their range, and 0 where the bit is 0."""

import numpy as np
import pytest

from ditto_kernels.activation.gelu import GELU_KERNEL
from ditto_kernels.activation.tanh_sigmoid_silu import SILU_KERNEL
from ditto_kernels.bits.bit_planes import Bits, pack
from ditto_kernels.bits.lifted_select import Choice, multiply_lifted
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTHS
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Fxp

F = Fxp.parse


def _chosen(party, x, flags, bias, ring):
    """Choose x by flags that A and B share by XOR, and return the choice beside its complement."""
    opened = yield from open_masked(party.at("open"), from_rss(party, x))
    bits = pack(flags.reshape(-1), x.fxp.ring_bits)
    split = np.full(bits.shape, 0x55).astype(bits.dtype)  # any sharing serves
    words = {"A": bits ^ split, "B": split, "D": absent(bits.shape, bits.dtype)}[party.role]
    other = ~words if party.role == "A" else words
    choices = [Choice(Bits(each, x.fxp.ring_bits), opened, bias) for each in (words, other)]
    shares = yield from multiply_lifted(party.at("chosen"), choices, ring)
    joined = Additive(np.stack([each.share for each in shares]), shares[0].fxp)
    return (yield from to_rss(party, joined))


@pytest.mark.parametrize(("source", "ring"), [("fxp16.4", 32), ("fxp16.0", 64), ("fxp32.8", 64)])
@pytest.mark.parametrize("positive", [False, True])
def test_exact_in_the_whole_range(mpc, rng, source, ring, positive):
    fxp = F(source)
    half = 1 << (fxp.ring_bits - 1)
    bias, ends = (0, (0, half - 1)) if positive else (half // 2, (-half // 2, half // 2 - 1))
    integers = rng.integers(ends[0], ends[1] + 1, (3, 31))
    integers[:, :2] = ends
    flags = rng.integers(0, 2, integers.shape).astype(np.uint8)
    flags[:, 0], flags[:, 1] = 1, 0
    beyond = rng.integers(-half, half, integers.shape)
    for dealer in range(3):
        outcome = mpc(_chosen, (integers * fxp.ulp, fxp), flags, bias=bias, ring=ring, dealer=dealer)
        assert np.array_equal(outcome.value[0], np.where(flags, integers, 0) * fxp.ulp)
        assert np.array_equal(outcome.value[1], np.where(flags, 0, integers) * fxp.ulp)
        outcome = mpc(_chosen, (beyond * fxp.ulp, fxp), flags, bias=bias, ring=ring, dealer=dealer)
        assert not outcome.value[0][flags == 0].any() and not outcome.value[1][flags == 1].any()


@pytest.mark.parametrize("kernel", [GELU_KERNEL, SILU_KERNEL], ids=lambda each: each.name)
@pytest.mark.parametrize("target", ["fxp32.9", "fxp32.14", "fxp64.20"])
def test_activations_of_few_elements_take_four_rounds(mpc, rng, kernel, target):
    fxp, out = F("fxp16.9"), F(target)
    x = np.concatenate([np.linspace(-55, 55, 501), rng.normal(size=300), np.linspace(-9, 9, 200)])
    x = np.rint(x / fxp.ulp) * fxp.ulp
    spec = Spec(x.shape, fxp)
    cost = kernel.cost(spec, out=out)
    assert cost.rounds == 4 and "lifted choice" in kernel.variant(spec, out=out, worth=ROUND_WORTHS[0])
    for dealer in range(3):
        outcome = mpc(kernel.run, (x, fxp), out=out, dealer=dealer)
        assert np.max(np.abs(outcome.value - kernel.reference(x))) <= kernel.error(spec, out=out)
        outcome.assert_cost(cost, dealer)


def test_its_cost_is_that_of_the_docstring():
    cost = cost_of(_chosen, Spec((64,), F("fxp16.4")), np.zeros(64, np.uint8), bias=0, ring=32)
    assert sum(cost.offline) == 2 * 64 * (2 * 4 + 3 * 2) and cost.rounds == 3
