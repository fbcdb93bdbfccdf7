"""Test unrolled loops, chosen branches, and other forms of programs that a user may bring."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse import unroll_control_flow
from ditto_spu.passes.fuse.fuse import fuse

X = jnp.linspace(-2, 1.7, 12, dtype=jnp.float32).reshape(3, 4)
I = np.array([2, 0], np.int32)  # noqa: E741


def fused(fn: Callable[..., Any], *args: Any, public: tuple[str, ...] = ()) -> ir.Module:
    """Return fn fused, after a check that it gives the same result as before."""
    traced = trace(fn, args, public=public)
    module = fuse(ir.parse(traced.module_text), traced.public)
    leaves = jax.tree_util.tree_leaves(args)
    for old, new in zip(ir.evaluate(traced.module_text, leaves), ir.evaluate(module, leaves), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)
    return module


def names(module: ir.Module) -> list[str]:
    return [op.name.partition(".")[2] for op in ir.walk(ir.main(module))]


def layers(x: Any, weights: Any) -> Any:
    """Apply scanned layers, as deep models are written in Flax."""
    return lax.scan(lambda h, w: (h + jax.nn.gelu(h @ w, approximate=False), h.sum()), x, weights)


def nested(x: Any) -> Any:
    return lax.fori_loop(0, 2, lambda i, c: lax.fori_loop(0, i + 1, lambda _, d: jnp.tanh(d), c) + i, x)


def counted(x: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < 20, lambda s: (s[0] * 3, s[1] * 0.5), (2, x))


def kalman(measured: Any) -> Any:
    """The variance of the state depends on constants alone, and each turn writes it as a constant."""

    def step(state: Any, z: Any) -> Any:
        mean, variance = state
        gain = (variance + 0.1) / (variance + 0.6)
        mean = mean + gain * (z - mean)
        return (mean, (1 - gain) * (variance + 0.1)), mean

    return lax.scan(step, (0.0, 1.0), measured)[1]


def test_a_loop_with_a_known_float() -> None:
    assert "while" not in names(fused(kalman, X.ravel()[:4]))


def test_scan_over_layers_uses_kernels() -> None:
    module = fused(layers, X, 0.3 * jnp.ones((3, 4, 4)))
    found = [ir.composite_name(op) for op in ir.walk(ir.main(module))]
    assert found.count("ditto.gelu") == 3 and "while" not in names(module)


@pytest.mark.parametrize("loop", [nested, counted, lambda x: lax.scan(lambda c, r: (c, r + c), X[0], x)[1]])
def test_loops_of_known_length_are_unrolled(loop: Callable[..., Any]) -> None:
    assert "while" not in names(fused(loop, X))


def test_longer_loops_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unroll_control_flow, "MAX_TURNS", 2)
    assert "while" in names(fused(counted, X))
    monkeypatch.setattr(unroll_control_flow, "MAX_TURNS", 3)
    monkeypatch.setattr(unroll_control_flow, "MAX_OPERATIONS", 4)
    assert "while" in names(fused(counted, X))


def test_loops_over_public_values_are_left_to_xla() -> None:
    module = fused(lambda x, y: x + counted(y)[1], X, X, public=("y",))
    assert "while" in names(module)


def test_a_constant_chooses_its_branch_alone() -> None:
    def chosen(x: Any) -> Any:
        return lax.switch(jnp.int32(7), [jnp.tanh, jnp.sin, lambda y: 3 * y], x)

    assert not {"case", "tanh", "sine", "select"} & set(names(fused(chosen, X)))


def test_branches_cost_no_spu_and_are_right() -> None:
    def cond(x: Any, n: Any) -> Any:
        return lax.cond(n > 2, lambda y: (jnp.tanh(y), y[0]), lambda y: (2 * y, y[1]), x)

    def switch(x: Any, n: Any) -> Any:
        return lax.switch(n, [lambda y: y + 1, lambda y: 2 * y, lambda y: -y], x)

    for fn, turns in ((cond, (2, 3)), (switch, (-1, 0, 1, 9))):
        for public in (("n",), ()):
            secure = ditto.secure(fn, public=public, seed=1)
            for n in turns:
                result, plain = secure.run(X, np.int32(n)), fn(X, np.int32(n))
                for mine, expected in zip(
                    *map(jax.tree_util.tree_leaves, (result.outputs, plain)), strict=True
                ):
                    np.testing.assert_allclose(mine, expected, atol=0.01)
            assert "spu" not in [row.kind for row in result.report.rows]


def test_a_loop_until_something_secret_holds_is_refused() -> None:
    def until(x: Any) -> Any:
        return lax.while_loop(lambda y: y.sum() < 10, lambda y: y + 1, x)

    with pytest.raises(UnsupportedOpError, match="secret condition: loop a public number of times"):
        ditto.secure(until)(X)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]]] = {
    "vmap": (lambda x: jax.vmap(lambda row: jax.nn.softmax(row) * row)(x), (X,), ()),
    "vmapped cond": (
        lambda x, p: jax.vmap(lambda r, q: lax.cond(q, jnp.tanh, jnp.negative, r))(x, p),
        (X, np.array([True, False, True])),
        ("p",),
    ),
    "einsum": (lambda x, y: jnp.einsum("ij,kj,kl->il", x, y, y), (X, X[::-1]), ()),
    "outer": (lambda x, y: jnp.einsum("bi,bj->bij", x, y), (X, X[::-1]), ()),
    "cumsum": (lambda x: jnp.cumsum(x, axis=1), (X,), ()),
    "checkpoint": (lambda x: jax.checkpoint(jnp.tanh)(x), (X,), ()),
    "half": (lambda x, w: jax.nn.softmax(x @ w.T), (X.astype(jnp.float16), X.astype(jnp.float16)), ()),
    "brain": (lambda x, w: jax.nn.gelu(x @ w.T), (X.astype(jnp.bfloat16), X.astype(jnp.bfloat16)), ()),
    "half inside": (
        lambda x: (x.astype(jnp.float16) @ x.T.astype(jnp.float16)).astype(jnp.float32),
        (X,),
        (),
    ),
    "integers": (lambda x, n: x * n + n, (X, np.int32(3)), ()),
    "set": (lambda x, i: x.at[i].set(x[:2] + 1), (X, I), ("i",)),
    "add at": (lambda x, i: x.at[:, i].add(1.5), (X, I), ("i",)),
    "take along": (lambda x, i: jnp.take_along_axis(x, i, axis=1), (X, np.array([[3], [0], [2]])), ("i",)),
    "top k": (lambda x: lax.top_k(x, 2), (X,), ()),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    fn, args, public = PROGRAMS[name]
    outputs, expected = ditto.secure(fn, public=public, seed=1)(*args), fn(*args)
    for mine, plain in zip(*map(jax.tree_util.tree_leaves, (outputs, expected)), strict=True):
        assert mine.shape == plain.shape
        np.testing.assert_allclose(np.asarray(mine, np.float64), np.asarray(plain, np.float64), atol=0.03)
