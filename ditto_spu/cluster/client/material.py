"""Keeps a client's handle to material that the parties have dealt in the offline phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_spu.api import Call
from ditto_spu.cluster.client.answers import Dealing
from ditto_spu.cluster.client.uploads import unheld
from ditto_spu.errors import InputError
from ditto_spu.plan.plan import Plan


@dataclass
class ClusterMaterial:
    """Names the material that the parties have dealt for one request of a session. The parties keep it.

    Security: this handle holds the keys from which the masks of the request's inputs are drawn. It serves
    once.
    """

    session: str
    number: int
    plan: Plan
    weights: str | None
    public: list[list[Any]] = field(repr=False)  # each member's public inputs, in the plan's order
    mask_keys: list[bytes] = field(repr=False)
    dealing: Dealing
    spent: bool = False

    @property
    def seconds(self) -> float:
        """Return the time that dealing took at the slowest party."""
        return self.dealing.seconds

    @property
    def bytes(self) -> int:
        """Return the number of bytes that all parties have dealt."""
        return sum(sent for party in self.dealing.sizes for sent, _ in party.values())

    def spend(self, session: str | None, calls: Sequence[Call], weights: str | None) -> None:
        """Mark the material as spent. Raises InputError if it does not serve these calls in this session."""
        base, dealer = calls[0].lowered.plan, self.plan.mask_dealer
        turned = base.dealt_by(dealer) if base.masked and dealer is not None else base
        if self.session != session:
            raise InputError("the material was lost with its session: precompute anew")
        if self.spent:
            raise InputError("the material is spent: each serves one request, precompute another")
        if self.plan.hash() != turned.hash() or self.weights != weights:
            raise InputError("the material was dealt for another function, other shapes or other weights")
        if len(self.public) != len(calls):
            raise InputError(f"the material was dealt for {len(self.public)} inputs, not {len(calls)}")
        known = unheld(calls[0], weights, public=True)
        for each, values in zip(calls, self.public, strict=True):
            pairs = zip(known, values, strict=True)
            if any(not np.array_equal(each.values[place], value) for place, value in pairs):
                raise InputError("the material was dealt for other public arguments")
        self.spent = True
