"""What the parties of a session deal for a later request of it, kept in memory and spent once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import Dealt
from ditto_kernels.protocol.party import Party
from ditto_kernels.sharing.deal_ahead import nothing
from ditto_kernels.values.replicated import Rss
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.errors import ClusterError
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.deal_plan import run_ahead
from ditto_spu.runtime.precompute import input_masks, random_bytes

Parts = dict[int, Any]  # by the input's place in the plan


@dataclass(frozen=True)
class Material:
    """One party's. `request` numbers the request that dealt it, whose streams it uses."""

    request: int
    plan: str  # hash, with the dealer of this turn
    token: str | None  # of the weights that it serves
    public: tuple[Parts, ...] = field(repr=False)  # by member of the batch
    dealt: Dealt = field(repr=False)
    known: tuple[Mapping[int, Any], ...] | None = field(repr=False)  # of the dealer of masked shares

    @property
    def nbytes(self) -> int:
        values = [value for each in (*self.public, *(self.known or ())) for value in each.values()]
        arrays = [
            array
            for each in values
            for array in ((each.mine, each.next) if isinstance(each, Rss) else (each,))
        ]
        return sum(np.asarray(array).nbytes for array in (*arrays, *self.dealt.values()))


class Materials:
    """The unspent material of one session. ClusterError for what is not there, or does not fit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[int, Material] = {}

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in list(self._kept.values()))

    def check_room(self) -> None:
        """Whether anything more may be dealt: how much it will be shows only afterwards."""
        if (held := self.nbytes) >= self._max_bytes:
            raise ClusterError(
                f"{held} bytes of material are unspent, `waiting_mb` in [limits]: spend some first"
            )

    def add(self, material: Material) -> None:
        self._kept[material.request] = material

    def find(self, request: Any, plan: str, token: str | None, count: int) -> Material:
        found = self._kept.get(request) if type(request) is int else None
        if found is None:
            raise ClusterError(
                f"there is no material {str(request)[:20]} in this session: each serves one request"
            )
        if (found.plan, found.token, len(found.public)) != (plan, token, count):
            raise ClusterError(
                "the material was dealt for another plan, other weights or another number of inputs"
            )
        return found

    def spend(self, material: Material) -> None:
        """Before anything is sent: whatever becomes of the request, the material serves no other."""
        del self._kept[material.request]


def member(party: Party, number: int) -> Party:
    """The party in one call of a batch: names of its own for streams and messages."""
    return party.at(f"member{number}")


def deal(
    plan: Plan,
    party: Party,
    link: PeerLink,
    held: dict[int, Any],
    public: Sequence[Parts],
    mask_keys: Sequence[bytes],
) -> tuple[list[Mapping[int, Any]] | None, list[tuple[int, int, int]]]:
    """Deal for every member, and send; (what the dealer of masked shares will need, [step, bytes, messages]).

    public: each member's public inputs. mask_keys: of each member, at the dealer of masked shares alone: of
    the stream from which the client draws that party's components of the secret inputs.
    """
    known: list[Mapping[int, Any]] = []
    sizes: dict[int, tuple[int, int]] = {}
    masking = party.rank == plan.mask_dealer
    for number, given in enumerate(public):
        masks = input_masks(plan, random_bytes(mask_keys[number]), held) if masking else {}
        inputs = [_input(plan, place, held | given, masks) for place in range(len(plan.inputs))]
        ahead = run_ahead(plan, member(party, number), inputs)
        known.append(ahead.known or {})
        for step, sends in ahead.sends.items():
            link.send(sends)
            size, messages = sizes.get(step, (0, 0))
            size += sum(np.asarray(each.array).nbytes for each in sends)
            sizes[step] = size, messages + len({each.to for each in sends})
    rows = [(step, *sent) for step, sent in sizes.items() if sent[1]]
    return (known if masking else None), rows


def _input(plan: Plan, place: int, known: Parts, masks: Parts) -> Any:
    entry = plan.inputs[place]
    info = plan.vars[entry.var]
    if info.fxp is None:
        return known[place]
    return masks[entry.var] if entry.var in masks else nothing(info.shape, info.fxp)
