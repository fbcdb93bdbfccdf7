"""Bounds of integers hold for every value, and are those of the dtype where nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu import ir

N = np.zeros(4, np.int32)
LEAST, MOST = -(2**31), 2**31 - 1


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda n: n, (LEAST, MOST)),
        (lambda n: jnp.clip(n, 2, 9), (2, 9)),
        (lambda n: jnp.maximum(n, 5), (5, MOST)),
        (lambda n: jnp.arange(7) + 3 - jnp.minimum(jnp.maximum(n[0], 0), 2), (1, 9)),
        (lambda n: lax.broadcasted_iota(jnp.int32, (3, 4), 1).T[::-1], (0, 3)),
        (lambda n: jnp.concatenate([jnp.arange(3), jnp.array([-7, 11])]), (-7, 11)),
        (lambda n: jnp.where(n > 0, jnp.arange(4), 8), (0, 8)),
        (lambda n: jnp.clip(n, 0, MOST) + 1, (LEAST, MOST)),  # it may wrap
        (lambda n: n > 0, (0, 1)),
        (lambda n: n.astype(jnp.uint8), (0, 255)),
        (lambda n: jnp.clip(n, 300, 400).astype(jnp.uint8), (0, 255)),
        (lambda n: n * 0 + 3, (LEAST, MOST)),
    ],
)
def test_bounds(fn: Callable[..., Any], expected: tuple[int, int]) -> None:
    module = ir.parse(str(jax.jit(fn, keep_unused=True).lower(N).compiler_ir("stablehlo")))
    ir.inline_calls(module)
    ir.run_passes(module, "canonicalize,cse")
    result = ir.ops(ir.body(ir.main(module)))[-1].operands[0]
    assert ir.bounds(result) == expected


def test_values_that_meet_again_and_again_are_followed_once():
    def choices(n, m):
        for _ in range(40):
            n = jnp.where(m > 0, n, jnp.minimum(n, n + 1))
        return n // 3

    assert ditto.secure(choices, public=("m",)).lower(np.arange(4), np.ones(4)).plan.steps
