"""Test fuse: it recognises the composites, changes nothing else, and keeps the result."""

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(3, 4, 8)).astype(np.float32)
LOW = np.finfo(np.float32).min


def fused(
    fn: Callable[..., Any], *args: Any, public: tuple[str, ...] = (), tolerance: float = 1e-5
) -> ir.Module:
    """Return fn fused, after a check that it gives the same result as before."""
    traced = trace(fn, args, public=public)
    module = fuse(ir.parse(traced.module_text), traced.public)
    leaves = jax.tree_util.tree_leaves(args)
    before, after = ir.evaluate(traced.module_text, leaves), ir.evaluate(module, leaves)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, rtol=tolerance, atol=tolerance)
    return module


def composites(module: ir.Module) -> list[ir.Op]:
    return [op for op in ir.walk(ir.main(module)) if ir.composite_name(op)]


def found(module: ir.Module) -> dict[str, int]:
    names = (ir.composite_name(op).removeprefix("ditto.") for op in composites(module))
    return dict(collections.Counter(names))


@dataclass(frozen=True)
class Found:
    attributes: dict[str, Any]
    shapes: list[tuple[int, ...]]


def only(module: ir.Module, name: str) -> Found:
    """Return the facts about the only composite of that name.

    It does not return the operation itself, which would not keep its module alive.
    """
    (op,) = composites(module)
    assert ir.composite_name(op) == f"ditto.{name}"
    return Found(ir.composite_attributes(op), [ir.shape(each) for each in op.operands])


def names(module: ir.Module) -> set[str]:
    return {op.name.partition(".")[2] for op in ir.walk(ir.main(module))}


# --- nothing to do ---


def test_a_program_without_patterns_stays_as_it_is() -> None:
    traced = trace(lambda x, w: jnp.tanh(x @ w) + 1.0, (X[0], X[1].T))
    module = ir.parse(traced.module_text)
    after = fuse(module, traced.public)
    assert [op.name.partition(".")[2] for op in ir.walk(ir.main(after))] == [
        "constant",
        "dot_general",
        "tanh",
        "broadcast_in_dim",
        "add",
        "return",
    ]
    assert ir.text(module, debug_info=True) == traced.module_text, "the argument is left alone"


def test_public_values_need_no_composite() -> None:
    module = fused(lambda x, bias: x + jax.nn.softmax(jax.nn.gelu(bias)), X, X, public=("bias",))
    assert found(module) == {}


# --- softmax ---


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


# --- scales ---


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


# --- layer norm ---


@pytest.mark.parametrize("use_fast_variance", [True, False])
@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_flax_layer_norm(use_fast_variance: bool, use_scale: bool, use_bias: bool) -> None:
    layer = nn.LayerNorm(
        epsilon=1e-5, use_fast_variance=use_fast_variance, use_scale=use_scale, use_bias=use_bias
    )
    params = jax.tree_util.tree_map(lambda p: p + X[0, 0], layer.init(jax.random.key(0), X))
    op = only(fused(layer.apply, params, X), "layer_norm")
    assert op.attributes == {"dim": 2, "eps": pytest.approx(1e-5)}
    assert op.shapes == [(3, 4, 8), (8,), (8,)]


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, g, b: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + b,
        lambda x, g, b: b + g * ((x - x.mean(-1)[..., None]) * jax.lax.rsqrt(x.var(-1) + 1e-5)[..., None]),
        lambda x, g, b: jax.nn.standardize(x, epsilon=1e-5) * g + b,
        lambda x, g, b: (x - x.mean(-1, keepdims=True)) * (jnp.var(x, -1, keepdims=True) + 1e-5) ** -0.5,
    ],
)
def test_layer_norm_written_by_hand(normalise: Callable[..., Any]) -> None:
    assert found(fused(normalise, X, X[0, 0], X[0, 1])) == {"layer_norm": 1}


def test_what_only_looks_like_layer_norm() -> None:
    def other_axis(x: Any) -> Any:
        return (x - x.mean(-2, keepdims=True)) / jnp.sqrt(x.var(-2, keepdims=True) + 1e-5)

    def wrong_mean(x: Any, y: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(y.var(-1, keepdims=True) + 1e-5)

    assert found(fused(other_axis, X)) == {}
    assert found(fused(wrong_mean, X, X[::-1])) == {}


# --- root-mean-square normalisation ---


def test_flax_rms_norm() -> None:
    op = only(fused(nn.RMSNorm(epsilon=1e-5).apply, {"params": {"scale": X[0, 0]}}, X), "rms_norm")
    assert op.attributes == {"dim": 2, "eps": pytest.approx(1e-5)}
    assert op.shapes == [(3, 4, 8), (8,)]


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, g: g * (x / jnp.sqrt(jnp.power(x, 2).mean(-1, keepdims=True) + 1e-6)),  # T5, Llama
        lambda x, g: x * jax.lax.rsqrt(jnp.square(x).mean(-1)[..., None] + 1e-6) * g,
        lambda x, g: x * (jnp.mean(x * x, -1, keepdims=True) + 1e-6) ** -0.5,
        lambda x, g: (x[:1, :1] * jax.lax.rsqrt((x[:1, :1] ** 2).mean(-1, keepdims=True) + 1e-6)) * g,
    ],
)
def test_rms_norm_written_by_hand(normalise: Callable[..., Any]) -> None:
    assert found(fused(normalise, X, X[0, 0])) == {"rms_norm": 1}


def test_what_only_looks_like_rms_norm() -> None:
    def other_axis(x: Any) -> Any:
        return x * jax.lax.rsqrt((x * x).mean(-2, keepdims=True) + 1e-5)

    def other_values(x: Any, y: Any) -> Any:
        return x * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)

    def total(x: Any) -> Any:
        return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-5)

    assert found(fused(other_axis, X)) == found(fused(other_values, X, X[::-1])) == {}
    assert found(fused(total, X)) == {}


# --- SiLU ---


@pytest.mark.parametrize(
    "silu", [jax.nn.silu, nn.swish, lambda x: x / (1 + jnp.exp(-x)), lambda x: jax.nn.sigmoid(x) * x]
)
def test_silu(silu: Callable[..., Any]) -> None:
    assert found(fused(silu, X)) == {"silu": 1}


def test_what_only_looks_like_silu() -> None:
    assert found(fused(lambda x: x * jax.nn.sigmoid(2 * x), X)) == {}
    assert found(fused(lambda x, y: x * jax.nn.sigmoid(y), X, X)) == {}


# --- GeLU ---


@pytest.mark.parametrize(
    ("gelu", "approximate"),
    [
        (lambda x: jax.nn.gelu(x, approximate=False), "erf"),
        (lambda x: jax.nn.gelu(x, approximate=True), "tanh"),
        (lambda x: x * 0.5 * (1.0 + jax.scipy.special.erf(x / np.sqrt(2.0).astype(np.float32))), "erf"),
        (lambda x: x * jax.scipy.special.erfc(-x * 0.70710678) / 2, "erf"),
        (lambda x: 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x**3))), "tanh"),
        (lambda x: 0.5 * x * (1 + jnp.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))), "tanh"),
    ],
)
def test_gelu(gelu: Callable[..., Any], approximate: str) -> None:
    op = only(fused(gelu, X * 3), "gelu")
    assert op.attributes == {"approximate": approximate}


def test_what_only_looks_like_gelu() -> None:
    assert found(fused(lambda x: 0.5 * x * (1 + jnp.tanh(x)), X)) == {}
    assert found(fused(lambda x, y: 0.5 * y * (1 + jax.scipy.special.erf(x * 0.70710678)), X, X[::-1])) == {}
    assert found(fused(lambda x: x * jax.nn.sigmoid(1.702 * x), X)) == {}
    square = X[0, :, :4]
    assert found(fused(lambda x: x * (0.5 * (1 + jax.scipy.special.erf(x * 0.70710678))).T, square)) == {}


# --- look-ups ---

TABLE = RANDOM.normal(size=(11, 5)).astype(np.float32)
IDS = np.array([[0, 3, 10], [2, 2, 7]], np.int32)


FILLED = [
    lambda table, ids: jnp.take(table, ids, axis=0),
    lambda table, ids: table.at[ids].get(mode="fill"),
    lambda table, ids: nn.Embed(11, 5).apply({"params": {"embedding": table}}, ids),
]
CLAMPED = [
    lambda table, ids: table[ids],
    lambda table, ids: jnp.take(table, ids, axis=0, mode="clip"),
    lambda table, ids: table[ids[0, 0]],
]


@pytest.mark.parametrize("public", [(), ("table",), ("ids",)])
@pytest.mark.parametrize("look_up", FILLED + CLAMPED)
def test_look_ups(look_up: Callable[..., Any], public: tuple[str, ...]) -> None:
    module = fused(look_up, TABLE, IDS, public=public)
    assert only(module, "embedding").shapes[0] == (11, 5)
    assert "gather" not in names(module)
    assert "dense<0x7FC00000>" not in ir.text(module), "no NaN is left"


@pytest.mark.parametrize("look_up", FILLED)
def test_secret_ids_in_range_need_no_arithmetic(look_up: Callable[..., Any]) -> None:
    assert not {"compare", "select", "clamp"} & names(fused(look_up, TABLE, IDS))
    assert "select" in names(fused(look_up, TABLE, IDS, public=("ids",))), "negative public ids wrap"


@pytest.mark.parametrize("look_up", CLAMPED)
def test_ids_are_clamped_as_the_program_says(look_up: Callable[..., Any]) -> None:
    assert {"clamp", "maximum", "minimum"} & names(fused(look_up, TABLE, IDS))
    known = fused(lambda table, ids: look_up(table, jnp.clip(ids, 0, 10)), TABLE, IDS)
    assert not {"compare", "select"} & names(known)


def test_public_look_ups_and_other_gathers() -> None:
    module = fused(lambda x, t, i: x + t[i], X[0, :2, :3], TABLE[:, 0], IDS, public=("t", "i"))
    assert found(module) == {}
    assert found(fused(lambda t: t[:, 2], TABLE)) == {}
    assert (
        found(
            fused(
                lambda t, i: jnp.take_along_axis(t, i[:, :2], axis=1), TABLE[:2, :3], IDS % 3, public=("i",)
            )
        )
        == {}
    )


# --- clean-up ---


def test_multiplication_by_ones_and_double_transposition_go() -> None:
    def heads(x: Any) -> Any:
        return jnp.einsum("b,bqk->bqk", jnp.ones(3, x.dtype), jnp.maximum(x * 1.0 + 0.0, -jnp.inf))

    assert names(fused(heads, X)) <= {"return", "transpose"}


def test_erf_that_is_no_gelu_is_expanded() -> None:
    module = fused(lambda x: (jax.scipy.special.erf(x), jax.lax.erfc(x), jnp.sinh(x)), X * 2)
    found = {op.name for op in ir.walk(ir.main(module)) if op.name.startswith("chlo.")}
    assert found == {"chlo.erf"}  # it has a kernel for bounded arguments


def test_chlo_on_secret_values_is_an_error() -> None:
    def fn(x: Any) -> Any:
        with jax.named_scope("block"):
            return jax.lax.lgamma(x)

    traced = trace(fn, (X,))
    with pytest.raises(
        UnsupportedOpError, match=r"'lgamma' \(.*test_fuse.py:\d+, in block\) acts on secret values"
    ):
        fuse(ir.parse(traced.module_text), traced.public)
    shown = trace(fn, (X,), public=("x",))
    fuse(ir.parse(shown.module_text), shown.public)


def test_paths_survive_also_in_functions_called_twice() -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for i in range(2):
                x = nn.LayerNorm(name=f"norm_{i}")(nn.gelu(nn.Dense(8, name=f"layer_{i}")(x)))
                with jax.named_scope(f"step_{i}"):
                    x = jax.jit(nn.softmax)(x) * 3.0
            return x

    module = fused(lambda p, x: Block().apply(p, x), Block().init(jax.random.key(0), X), X)
    paths = [(ir.composite_name(op).removeprefix("ditto."), ir.path_of(op)) for op in composites(module)]
    assert paths == [
        ("gelu", ""),
        ("layer_norm", "norm_0"),
        ("softmax", "step_0"),
        ("gelu", ""),
        ("layer_norm", "norm_1"),
        ("softmax", "step_1"),
    ]


def test_fusing_twice_changes_nothing() -> None:
    traced = trace(lambda x, m: jax.nn.softmax(jnp.where(m, x / 3, LOW)), (X, KEEP))
    once = fuse(ir.parse(traced.module_text), traced.public)
    assert ir.text(fuse(once, traced.public)) == ir.text(once)


def test_bfloat16() -> None:
    def block(x: Any) -> Any:
        return jax.nn.softmax(jax.nn.gelu(x.astype(jnp.bfloat16)) * 0.5).astype(jnp.float32)

    assert found(fused(block, X, tolerance=2e-2)) == {"gelu": 1, "softmax": 1}
