"""Tests whole models and fused operations under MPC, against plaintext and against the emulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.ir import run as ir_run
from ditto_spu.models import named_model

# For outputs of unit variance. Quad GeLU is another function, so ditto-paper is close to its emulation alone.
FLOAT_TOLERANCE = {"ditto": 0.05, "uniform64": 0.02}
EMULATED_TOLERANCE = {"ditto": 0.05, "uniform64": 0.02, "ditto-paper": 0.3}


COARSE = pytest.mark.filterwarnings("ignore:output 0 is off:ditto_spu.errors.RangeWarning")  # as it is meant


@pytest.mark.parametrize(
    "config",
    [
        "ditto",
        pytest.param("uniform64", marks=pytest.mark.slow),
        pytest.param("ditto-paper", marks=[COARSE, pytest.mark.slow]),
    ],
)
def test_a_whole_bert_in_every_configuration(config):
    program = named_model("bert-tiny").build()
    secure = ditto.secure(program.fn, config=config, public=program.public)
    result = secure.run(*program.args)
    lowered = secure.lower(*program.args)
    values = jax.tree_util.tree_leaves((program.args, {}))
    emulated = lowered.emulate(values)[0]
    assert np.max(np.abs(result.outputs - emulated)) < EMULATED_TOLERANCE[config]
    if config in FLOAT_TOLERANCE:
        plain = np.asarray(program.fn(*program.args))
        assert np.max(np.abs(result.outputs - plain)) < FLOAT_TOLERANCE[config]
    predicted = lowered.cost_analysis()
    assert predicted.bytes_sent_per_party == result.report.bytes_sent_per_party
    assert predicted.rounds == result.report.rounds
    assert "spu" not in result.report.by_kind()


def test_a_secret_mask_gives_the_same_answer():
    program = named_model("bert-tiny").build()
    secret = ditto.secure(program.fn)(*program.args)
    assert np.max(np.abs(secret - np.asarray(program.fn(*program.args)))) < 0.05


def _attention(q, k, v, bias):
    return jax.nn.softmax(q @ k.T / np.sqrt(q.shape[-1]) + bias) @ v


def test_masks_of_every_kind(rng):
    """Test a public bias of finfo.min, -1e9 and -inf. A fully masked row is uniform, as it is in float."""
    q, k, v = (rng.normal(size=(5, 8)).astype(np.float32) for _ in range(3))
    keep = rng.integers(0, 2, (5, 5)).astype(bool)
    keep[:, 0] = True
    secure = ditto.secure(_attention, public=("bias",))
    for lowest in (np.finfo(np.float32).min, np.float32(-1e9)):
        bias = np.where(keep, 0, lowest).astype(np.float32)
        assert np.max(np.abs(secure(q, k, v, bias) - np.asarray(_attention(q, k, v, bias)))) < 0.01
    bias = np.where(keep, 0, -np.inf).astype(np.float32)
    assert np.max(np.abs(secure(q, k, v, bias) - np.asarray(_attention(q, k, v, bias)))) < 0.01
    nothing = np.full((5, 5), np.finfo(np.float32).min, np.float32)
    assert np.max(np.abs(secure(q, k, v, nothing) - v.mean(axis=0))) < 0.01


def test_far_scores_saturate_and_never_wrap(rng):
    x = np.concatenate([rng.uniform(-120, 120, (6, 31)), np.full((6, 1), 125.0)], axis=1).astype(np.float32)
    secure = ditto.secure(jax.nn.softmax, config="ditto")
    assert np.max(np.abs(secure(x) - np.asarray(jax.nn.softmax(x)))) < 0.01


def test_rows_of_very_different_variance_in_one_call(rng):
    import flax.linen as nn

    x = rng.normal(size=(10, 64)) * 2.0 ** np.linspace(-4.5, 3.9, 10)[:, None]
    x = x.astype(np.float32)
    module = nn.LayerNorm()
    params = module.init(jax.random.PRNGKey(0), x)
    secure = ditto.secure(module.apply)
    assert np.max(np.abs(secure(params, x) - np.asarray(module.apply(params, x)))) < 0.03


@pytest.mark.parametrize("approx", ["fourier", "even", "puma", "quad"])
def test_every_gelu(approx, rng):
    config = {"default": "fxp32.12", "rule": [{"op": "gelu", "approx": approx}]}
    x = rng.uniform(-8, 8, (4, 50)).astype(np.float32)
    expected = {"quad": lambda x: 0.125 * x * x + 0.25 * x + 0.5}.get(
        approx, lambda x: jax.nn.gelu(x, False)
    )(x)
    y = ditto.secure(lambda x: jax.nn.gelu(x, approximate=False), config=config)(x)
    assert np.max(np.abs(y - np.asarray(expected))) < (0.035 if approx != "fourier" else 0.005)


@pytest.mark.parametrize("approx", ["exact", pytest.param("puma", marks=COARSE), "2quad", "2relu"])
def test_every_softmax(approx, rng):
    config = {"default": "fxp32.12", "rule": [{"op": "softmax", "approx": approx}]}
    x = rng.uniform(-4, 4, (6, 12)).astype(np.float32)
    shifted, positive = np.square(x + 5), np.maximum(x, 0) + 0.01 / 12
    expected = {
        "2quad": shifted / shifted.sum(-1, keepdims=True),
        "2relu": positive / positive.sum(-1, keepdims=True),
    }
    y = ditto.secure(jax.nn.softmax, config=config)(x)
    tolerance = 0.03 if approx == "puma" else 0.01  # (1 + x/32)^32 is off by 2.6 % at x = -1.3
    assert np.max(np.abs(y - expected.get(approx, np.asarray(jax.nn.softmax(x))))) < tolerance


def test_activations_quotients_and_roots(rng):
    def fn(x, y):
        return (
            jnp.tanh(x),
            jax.nn.sigmoid(x),
            jnp.exp(-y),
            x / y,
            jax.lax.rsqrt(y),
            jnp.maximum(x, 0),
            x.max(axis=1),
        )

    x = rng.uniform(-4, 4, (3, 7)).astype(np.float32)
    y = rng.uniform(1, 9, (3, 7)).astype(np.float32)
    result = ditto.secure(fn, config={"default": "fxp32.12"}).run(x, y)
    for mine, theirs in zip(result.outputs, fn(x, y), strict=True):
        assert np.max(np.abs(mine - np.asarray(theirs))) < 0.02
    assert "spu" not in result.report.by_kind()


def test_checked_mode_passes_a_whole_model():
    program = named_model("bert-tiny").build()
    ditto.secure(program.fn, public=program.public, checked=True)(*program.args)


@pytest.mark.slow
def test_minilm_keeps_its_embeddings():
    from ditto_spu.models import minilm
    from ditto_spu.models.sentences import VARIED

    module, params = minilm.load()
    embed = minilm.embedder(module)
    ids, mask = minilm.tokenise(VARIED[:100])
    secure = ditto.secure(embed, public=("mask",), checked=True)
    expected = np.asarray(jax.jit(embed)(params, ids, mask))
    for start in range(0, 100, 20):
        part = slice(start, start + 20)
        vectors = secure(params, ids[part], mask[part])
        cosines = np.sum(vectors * expected[part], -1) / np.linalg.norm(vectors, axis=-1)
        assert np.min(cosines) >= 0.999


@pytest.mark.parametrize("masked", [False, True])
def test_a_second_call_compiles_nothing(masked, monkeypatch):
    """It traces nothing, and XLA compiles nothing. JAX reports every compilation to its listeners."""
    program = named_model("bert-tiny").build()
    function = ditto.secure(program.fn, public=program.public, masked=masked)
    function(*program.args)
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: events.append(event))
    monkeypatch.setattr(ir_run, "parse", lambda source: pytest.fail("a program is compiled again"))
    function(*program.args)
    assert [event for event in events if "compile" in event or "trace" in event] == []
    jax.jit(lambda x: x + len(events))(1)
    assert any("compile" in event for event in events)  # the listener does hear compilations
