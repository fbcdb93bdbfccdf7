"""Held arguments, such as weights: they are given once, shared when first needed, and serve every plan."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import InputError, nearest
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.client import hold
from ditto_spu.runtime.precompute import NO_HELD_SHARES, HeldShares

# path, digest of how an owner makes it, format, dealer of masked shares
_Address = tuple[str, str, Fxp | None, int | None]


@dataclass(frozen=True)
class HeldArguments:
    """The arguments that are held, by name, and the shares made of them so far.

    One sharing of an argument serves all plans that take it in one format. Several functions may use the same
    object. Weights that two of them want in the same format are then shared and prepared once. Material that
    was dealt for these shares carries their token.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    _parts: dict[_Address, Sequence[Any]] = field(default_factory=dict, repr=False)
    _token: str = field(default_factory=lambda: secrets.token_hex(8))

    def only(self, names: Sequence[str]) -> HeldArguments:
        """Return some of these arguments, for a function without the others. The shares stay the same ones.

        Raises InputError for a name that is not held.
        """
        for name in names:
            if name not in self.arguments:
                raise InputError(f"'{name}' is not held{nearest(name, self.arguments)}")
        return replace(self, arguments={name: self.arguments[name] for name in names})

    def shares(
        self, plan: Plan, places: Sequence[int], values: Sequence[Any], seed: int | None
    ) -> HeldShares:
        """Return the shares of the inputs at `places`. Those that no earlier plan asked for are made now.

        values: one per input of the plan. Only those at `places` are read.
        seed: as for `client.hold`.
        """
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
