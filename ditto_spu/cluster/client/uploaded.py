"""Remembers which held arguments a session has uploaded, because one upload serves several plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from ditto_spu.api import Call


@dataclass(frozen=True, eq=False)
class Uploaded:
    """Held arguments that the parties have under a name that the client has drawn.

    arguments: as they were given to `hold`. They stay alive, so that no other object takes their identity.
    plans: the hashes of the plans that they serve.
    """

    name: str
    arguments: Mapping[str, Any] = field(repr=False)
    plans: set[str] = field(default_factory=set)

    def are(self, call: Call) -> bool:
        """Tell whether a call holds the same objects under the same names."""
        mine, theirs = (
            jax.tree_util.tree_flatten_with_path(dict(each))[0] for each in (self.arguments, call.arguments)
        )
        return len(mine) == len(theirs) and all(
            path == other and leaf is array for (path, leaf), (other, array) in zip(mine, theirs, strict=True)
        )


class Uploads:
    """What one session has uploaded without a name of the user's."""

    def __init__(self) -> None:
        self._all: list[Uploaded] = []

    def of(self, call: Call) -> Uploaded | None:
        """Return the upload of the arguments that a call holds, or None."""
        return next((each for each in self._all if each.are(call)), None)

    def outdated(self, plan: str) -> Uploaded | None:
        """Return, and forget, an upload of other arguments that served this plan."""
        found = next((each for each in self._all if plan in each.plans), None)
        if found is not None:
            self._all.remove(found)
        return found

    def remember(self, uploaded: Uploaded) -> None:
        """Remember an upload, unless it is known."""
        if uploaded not in self._all:
            self._all.append(uploaded)
