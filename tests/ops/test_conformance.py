"""Check that each operation's record is complete, and that no other file quotes an operation's name.

Each option of a rule must also change a plan.
"""

import ast
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_kernels import KERNELS
from ditto_spu import ir, secure
from ditto_spu.errors import ConfigError
from ditto_spu.ops import BY_KERNEL, BY_NAME, OPS
from ditto_spu.ops.decision import Kind, decided, read, write
from ditto_spu.rules.rule import SUBJECTS, TAKES

ROOT = Path(__file__).parents[2]
X = np.linspace(-1.5, 1.4, 24, dtype=np.float32).reshape(4, 6)
P = np.abs(X) + 0.5
IDS = np.array([2, 0, 3], np.int32)

# For each operation a program whose operand is computed, so that formats are free to differ.
PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "matmul": (lambda x, w: x @ w, (X, X.T)),
    "add": (lambda x, w: x + w, (X, P)),
    "multiply": (lambda x, w: x * w, (X, P)),
    "softmax": (lambda x, w: jax.nn.softmax(x @ w, axis=-1), (X, X.T)),
    "layer_norm": (
        lambda x, w: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * w + w,
        (X, P[0]),
    ),
    "rms_norm": (lambda x, w: x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w, (X, P[0])),
    "silu": (lambda x, w: jax.nn.silu(x @ w), (X, X.T)),
    "softplus": (lambda x, w: jax.nn.softplus(x @ w), (X, X.T)),
    "mish": (lambda x, w: jax.nn.mish(x @ w), (X, X.T)),
    "gelu": (lambda x, w: jax.nn.gelu(x @ w, approximate=False), (X, X.T)),
    "tanh": (lambda x, w: jnp.tanh(x @ w), (X, X.T)),
    "sigmoid": (lambda x, w: jax.nn.sigmoid(x @ w), (X, X.T)),
    "exp": (lambda x, w: jnp.exp(x @ w), (X, X.T)),
    "logarithm": (lambda x, w: jnp.log(x @ w), (P, P.T)),
    "rsqrt": (lambda x, w: lax.rsqrt(x @ w), (P, P.T)),
    "sqrt": (lambda x, w: jnp.sqrt(x @ w), (P, P.T)),
    "sine": (lambda x, w: jnp.sin(x @ w), (X, X.T)),
    "odd_series": (lambda x, w: lax.erf(x @ w), (X, X.T)),
    "divide": (lambda x, w: x / w, (X, P)),
    "maximum": (lambda x, w: jnp.maximum(x, w), (X, P)),
    "argmax": (lambda x, w: jax.nn.one_hot(jnp.argmax(x @ w, 1), 4), (X, X.T)),
    "compare": (lambda x, w: x < w, (X, P)),
    "select": (lambda x, w: jnp.where(x < w, x, w), (X, P)),
    "abs": (lambda x, w: jnp.abs(x - w), (X, P)),
    "sign": (lambda x, w: jnp.sign(x - w), (X, P)),
    "clamp": (lambda x, w: lax.clamp(-w, x, w), (X, P)),
    "round": (lambda x, w: jnp.floor(x + w), (X, P)),
    "convert": (lambda x, w: (x < w).astype(jnp.float32), (X, P)),
    "logic": (lambda x, w: (x < w) & (x < 1), (X, P)),
    "embedding": (lambda x, w: jnp.take(x, w, axis=0, mode="clip"), (X, IDS)),
    "input": (lambda x, w: x * w, (X, P)),
    "weight": (lambda x, w: x @ w, (X, X.T)),
}
VALUES = {"format": "fxp32.10", "operand": "fxp32.14", "range": 40.0, "inner": "fxp64.17", "error": 0.05}
SCORES = {"op": "matmul", "path": ".*", "range": 5.0, "optional": True}  # "bounded" needs a range
EXACT = (
    "maximum",
    "argmax",
    "embedding",
    "compare",
    "select",
    "abs",
    "sign",
    "clamp",
    "logic",
    "round",
    "convert",
)


def plan(name: str, **values: Any) -> str:
    """Return the plan of the operation's program, with one rule that sets these values."""
    fn, args = PROGRAMS[name]
    path = {"path": ".*"} if name == "input" else {}
    rules = [{"op": name, **path, **values}, SCORES] if values else [SCORES]
    lowered = secure(fn, config={"default": "fxp32.12", "rule": rules}).lower(*args)
    return lowered.plan.hash()


def test_there_is_a_program_of_every_subject_of_rules():
    assert set(PROGRAMS) == set(SUBJECTS) == set(TAKES)


@pytest.mark.parametrize("name", OPS)
def test_a_record_is_complete(name):
    op = OPS[name]
    assert op.name == name
    assert op.summary
    assert set(op.kernels.values()) <= set(KERNELS)
    assert all(BY_NAME[each] is op for each in op.kernels)
    assert all(BY_KERNEL[each] is op for each in op.kernels.values())
    assert (op.pattern is None) == (
        not any(each.startswith("ditto.") for each in op.kernels)
    ) or name == "matmul"
    assert (op.puma is None) == (op.pattern is None)
    assert op.kind in (Kind.LOCAL, Kind.MULTIPLY, Kind.MATMUL, Kind.KERNEL)
    assert (op.facts is None) == (op.kind is Kind.LOCAL)
    assert ("approx" in op.options) == bool(op.approximations)
    assert len(op.approximations) != 1  # one alone is no choice
    if op.approximations:
        assert not next(iter(op.approximations.values())).needs_training
    exact = op.kind is not Kind.KERNEL or name in EXACT
    assert (op.sample is None) == exact


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in TAKES for value in TAKES[name]])
def test_every_value_that_a_rule_may_set_changes_the_plan(name, value):
    if value == "approx":
        plans = [plan(name, approx=each) for each in OPS[name].approximations]
        assert len(set(plans)) == len(plans)
    else:
        assert plan(name, **{value: VALUES[value]}) != plan(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in TAKES for value in (*VALUES, "approx") if value not in TAKES[name]],
)
def test_a_value_that_would_do_nothing_is_refused(name, value):
    rule = {"op": name, value: VALUES.get(value, "fourier")}
    with pytest.raises(ConfigError, match=name):
        secure(PROGRAMS[name][0], config={"default": "fxp32.12", "rule": [rule]})


def test_a_decision_is_read_as_it_was_written():
    fn, args = PROGRAMS["gelu"]
    rules = [{"op": "gelu", "operand": "fxp16.9", "approx": "table", "range": 5.5}]
    text = secure(fn, config={"default": "fxp32.12", "rule": rules}).lower(*args).as_text("formats")
    module, again = ir.parse(text), ir.parse(text)
    found = [op for op in ir.ops(ir.body(ir.main(module))) if read(op) is not None]
    assert [decided(op).kind for op in found] == [Kind.MATMUL, Kind.KERNEL]
    gelu = decided(found[1])
    assert (gelu.approx, gelu.range, str(gelu.operands[0]), str(gelu.format)) == (
        "table",
        5.5,
        "fxp16.9",
        "fxp32.12",
    )
    assert str(decided(found[0]).natural) == "fxp32.24"
    for op, copy in zip(ir.ops(ir.body(ir.main(module))), ir.ops(ir.body(ir.main(again))), strict=True):
        decision = read(op)
        if decision is not None:
            for each in list(copy.attributes):
                if each.name.startswith("ditto."):
                    del copy.attributes[each.name]
            write(copy, decision)
            assert read(copy) == decision


# StableHLO gives these names to arithmetic. Passes that rewrite arithmetic read them off operations.
ARITHMETIC = {"add", "multiply", "divide", "maximum", "tanh", "compare", "select", "convert"}


@pytest.mark.parametrize("room", ["passes", "calibration", "search"])
def test_no_pass_quotes_the_name_of_an_operation(room):
    structural = (
        "stablehlo.multiply",
        "stablehlo.dot_general",
        "stablehlo.reduce",
        "stablehlo.select",
        "stablehlo.convert",
    )
    names = set(OPS) - ARITHMETIC | set(BY_NAME) - set(structural) | {f"ditto.{name}" for name in OPS}
    quoted = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.value}"
        for file in sorted((ROOT / "ditto_spu" / room).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]
    assert quoted == []


def test_only_one_file_knows_the_attributes_of_decisions():
    attributes = {f"ditto.{name}" for name in ("kind", "path", "format", "natural", "operands", "factor")}
    attributes |= {
        f"ditto.{name}" for name in ("approx", "inner", "range", "arguments", "binary", "prepared")
    }
    files = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "ditto_spu").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in attributes
    ]
    assert set(files) == {"ditto_spu/ops/decision.py"}
