"""Provide English that every machine has: what the modules of Python's standard library say of themselves."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.tokenizer import Tokenizer
from ditto_spu.errors import InputError


def prose_ids(tokenizer: Tokenizer, length: int) -> NDArray[np.int64]:
    """Return the first tokens [texts, length] of each module's docstring that is so long.

    They are in the order of the files. Raises InputError where the library comes without its sources.
    """
    found = [tokenizer.encode(each) for each in _docstrings(Path(sysconfig.get_paths()["stdlib"]))]
    rows = [each[:length] for each in found if len(each) >= length]
    if not rows:
        raise InputError(
            f"no docstring of Python's standard library has {length} tokens: ask for shorter texts, or take "
            "a Python that comes with its sources"
        )
    return np.array(rows, np.int64)


def _docstrings(library: Path) -> list[str]:
    found = []
    for path in sorted(library.glob("*.py")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (SyntaxWarning, DeprecationWarning))  # of the library's own code
            module = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        if text := ast.get_docstring(module):
            found.append(text)
    return found
