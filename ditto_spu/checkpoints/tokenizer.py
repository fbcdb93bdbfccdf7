"""Turn text into the tokens of a checkpoint and back, and conversations into prompts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints import gguf_file, gguf_tokenizer
from ditto_spu.checkpoints.chat_template import Message, render
from ditto_spu.checkpoints.folder import json_file
from ditto_spu.errors import InputError

# Users' texts that begin in different ways. What stands before all of them is the same for any text.
_PROBES = ("a", "A", "1", " a", "\na", "\n\na", "\ta", "(", "é", "中", "-")


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a checkpoint.

    inner: the tokenizer of the package `tokenizers`.
    template: the Jinja template of conversations, or None.
    special: texts of special tokens by name, such as "bos_token".
    stop: ids that end a text.
    padding: the id that fills short texts.
    """

    inner: Any
    template: str | None
    special: Mapping[str, str]
    stop: frozenset[int]
    padding: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with the special tokens that the model expects around it."""
        return list(self.inner.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return str(self.inner.decode([int(each) for each in ids], skip_special_tokens=True))

    def chat(self, messages: str | Sequence[Message]) -> list[int]:
        """Return the ids of a conversation, ready for the model's answer.

        messages: dictionaries with "role" and "content", or the text of one user. Raises InputError if the
        checkpoint has no chat template.
        """
        if self.template is None:
            raise InputError("this checkpoint has no chat template: give plain text")
        listed = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        text = render(self.template, listed, self.special)
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def behind(self, prefix: str, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of a public prefix and those of a text behind it.

        With a chat template, `prefix` is the system's message and `text` the user's; the ids end ready for
        the model's answer. The prefix then covers all that stands before the user's text. Without a template
        the text follows the prefix as it stands. The ids of the prefix depend on `prefix` alone.

        Raises InputError for a template that puts the system's message elsewhere, or for no ids.
        """
        if self.template is None:
            first, second = self.encode(prefix), list(self.inner.encode(text, add_special_tokens=False).ids)
            return _both(first, second)

        def chat(user: str) -> list[int]:
            return self.chat([{"role": "system", "content": prefix}, {"role": "user", "content": user}])

        opening = _shared([chat(each) for each in _PROBES])
        ids = chat(text)
        if ids[: len(opening)] != opening:
            raise InputError(
                "this text changes the tokens before it, so they cannot be public: begin it with a word"
            )
        return _both(opening, ids[len(opening) :])

    def opening(self, prefix: str) -> list[int]:
        """Return the ids of a public system message before conversations. Raises as `behind` does."""
        return self.behind(prefix, _PROBES[0])[0]

    def chat_behind(self, opening: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation without the public prefix that `opening` gave, if there is one.

        Raises InputError for messages that do not begin with it.
        """
        ids = self.chat(messages)
        if ids[: len(opening)] != list(opening):
            raise InputError(
                "these messages do not begin with the public prefix: begin them with the system's message of "
                "the prefix, and the user's with a word"
            )
        return ids[len(opening) :]

    def batch(self, texts: Sequence[str], length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return ids and mask, each [texts, length]. Long texts are cut, and short ones padded behind."""
        if isinstance(texts, str) or not texts:
            raise InputError("batch takes a list of at least one text")
        ids = np.full((len(texts), length), self.padding, np.int32)
        mask = np.zeros((len(texts), length), np.int32)
        for row, text in enumerate(texts):
            found = self.inner.encode(text)
            found.truncate(length)
            ids[row, : len(found.ids)], mask[row, : len(found.ids)] = found.ids, 1
        return ids, mask


def _shared(rows: Sequence[list[int]]) -> list[int]:
    """Return the ids with which all rows begin."""
    places = zip(*rows, strict=False)
    return [each[0] for each in itertools.takewhile(lambda place: len(set(place)) == 1, places)]


def _both(prefix: list[int], text: list[int]) -> tuple[list[int], list[int]]:
    if not prefix or not text:
        raise InputError("prefix and text both need at least one token")
    return prefix, text


def open_tokenizer(source: Path) -> Tokenizer:
    """Open the tokenizer of a checkpoint: tokenizer.json in its folder, or the metadata of a GGUF file.

    Raises InputError if there is none.
    """
    if source.is_dir():
        if (source / "tokenizer.json").is_file() or not (quantised := sorted(source.glob("*.gguf"))):
            return _folder(source)
        source = quantised[0]
    if source.suffix != ".gguf":
        return _folder(source.parent)
    fields = gguf_file.metadata(source)
    inner, special, stop = gguf_tokenizer.build(source, fields)
    padding = fields.get("tokenizer.ggml.padding_token_id", 0)
    return Tokenizer(inner, fields.get("tokenizer.chat_template"), special, stop, int(padding))


def has_tokenizer(source: Path) -> bool:
    """Return whether a checkpoint comes with a tokenizer, readable or not."""
    folder = source if source.is_dir() else source.parent
    if source.suffix == ".gguf" or (folder / "tokenizer.json").exists():
        return True
    return source.is_dir() and any(source.glob("*.gguf"))


def _folder(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Inner

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no tokenizer.json: save the fast tokenizer there "
            "(transformers.AutoTokenizer.from_pretrained(...).save_pretrained(folder))"
        )
    try:
        inner = Inner.from_file(str(path))
    except Exception as error:  # the package raises plain exceptions
        raise InputError(f"{path} cannot be read ({error}): download or save it again") from None
    inner.no_padding()
    inner.no_truncation()
    options = json_file(folder / "tokenizer_config.json") or {}
    special = {
        name: text
        for name, value in options.items()
        if name.endswith("_token") and (text := value.get("content") if isinstance(value, dict) else value)
    }
    padding = inner.token_to_id(special["pad_token"]) if "pad_token" in special else 0
    return Tokenizer(inner, _template(folder, options), special, _stop(folder, inner, special), padding or 0)


def _template(folder: Path, options: Mapping[str, Any]) -> str | None:
    """Return the chat template. A list of named ones is searched for the default."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = options.get("chat_template")
    if isinstance(found, list):
        found = next((each.get("template") for each in found if each.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _stop(folder: Path, inner: Any, special: Mapping[str, str]) -> frozenset[int]:
    """Return the ids that end a text, by generation_config.json, config.json or the tokenizer."""
    for name in ("generation_config.json", "config.json"):
        value = (json_file(folder / name) or {}).get("eos_token_id")
        if value is not None:
            return frozenset(value if isinstance(value, list) else [value])
    found = inner.token_to_id(special["eos_token"]) if "eos_token" in special else None
    return frozenset() if found is None else frozenset([found])
