"""Test visibility: a value is public if and only if everything that it is computed from is public."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.errors import CompileError
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.analysis.visibility import visibility

S = np.arange(3, dtype=np.float32)


def secret_outputs(fn: Callable[..., Any], *args: Any, public: tuple[str, ...]) -> list[bool]:
    traced = trace(fn, args, public=public)
    module = ir.parse(traced.module_text)
    ir.inline_calls(module)
    secret = visibility(module, traced.public)
    return [secret[each] for each in ir.ops(ir.body(ir.main(module)))[-1].operands]


def test_operands_decide() -> None:
    table = jnp.arange(3.0)
    outputs = secret_outputs(
        lambda s, p: (s, p, s + p, p * table, jnp.zeros(2), jnp.sum(p), jnp.max(s)), S, S, public=("p",)
    )
    assert outputs == [True, False, True, False, False, False, True]


def test_all_public_and_all_secret() -> None:
    assert secret_outputs(lambda a, b: a * b, S, S, public=("a", "b")) == [False]
    assert secret_outputs(lambda a, b: (a, b), S, S, public=()) == [True, True]


def test_loops() -> None:
    def loop(s: Any, p: Any) -> Any:
        # s reaches b only in the second turn.
        return jax.lax.fori_loop(0, 3, lambda i, c: (c[0] + i, c[2], c[3], c[3]), (p, p, p, s))

    assert secret_outputs(loop, S, S, public=("p",)) == [False, True, True, True]

    def turns(s: Any, p: Any) -> Any:
        return jax.lax.while_loop(lambda c: c[0][0] < 3, lambda c: (c[0] + 1, c[1]), (s, p))

    assert secret_outputs(turns, S, S, public=("p",)) == [True, True]


@pytest.mark.parametrize(
    ("public", "expected"), [(("p", "i"), True), (("s", "p"), True), (("s", "p", "i"), False)]
)
def test_branches(public: tuple[str, ...], expected: bool) -> None:
    def branch(s: Any, p: Any, i: Any) -> Any:
        return jax.lax.switch(i, [lambda: s, lambda: p])

    assert secret_outputs(branch, S, S, np.int32(1), public=public) == [expected]


def test_wrong_number_of_visibilities() -> None:
    traced = trace(lambda a: a, (S,))
    with pytest.raises(CompileError, match="has 1 arguments, but 2 visibilities"):
        visibility(ir.parse(traced.module_text), (True, False))
