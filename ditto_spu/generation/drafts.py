"""Guess the next tokens of a text at the client, so that one pass of the parties verifies several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ditto_spu.errors import InputError, require_whole

_LONGEST = 3  # tokens at the end of a text that are looked up in it


def look_up(text: Sequence[int], count: int) -> list[int]:
    """Return up to `count` tokens that followed the last place where the text's end stood before.

    Its last three tokens are looked up, then two, then one. The result is empty if none of these occurs.
    """
    for size in range(min(_LONGEST, len(text) - 1), 0, -1):
        end = list(text[-size:])
        for start in range(len(text) - size - 1, -1, -1):
            if list(text[start : start + size]) == end:
                return list(text[start + size : start + size + count])
    return []


@dataclass(frozen=True)
class Drafts:
    """Guesses of the next tokens.

    count: how many tokens are guessed at most. A pass verifies them beside the last token, and costs the
        bytes of `count` + 1 tokens at the rounds of one.
    propose: `propose(text, count)` returns up to `count` token ids after the ids of a text. It runs at the
        client, and may be any function, such as a small public model. The default looks the end of the text
        up in the text, which helps where an answer quotes.
    """

    count: int = 4
    propose: Callable[[Sequence[int], int], Sequence[int]] = look_up

    def __post_init__(self) -> None:
        require_whole(count=self.count)
        if self.count < 1:
            raise InputError(f"drafts of {self.count} tokens: guess at least one, or leave drafts out")

    def after(self, text: Sequence[int], most: int, vocabulary: int) -> list[int]:
        """Return up to `most` guesses for a text. Raises InputError for what is no id of the vocabulary."""
        if most < 1:
            return []
        most = min(self.count, most)
        found = np.asarray(self.propose(text, most))
        if found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
            raise InputError(f"drafts are {found!r:.60}: let `propose` return a list of ids")
        ids: list[int] = found[:most].tolist()
        if any(not 0 <= each < vocabulary for each in ids):
            raise InputError(
                f"drafts {ids} lie outside of a vocabulary of {vocabulary} tokens: let `propose` return ids"
            )
        return ids
