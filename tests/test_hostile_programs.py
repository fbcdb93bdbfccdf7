"""Odd programs give the results of plain JAX, or a DittoError that says what to write instead.

Nothing else may happen: no bare error of Python, no wrong value, no end of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu.errors import DittoError

X = np.array([[0.5, -1.25, 2.0, 0.75], [1.5, 0.25, -0.5, 1.0], [-2.0, 1.25, 0.5, -0.75]], np.float32)
P = np.abs(X) + 0.75
N = np.array([[3, -5, 6, 0], [9, 12, -20, 7]], np.int32)
B = X > 0
IMAGE = np.linspace(-1, 1, 2 * 6 * 6 * 4, dtype=np.float32).reshape(2, 6, 6, 4)
KERNEL = np.linspace(-0.5, 0.5, 3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4)
PLAIN = np.linspace(-0.5, 0.5, 3 * 3 * 4 * 2, dtype=np.float32).reshape(3, 3, 4, 2)
LAYOUT = ("NHWC", "HWIO", "NHWC")


class Odd(NamedTuple):
    """A program and its arguments, all secret but `public`. `refused`: a part of the message, if it is."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = (X,)
    public: tuple[str, ...] = ()
    refused: str = ""
    atol: float = 0.02


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def grouped(x: Any, kernel: Any) -> Any:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT, feature_group_count=2
    )


def dilated(x: Any, kernel: Any) -> Any:
    return lax.conv_general_dilated(
        x,
        kernel,
        (2, 1),
        ((1, 1), (2, 0)),
        lhs_dilation=(1, 2),
        rhs_dilation=(2, 1),
        dimension_numbers=LAYOUT,
    )


def squares(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: (fn(*args) ** 2).sum() * 0.05


def callback(x: Any) -> Any:
    return jax.pure_callback(lambda y: np.asarray(y), jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def fibonacci(x: Any) -> Any:
    return lax.fori_loop(0, 5, lambda i, s: (s[1], s[0] + s[1]), (x, x))[0]


def until(x: Any) -> Any:
    return lax.while_loop(lambda s: s.sum() < 10, lambda s: s + 1, x)


def nested(x: Any) -> Any:
    inner = jax.jit(lambda y: jax.jit(jnp.tanh)(y) * 0.5)
    return lax.scan(lambda c, row: (inner(c + row), inner(row)), jnp.zeros(4), x)


PROGRAMS: dict[str, Odd] = {
    # shapes
    "scalar": Odd(lambda x: x * x + 1, (np.float32(0.5),)),
    "python scalars": Odd(lambda a, b: a * b, (0.5, 2)),
    "one element": Odd(lambda x: x.sum(keepdims=True) * 2, (X[:1, :1],)),
    "empty slice": Odd(lambda x: x[:, 2:2]),
    "sum of nothing": Odd(lambda x: x[:0].sum(axis=0)),
    "concatenated with nothing": Odd(lambda x: jnp.concatenate([x[:0], x])),
    "empty product": Odd(lambda x: x[:, :0] @ x.T[:0]),
    "empty argument": Odd(lambda x: x, (X[:0],)),
    "the argument itself": Odd(lambda x: x),
    "a constant": Odd(lambda x: jnp.ones(3)),
    "the same output twice": Odd(lambda x: (x, x, x * 1)),
    "negative pad": Odd(lambda x: lax.pad(x, np.float32(0), [(-1, 0, 0), (1, -2, 1)])),
    "rank six": Odd(lambda x: x[:, None, :, None, None, None] + jnp.zeros((1, 2, 1, 2, 1, 2))),
    # integers and booleans
    "int8": Odd(lambda n: n + n, (N.astype(np.int8),)),
    "int16": Odd(lambda n: n * n, (N.astype(np.int16),)),
    "uint8": Odd(lambda n: n + n, (np.array([1, 100, 200], np.uint8),)),
    "uint32": Odd(lambda n: n * 3, (np.array([1, 2**30], np.uint32),)),
    "int32 wraps": Odd(lambda n: n * 3, (np.array([2**30, -(2**31)], np.int32),)),
    "integer division": Odd(lambda n: n // 4, (N,)),
    "integer remainder": Odd(lambda n: n % 7, (N,)),
    "remainders of floats": Odd(
        lambda a, b: (jnp.remainder(a, b), jnp.fmod(a, b), jnp.divmod(a, b)[1]),
        (np.array([-1, -4, 5.5, -5.5, 7.25, 0], np.float32), np.array([1, 2, 2, 2, -2, 3], np.float32)),
    ),
    "truncation": Odd(lambda x: x.astype(jnp.int32)),
    "boolean sums": Odd(lambda b: (b.sum(), b.sum(axis=0), b.mean(), b.any(), b.all(axis=1)), (B,)),
    "boolean arithmetic": Odd(lambda b: (b + b, b * 2, b * 0.5, ~b ^ b), (B,)),
    "bits": Odd(lambda n: (n & 6, n | 1, n ^ -1, n << 2, n >> 1), (N,)),
    "population count": Odd(lambda n: lax.population_count(n), (N,)),
    "leading zeros": Odd(lambda n: lax.clz(n), (N,)),
    "integer power": Odd(lambda n: n**3, (N,)),
    "promotion": Odd(lambda x, n, b: x[:2] + n * b[:2], (X, N, B)),
    "float16": Odd(lambda x: x * 2 + 1, (X.astype(np.float16),)),
    "bfloat16 inside": Odd(lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32)),
    "int64 outside": Odd(lambda n: n + 1, (N.astype(np.int64),)),
    # order and reductions
    "argmax of ties": Odd(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.argmax(x)), (np.round(X),)),
    "max over all axes": Odd(lambda x: (x.max(), x.min(axis=(0, 1)), jnp.ptp(x))),
    "several axes": Odd(lambda x: (x.sum((0, 2)), x.max((1, 2)), x.mean((0, 1, 2))), (IMAGE[0],)),
    "product": Odd(lambda x: x.prod(axis=0)),
    "cumulative": Odd(lambda x: (jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1), lax.cummin(x, 0))),
    "cumulative backwards": Odd(lambda x: (lax.cumsum(x, 1, True), lax.cumlogsumexp(x[0])), atol=0.05),
    "sorts": Odd(lambda x: (jnp.sort(x, 0), jnp.argsort(x, 1), jnp.median(x, axis=1))),
    "top k": Odd(lambda x: lax.top_k(x, 2)),
    "searchsorted": Odd(lambda x: jnp.searchsorted(jnp.array([-1.0, 0.0, 1.0]), x)),
    "histogram": Odd(lambda x: jnp.histogram(x, bins=3, range=(-2.0, 2.0))[0]),
    "unique": Odd(lambda x: jnp.unique(x), refused="size"),
    # products
    "einsum": Odd(lambda x, p: jnp.einsum("ij,kj,k->i", x, p, x[:, 0]), (X, P), atol=0.05),
    "trace and diagonal": Odd(lambda x: (jnp.trace(x[:, :3]), jnp.diag(x[:, :3]), jnp.diag(x[0]))),
    "outer and kron": Odd(lambda x: (jnp.outer(x[0], x[1]), jnp.kron(x[:1], x[:2, :2]))),
    "batched product": Odd(lambda x: lax.dot_general(x, x, (((1,), (1,)), ((0,), (0,))))),
    "product over two axes": Odd(lambda x: jnp.tensordot(x, x, 2)),
    "integer product": Odd(lambda n: n @ n.T, (N,)),
    "matrix power": Odd(lambda x: jnp.linalg.matrix_power(x[:, :3] * 0.5, 3)),
    "vector products": Odd(lambda x: (x[0] @ x[1], x @ x[0], x[:, 0] @ x)),
    # convolutions and gradients
    "grouped convolution": Odd(grouped, (IMAGE, KERNEL)),
    "dilated convolution": Odd(dilated, (IMAGE, PLAIN)),
    "gradient of a convolution": Odd(jax.grad(squares(dilated), argnums=(0, 1)), (IMAGE, PLAIN), atol=0.05),
    "gradient of a grouped one": Odd(jax.grad(squares(grouped), argnums=(0, 1)), (IMAGE, KERNEL), atol=0.05),
    "max pooling": Odd(pool, (IMAGE,)),
    "gradient of max pooling": Odd(jax.grad(squares(pool)), (IMAGE,)),
    "gradient of a product": Odd(jax.grad(lambda x: (jnp.tanh(x @ x.T) ** 2).sum()), atol=0.05),
    "jacobian": Odd(jax.jacobian(lambda x: jnp.tanh(x[0]) * x[1])),
    "second derivative": Odd(jax.grad(lambda v: jax.grad(jnp.tanh)(v)), (np.float32(0.5),)),
    # control flow
    "nested jit and scan": Odd(nested),
    "fori_loop": Odd(fibonacci, atol=0.05),
    "secret condition of a loop": Odd(until, refused="secret condition"),
    "cond on a secret": Odd(lambda x: lax.cond(x[0, 0] > 0, lambda y: y + 1, lambda y: y * 2, x)),
    "switch beyond its branches": Odd(
        lambda x, n: lax.switch(n[1, 1], [lambda y: y, lambda y: -y], x), (X, N)
    ),
    "vmap of cond": Odd(jax.vmap(lambda r: lax.cond(r[0] > 0, jnp.sum, lambda y: y[1] * 0.5, r))),
    "associative scan": Odd(lambda x: lax.associative_scan(jnp.add, x, axis=1)),
    "checkpoint": Odd(jax.grad(lambda x: jax.checkpoint(jnp.tanh)(x).sum())),
    # indices
    "set at a secret index": Odd(lambda x, n: x.at[n[0, 0]].set(1.0), (X, N)),
    "set at a public index": Odd(lambda x, n: x.at[n[0, 0] - 1].add(1.0), (X, N), ("n",)),
    "boolean index": Odd(lambda x: x[x > 0], refused="jnp.where"),
    "take along": Odd(lambda x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1)),
    "dynamic slice": Odd(lambda x, n: lax.dynamic_slice(x, (n[0, 0], n[0, 1]), (2, 2)), (X, N)),
    "roll": Odd(lambda x: (jnp.roll(x, 1, 0), jnp.flip(x), jnp.rot90(x))),
    "nonzero": Odd(lambda x: jnp.nonzero(x > 0, size=4)[0]),
    # what nothing can compute
    "callback": Odd(callback, refused="callbacks"),
    "print": Odd(lambda x: (jax.debug.print("{}", x), x)[1], refused="callbacks"),
    "fft": Odd(lambda x: jnp.fft.fft(x).real, refused="complex"),
    "complex": Odd(lambda x: jnp.abs(x + 1j * x), refused="complex"),
    "random": Odd(lambda k: jax.random.normal(k, (3,)), (np.array([0, 1], np.uint32),), refused="bits of"),
    "bits of a float": Odd(lambda x: lax.bitcast_convert_type(x, jnp.int32), refused="bits of f32"),
    "nan": Odd(lambda x: jnp.where(x > 0, x, jnp.nan), refused="NaN or infinity"),
    "logarithm of zero": Odd(lambda x: jnp.log(x * 0), refused="for every input"),
    "nan that nothing chooses": Odd(lambda x: jnp.where(x > 5, jnp.nan, x)),
    # linear algebra
    "inverse": Odd(lambda x: jnp.linalg.inv(x[:, :3] @ x[:, :3].T + 3 * jnp.eye(3))),
    "cholesky": Odd(lambda x: jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(3))),
    "determinant": Odd(lambda x: jnp.linalg.det(x[:, :3]), atol=0.05),
    "eigenvalues": Odd(lambda x: jnp.linalg.eigvalsh(x @ x.T), refused="LAPACK"),
    "norms": Odd(lambda x: (jnp.linalg.norm(x), jnp.linalg.norm(x, axis=1)), atol=0.05),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_right_or_refused(name: str) -> None:
    odd = PROGRAMS[name]
    try:
        got = ditto.secure(odd.fn, public=odd.public, seed=1)(*odd.args)
    except DittoError as error:
        assert odd.refused, f"it should run: {error}"
        assert odd.refused in str(error)
        return
    assert not odd.refused, "it should be refused"
    expected = jax.jit(odd.fn)(*odd.args)
    for mine, plain in zip(*map(jax.tree_util.tree_leaves, (got, expected)), strict=True):
        assert np.shape(mine) == plain.shape and np.asarray(mine).dtype == plain.dtype
        np.testing.assert_allclose(np.float64(mine), np.float64(plain), atol=odd.atol)
