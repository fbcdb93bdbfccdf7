"""Turn tokens into text as they come, and end a text at a token or a text that stops it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ditto_spu.errors import InputError
from ditto_spu.generation.generated import Token

_UNFINISHED = "\ufffd"  # what tokenizers show for bytes that are no whole character


@dataclass(frozen=True)
class Piece:
    """What one token adds to a text.

    text: whole characters. It is empty while a character, or what may be a stop text, is not complete.
    token: the token with its cost, or None for what was held back at the end.
    finish: None, and in the last piece why the text ends: "stop", or "length" for as many tokens as wanted.
    """

    text: str
    token: Token | None
    finish: str | None = None


class TextStream:
    """Text of ids that come one by one. All that `push` and `end` return joins to the text of all ids.

    The one exception are tokens for single bytes after a text whose end they spoil.

    decode: returns the text of a list of ids.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        # A token's text may depend on the one before it. So a few tokens are decoded again with each new one:
        # those from `_start` on, whose first `_shown` characters are out. All is out before token `_mark`.
        self._start = self._mark = self._shown = 0

    def push(self, token: int) -> str:
        """Return the characters that a token completes."""
        self._ids.append(token)
        text = self._decode(self._ids[self._start :])
        whole = text.rstrip(_UNFINISHED)
        piece = whole[self._shown :]
        if whole == text and piece:
            self._start, self._mark = self._mark, len(self._ids)
            self._shown = len(self._decode(self._ids[self._start :]))
        else:
            self._shown = max(self._shown, len(whole))
        return piece

    def end(self) -> str:
        """Return the characters that never became whole."""
        return self._decode(self._ids[self._start :])[self._shown :]


class StopTexts:
    """Hold text back that may begin a stop text, and find the first stop text.

    texts: one or more, none of them empty.
    """

    def __init__(self, texts: Collection[str]) -> None:
        if any(not each for each in texts):
            raise InputError("a stop text is empty, which would end every text: leave it out")
        self._texts = tuple(texts)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Return what may be shown. Once `found` is true, it is all that stands before the stop text."""
        if self.found:
            return ""
        self._held += text
        places = [place for each in self._texts if (place := self._held.find(each)) >= 0]
        self.found = bool(places)
        shown = min(places) if places else len(self._held) - self._begun()
        piece, self._held = self._held[:shown], self._held[shown:]
        return piece

    def end(self) -> str:
        """Return what was held back, as no stop text came of it."""
        return "" if self.found else self._held

    def _begun(self) -> int:
        """Return the length of the longest end of the text that begins a stop text."""
        longest = max(map(len, self._texts), default=0)
        sizes = range(min(longest - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if self._begins(self._held[-size:])), 0)

    def _begins(self, end: str) -> bool:
        return any(each.startswith(end) for each in self._texts)


def pieces(
    tokens: Iterable[Token],
    decode: Callable[[Sequence[int]], str],
    stop: Collection[int] = (),
    stop_texts: Collection[str] = (),
) -> Iterator[Piece]:
    """Yield the text of the first text of a batch, a piece for each token, as the tokens come.

    tokens: what `Generator.stream` or `Conversation.stream` gives. It is left where the text ends.
    decode: returns the text of ids, such as `Tokenizer.decode`.
    stop: ids that end the text; their own text is left out. stop_texts: texts that do.
    """
    stream, filtered = TextStream(decode), StopTexts(stop_texts)
    for token in tokens:
        chosen = int(token.ids[0])
        if chosen in stop:
            yield Piece(filtered.push(stream.end()) + filtered.end(), token, "stop")
            return
        text = filtered.push(stream.push(chosen))
        if filtered.found:
            yield Piece(text, token, "stop")
            return
        yield Piece(text, token)
    rest = filtered.push(stream.end())
    yield Piece(rest + filtered.end(), None, "stop" if filtered.found else "length")
