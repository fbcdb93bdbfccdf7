"""Test that secret low-rank adapters of public weights are multiplied apart exactly where it pays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.owners.split_adapters import pays
from ditto_spu.passes.pipeline import advance, begin
from ditto_spu.plan.plan import KernelStep

RNG = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


X, W = normal(2, 48, 256), normal(256, 512, scale=1 / 16)
A, B = normal(256, 2, scale=1 / 16), normal(2, 512, scale=0.3)
OWNERS = {"x": "client", "a": "server", "b": "server"}


def compiled(fn, *args, owner=None, public=("w",)):
    """Return (the operations of the parties, the program), after a check of its meaning."""
    traced = trace(fn, args, public=public, owner=owner, held=())
    program = advance(begin(traced), "hoist").parts
    leaves = jax.tree_util.tree_leaves((args, {}))
    after = ir.evaluate(program.module, program.values(leaves))
    before = ir.evaluate(traced.module_text, leaves)
    np.testing.assert_allclose(after[0], before[0], atol=2e-5)
    operations = ir.ops(ir.body(ir.main(program.module)))[:-1]
    return [ir.composite_name(op) or op.name.partition(".")[2] for op in operations if op.operands], program


ALIKE = [
    lambda x, w, a, b: x @ (w + a @ b),
    lambda x, w, a, b: x @ (a @ b + w),
    lambda x, w, a, b: x @ (w + 0.5 * (a @ b)),
    lambda x, w, a, b: x @ (w + (a * 0.5) @ b),
    lambda x, w, a, b: x @ (w + (b.T @ a.T).T),
    lambda x, w, a, b: x @ (w.T + b.T @ a.T).T,
    lambda x, w, a, b: (w.T + b.T @ a.T) @ x[0].T,
    lambda x, w, a, b: jnp.einsum("bsi,io->bso", x, w + jnp.einsum("ir,ro->io", a, b)),
    lambda x, w, a, b: jnp.einsum("io,si->os", w + a @ b, x[1]),
]


@pytest.mark.parametrize("owner", [OWNERS, None], ids=["owned", "secret to everybody"])
@pytest.mark.parametrize("place", range(len(ALIKE)))
def test_an_adapter_is_multiplied_apart_however_it_is_written(place, owner, monkeypatch):
    monkeypatch.setattr("ditto_spu.passes.owners.split_adapters.ROUNDS", 0)
    left, program = compiled(ALIKE[place], X, W, A, B, owner=owner)
    assert left.count("ditto.adapted") == 1 and left.count("dot_general") == 1
    module = program.module
    (thin,) = [op for op in ir.walk(ir.main(module)) if op.name == "stablehlo.dot_general"]
    assert ir.path_of(thin).endswith("adapter") and 2 in ir.shape(thin.results[0])
    sizes = sorted(np.prod(each.shape) for each in program.arguments if each.owner)
    assert not owner or sizes == [A.size, B.size, X.size] or sizes == [A.size, B.size, X.size // 2]


def _tied(x, w, a, b):
    merged = w + a @ b
    return x @ merged + (x[..., ::-1] @ merged)


def test_a_sum_that_two_products_read_is_taken_apart_for_both():
    left, program = compiled(_tied, X, W, A, B, owner=OWNERS)
    assert left.count("ditto.adapted") == 2
    assert {each.shape for each in program.arguments if each.owner == "server"} == {A.shape, B.shape}


@pytest.mark.parametrize(
    ("fn", "args", "owner", "public"),
    [
        (ALIKE[0], (X, W, A, B), OWNERS | {"w": "server"}, ()),  # the server adds them at no cost
        (ALIKE[0], (X, W, A, B), None, ()),  # secret weights
        (ALIKE[0], (X, W, A, B), {"x": "client"}, ("w", "a", "b")),  # one public product
        (ALIKE[0], (X, W, A, B), dict.fromkeys("xab", "client"), ("w",)),  # the client does all of it
        (ALIKE[0], (X[:, :4], W, A, B), OWNERS, ("w",)),  # little work: two rounds take longer
        (ALIKE[0], (X, W, normal(256, 90), normal(90, 512)), OWNERS, ("w",)),  # not thin
        (lambda x, w, a, b: x @ (w * (a @ b)), (X, W, A, B), OWNERS, ("w",)),
        (lambda x, w, a, b: x @ (w + jnp.tanh(a @ b)), (X, W, A, B), OWNERS, ("w",)),
        (lambda x, w, a, b: x @ (w - a @ b), (X, W, A, B), OWNERS | {"a": "other"}, ("w",)),
    ],
)
def test_other_sums_stay_as_they_are(fn, args, owner, public):
    left, _ = compiled(fn, *args, owner=owner, public=public)
    assert "ditto.adapted" not in left


def test_the_rule_weighs_one_product_against_thin_ones_and_two_rounds():
    assert pays(128, 768, 768, 4) and pays(128, 768, 3072, 128)
    assert not pays(128, 768, 768, 128) and not pays(8, 768, 768, 4)


@pytest.mark.parametrize("masked", [False, True])
def test_it_runs_to_the_same_numbers_with_fewer_uploads(masked):
    def fn(x, w, a, b):
        with jax.named_scope("layer"):
            return x @ (w + a @ b)

    function = ditto.secure(fn, config="ditto", public=("w",), owner=OWNERS, masked=masked, checked=True)
    result = function.run(X, W, A, B)
    np.testing.assert_allclose(result.outputs, fn(X, W, A, B), atol=0.05)
    plan = function.lower(X, W, A, B).plan
    kernels = [step for step in plan.steps if isinstance(step, KernelStep)]
    assert [(step.kernel, step.path) for step in kernels] == [
        ("matmul", "layer/adapter"),
        ("matmul_adapted", "layer"),
    ]
    merged = ditto.secure(lambda x, w: x @ w, config="ditto", owner={"x": "client", "w": "server"})
    costs = [each.cost_analysis() for each in (function.lower(X, W, A, B), merged.lower(X, W + A @ B))]
    if not masked:  # the same bytes per result, and the bytes of xA
        thin = costs[0].rows[[row.kind for row in costs[0].rows].index("matmul")]
        assert sum(costs[0].bytes_sent_per_party) == sum(costs[1].bytes_sent_per_party) + sum(
            thin.online_bytes + thin.offline_bytes
        )


def test_rules_speak_of_both_products(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        'default = "fxp32.12"\n'
        '[[rule]]\npath = "layer"\nop = "weight"\nformat = "fxp32.11"\n'
        '[[rule]]\npath = "layer"\nop = "matmul"\nrange = 60\nformat = "fxp32.10"\noperand = "fxp32.11"\n'
        '[[rule]]\npath = "layer/adapter"\nop = "matmul"\nformat = "fxp32.14"\n'
    )

    def fn(x, w, a, b):
        with jax.named_scope("layer"):
            return x @ (w + a @ b)

    lowered = ditto.secure(fn, config=str(path), public=("w",), owner=OWNERS).lower(X, W, A, B)
    assert 'ditto.natural = "fxp32.22"' in lowered.as_text("formats")  # as without an adapter: room for 60
    plan = lowered.plan
    formats = {plan.vars[step.outputs[0]].path: plan.vars[step.outputs[0]] for step in plan.steps}
    assert str(formats["layer"].fxp) == "fxp32.10" and formats["layer"].range == 60
    assert str(formats["layer/adapter"].fxp) == "fxp32.14" and formats["layer/adapter"].range == 64
