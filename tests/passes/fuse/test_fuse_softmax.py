"""Fuse recognises softmax, with its masks and scales, as people write it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse
from tests.passes.fuse.fused import composites, found, fused, names, only

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(3, 4, 8)).astype(np.float32)
LOW = np.finfo(np.float32).min


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_over_any_axis(axis: int) -> None:
    op = only(fused(lambda x: jax.nn.softmax(x, axis=axis), X), "softmax")
    assert op.attributes == {"dim": axis % 3, "scale": 1.0}
    assert len(op.shapes) == 1


@pytest.mark.parametrize(
    "softmax",
    [
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        lambda x: (
            jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1)[..., None]
        ),
        lambda x: nn.softmax(x.astype(jnp.float32)).astype(x.dtype),
        lambda x: jax.nn.softmax(x[:1, :1]),
    ],
)
def test_softmax_written_otherwise(softmax: Callable[..., Any]) -> None:
    assert found(fused(softmax, X)) == {"softmax": 1}


def test_what_only_looks_like_softmax() -> None:
    square = X[:, :3, :3]
    assert found(fused(lambda x: jnp.exp(x) / jnp.exp(x).sum(1)[:, :, None], square)) == {}
    assert found(fused(lambda x: jnp.exp(x) / jnp.exp(2 * x).sum(-1, keepdims=True), X)) == {}
    assert found(fused(lambda x: jnp.exp(x) / (1 + jnp.exp(x).sum(-1, keepdims=True)), X)) == {}


KEEP = np.ones((3, 1, 8), bool)
KEEP[1, 0, 5:] = False
KEEP[2, 0, ::3] = False
NUMBERS = KEEP.astype(np.int32)

MASKS: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "where": (lambda x, m: jax.nn.softmax(x, where=m), KEEP),
    "select -inf": (lambda x, m: jax.nn.softmax(jnp.where(m, x, -jnp.inf)), KEEP),
    "select lowest": (lambda x, m: jax.nn.softmax(jnp.where(m > 0, x, LOW)), NUMBERS),
    "select of the contrary": (lambda x, m: jax.nn.softmax(jnp.where(m, -1e9, x)), ~KEEP),
    "added 0 or lowest": (lambda x, m: jax.nn.softmax(x + jnp.where(m > 0, 0.0, LOW)), NUMBERS),
    "added (1-m)*-10000": (lambda x, m: jax.nn.softmax(x + (1.0 - m) * -10000.0), NUMBERS),
    "added (1-m)*lowest": (lambda x, m: jax.nn.softmax((1.0 - m.astype(x.dtype)) * LOW + x), KEEP),
    "added (m-1)*1e9": (lambda x, m: jax.nn.softmax(x + 1e9 * (m - 1.0)), NUMBERS.astype(np.float32)),
    "subtracted 1e30*(1-m)": (lambda x, m: jax.nn.softmax(x - 1e30 * (1.0 - m)), NUMBERS),
    "two masks": (lambda x, m: jax.nn.softmax(jnp.where(m, x, LOW) + jnp.where(m[:1], 0.0, LOW)), KEEP),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("public", [(), ("m",)])
def test_masks_become_booleans(name: str, public: tuple[str, ...]) -> None:
    fn, mask = MASKS[name]
    module = fused(fn, X, mask, public=public)
    (op,) = composites(module)
    assert ir.composite_name(op) == "ditto.softmax"
    assert [ir.element(each) for each in op.operands] == ["f32", "i1"]
    assert ir.shape(op.operands[1]) == ir.shape(op.operands[0])
    if name.startswith("select") or (name != "where" and not public):
        assert op.operands[0] == ir.arguments(module)[0], "nothing is left to add"


def test_public_bias_with_and_without_mask() -> None:
    bias = RANDOM.normal(size=(8,)).astype(np.float32)
    bias[2] = -1e9
    module = fused(lambda x, bias: jax.nn.softmax(x + bias), X, bias, public=("bias",))
    assert len(only(module, "softmax").shapes) == 2
    # A secret bias is data, and so is a public one that is computed without any large number.
    assert len(only(fused(lambda x, bias: jax.nn.softmax(x + bias), X, X), "softmax").shapes) == 1
    near = fused(lambda x, n: jax.nn.softmax(x + 0.5 * jnp.exp(-jnp.abs(n))), X, NUMBERS, public=("n",))
    assert len(only(near, "softmax").shapes) == 1


def test_constant_causal_mask() -> None:
    causal = jnp.triu(jnp.full((4, 4), -jnp.inf), 1)
    module = fused(lambda x: jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2) + causal), X)
    assert only(module, "softmax").shapes == [(3, 4, 4), (3, 4, 4)]
    assert names(module) <= {
        "constant",
        "transpose",
        "dot_general",
        "compare",
        "broadcast_in_dim",
        "composite",
        "return",
    }


def test_a_fully_masked_row_is_uniform() -> None:
    traced = trace(lambda x, m: jax.nn.softmax(jnp.where(m, x, LOW)), (X, np.zeros_like(KEEP)))
    module = fuse(ir.parse(traced.module_text), traced.public)
    np.testing.assert_allclose(ir.evaluate(module, [X, np.zeros_like(KEEP)])[0], 1 / 8, rtol=1e-6)


def test_scale_of_the_query_goes_into_softmax() -> None:
    def attention(q: Any, k: Any) -> Any:
        q = q.reshape(3, 4, 2, 4) / jnp.sqrt(jnp.asarray(16.0))
        return jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k.reshape(3, 4, 2, 4)) * 2.0)

    module = fused(attention, X, X[::-1])
    assert only(module, "softmax").attributes["scale"] == pytest.approx(0.5)
    assert not {"divide", "multiply"} & names(module)


def test_scale_below_a_mask_goes_into_softmax() -> None:
    def attention(q: Any, k: Any, bias: Any) -> Any:
        return jax.nn.softmax(jnp.swapaxes(k @ jnp.swapaxes(q * 0.25, 1, 2), 1, 2) + bias)

    bias = np.array([0, 0, 3, -1e9], np.float32)
    module = fused(attention, X, X[::-1], bias, public=("bias",))
    assert only(module, "softmax").attributes["scale"] == pytest.approx(0.25)


def test_a_scaled_value_with_another_user_keeps_its_scale() -> None:
    def both(q: Any, k: Any) -> Any:
        scores = (q * 0.5) @ jnp.swapaxes(k, 1, 2)
        return jax.nn.softmax(scores), scores

    module = fused(both, X, X[::-1])
    assert only(module, "softmax").attributes["scale"] == 1.0
    module = fused(lambda q: jax.nn.softmax((q * 0.5) @ jnp.swapaxes(q * 0.5, 1, 2)), X)
    assert only(module, "softmax").attributes["scale"] == 1.0
