"""Texts of unequal lengths, caches that grow and are kept, and drafts: all give the tokens of plaintext."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError
from ditto_spu.generation import rooms
from ditto_spu.generation.decoder import check_texts, one_hot
from ditto_spu.generation.drafts import look_up
from tests.checkpoints.files import GPT2, LLAMA, save, torch_weights
from tests.generation import toy

LONG = [(7 * each) % 50 for each in range(60)]


@pytest.fixture(scope="module")
def generator() -> ditto.Generator:
    return ditto.Generator(toy.decoder(), toy.table(), length=200)


def ids(tokens: object) -> list[int]:
    return [int(each.ids[0]) for each in tokens]  # type: ignore[attr-defined]


def test_prompts_of_unequal_lengths_are_each_continued_as_alone(generator: ditto.Generator) -> None:
    texts = [[3, 7, 1, 9], [11, 2, 3, 44, 5, 6, 8], [2]]
    made = generator.generate(texts, 5)
    expected = [text + toy.greedy(toy.table(), text, 5) for text in texts]
    assert [each.tolist() for each in made.ids] == expected
    assert [each.position for each in made.tokens] == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("mode", ["client", "secret"])
def test_a_further_turn_pays_for_what_is_new_alone(mode: str) -> None:
    made = ditto.Generator(toy.decoder(), toy.table(), length=200, next_token=mode)
    conversation = made.conversation()
    first = LONG[:40] + ids(conversation.stream(LONG[:40], 3))
    assert first[40:] == toy.greedy(toy.table(), LONG[:40], 3)
    assert conversation.covered == (tuple(first[:-1]),)  # the last token has not run
    turn = [*first, 5, 9, 1]
    tokens = list(conversation.stream(turn, 2))
    assert ids(tokens) == toy.greedy(toy.table(), turn, 2)
    fresh = next(made.stream(turn, 1))
    assert sum(tokens[0].report.bytes_sent_per_party) < 0.5 * sum(fresh.report.bytes_sent_per_party)
    # A text that departs from the kept one takes what both begin with.
    other = [*first[:20], 4]
    assert ids(conversation.stream(other, 2)) == toy.greedy(toy.table(), other, 2)
    conversation.drop()
    assert conversation.covered == () and ids(conversation.stream(turn, 1)) == ids(tokens)[:1]


def test_the_cache_doubles_when_it_is_full_and_few_programs_serve(generator: ditto.Generator) -> None:
    tokens = list(generator.stream(LONG, 9))
    assert ids(tokens) == toy.greedy(toy.table(), LONG, 9)
    sent = [sum(each.report.bytes_sent_per_party) for each in tokens[1:]]
    assert len(set(sent[:4])) == len(set(sent[4:])) == 1
    before = len(generator._step._compiled), len(generator._prefill._compiled)
    assert ids(generator.stream(LONG[:58], 8)) == toy.greedy(toy.table(), LONG[:58], 8)
    assert (len(generator._step._compiled), len(generator._prefill._compiled)) == before


def test_a_text_may_fill_the_cache_to_its_last_place() -> None:
    made = ditto.Generator(toy.decoder(), toy.table(), length=19)
    conversation = made.conversation()
    text = LONG[:10] + ids(conversation.stream(LONG[:10], 1))
    assert ids(conversation.stream([*text, *LONG[:6]], 2)) == toy.greedy(toy.table(), [*text, *LONG[:6]], 2)
    # Eight tokens run in a turn of six or fewer. Those without a place leave no trace.
    full = [*LONG[:17]]
    assert ids(conversation.stream(full, 2)) == toy.greedy(toy.table(), full, 2)


@pytest.mark.parametrize("sampling", [ditto.Sampling(), ditto.Sampling(top_k=4, temperature=2.0, seed=3)])
def test_drafts_change_the_passes_and_never_the_text(
    generator: ditto.Generator, sampling: ditto.Sampling
) -> None:
    plain = ids(generator.stream(LONG[:20], 9, sampling))
    right = ditto.Drafts(3, lambda text, count: plain[len(text) - 20 :][:count])
    for drafts in (right, ditto.Drafts(3, lambda text, count: [1, 2]), ditto.Drafts(3)):
        tokens = list(generator.stream(LONG[:20], 9, sampling, drafts=drafts))
        assert ids(tokens) == plain
        if drafts is right:
            passes = [each for each in tokens if each.report.rows]
            assert len(passes) == 3  # the prompt, and twice three guesses with the token behind them
    stop = {plain[4]}
    found = ids(generator.stream(LONG[:20], 9, sampling, stop, right))
    assert found == plain[: plain.index(plain[4]) + 1]


def test_a_conversation_starts_anew_after_a_failure(generator: ditto.Generator) -> None:
    conversation = generator.conversation()
    text = LONG[:20] + ids(conversation.stream(LONG[:20], 2))
    conversation._cache[0].release()  # as if the parties had lost it
    with pytest.raises(InputError, match="released"):
        list(conversation.stream(text, 1))
    assert ids(conversation.stream(text, 1)) == toy.greedy(toy.table(), text, 1)


@pytest.mark.parametrize("mode", ["client", "secret"])
def test_a_text_goes_on_after_its_cache_served_another(mode: str) -> None:
    params = toy.table()
    generator = ditto.Generator(toy.decoder(), params, length=64, next_token=mode)
    conversation = generator.conversation()
    left, right = conversation.stream([1, 2, 3], 4), conversation.stream([4, 5], 3)
    found: tuple[list[int], list[int]] = ([], [])
    for turn, stream in enumerate((left, left, right, left, right, right, left)):
        if turn == 4:
            conversation.drop()
        found[stream is right].append(int(next(stream).ids[0]))
    assert found == (toy.greedy(params, [1, 2, 3], 4), toy.greedy(params, [4, 5], 3))


def test_options_of_a_draw_that_cannot_be() -> None:
    for options in (
        *({"temperature": each} for each in (0, -1, float("nan"), float("inf"), "1", None)),
        *({"top_p": each} for each in (0, 2, float("nan"), "1")),
        *({"top_k": each} for each in (0, 1.5, float("nan"), "1")),
        *({"seed": each} for each in (-1, 1.5, "1")),
    ):
        with pytest.raises(InputError, match=f"{next(iter(options))} is "):
            ditto.Sampling(**options)  # type: ignore[arg-type]
    cold = ditto.Sampling(None, 1e-310)
    assert cold.choose(np.array([[1.0, 3.0, 2.0]]), cold.generator()).tolist() == [1]


def test_a_decoder_of_another_vocabulary_is_refused() -> None:
    for length in (1.5, None, "9"):
        with pytest.raises(InputError, match=r"length is .*: give a whole number"):
            ditto.Generator(toy.decoder(), toy.table(), length=length)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"returns logits \[1, 1, 40\], but its vocabulary has 50"):
        ditto.Generator(toy.decoder(), toy.table()[:, :40], length=9).generate([1], 1)


def test_the_end_of_a_text_is_looked_up_in_it() -> None:
    assert look_up([1, 2, 3, 4, 9, 1, 2, 3], 3) == [4, 9, 1]
    assert look_up([7, 1, 5, 6, 1], 9) == [5, 6, 1]
    assert look_up([3, 3], 4) == [3]
    assert look_up([1, 2, 3], 4) == look_up([1], 4) == []


def test_sizes_are_few_and_suffice() -> None:
    sizes = {rooms.tokens(each, 2000) for each in range(1, 1025)}
    assert all(each <= rooms.tokens(each, 2000) <= max(each + 7, 1.25 * each) for each in range(2, 1025))
    assert len(sizes) < 30 and rooms.tokens(1, 9) == 1 and rooms.tokens(9, 12) == 12
    assert [rooms.room(each, 300) for each in (1, 64, 65, 200, 300)] == [64, 64, 128, 256, 300]


@pytest.mark.parametrize(
    "settings", [LLAMA | {"num_hidden_layers": 1}, GPT2 | {"n_layer": 1}], ids=["llama", "gpt2"]
)
def test_rows_at_places_of_their_own_equal_whole_passes(tmp_path: Path, settings: dict[str, object]) -> None:
    model = ditto.load(save(tmp_path, settings, torch_weights(settings)))
    texts = [[3, 7, 1, 9, 4, 2, 8, 8], [11, 2, 3, 44, 5, 6, 8, 8]]
    lengths, more = np.array([3, 5], np.int32), 2
    whole = np.asarray(model.fn(model.params, np.array(texts), np.ones((2, 8), int)))
    padded = [text[:count] + [0] * (6 - count) for text, count in zip(texts, lengths, strict=True)]
    prefill = jax.jit(model.decoder.prefill, static_argnames="length")
    logits, cache = prefill(model.params, one_hot(padded, 50), lengths[:, None] - 1, length=7)
    np.testing.assert_allclose(logits[:, 0], whole[[0, 1], lengths - 1], atol=1e-4)
    # Of three tokens the second text has room for two. The third is padding there.
    fed = [text[count : count + 3] for text, count in zip(texts, lengths, strict=True)]
    rows = np.array([[0, 1], [0, 1]], np.int32)
    logits, cache = jax.jit(model.decoder.step)(model.params, cache, one_hot(fed, 50), lengths, rows)
    for row, count in enumerate(lengths):
        np.testing.assert_allclose(logits[row], whole[row, count : count + more], atol=1e-4)
    assert all(each.shape[1] == 7 for each in jax.tree_util.tree_leaves(cache))


def test_bad_texts_and_drafts_are_refused(generator: ditto.Generator) -> None:
    assert check_texts([[1], [2, 3]], 50) == [[1], [2, 3]] and check_texts([4, 5], 50) == [[4, 5]]
    for bad, message in (
        ([[1], [2, 50]], "token ids from 2 to 50"),
        ([[], [2, 3]], "at least one token a text"),
        ([], "at least one token a text"),
        ([0.5], "token ids are integers, not float64"),
        ([LONG, LONG * 4], "240 tokens of prompt and 1 steps, but the cache has room for 200"),
    ):
        with pytest.raises(InputError, match=message):
            generator.stream(bad, 1)
    with pytest.raises(InputError, match="drafts are for one text"):
        generator.stream([[1, 2], [3, 4]], 1, drafts=ditto.Drafts())
    with pytest.raises(InputError, match="drafts of 0 tokens"):
        ditto.Drafts(0)
    for count in (1.5, float("nan"), True):
        with pytest.raises(InputError, match=r"count is .*: give a whole number"):
            ditto.Drafts(count)  # type: ignore[arg-type]
    for steps in (1.5, float("nan"), "2"):
        with pytest.raises(InputError, match=r"steps is .*: give a whole number"):
            generator.stream([1, 2], steps)  # type: ignore[arg-type]
    for stop in (3, ["</s>"], "</s>"):
        with pytest.raises(InputError, match="give a list of token ids"):
            generator.stream([1, 2], 1, stop=stop)  # type: ignore[arg-type]
    for proposed in (None, "ab", [0.5], [[1]]):
        guessing = ditto.Drafts(2, lambda text, count, proposed=proposed: proposed)  # type: ignore[misc]
        with pytest.raises(InputError, match="let `propose` return a list of ids"):
            list(generator.stream([1, 2], 3, drafts=guessing))
    wild = ditto.Drafts(2, lambda text, count: [50])
    with pytest.raises(InputError, match=r"drafts \[50\] lie outside of a vocabulary of 50"):
        list(generator.stream([1, 2], 3, drafts=wild))
    made = toy.decoder()
    equal = ditto.Decoder(made.prefill, made.step, 50, 20)
    with pytest.raises(InputError, match="takes prompts of one length"):
        ditto.Generator(equal, toy.table(), length=20).stream([[1], [2, 3]], 1)


def test_top_p_draws_from_the_fewest_that_suffice() -> None:
    logits, rng = np.log(np.array([[0.5, 0.1, 0.3, 0.1]])), np.random.default_rng(0)
    for top_p, expected in ((0.49, {0}), (0.51, {0, 2}), (0.79, {0, 2}), (1.0, {0, 1, 2, 3})):
        sampling = ditto.Sampling(top_k=None, top_p=top_p)
        assert {int(sampling.choose(logits, rng)[0]) for _ in range(99)} == expected
    for wrong in (0, 1.5):
        with pytest.raises(InputError, match="top_p is"):
            ditto.Sampling(top_p=wrong)


@pytest.mark.slow
def test_llama_talks_with_drafts_as_in_plaintext(tmp_path: Path) -> None:
    settings = LLAMA | {"num_hidden_layers": 1, "max_position_embeddings": 300}
    weights = torch_weights(settings, seed=10)
    weights = {name: each + 1 if "norm" in name else 2 * each for name, each in weights.items()}
    model = ditto.load(save(tmp_path, settings, weights))

    def plain(text: list[int], steps: int) -> list[int]:
        found = list(text)
        for _ in range(steps):
            values = np.asarray(model.fn(model.params, np.array([found]), np.ones((1, len(found)), int)))
            assert np.diff(np.sort(values[0, -1])[-2:]) > 0.05  # fixed point may shift logits by less
            found.append(int(np.argmax(values[0, -1])))
        return found[len(text) :]

    text = [3, 7, 1, 9, 4] * 3
    expected = plain(text, 6)
    made = ditto.Generator(model.decoder, model.params, length=80)
    conversation = made.conversation()
    assert ids(conversation.stream(text, 6, drafts=ditto.Drafts(3))) == expected
    turn = [*text, *expected, 1, 2]
    assert ids(conversation.stream(turn, 2)) == plain(turn, 2)
