"""Test who computes each value, where the program is cut, and that no owner's array reaches another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.pipeline import advance, begin

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((2, 4, 6)).astype(np.float32)
V = W[0]
IDS = np.array([[0, 3, 1]], np.int32)
MASK = np.array([1, 1, 0, 1], np.int32)


def hoisted(fn, *args, owner=None, public=(), held=()):
    """Return the program after two checks.

    Preparations read only what they may, and the whole program means what it did.
    """
    traced = trace(fn, args, public=public, owner=owner, held=held)
    program = advance(begin(traced), "hoist").parts
    leaves = jax.tree_util.tree_leaves((args, {}))
    for each in program.preparations:
        for place in each.inputs:
            argument = traced.arguments[place]
            assert argument.public or argument.owner == each.owner, (each.owner, argument)
    after = ir.evaluate(program.module, program.values(leaves))
    before = ir.evaluate(traced.module_text, leaves)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    visibility(program.module, program.public)
    return program


def shared(program):
    return {each.path: each.shape for each in program.arguments if not each.public}


def left(program):
    """Return the operations of the parties, without constants and bodies of composites."""
    operations = ir.ops(ir.body(ir.main(program.module)))[:-1]
    return [ir.composite_name(op) or op.name.partition(".")[2] for op in operations if op.operands]


OWNERS = {"x": "client", "w": "server"}


@pytest.mark.parametrize(
    ("fn", "remains"),
    [
        (lambda x, w: jnp.tanh(x) @ w.T, ["dot_general"]),  # elementwise work and a transposition
        (lambda x, w: jax.nn.softmax(x) @ jax.nn.gelu(w).T, ["dot_general"]),  # composites
        (lambda x, w: jnp.sort(x) @ jnp.cumsum(w, 1).T, ["dot_general"]),  # work that SPU would do
        (lambda x, w: (x @ x.T) @ (w / w.sum()), ["dot_general"]),  # products and divisions
        (lambda x, w: lax.fori_loop(0, 3, lambda i, y: y * 0.5, x) @ w.T, ["dot_general"]),  # regions
        (lambda x, w: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x) + w, ["add"]),
        (lambda x, w: x * 2 + w, ["add"]),
        (lambda x, w: x @ w.T @ x, ["dot_general", "dot_general"]),  # mixed work stays with the parties
    ],
)
def test_what_one_owner_has_is_computed_there(fn, remains):
    program = hoisted(fn, X, W, owner=OWNERS)
    assert [each for each in left(program) if each not in ("transpose", "reshape")] == remains
    assert {each.owner for each in program.preparations} <= {"client", "server"}


def test_public_arrays_belong_to_everybody():
    program = hoisted(lambda x, w: jnp.tanh(x @ w.T) @ w, X, W, owner={"x": "client"}, public=("w",))
    assert shared(program) == {"client:dot_general": (4, 6)} and not left(program)
    assert not hoisted(lambda x, w: jnp.tanh(w) + x, X, W, public=("w",)).preparations


def test_an_array_without_an_owner_is_left_alone():
    program = hoisted(lambda x, w: jnp.tanh(x) @ jnp.tanh(w).T, X, W, owner={"x": "client"})
    assert shared(program) == {"w": (4, 6), "client:tanh": (4, 6)}
    assert left(program).count("tanh") == 1


def test_shares_are_made_where_they_are_smallest():
    program = hoisted(lambda v, w: jnp.broadcast_to(v, (99, 6)) @ w.T, V, W, owner={"v": "a", "w": "b"})
    assert shared(program) == {"v": (6,), "w": (4, 6)}  # a broadcast is free on shares
    program = hoisted(lambda x, w: (x[:1] + x[1:2]) @ w.T, X, W, owner=OWNERS)
    assert (1, 6) in shared(program).values() and "x" not in shared(program)


def test_held_arguments_are_shared_once_whatever_a_call_brings():
    def fn(w, x, rows):
        return x + jnp.take(w, rows, axis=0)

    options = {"owner": {"w": "server", "x": "client"}, "public": ("rows",)}
    program = hoisted(fn, W, X, MASK, **options)
    assert shared(program) == {"x": (4, 6), "server:embedding": (4, 6)}
    program = hoisted(fn, W, X, MASK, **options, held=("w",))
    assert shared(program) == {"w": (4, 6), "x": (4, 6)}
    assert program.held(("w",)) == (0,) and program.held(("w", "rows")) == (0, 2)


def test_own_ids_become_one_hot_rows():
    def fn(table, ids):
        return jnp.take(table, ids, axis=0)

    program = hoisted(fn, W, IDS, owner={"table": "server", "ids": "client"})
    assert list(shared(program).values()) == [(4, 6), (1, 3, 4)]
    assert "dot_general" in left(program) and "ditto.embedding" not in left(program)
    assert "ditto.embedding" in left(hoisted(fn, W, IDS, owner={"table": "server"}))
    program = hoisted(fn, W, IDS, owner={"ids": "client"}, public=("table",))
    assert shared(program) == {"client:embedding": (1, 3, 6)}


def test_outputs_of_one_owner_are_shared_like_others():
    program = hoisted(lambda x, w: (jnp.tanh(x), x @ w.T), X, W, owner=OWNERS)
    assert (4, 6) in shared(program).values() and left(program)[-1] == "dot_general"


def test_without_owners_nothing_changes():
    traced = trace(lambda x, w: jnp.tanh(x) @ w.T, (X, W))
    program = advance(begin(traced), "hoist").parts
    assert not program.preparations and program.arguments == traced.arguments
    assert program.values([X, W])[1] is W


def pre_norm(w, gamma, beta, x):
    """A LayerNorm that only a product reads, as in GPT-2."""
    centred = x - x.mean(-1, keepdims=True)
    normed = centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
    return normed @ w.T


@pytest.mark.parametrize(
    ("fn", "owner", "public", "folded"),
    [
        (pre_norm, {"w": "a", "gamma": "a", "beta": "a"}, (), True),
        (pre_norm, {"w": "a", "gamma": "a"}, ("beta",), True),
        (pre_norm, {"w": "a", "gamma": "b", "beta": "b"}, (), False),  # weights of two owners
        (pre_norm, {"w": "a"}, ("gamma", "beta"), False),  # public ones cost nothing
        (lambda w, g, b, x: pre_norm(w, g, b, x) @ w, {"w": "a", "g": "a", "b": "a"}, (), False),  # tied
    ],
)
def test_a_scale_is_folded_into_the_product_behind_it(fn, owner, public, folded):
    program = hoisted(fn, W, V, W[1], X, owner=owner, public=public)
    (norm,) = [
        op for op in ir.ops(ir.body(ir.main(program.module))) if ir.composite_name(op) == "ditto.layer_norm"
    ]
    constants = [ir.define(each) is not None for each in norm.operands[1:]]
    assert all(constants) == folded
    products = [name for each in program.preparations for _, name in each.operations if "dot" in name]
    assert len(products) == folded  # the products of shift and weights
