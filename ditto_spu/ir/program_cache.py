"""Keeps what is made of programs, up to a number of programs and of characters of their text."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

_MOST_PROGRAMS = 4096  # a deep model must have fewer steps than this, or each call would compile them anew
_MOST_CHARACTERS = 1 << 26  # executables grow with their text, and clients choose the text

Made = TypeVar("Made")


def kept_by_text(make: Callable[[str], Made]) -> Callable[[str], Made]:
    """Return the same function of a program's text, which keeps its latest results."""
    kept: OrderedDict[str, Made] = OrderedDict()
    characters = 0
    lock = threading.Lock()

    @functools.wraps(make)
    def found(text: str) -> Made:
        nonlocal characters
        with lock:
            if text in kept:
                kept.move_to_end(text)
                return kept[text]
        made = make(text)  # without the lock, because it may take long
        with lock:
            if text not in kept:
                kept[text] = made
                characters += len(text)
            while len(kept) > 1 and (len(kept) > _MOST_PROGRAMS or characters > _MOST_CHARACTERS):
                oldest, _ = kept.popitem(last=False)
                characters -= len(oldest)
        return made

    return found
