"""Masks of softmax mean what they mean in floats, also where they keep no score of a row."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse

RNG = np.random.default_rng(2)
F = np.float32
X = RNG.normal(size=(3, 5, 5)).astype(F)
BIAS = RNG.normal(size=(5, 5)).astype(F)  # of positions, as T5 has it
KEEP = np.ones((3, 1, 5), F)
KEEP[0] = 0  # an empty text
KEEP[1, 0, :2] = 0  # padded on the left
LOW = np.finfo(F).min


def causal(x: Any) -> Any:
    return jnp.tril(jnp.ones(x.shape[1:], bool))


PROGRAMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "added -1e4": lambda x, m, b: x + (1 - m) * -1e4,
    "added -1e4, compared": lambda x, m, b: x + jnp.where(m > 0, 0.0, -1e4),
    "added -1e5, scaled": lambda x, m, b: (x + (1 - m) * -1e5) / 2,
    "added -1e9": lambda x, m, b: x + (1 - m) * -1e9,
    "added lowest": lambda x, m, b: x + (1 - m) * LOW,
    "selected -1e4": lambda x, m, b: jnp.where(m > 0, x, -1e4),
    "causal and -1e4": lambda x, m, b: jnp.where(causal(x), x, LOW) + (1 - m) * -1e4,
    "added causal and -1e4": lambda x, m, b: x + jnp.where(causal(x), 0, -1e9) + (1 - m) * -1e4,
    "positions and -1e4": lambda x, m, b: x + (b + (1 - m) * -1e4),
    "positions and lowest": lambda x, m, b: x + (b + jnp.where(m > 0, 0, LOW)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("public", [("m",), ("m", "b")])
def test_public_masks(name: str, public: tuple[str, ...]) -> None:
    def fn(x: Any, m: Any, b: Any) -> Any:
        return jax.nn.softmax(PROGRAMS[name](x, m, b))

    traced = trace(fn, (X, KEEP, BIAS), public=public)
    module = fuse(ir.parse(traced.module_text), traced.public)
    (softmax,) = [op for op in ir.walk(ir.main(module)) if ir.composite_name(op)]
    assert [ir.element(each) for each in softmax.operands] == ["f32", "i1"]
    before, after = (ir.evaluate(each, [X, KEEP, BIAS])[0] for each in (traced.module_text, module))
    np.testing.assert_allclose(after, before, atol=2e-3)  # a float of size 1e4 holds the score to 1e-3


@pytest.mark.parametrize("name", ["causal and -1e4", "positions and -1e4"])
def test_rows_without_a_kept_score_among_three_parties(name: str) -> None:
    def fn(x: Any, m: Any, b: Any) -> Any:
        return jax.nn.softmax(PROGRAMS[name](x, m, b))

    np.testing.assert_allclose(ditto.secure(fn, public=("m",))(X, KEEP, BIAS), fn(X, KEEP, BIAS), atol=2e-3)


@pytest.mark.parametrize("name", ["positions and lowest", "added lowest", "added -1e9"])
def test_secret_masks_beside_secret_biases(name: str) -> None:
    def fn(x: Any, m: Any, b: Any) -> Any:
        return jax.nn.softmax(PROGRAMS[name](x, m, b))

    np.testing.assert_allclose(ditto.secure(fn)(X, KEEP, BIAS), fn(X, KEEP, BIAS), atol=2e-3)
