"""SPU on our shares: every family of ops gives XLA's results, and all others are refused with a reason."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import spu
from jax import lax

from ditto_spu import ir
from ditto_spu.errors import CompileError, DittoError, InputError, UnsupportedOpError
from ditto_spu.spu.compile import compile_program
from ditto_spu.spu.party import SpuParty, create_links, runtime_config
from ditto_spu.spu.profile import log_to, read_costs
from ditto_spu.spu.values import Shared, from_share, reconstruct, share, to_share

REALS = np.array([[1.5, -2.25, 3.0, 0.5], [0.1, 7.25, -8.0, 2.0]], np.float32)
POSITIVE = np.abs(REALS) + np.float32(0.5)
INTEGERS = np.array([[7, -3, 5, 100], [1, 2, 3, 4]], np.int32)
FLAGS = REALS > 1
IMAGE = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4) / 10
FILTERS = np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 2, 3, 3)


def lowered(fn: Callable[..., Any], args: Sequence[Any]) -> str:
    text = jax.jit(fn, keep_unused=True).trace(*args).lower().compiler_ir().operation
    return text.get_asm(enable_debug_info=True)


def on_parties(work: Callable[[SpuParty], Any], profile: bool = False) -> list[Any]:
    """Run `work` at three parties, in threads, and raise the first error."""
    results: dict[int, Any] = {}

    def run(link: Any) -> None:
        try:
            results[link.rank] = work(SpuParty(link, profile))
        except Exception as error:
            results[link.rank] = error

    threads = [threading.Thread(target=run, args=(link,)) for link in create_links(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(3):
        if isinstance(results[rank], Exception):
            raise results[rank]
    return [results[rank] for rank in range(3)]


def on_spu(fn: Callable[..., Any], args: Sequence[Any], public: Sequence[int] = ()) -> list[Any]:
    shown = [index in public for index in range(len(args))]
    program = compile_program(lowered(fn, args), shown)
    inputs = [(arg,) * 3 if hide else share(arg) for arg, hide in zip(args, shown, strict=True)]
    results = on_parties(lambda party: party.run(program, [each[party.rank] for each in inputs]))
    return [reconstruct(parts) for parts in zip(*results, strict=True)]


@pytest.mark.parametrize(
    ("fn", "args", "tolerance"),
    [
        pytest.param(jnp.sin, (REALS,), 2e-4, id="sin"),
        pytest.param(jnp.log, (POSITIVE,), 2e-5, id="log"),
        pytest.param(jnp.sqrt, (POSITIVE,), 5e-5, id="sqrt"),
        pytest.param(jnp.exp, (-POSITIVE,), 1e-4, id="exp"),
        pytest.param(jnp.tanh, (REALS,), 1e-4, id="tanh"),
        pytest.param(jnp.tan, (REALS / 8,), 1e-3, id="tan"),
        pytest.param(lax.cbrt, (REALS,), 1e-3, id="cbrt"),
        pytest.param(lambda x: jax.nn.gelu(x, approximate=False), (REALS,), 1e-3, id="chlo"),
        pytest.param(lambda a, b: a / b, (REALS, POSITIVE), 1e-4, id="divide"),
        pytest.param(lambda a, b: a // b, (INTEGERS, np.abs(INTEGERS) + 1), 0, id="integer divide"),
        pytest.param(lax.rem, (INTEGERS, np.abs(INTEGERS) + 1), 0, id="remainder"),
        pytest.param(lambda x: jnp.sort(x, axis=1), (REALS,), 1e-5, id="sort"),
        pytest.param(lambda x: jnp.argsort(x, axis=1), (REALS,), 0, id="argsort"),
        pytest.param(
            lambda a, b: lax.sort((a, b), num_keys=2)[1], (FLAGS * 1.0, REALS), 1e-5, id="sort by two"
        ),
        pytest.param(jnp.median, (REALS,), 1e-5, id="median"),
        pytest.param(lambda x: jnp.argmax(x, axis=1), (REALS,), 0, id="argmax"),
        pytest.param(lambda a, b: (a & b) ^ (a | 3), (INTEGERS, INTEGERS + 1), 0, id="integer logic"),
        pytest.param(lambda a, b: ~(a & (b > 1)), (FLAGS, POSITIVE), 0, id="boolean logic"),
        pytest.param(lambda a: jnp.any(a, axis=1), (FLAGS,), 0, id="any"),
        pytest.param(lambda c, x: jnp.where(c, x, -x), (FLAGS, REALS), 1e-5, id="select"),
        pytest.param(lambda x: jnp.cumsum(x, axis=1), (REALS,), 1e-4, id="cumsum"),
        pytest.param(lambda x, k: lax.conv(x, k, (1, 1), "SAME"), (IMAGE, FILTERS), 1e-3, id="convolution"),
        pytest.param(lambda x: (x > 1, x == x, x <= 0.5), (REALS,), 0, id="comparisons"),
        pytest.param(lambda x: x.astype(jnp.int32), (REALS,), 0, id="float to integer"),
        pytest.param(lambda x: x.astype(jnp.float32) * 0.5, (INTEGERS,), 0, id="integer to float"),
        pytest.param(jnp.floor, (REALS,), 0, id="floor"),
        pytest.param(
            lambda x: lax.scan(lambda c, y: (c + y, c * y), jnp.zeros(2), x.T)[1], (REALS,), 1e-3, id="scan"
        ),
        pytest.param(lambda x, i: x[:, i], (REALS, np.array([1, 3], np.int32)), 1e-5, id="secret index"),
        pytest.param(lambda x: x * 2, (np.float32(3),), 1e-4, id="scalar"),
        pytest.param(lambda x: x * 2, (np.zeros((0, 3), np.float32),), 0, id="empty"),
        pytest.param(lambda x: jnp.arange(3.0), (REALS,), 0, id="constant"),
    ],
)
def test_results_are_those_of_xla(fn: Callable[..., Any], args: Sequence[Any], tolerance: float) -> None:
    expected = jax.tree_util.tree_leaves(jax.jit(fn)(*args))
    results = on_spu(fn, args)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        assert result.dtype == wanted.dtype
        np.testing.assert_allclose(result, wanted, rtol=0, atol=tolerance)


def test_public_inputs() -> None:
    (result,) = on_spu(lambda x, y: x @ y.T, (REALS, REALS), public=[1])
    np.testing.assert_allclose(result, REALS @ REALS.T, atol=1e-3)


def test_integers_wrap_to_32_bits_at_the_border() -> None:
    large = np.array([2**20 + 1, -(2**17)], np.int32)
    (result,) = on_spu(lambda x: x * x, (large,))
    np.testing.assert_array_equal(result, large * large)


@pytest.mark.parametrize(
    "array", [REALS, INTEGERS, FLAGS, np.float32(-2.5)], ids=["f32", "int32", "bool", "0-d"]
)
def test_our_shares_are_spu_s_shares(array: Any) -> None:
    io = spu.Io(3, runtime_config())
    parts = [to_share(part) for part in share(array)]
    np.testing.assert_allclose(io.reconstruct(parts), array, atol=2**-18)
    back = [from_share(part, rank) for rank, part in enumerate(parts)]
    np.testing.assert_allclose(reconstruct(back), array, atol=2**-18)
    assert reconstruct(back).dtype == np.asarray(array).dtype


def test_layout_of_spu_s_own_shares() -> None:
    parts = spu.Io(3, runtime_config()).make_shares(REALS, spu.Visibility.VIS_SECRET)
    ours = [from_share(part, rank) for rank, part in enumerate(parts)]
    # `reconstruct` also checks that party i's `next` is party i + 1's `mine`.
    np.testing.assert_allclose(reconstruct(ours), REALS, atol=2**-18)
    assert ours[0].kind == "f32"


def test_a_public_value_enters_as_component_zero() -> None:
    parts = spu.Io(3, runtime_config()).make_shares(INTEGERS, spu.Visibility.VIS_PUBLIC)
    ours = [from_share(part, rank) for rank, part in enumerate(parts)]
    np.testing.assert_array_equal(ours[0].mine, INTEGERS)
    assert not ours[1].mine.any() and not ours[2].mine.any()
    np.testing.assert_array_equal(reconstruct(ours), INTEGERS)


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        pytest.param(lambda x: jnp.fft.fft(x).real, (REALS,), "complex", id="fft"),
        pytest.param(lambda x: jnp.linalg.cholesky(x @ x.T), (REALS,), "custom_call", id="cholesky"),
        pytest.param(
            lambda x: lax.reduce_precision(x, 8, 7), (REALS,), "reduce_precision", id="reduce_precision"
        ),
        pytest.param(lax.clz, (INTEGERS,), "count_leading_zeros", id="clz"),
        pytest.param(lambda x: x.astype(jnp.bfloat16) * 2, (REALS,), "type bf16", id="bfloat16"),
        pytest.param(lambda x: lax.bitcast_convert_type(x, jnp.int32), (REALS,), "bits of f32", id="bitcast"),
        pytest.param(lambda x: lax.shift_right_logical(x, 1), (INTEGERS,), "logical shift", id="shift"),
        pytest.param(lambda x: x.astype(jnp.uint8), (INTEGERS,), "does not wrap i32 to ui8", id="narrowing"),
        pytest.param(
            lambda x: lax.while_loop(lambda s: s < x[0, 0], lambda s: s + 1, 0.0),
            (REALS,),
            "while",
            id="while",
        ),
        pytest.param(
            lambda x, i: x.at[:, i].add(1.0), (REALS, np.array([0, 1])), "open the index", id="secret update"
        ),
    ],
)
def test_what_spu_cannot_run_is_refused(fn: Callable[..., Any], args: Sequence[Any], message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message):
        compile_program(lowered(fn, args), [False] * len(args))


def test_a_refusal_names_path_and_line() -> None:
    def model(x: jax.Array) -> jax.Array:
        with jax.named_scope("head"):
            return lax.clz(x)

    with pytest.raises(UnsupportedOpError, match=r"^head \(.*test_party.py:\d+\): "):
        compile_program(lowered(model, (INTEGERS,)), [False])


def test_composites_are_inlined() -> None:
    module = ir.parse(lowered(lambda x: x + 1.0, (REALS,)))
    op = next(op for op in ir.walk(ir.main(module)) if op.name == "stablehlo.add")
    meaning = lambda x: jax.scipy.special.erf(x) + 1.0  # noqa: E731
    value = ir.composite(module, "ditto.example", meaning, [op.operands[0]], {}, op, op.location)
    ir.replace_all_uses(op.results[0], value)
    program = compile_program(module, [False])
    inputs = share(REALS)
    results = on_parties(lambda party: party.run(program, [inputs[party.rank]])[0])
    np.testing.assert_allclose(reconstruct(results), jax.scipy.special.erf(REALS) + 1, atol=2e-3)


def test_wrong_inputs_are_refused_before_running() -> None:
    program = compile_program(lowered(jnp.exp, (REALS,)), [False])
    with pytest.raises(InputError, match="'main' takes 1 inputs, not 2"):
        on_parties(lambda party: party.run(program, [REALS, REALS]))
    half = np.zeros((2, 4), np.int32)
    with pytest.raises(CompileError, match="int64 components"):
        to_share(Shared(half, half, "f32"))  # type: ignore[arg-type]
    with pytest.raises(DittoError, match="complex64"):
        share(REALS.astype(np.complex64))


def test_costs_are_read_by_rank_and_execution(tmp_path: Any) -> None:
    compared = compile_program(lowered(lambda x: x > 1, (REALS,)), [False], "compared")
    product = compile_program(lowered(lambda x: x * x, (REALS,)), [False], "product")
    inputs = share(REALS)
    log_to(tmp_path / "spu.log")
    on_parties(
        lambda party: [party.run(each, [inputs[party.rank]]) for each in (compared, product)], profile=True
    )
    costs = read_costs(tmp_path / "spu.log")
    assert [cost.name for cost in costs] == ["compared", "to_arithmetic", "product"]
    for cost in costs:
        assert sum(cost.bytes_sent) == sum(op.bytes_sent for op in cost.ops)
        assert min(cost.messages) > 0
    # This is a product of 8 values and its truncation, at 64 bytes each. A truncation sends 2 or 3 of these
    # in all.
    assert sum(costs[2].bytes_sent) >= 3 * 64
