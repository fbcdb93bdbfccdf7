"""Decompositions and linear systems are written out, with pivots; what LAPACK alone computes is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import UnsupportedOpError

A = np.array([[4.0, 1.0, -0.5], [1.0, 3.0, 0.75], [-0.5, 0.75, 2.5]], np.float32)
B = np.array([[1.0, -2.0], [0.5, 1.5], [2.0, 0.25]], np.float32)


@pytest.mark.parametrize("upper", [False, True])
def test_cholesky(upper: bool) -> None:
    factor = np.linalg.cholesky(np.float64(A))
    got = ditto.secure(lambda a: jnp.linalg.cholesky(a, upper=upper))(A)
    np.testing.assert_allclose(got, factor.T if upper else factor, atol=5e-3)


def test_a_batch_of_matrices() -> None:
    got = ditto.secure(lambda a: jnp.linalg.cholesky(jnp.stack([a, a * 2])))(A)
    np.testing.assert_allclose(got[1], np.linalg.cholesky(2 * np.float64(A)), atol=5e-3)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangular_systems(lower: bool, turned: bool, unit: bool) -> None:
    def solve(a: Any, b: Any) -> Any:
        return jsl.solve_triangular(a, b, trans=int(turned), lower=lower, unit_diagonal=unit)

    part = np.tril(np.float64(A)) if lower else np.triu(np.float64(A))
    if unit:
        np.fill_diagonal(part, 1.0)
    expected = np.linalg.solve(part.T if turned else part, np.float64(B))
    np.testing.assert_allclose(ditto.secure(solve)(A, B), expected, atol=1e-2)
    np.testing.assert_allclose(ditto.secure(solve)(A, B[:, 0]), expected[:, 0], atol=1e-2)


@pytest.mark.parametrize("config", ["ditto", "uniform64"])
def test_positive_definite_systems(config: str) -> None:
    got = ditto.secure(lambda a, b: jsl.cho_solve(jsl.cho_factor(a), b), config=config)(A, B)
    np.testing.assert_allclose(got, np.linalg.solve(np.float64(A), np.float64(B)), atol=1e-2)


@pytest.mark.parametrize("rows", [2, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 3, 5))])
def test_systems_that_need_pivots(rows: int) -> None:
    a = (np.random.default_rng(rows).normal(size=(rows, rows)) + np.eye(rows))[::-1]
    b = np.arange(1.0, rows + 1)
    single = a.astype(np.float32)
    np.testing.assert_allclose(ditto.secure(jnp.linalg.inv)(single), np.linalg.inv(a), atol=1e-2)
    got = ditto.secure(jnp.linalg.solve)(single, b.astype(np.float32))
    np.testing.assert_allclose(got, np.linalg.solve(a, b), atol=1e-2)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (4, 2), *(pytest.param(each, marks=pytest.mark.slow) for each in ((3, 3), (2, 3), (2, 3, 2)))],
)
def test_qr(shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    q, r = ditto.secure(lambda a: jnp.linalg.qr(a))(a)
    expected = np.linalg.qr(a.astype(np.float64))
    np.testing.assert_allclose(q, expected.Q, atol=1e-3)
    np.testing.assert_allclose(r, expected.R, atol=1e-3)


# Rounding decides the sign of a column whose rest is zero. Both signs are a right factor.
@pytest.mark.filterwarnings(r"ignore:output \d is off:ditto_spu.errors.RangeWarning")
def test_qr_of_columns_that_need_no_reflection() -> None:
    a = np.array([[2.0, 1.0, 0.5], [0.0, -3.0, 1.0], [0.0, 0.0, 1.5], [0.0, 0.0, 0.0]], np.float32)
    q, r = ditto.secure(lambda a: jnp.linalg.qr(a, mode="complete"))(a)
    np.testing.assert_allclose(q @ r, a, atol=1e-3)
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-3)


@pytest.mark.slow
def test_least_squares_by_qr_and_its_gradient() -> None:
    a = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    y = np.arange(5, dtype=np.float32)

    def solved(a: Any, y: Any) -> Any:
        q, r = jnp.linalg.qr(a)
        return jsl.solve_triangular(r, q.T @ y)

    np.testing.assert_allclose(ditto.secure(solved)(a, y), np.linalg.lstsq(a, y, None)[0], atol=2e-3)
    slope = jax.grad(lambda a: (jnp.linalg.qr(a)[1] ** 2).sum())
    np.testing.assert_allclose(ditto.secure(lambda a: slope(a))(a), slope(a), atol=3e-3)


@pytest.mark.parametrize("rows", [2, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 3, 4))])
def test_determinants(rows: int) -> None:
    a = np.random.default_rng(rows).normal(size=(rows, rows)).astype(np.float32)
    exact = a.astype(np.float64)
    np.testing.assert_allclose(ditto.secure(jnp.linalg.det)(a), np.linalg.det(exact), atol=1e-3)
    sign, size = ditto.secure(jnp.linalg.slogdet)(a)
    np.testing.assert_allclose((sign, size), np.linalg.slogdet(exact), atol=1e-3)


def test_infinite_masks_of_argmax() -> None:
    x = np.array([3.0, -1.0, 2.0, 2.0], np.float32)
    for mask in ([0, 1, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]):
        fn = ditto.secure(lambda x, m: jnp.argmax(jnp.where(m, x, -jnp.inf)))
        assert fn(x, np.array(mask, bool)) == np.argmax(np.where(mask, x, -np.inf))


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (jnp.linalg.eigh, r"eigenvalues of a symmetric matrix\); callbacks and LAPACK"),
        (jnp.linalg.svd, "singular values"),
        (jnp.linalg.pinv, "singular values"),
        (lambda a: jnp.linalg.eigvals(a).real, "complex"),
    ],
)
def test_the_others_are_refused(fn: Callable[..., Any], remedy: str) -> None:
    with pytest.raises(UnsupportedOpError, match=remedy):
        ditto.secure(lambda a: fn(a))(A)


def test_a_large_matrix_is_refused() -> None:
    with pytest.raises(UnsupportedOpError, match=r"test_linear_algebra\.py:\d+.*100 rows"):
        ditto.secure(lambda a: jnp.linalg.cholesky(a)).lower(np.eye(100, dtype=np.float32))
