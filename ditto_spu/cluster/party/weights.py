"""Describes weights that a party holds, and the plans that they serve."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.cluster.party.plan_checker import CheckedPlan
from ditto_spu.plan.plan import Plan

# path, digest of how its owner makes it, format, shape, dtype
_Address = tuple[str, str, Fxp | None, tuple[int, ...], str]


@dataclass(frozen=True)
class Served:
    """Describes how weights serve one plan.

    token: was drawn by the owner to name this upload; it is the same at all parties.
    parts: this party's shares of the weights, by the input's place in the plan.
    keep: the outputs that have to stay in shares, because their owner says so.
    kept: the inputs that have to be kept outputs of plans of these weights.
    """

    plan: CheckedPlan
    token: str
    parts: dict[int, Any] = field(repr=False)
    keep: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Weights:
    """Holds a party's shares of one owner's weights.

    They serve only the plans that the owner chose, and only the owner and the clients in `users`.

    token: that of the first upload, which names these weights for as long as they exist.
    session: the session with which the weights end, or None if they stay.
    serves: the plans, by hash.
    """

    owner: str
    users: tuple[str, ...]
    token: str
    session: str | None
    nbytes: int
    serves: dict[str, Served]

    @property
    def version(self) -> str:
        """Return a digest of all uploads. Parties with the same version hold the same."""
        tokens = sorted((hash_, each.token) for hash_, each in self.serves.items())
        return hashlib.sha256(repr(tokens).encode()).hexdigest()

    def missing(self, plan: Plan, places: Sequence[int]) -> tuple[int, ...]:
        """Return those of the places of a further plan whose shares no upload has brought."""
        there = self._parts
        return tuple(place for place in places if _address(plan, place) not in there)

    def completed(self, plan: Plan, places: Sequence[int], sent: Mapping[int, Any]) -> dict[int, Any]:
        """Return the parts for all places of a further plan: those sent now, and those of earlier uploads."""
        there = self._parts
        return {place: sent[place] if place in sent else there[_address(plan, place)] for place in places}

    @property
    def _parts(self) -> dict[_Address, Any]:
        """Return the parts by address: one serves every plan that wants it made and shared in one way."""
        return {
            _address(each.plan.plan, place): part
            for each in self.serves.values()
            for place, part in each.parts.items()
        }


def _address(plan: Plan, place: int) -> _Address:
    entry = plan.inputs[place]
    var = plan.vars[entry.var]
    return entry.path, entry.made, var.fxp, var.shape, var.dtype


@dataclass(frozen=True)
class Upload:
    """Reserves a name for weights that are on their way. It is made when the parties agree on the upload.

    before: the version of the weights that have the name now, or None.
    """

    name: str
    owner: str
    nbytes: int
    before: str | None
