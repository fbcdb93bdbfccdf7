"""Long programs are cut into parts, and give what they give as a whole."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.ir import parts

X = np.linspace(-2.0, 2.0, 12, dtype=np.float32).reshape(3, 4)


def chain(x: Any) -> Any:
    y = x
    for place in range(20):
        y = y * 0.5 + x / (place + 1) - jnp.sin(y)
    return y, x, y.sum(axis=0), jnp.where(x > 0, y, 0.0)


def with_regions(x: Any) -> Any:
    """The branches and the body of the loop read values around them."""
    scale, shift = x.max(), x.min()
    branch = jax.lax.cond(scale > 1, lambda: x * scale, lambda: x - shift)
    looped = jax.lax.fori_loop(0, 5, lambda i, y: y * 0.9 + shift, branch)
    return jnp.sort(looped, axis=1), jnp.cumsum(branch, axis=0), jnp.argmax(looped)


@pytest.mark.parametrize("function", [chain, with_regions])
def test_parts_give_what_the_whole_gives(
    function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = jax.jit(function).lower(X).as_text()
    module = ir.parse(source)
    assert parts.parts(module) is None
    monkeypatch.setattr(parts, "LONG", 3)
    monkeypatch.setattr(parts, "OPERATIONS", 4)
    cut = parts.parts(module)
    assert cut is not None and len(cut.parts) >= 2
    expected = [np.asarray(each) for each in jax.tree.leaves(function(jnp.asarray(X)))]
    for got, right in zip(ir.evaluate(f"{source}\n", [X]), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=2e-5, atol=1e-6)
