"""Text comes in whole characters and ends where a stop text begins, however its tokens cut it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ditto_spu.errors import InputError
from ditto_spu.generation.generated import Token
from ditto_spu.generation.text import Piece, StopTexts, TextStream, pieces
from ditto_spu.plan.cost_report import CostReport

TEXTS = ["héllo wörld", "日本語 😀👩‍👩‍👧 ok", "  two  spaces\n\nlines", "a\u0301e", "🇩🇪"]

BYTES = [f"<0x{each:02X}>" for each in range(256)]
WORDS = ["▁", "▁a", "b", "▁▁", "e"]


def bytes_of_gpt2() -> Tokenizer:
    """Return a tokenizer of bytes. One token is a space with the first byte of a smiley."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {each: place for place, each in enumerate(alphabet)}
    first = chr(0xF0)  # stands for the byte 0xF0
    vocabulary["Ġ" + first] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocabulary, [("Ġ", first)]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken("<end>", special=True)])
    return inner


def pieces_of_llama() -> Tokenizer:
    """Return a tokenizer of pieces that falls back to bytes, and leaves the space before a text out."""
    words = ["<unk>", *BYTES, *WORDS]
    places = {word: place for place, word in enumerate(words)}
    inner = Tokenizer(models.BPE(places, [], unk_token="<unk>", byte_fallback=True))
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([AddedToken("<end>", special=True)])
    return inner


TOKENIZERS = {"bytes": bytes_of_gpt2(), "pieces": pieces_of_llama()}


def joined(inner: Tokenizer, ids: list[int]) -> list[str]:
    stream = TextStream(inner.decode)
    return [*(stream.push(each) for each in ids), stream.end()]


@pytest.mark.parametrize("text", TEXTS)
def test_a_character_comes_whole_once_its_bytes_are_there(text: str) -> None:
    inner = TOKENIZERS["bytes"]
    ids = inner.encode(text).ids
    found = joined(inner, ids)
    assert "".join(found) == text and "\ufffd" not in "".join(found)
    for count in range(len(ids)):
        assert "".join(found[: count + 1]) == inner.decode(ids[: count + 1]).rstrip("\ufffd")


# A run of byte tokens that is no text becomes no text as a whole, which nobody can know before its end.
UNITS = {
    "bytes": [[each] for each in range(TOKENIZERS["bytes"].get_vocab_size())],
    "pieces": [
        *([TOKENIZERS["pieces"].token_to_id(each)] for each in [*WORDS, "<end>"]),
        *([1 + each for each in text.encode()] for text in "é😀\n"),
    ],
}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_all_pieces_join_to_the_text_of_all_tokens(name: str, data: st.DataObject) -> None:
    inner = TOKENIZERS[name]
    units = data.draw(st.lists(st.sampled_from(UNITS[name]), max_size=25))
    ids = [each for unit in units for each in unit]
    assert "".join(joined(inner, ids)) == inner.decode(ids)


@given(
    st.lists(st.text("ab", max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_nothing_of_a_stop_text_is_shown_and_nothing_before_it_is_lost(
    parts: list[str], stops: list[str]
) -> None:
    filtered, shown = StopTexts(stops), ""
    for part in parts:
        shown += filtered.push(part)
        assert not any(each in shown for each in stops)
    shown += filtered.end()
    whole = "".join(parts)
    assert filtered.found == any(each in whole for each in stops)
    assert whole.startswith(shown)
    if not filtered.found:
        assert shown == whole
    elif len(stops) == 1:
        assert shown == whole[: whole.find(stops[0])]


def test_an_answer_ends_by_token_by_text_or_by_length() -> None:
    report = CostReport(())

    def tokens(*ids: int) -> Iterator[Token]:
        for place, each in enumerate(ids):
            yield Token(place, np.array([each]), report, 0.0)

    def decode(ids: object) -> str:
        return "".join(chr(each) for each in ids)  # type: ignore[attr-defined]

    def shown(found: list[Piece]) -> tuple[str, str | None, int]:
        count = sum(each.token is not None for each in found)
        assert all(each.finish is None for each in found[:-1])
        return "".join(each.text for each in found), found[-1].finish, count

    text = tokens(*b"one two three")
    assert shown(list(pieces(text, decode, (), ["two"]))) == ("one ", "stop", 7)
    assert shown(list(pieces(tokens(*b"one two"), decode, (ord("t"),)))) == ("one ", "stop", 5)
    assert shown(list(pieces(tokens(*b"one tw"), decode, (), ["two"]))) == ("one tw", "length", 6)
    assert shown(list(pieces(tokens(*b"tw"), decode, (ord("w"),), ["two"]))) == ("t", "stop", 2)
    with pytest.raises(InputError, match="a stop text is empty"):
        StopTexts(["a", ""])
