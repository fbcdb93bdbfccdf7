"""Arrays without elements give what JAX gives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto

X = np.arange(6, dtype=np.float32).reshape(2, 3) / 4 - 0.5
EMPTY = X[:0]
PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "unused": lambda e, x: x + 1,
    "returned": lambda e, x: (e, x * x),
    "elementwise": lambda e, x: (jnp.exp(e) * 2, x),
    "sum": lambda e, x: e.sum(0) + x,
    "sum of all": lambda e, x: e.sum() + x.sum(),
    "product": lambda e, x: jnp.prod(e) * x,
    "maximum with a start": lambda e, x: jnp.max(e, axis=0, initial=-1.0) + x,
    "concatenated": lambda e, x: jnp.concatenate([e, x, e]) * x[:1],
    "three concatenated": lambda e, x: jnp.concatenate([x, e, 2 * x]),
    "padded": lambda e, x: jnp.pad(e, ((1, 1), (0, 0))) + x,
    "product of matrices": lambda e, x: e.T @ e + x.T @ x,
    "empty product of matrices": lambda e, x: e @ x.T,
    "empty slice": lambda e, x: x[:, 3:] + 1,
    "empty slice of x, joined": lambda e, x: jnp.concatenate([x[:, 3:], x[:, :2]], axis=1) * 2,
    "softmax of nothing": lambda e, x: (jax.nn.softmax(e, axis=-1), jax.nn.softmax(x)),
    "set everything": lambda e, x: jnp.zeros_like(x).at[...].set(x) * 2,
    "set nothing": lambda e, x: x.at[:0].set(e) * 2,
    "normalised nothing": lambda e, x: ((e - e.mean(-1, keepdims=True)) * 3, x),
    "sorted nothing": lambda e, x: (jnp.sort(e, axis=-1), x),
    "any": lambda e, x: ((e > 0).any(), (x > 0).all()),
    "count": lambda e, x: (e > 0).sum() + (x > 0).sum(),
    "where": lambda e, x: jnp.where(e > 0, e, -e),
    "loop": lambda e, x: jax.lax.fori_loop(0, 2, lambda i, c: c + x.sum(), e.sum()),
    "scan of nothing": lambda e, x: jax.lax.scan(lambda c, row: (c + row.sum(), row), x.sum(), e),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_empty_values(name: str) -> None:
    fn = PROGRAMS[name]
    right = jax.tree_util.tree_leaves(fn(jnp.asarray(EMPTY), jnp.asarray(X)))
    got = jax.tree_util.tree_leaves(ditto.secure(fn)(EMPTY, X))
    for one, other in zip(got, right, strict=True):
        assert np.shape(one) == other.shape and np.asarray(one).dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_only_empty_arguments() -> None:
    assert ditto.secure(lambda e: e.sum(0))(EMPTY).tolist() == [0, 0, 0]
