"""Tell whether the path of a rule would match a path of a program but for one misspelt name."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_ALIKE = 0.7  # the share of letters that two names have in common
_ANY = ".*"


def nearly_matches(pattern: str, path: str) -> bool:
    """Tell whether all names of a path but one match those of a pattern, and that one nearly does.

    A pattern that begins with ".*/" is held against the last names of the path.
    """
    wanted, names = pattern.split("/"), path.split("/")
    if wanted[0] == _ANY:
        wanted = wanted[1:]
        names = names[-len(wanted) :]
    if len(wanted) != len(names) or len(wanted) < 2:
        return False
    apart = [(each, name) for each, name in zip(wanted, names, strict=True) if not _matches(each, name)]
    return len(apart) == 1 and SequenceMatcher(None, *apart[0]).ratio() >= _ALIKE


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:  # a group that spans several names
        return False
