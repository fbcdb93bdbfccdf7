"""Remembers which held arguments a session has uploaded, because one upload serves several plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax

from ditto_spu.api import Call


@dataclass(frozen=True, eq=False)
class Uploaded:
    """Held arguments that the parties have under a name that the client has drawn.

    arrays: what was given to `hold`, by path. They stay alive, so that no other object takes their identity.
    plans: the hashes of the plans that they serve.
    """

    name: str
    arrays: dict[str, Any] = field(default_factory=dict, repr=False)
    plans: set[str] = field(default_factory=set)

    def fits(self, call: Call) -> bool:
        """Tell whether a call holds some of these arrays, and none but them under their paths."""
        theirs = _arrays(call)
        common = self.arrays.keys() & theirs.keys()
        return bool(common) and all(self.arrays[path] is theirs[path] for path in common)

    def serve(self, call: Call) -> None:
        """Note that these arguments serve the plan of a call, with what the call holds besides."""
        self.arrays.update(_arrays(call))
        self.plans.add(call.lowered.plan.hash())


def _arrays(call: Call) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(dict(call.arguments))
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


class Uploads:
    """What one session has uploaded without a name of the user's."""

    def __init__(self) -> None:
        self._all: list[Uploaded] = []

    def of(self, call: Call) -> Uploaded | None:
        """Return the upload of the arguments that a call holds, or None."""
        return next((each for each in self._all if each.fits(call)), None)

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
