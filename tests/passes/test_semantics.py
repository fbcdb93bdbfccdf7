"""Test that every pass keeps the meaning of a program, by executing it in plaintext before and after."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.models import named_model
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.insert_casts import insert_casts
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.formats.verify import verify
from ditto_spu.passes.fuse.fuse import fuse
from ditto_spu.rules.load import configurations, load_config


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its arguments, and the error that rounding to the configuration's grids may cause."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    public: tuple[str, ...] = ()
    tolerance: float = 0.01


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def layer_norm(x, gamma, beta):
    mean = x.mean(-1, keepdims=True)
    variance = (x * x).mean(-1, keepdims=True) - mean * mean
    return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * gamma + beta


def attention(x, w, mask):
    q, k, v = (x @ each for each in w)
    scores = q @ k.T / jnp.sqrt(q.shape[-1]) + jnp.where(mask > 0, 0.0, -1e10)
    return jax.nn.softmax(scores, axis=-1) @ v


def mlp(x, layers):
    for w, b in layers:
        x = jax.nn.gelu(x @ w + b, approximate=False)
    return x.sum(axis=-1), jnp.argmax(x, axis=-1)


def embed(table, ids, x):
    return jnp.tanh(table[ids] + x) * jax.nn.sigmoid(x) / 3.0


def mixed(x, n, mask):
    y = jnp.where(mask, x, 0.0) / mask.sum()
    return {"sin": jnp.sin(y) * n, "count": n + 1, "sorted": jnp.sort(x), "same": x, "mean": mask.mean()}


W = tuple(normal(6, 4, scale=0.4, seed=i) for i in range(3))
LAYERS = [(normal(6, 8, scale=0.4), normal(8, scale=0.1)), (normal(8, 5, scale=0.4), normal(5, scale=0.1))]
MASK = np.array([1, 1, 1, 0, 0], np.int32)
CASES = {
    "identity": Case(lambda x: x, (normal(3),)),
    "linear": Case(lambda x, w: 2.5 - (x @ w).T[::-1] * 0.25, (normal(3, 4), normal(4, 2))),
    "batched": Case(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (normal(2, 3, 4), normal(2, 5, 4))),
    "mlp": Case(mlp, (normal(3, 6), LAYERS), tolerance=0.02),
    "layer norm": Case(layer_norm, (normal(3, 8), normal(8), normal(8)), tolerance=0.02),
    "attention, public mask": Case(attention, (normal(5, 6), W, MASK), ("mask",), 0.02),
    "attention, secret mask": Case(attention, (normal(5, 6), W, MASK), (), 0.02),
    "embedding, secret ids": Case(embed, (normal(7, 4), np.array([6, 0]), normal(2, 4))),
    "embedding, public ids": Case(embed, (normal(7, 4), np.array([6, 0]), normal(2, 4)), ("ids",)),
    "mixed": Case(mixed, (normal(5), np.int32(3), MASK.astype(bool)), ("mask",)),
    "nothing secret": Case(mixed, (normal(5), np.int32(3), MASK.astype(bool)), ("x", "n", "mask")),
}


def run(module: Any, args: tuple[Any, ...]) -> list[Any]:
    return ir.evaluate(module, jax.tree_util.tree_leaves(args))


def close(left: list[Any], right: list[Any], tolerance: float) -> None:
    assert len(left) == len(right)
    for mine, theirs in zip(left, right, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, atol=tolerance, rtol=tolerance)


def through_all_passes(case: Case, config: Any) -> None:
    traced = trace(case.fn, case.args, public=case.public)
    expected = [np.asarray(each) for each in jax.tree_util.tree_leaves(jax.jit(case.fn)(*case.args))]
    close(run(traced.module_text, case.args), expected, 1e-5)
    fused = fuse(ir.parse(traced.module_text), traced.public)
    close(run(fused, case.args), expected, 1e-5)
    linear = linearise(fused, traced.public)
    close(run(linear, case.args), expected, 1e-5)
    assigned = assign(linear, traced.public, config)
    for before, after in zip(run(linear, case.args), run(assigned, case.args), strict=True):
        assert np.array_equal(before, after)
    cast = insert_casts(assigned)
    verify(cast, traced.public)
    close(run(cast, case.args), expected, case.tolerance)


@pytest.mark.parametrize("name", CASES)
def test_every_pass_keeps_the_meaning(name):
    through_all_passes(CASES[name], load_config({"default": "fxp32.12"}))


@pytest.mark.parametrize(
    "config",
    [
        each if each in ("auto", "ditto") else pytest.param(each, marks=pytest.mark.slow)
        for each in configurations()
    ],
)
def test_a_whole_bert_in_every_configuration(config):
    program = named_model("bert-tiny").build()
    tolerance = 0.15 if config == "ditto-paper" else 0.03
    through_all_passes(Case(program.fn, program.args, program.public, tolerance), load_config(config))


def test_rounding_is_finer_with_more_fraction_bits():
    case, errors = CASES["mlp"], []
    traced = trace(case.fn, case.args)
    expected = run(traced.module_text, case.args)[0]
    for bits in (6, 10, 14):
        linear = linearise(fuse(ir.parse(traced.module_text), traced.public), traced.public)
        cast = insert_casts(assign(linear, traced.public, load_config({"default": f"fxp32.{bits}"})))
        errors.append(np.max(np.abs(run(cast, case.args)[0] - expected)))
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0
