"""The PUMA baseline: its formulas, where they enter the program, and a small model on stock SPU."""

import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.compare import stock_spu as stock
from ditto_spu.compare.puma import puma_module, run_directly, run_puma
from ditto_spu.errors import InputError, PartyError
from ditto_spu.frontend.trace import trace
from ditto_spu.ops import puma_formulas
from ditto_spu.passes.fuse.fuse import fuse

WIDE = np.linspace(-10, 10, 2001, dtype=np.float32)


def random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_gelu_and_silu_stay_within_the_published_errors() -> None:
    assert (
        np.abs(puma_formulas.gelu(WIDE, approximate="erf") - jax.nn.gelu(WIDE, approximate=False)).max()
        < 0.0205
    )
    assert np.abs(puma_formulas.silu(WIDE) - jax.nn.silu(WIDE)).max() < 0.073


def test_softmax_stays_within_the_error_of_its_exponential() -> None:
    scores = 5 * random(6, 16)
    result = puma_formulas.softmax(scores, dim=1, scale=0.5)
    # Each exponential is off by up to 0.0086, and so is their sum, which is the divisor.
    assert np.abs(result - jax.nn.softmax(0.5 * scores)).max() < 0.03
    np.testing.assert_allclose(result.sum(1), 1, atol=1e-5)


def test_masked_positions_get_exactly_zero() -> None:
    scores, mask = 50 * random(3, 4), np.array([[True, True, False, True]] * 3)
    result = puma_formulas.softmax(scores, mask, dim=1, scale=1.0)
    assert not np.asarray(result)[:, 2].any()
    np.testing.assert_allclose(result.sum(1), 1, atol=1e-5)


def test_embedding_and_layer_norm() -> None:
    table, ids = random(8, 4), np.array([[3, 0], [7, 3]])
    np.testing.assert_allclose(puma_formulas.embedding(table, ids), table[ids])
    np.testing.assert_allclose(puma_formulas.public_embedding(table, ids), table[ids])
    x = random(3, 8) * 5
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) * 2 + 1
    result = puma_formulas.layer_norm(x, jnp.full(8, 2.0), jnp.ones(8), dim=1, eps=1e-12)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_program_runs_directly_with_its_own_convolution() -> None:
    def convolved(x: Any, w: Any) -> Any:
        return {
            "y": jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        }

    x, w = random(1, 4, 4, 2), random(3, 3, 2, 3)
    result = run_directly(convolved, (x, w))
    np.testing.assert_allclose(result.outputs["y"], convolved(x, w)["y"], atol=1e-3)
    assert any("conv" in each.op for each in result.ops)


def model(x: Any, w: Any, table: Any, ids: Any, mask: Any) -> Any:
    h = jax.nn.gelu(jnp.take(table, ids, axis=0) @ w + x, approximate=False)
    scores = jnp.where(mask, h @ h.T / 4, -1e9)
    return {"p": jax.nn.softmax(scores, axis=-1), "silu": jax.nn.silu(h), "largest": jnp.argmax(h, axis=1)}


ARGS = (
    random(4, 8),
    random(8, 8),
    random(6, 8),
    np.array([1, 3, 5, 2], np.int32),
    np.array([[True, True, True, False]] * 4),
)


def flat(public: tuple[str, ...]) -> ir.Module:
    traced = trace(model, ARGS, public=public)
    return puma_module(fuse(ir.parse(traced.module_text), traced.public), traced.public)


def test_no_composite_and_no_exponential_is_left() -> None:
    text = ir.text(flat(("mask",)))
    assert "composite" not in text
    assert "exponential" not in text
    assert "gather" not in text


def test_public_ids_are_looked_up_without_one_hot() -> None:
    assert "gather" in ir.text(flat(("ids", "mask")))


def test_the_flat_module_computes_the_model_approximately() -> None:
    results = ir.evaluate(flat(("mask",)), ARGS)
    for result, expected in zip(results, jax.tree_util.tree_leaves(model(*ARGS)), strict=True):
        np.testing.assert_allclose(result, expected, atol=0.06)


@pytest.mark.parametrize("mode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_three_parties_agree_with_the_flat_module(mode: str) -> None:
    result = run_puma(model, ARGS, public=("mask",), mode=mode)
    emulated = ir.evaluate(flat(("mask",)), ARGS)
    assert sorted(result.outputs) == ["largest", "p", "silu"]
    for got, expected in zip(jax.tree_util.tree_leaves(result.outputs), emulated, strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, atol=3e-2)
    assert len(result.bytes_sent_per_party) == len(result.messages_per_party) == 3
    assert sum(result.bytes_sent_per_party) > 3000  # SPU draws which party sends how much
    assert result.seconds > 0
    assert result.peak_memory_bytes > 1_000_000


def test_static_arguments_are_found_by_name_and_position() -> None:
    def power(x: Any, n: int) -> Any:
        return x**n

    for options in ({"static_argnums": 1}, {"static_argnames": "n"}):
        result = run_puma(power, (ARGS[0], 2), **options)
        np.testing.assert_allclose(result.outputs, ARGS[0] ** 2, atol=1e-3)


def test_the_error_of_one_party_reaches_the_caller_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(link: Any, program: bytes, inputs: Any) -> Any:
        if link.rank == 1:
            raise PartyError("party 1 is out of memory")
        threading.Event().wait(60)

    monkeypatch.setattr(stock, "run_party", failing)
    started = time.perf_counter()
    with pytest.raises(PartyError, match="party 1 is out of memory"):
        run_puma(jnp.sin, (ARGS[0],))
    assert time.perf_counter() - started < 30


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="choose threads or processes"):
        run_puma(jnp.sin, (ARGS[0],), mode="fibres")
