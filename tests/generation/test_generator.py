"""Generation: both ways to choose a token equal plaintext, programs compile once, bad requests fail."""

import dataclasses

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu.cli import app
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import one_hot
from ditto_spu.models import gpt2

IDS = np.array([[3, 7, 1, 9, 4, 2], [11, 2, 3, 44, 5, 6]])
STEPS = 4


@pytest.fixture(scope="module")
def text():
    """Return a tiny GPT-2 whose tokens vary.

    Its tables weigh more than in a fresh model, above all the table of positions.
    """
    decoder, params = gpt2.initialised(seed=35, **gpt2.TINY)
    for name, factor in (("wte", 20), ("wpe", 100)):
        params["transformer"][name]["embedding"] = params["transformer"][name]["embedding"] * factor
    return decoder, params


@pytest.fixture(scope="module")
def plain(text):
    """Decode greedily in plaintext, without any cache."""
    decoder, params = text
    ids = IDS
    for _ in range(STEPS):
        logits = decoder.prefill(params, one_hot(ids, decoder.vocabulary), length=decoder.positions)[0]
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
        first, second = np.sort(np.asarray(logits), axis=-1)[:, :-3:-1].T
        assert np.min(first - second) > 0.05  # fixed point may shift logits by less than this
    assert len(set(ids[0, -STEPS:])) > 1
    return ids


@pytest.fixture(scope="module")
def generators(text):
    return {
        mode: ditto.Generator(*text, length=IDS.shape[1] + STEPS, next_token=mode)
        for mode in ("client", "secret")
    }


def test_prefill_and_steps_equal_hugging_faces_own_model(text):
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    decoder, params = text
    model = FlaxGPT2LMHeadModel(GPT2Config(**gpt2.TINY), seed=0)
    expected = np.asarray(model(IDS, params=params).logits)
    logits, cache = decoder.prefill(params, one_hot(IDS[:, :-2], 50), length=9)
    np.testing.assert_allclose(logits, expected[:, -3], atol=1e-5)
    for position in (4, 5):
        hot = one_hot(IDS[:, position : position + 1], 50)
        logits, cache = decoder.step(params, cache, hot, position)
        np.testing.assert_allclose(logits, expected[:, position], atol=1e-5)


@pytest.mark.parametrize("mode", ["client", "secret"])
def test_greedy_tokens_equal_plaintext_with_one_compilation_each(generators, plain, mode):
    generator = generators[mode]
    generation = generator.generate(IDS, STEPS)
    assert np.array_equal(generation.ids, plain)
    assert [each.position for each in generation.tokens] == [6, 7, 8, 9]
    assert (len(generator._prefill._compiled), len(generator._step._compiled)) == (1, 1)
    rows = generation.as_dicts()
    assert rows[0]["bytes_sent_per_party"] > rows[1]["bytes_sent_per_party"]
    assert rows[1]["bytes_sent_per_party"] == rows[2]["bytes_sent_per_party"]


def test_a_shorter_text_takes_the_same_programs_and_the_same_weights(generators, plain):
    generator = generators["client"]
    generator.generate(IDS, 2)
    shared = dict(generator._prefill._held._parts)
    again = generator.generate(IDS, 2)
    assert np.array_equal(again.ids, plain[:, :-2])
    assert generator._step._held._parts is generator._prefill._held._parts
    assert generator._prefill._held._parts == shared
    assert (len(generator._prefill._compiled), len(generator._step._compiled)) == (1, 1)


def test_no_step_runs_on_spu_and_the_programs_open_what_they_say_alone(generators):
    for mode, opened in (("client", 1), ("secret", 1)):
        generator = generators[mode]
        hot = one_hot(IDS, 50)
        keep = (1,) if mode == "client" else (1, 2)
        result = generator._prefill.run(one_hot=hot, length=generator.length, keep=keep)
        assert "spu" not in result.report.by_kind()
        leaves = jax.tree_util.tree_leaves(result.outputs)
        assert sum(not isinstance(each, ditto.Kept) for each in leaves) == opened
        # The opened output is the logits of the whole vocabulary, or one id per text.
        assert np.shape(result.outputs[0]) == ((2, 50) if mode == "client" else (2,))


def test_top_k_with_a_fixed_seed_equals_plaintext_top_k(generators, text):
    decoder, params = text
    sampling = ditto.Sampling(top_k=5, temperature=0.7, seed=4)
    rng, ids = sampling.generator(), IDS
    for _ in range(3):
        logits = decoder.prefill(params, one_hot(ids, 50), length=decoder.positions)[0]
        ids = np.concatenate([ids, sampling.choose(logits, rng)[:, None]], axis=1)
    assert np.array_equal(generators["client"].generate(IDS, 3, sampling).ids, ids)


def test_a_stream_yields_tokens_as_they_come_and_ends_at_a_stop_token(generators, plain):
    stream = generators["client"].stream(IDS, STEPS, stop=set(plain[:, 7]))
    assert np.array_equal(next(stream).ids, plain[:, 6])
    assert len(list(stream)) <= 2
    first = next(generators["client"].stream(IDS, STEPS))
    assert first.report.rounds > 0 and first.seconds > 0


def test_sampling_is_greedy_by_default_and_draws_the_likeliest_only():
    logits, rng = np.array([[0.0, 3.0, 1.0, 2.9]]), np.random.default_rng(0)
    assert ditto.Sampling().choose(logits, rng) == [1]
    drawn = {int(ditto.Sampling(top_k=2).choose(logits, rng)[0]) for _ in range(60)}
    assert drawn == {1, 3}
    assert ditto.Sampling(top_k=9).choose(logits, rng).shape == (1,)
    with pytest.raises(InputError, match="top_k is 0"):
        ditto.Sampling(top_k=0)
    with pytest.raises(InputError, match="temperature is 0"):
        ditto.Sampling(temperature=0)


def test_bad_requests_are_refused_before_anything_runs(generators, text):
    generator = generators["client"]
    with pytest.raises(InputError, match="room for 10"):
        generator.stream(IDS, STEPS + 1)
    with pytest.raises(InputError, match="steps is 0"):
        generator.stream(IDS, 0)
    with pytest.raises(InputError, match="token ids from 0 to 50, but those of this model are 0 to 49"):
        generator.stream(np.array([[0, 50]]), 1)
    with pytest.raises(InputError, match="token ids are integers, not float64"):
        generator.stream(np.array([[0.5]]), 1)
    with pytest.raises(InputError, match=r"token ids of shape \(1, 0\)"):
        generator.stream(np.zeros((1, 0), int), 1)
    with pytest.raises(InputError, match="top_k needs next_token='client'"):
        generators["secret"].stream(IDS, 1, ditto.Sampling(top_k=2))
    with pytest.raises(InputError, match="a length of 17, but the model holds 1 to 16 tokens"):
        ditto.Generator(*text, length=17)
    with pytest.raises(InputError, match="choose client or secret"):
        ditto.Generator(*text, length=8, next_token="server")
    with pytest.raises(InputError, match="which `masked` cannot"):
        ditto.Generator(*text, length=8, masked=True)


def test_a_checkpoint_from_disk_and_what_is_none(tmp_path):
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    model = FlaxGPT2LMHeadModel(GPT2Config(**gpt2.TINY), seed=3)
    model.save_pretrained(tmp_path / "gpt2")
    decoder, params = gpt2.load(tmp_path / "gpt2")
    assert (decoder.vocabulary, decoder.positions) == (50, 16)
    jax.tree_util.tree_map(np.testing.assert_array_equal, params, jax.device_get(model.params))
    with pytest.raises(InputError, match=r"holds no config\.json"):
        gpt2.load(tmp_path)
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "gpt2", "add_cross_attention": true}')
    with pytest.raises(InputError, match="sets add_cross_attention to True, where it needs false"):
        gpt2.load(tmp_path / "gpt2")


def test_any_decoder_of_the_protocol_generates():
    """A bigram model also generates. Its cache is the last token, in the place of a state."""

    def prefill(params, hot, *, length):
        return hot[:, -1] @ params, hot[:, -1]

    def step(params, cache, hot, position):
        return hot[:, 0] @ params + 0 * position, hot[:, 0]

    table = np.roll(np.eye(7, dtype=np.float32), 2, axis=1)
    decoder = ditto.Decoder(
        lambda params, one_hot, *, length: prefill(params, one_hot, length=length),
        lambda params, cache, one_hot, position: step(params, cache, one_hot, position),
        7,
        100,
    )
    for mode in ("client", "secret"):
        made = ditto.generate(decoder, table, [[1, 3]], steps=4, next_token=mode)
        assert made.ids.tolist() == [[1, 3, 5, 0, 2, 4]]
    assert dataclasses.is_dataclass(made.tokens[0])


def test_the_command_line_names_what_does_not_generate():
    runner = CliRunner()
    for arguments, message in (
        (["bert-tiny"], "generates no text"),
        (["gpt2-tiny", "--ids", "a,b"], "no list of token ids"),
        (["gpt2-tiny", "--prompt", "a"], "there is no tokenizer for --prompt: give a checkpoint"),
        (["gpt2-tiny", "--prompt", "a", "--ids", "1"], "--prompt and --ids both say"),
        (["llama-tiny", "--weights", "/nowhere"], "there is no folder or file /nowhere"),
        (["gpt2-tiny", "--top-k", "0"], "top_k is 0"),
    ):
        failed = runner.invoke(app, ["generate", *arguments])
        assert failed.exit_code == 2 and message in failed.output + (failed.stderr or "")
