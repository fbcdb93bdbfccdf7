"""Chooses and splits the inputs that a client sends, and packs each party's part into messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ditto_kernels.values.replicated import Rss
from ditto_spu.api import Call
from ditto_spu.cluster.client.party_connections import Upload
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.client import share_input
from ditto_spu.runtime.precompute import RandomBytes


def unheld(call: Call, weights: str | None, public: bool | None) -> list[int]:
    """Return the places of the inputs that are neither held nor kept at the parties.

    `public` chooses the public inputs (True), the secret ones (False) or all (None). Without `weights` no
    input counts as held.
    """
    plan = call.lowered.plan
    return [
        place
        for place, each in enumerate(plan.inputs)
        if not (weights is not None and place in call.held)
        and place not in call.kept
        and (public is None or public == (plan.vars[each.var].fxp is None))
    ]


def split(plan: Plan, call: Call, places: Sequence[int], source: RandomBytes) -> dict[int, Sequence[Any]]:
    """Return the three parties' parts of the inputs, by place.

    A secret input becomes shares, drawn from `source`. A public one goes to each party as it is. Raises
    RangeError for an array that leaves its format, or a range on which the first operation to read it relies.
    """
    shared: dict[int, Sequence[Any]] = {}
    for place in places:
        var = plan.vars[plan.inputs[place].var]
        parts = share_input(plan, plan.inputs[place], call.values[place], source)
        call.check.require(place, call.values[place])
        shared[place] = parts if var.fxp is not None else [np.asarray(each, var.dtype) for each in parts]
    return shared


def messages(shared: Mapping[int, Sequence[Any]], member: int, rank: int) -> list[Upload]:
    """Return the messages that carry the parts of party `rank` for one member of the batch."""
    made: list[Upload] = []
    for place, parts in shared.items():
        part = parts[rank]
        tensors = [("mine", part.mine), ("next", part.next)] if isinstance(part, Rss) else [("public", part)]
        made.append(({"member": member, "place": place}, tensors))
    return made
