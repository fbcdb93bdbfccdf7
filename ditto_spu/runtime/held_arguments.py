"""Arguments given once and for all, such as weights: shared when first needed, then served to every plan."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.client import hold
from ditto_spu.runtime.precompute import NO_HELD_SHARES, HeldShares

_Address = tuple[str, str, Fxp | None, int | None]  # path, how it is made, format, dealer of masked shares


@dataclass(frozen=True)
class HeldArguments:
    """What is held by name, and the shares made of it so far: one sharing serves all plans of one format.

    Several functions may hold the same: weights that two of them want in the same format are shared and
    prepared once. Material dealt for these shares carries their token.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    _parts: dict[_Address, Sequence[Any]] = field(default_factory=dict, repr=False)
    _token: str = field(default_factory=lambda: secrets.token_hex(8))

    def shares(
        self, plan: Plan, places: Sequence[int], values: Sequence[Any], seed: int | None
    ) -> HeldShares:
        """Shares of the inputs at `places`; those that no earlier plan has asked for are made now."""
        if not places:
            return NO_HELD_SHARES
        addresses: dict[int, _Address] = {}
        for place in places:
            entry = plan.inputs[place]
            addresses[place] = (entry.path, entry.made, plan.vars[entry.var].fxp, plan.mask_dealer)
        missing = [place for place, address in addresses.items() if address not in self._parts]
        for place, parts in hold(plan, values, missing, seed).items():
            self._parts[addresses[place]] = parts
        return HeldShares({place: self._parts[address] for place, address in addresses.items()}, self._token)
