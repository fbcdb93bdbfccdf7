"""Deals material for a later request of a session, and keeps it in memory until it is spent, once."""

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
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.errors import ClusterError
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.deal_plan import deal_offline
from ditto_spu.runtime.precompute import input_masks, random_bytes

Parts = dict[int, Any]  # by the input's place in the plan


@dataclass(frozen=True)
class Material:
    """Holds one party's material for a request.

    `request` is the number of the request that dealt it. The run that spends it uses the same random streams.
    """

    request: int
    plan: str  # the hash of the plan with its dealer
    token: str | None  # names the upload of the weights that it serves
    public: tuple[Parts, ...] = field(repr=False)  # the public inputs of each member of the batch
    dealt: Dealt = field(repr=False)
    # At the dealer of masked shares alone: its own components of the values that it needs online.
    dealer_values: tuple[Mapping[int, Any], ...] | None = field(repr=False)
    tags: Mapping[int, str]  # at that dealer, the digests of its components of the request's inputs

    @property
    def nbytes(self) -> int:
        """Return the size of the material in bytes."""
        values = [value for each in (*self.public, *(self.dealer_values or ())) for value in each.values()]
        arrays = [
            array
            for each in values
            for array in ((each.mine, each.next) if isinstance(each, Rss) else (each,))
        ]
        return sum(np.asarray(array).nbytes for array in (*arrays, *self.dealt.values()))


class Materials:
    """Keeps the unspent material of one session at one party.

    The quota counts the bytes of the client's unspent material in all its sessions.
    """

    def __init__(self, client: str, quota: Quota) -> None:
        self._client = client
        self._quota = quota
        self._kept: dict[int, Material] = {}

    def check_room(self) -> None:
        """Raise ClusterError if the client's unspent material has reached the limit.

        The size of new material is known only after it has been dealt.
        """
        self._quota.require(self._client)

    def add(self, material: Material) -> None:
        """Keep material under the number of the request that dealt it."""
        self._kept[material.request] = material
        self._quota.count(self._client, material.nbytes)

    def find(self, request: Any, plan: str, token: str | None, count: int) -> Material:
        """Return the material that `request` dealt. Raises ClusterError if none is there that fits."""
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
        """Remove material. The caller does this before the run sends anything.

        So the material serves no other request, however the run ends.
        """
        del self._kept[material.request]
        self._quota.give_back(self._client, material.nbytes)

    def clear(self) -> None:
        """Forget all material, because the session ends."""
        for each in list(self._kept.values()):
            self.spend(each)


def member(party: Party, number: int) -> Party:
    """Return the party for one member of a batch, with separate names for streams and messages."""
    return party.at(f"member{number}")


def deal(
    plan: Plan,
    party: Party,
    link: PeerLink,
    held: dict[int, Any],
    public: Sequence[Parts],
    mask_keys: Sequence[bytes],
) -> tuple[list[Mapping[int, Any]] | None, list[tuple[int, int, int]]]:
    """Deal material for every member of the batch, and send it to the peers.

    public: the public inputs of each member.
    mask_keys: a key for each member, at the dealer of masked shares alone. From the stream of this key the
        client draws that dealer's components of the secret inputs.

    Returns the values that the dealer of masked shares needs online, by member and variable, and None at the
    other parties. Returns also (step, bytes, messages) for each step for which this party has sent material.
    """
    dealer_values: list[Mapping[int, Any]] = []
    sizes: dict[int, tuple[int, int]] = {}
    lane = link.lane()
    masking = party.rank == plan.mask_dealer
    for number, given in enumerate(public):
        masks = input_masks(plan, random_bytes(mask_keys[number]), held) if masking else {}
        inputs = [_input(plan, place, held | given, masks) for place in range(len(plan.inputs))]
        made = deal_offline(plan, member(party, number), inputs)
        dealer_values.append(made.dealer_values or {})
        for step, sends in made.sends.items():
            lane.send(sends)
            size, messages = sizes.get(step, (0, 0))
            size += sum(np.asarray(each.array).nbytes for each in sends)
            sizes[step] = size, messages + len({each.to for each in sends})
    rows = [(step, *sent) for step, sent in sizes.items() if sent[1]]
    return (dealer_values if masking else None), rows


def drawn_inputs(plan: Plan, held: dict[int, Any], mask_keys: Sequence[bytes]) -> list[Parts]:
    """Return the components of the secret inputs that the dealer of masked shares has drawn, by member.

    held: inputs that are not drawn. mask_keys: as for `deal`. Other parties have no keys, and get nothing.
    """
    drawn = []
    for key in mask_keys:
        masks = input_masks(plan, random_bytes(key), held)
        fresh = [place for place in range(len(plan.inputs)) if place not in held]
        drawn.append({p: masks[plan.inputs[p].var] for p in fresh if plan.inputs[p].var in masks})
    return drawn


def _input(plan: Plan, place: int, given: Parts, masks: Parts) -> Any:
    entry = plan.inputs[place]
    info = plan.vars[entry.var]
    if info.fxp is None:
        return given[place]
    return masks[entry.var] if entry.var in masks else nothing(info.shape, info.fxp)
