"""Intervals hold every value, and are as narrow as the functions allow."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.errors import RangeError
from ditto_spu.frontend.trace import trace

X = np.array([-2.0, 0.0, 0.5, 3.0], np.float32)
PROGRAMS: dict[str, tuple[Callable[[Any], Any], ir.Interval]] = {
    "tanh": (jnp.tanh, (-1, 1)),
    "sum": (lambda x: jnp.tanh(x).sum(), (-4, 4)),
    "square": (lambda x: jnp.square(jnp.sin(x)), (0, 1)),
    "difference": (lambda x: 3 - 2 * jnp.cos(x), (1, 5)),
    "quotient": (lambda x: jnp.tanh(x) / (3 + jnp.tanh(x)), (-0.5, 0.5)),
    "clip": (lambda x: jnp.clip(x, -3, 2) - 1, (-4, 1)),
    "maximum": (lambda x: jnp.maximum(jnp.tanh(x), 0.5), (0.5, 1)),
    "minimum of elements": (lambda x: jnp.min(jnp.tanh(x)), (-1, 1)),
    "product of matrices": (lambda x: jnp.tanh(x) @ jnp.full(4, 2.0), (-8, 8)),
    "exponential": (lambda x: jnp.exp(jnp.tanh(x)), (np.exp(-1), np.exp(1))),
    "boolean": (lambda x: (x > 0).astype(jnp.float32) * 5, (0, 5)),
    "choice": (lambda x: jnp.where(x > 0, jnp.tanh(x), 7.0), (-1, 7)),
    "joined": (lambda x: jnp.concatenate([jnp.tanh(x), jnp.full(2, -3.0)]), (-3, 1)),
    "unknown": (lambda x: x + 1, (-np.inf, np.inf)),
    "unknown quotient": (lambda x: 1 / jnp.tanh(x), (-np.inf, np.inf)),
    "infinite constants": (lambda x: jnp.full(4, np.inf) + x - np.inf, (-np.inf, np.inf)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interval_of_the_result(name: str) -> None:
    fn, right = PROGRAMS[name]
    module = ir.parse(trace(fn, (X,)).module_text)
    ir.inline_calls(module)
    found = ir.intervals(module, lambda op: None, lambda op: False)
    result = ir.ops(ir.body(ir.main(module)))[-1].operands[0]
    np.testing.assert_allclose(found[result], right, rtol=1e-6)


def test_grounds_of_ranges() -> None:
    fn = ditto.secure(lambda x: jax.nn.softmax(x) * x)
    rows = {(row.op, row.what): row.ground for row in fn.lower(X).ranges().rows}
    assert rows["softmax", "result"] == rows["multiply", "operand"] == "proven"
    assert rows["softmax", "operand"] == rows["multiply", "product"] == "unknown"
    rows = {(row.op, row.what): row.ground for row in fn.lower(X).ranges(fn.calibrate([(X,)])).rows}
    assert rows["softmax", "result"] == "proven" and rows["multiply", "product"] == "calibrated"


def test_a_declared_range_is_a_ground() -> None:
    config = {"default": "fxp64.18", "rule": [{"op": "multiply", "range": 50}]}
    fn = ditto.secure(lambda x: x * x, config=config)
    assert "declared" in {row.ground for row in fn.lower(X).ranges().rows}


def test_what_overflows_for_every_input_does_not_compile() -> None:
    with pytest.raises(RangeError, match=r"add.*test_intervals.*for every input"):
        ditto.secure(lambda x: jax.nn.sigmoid(x) * 1e14 + 3e13).lower(X)
