"""Fuse recognises the composites, changes nothing else, and keeps the result."""

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
from tests.passes.fuse.fused import composites, found, fused, names

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(3, 4, 8)).astype(np.float32)
LOW = np.finfo(np.float32).min


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
    traced = trace(lambda x, m: jax.nn.softmax(jnp.where(m, x / 3, LOW)), (X, X > 0))
    once = fuse(ir.parse(traced.module_text), traced.public)
    assert ir.text(fuse(once, traced.public)) == ir.text(once)


def test_bfloat16() -> None:
    def block(x: Any) -> Any:
        return jax.nn.softmax(jax.nn.gelu(x.astype(jnp.bfloat16)) * 0.5).astype(jnp.float32)

    assert found(fused(block, X, tolerance=2e-2)) == {"gelu": 1, "softmax": 1}
