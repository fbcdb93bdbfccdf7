"""Reads and checks a client's requests: the call of a plan, and its inputs at this party."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import KEY_BYTES
from ditto_kernels.sharing.deal_ahead import nothing
from ditto_kernels.values.replicated import PARTIES, Rss
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.dealt_material import Parts
from ditto_spu.cluster.party.kept_inputs import read_keep, read_kept, read_outputs, read_places
from ditto_spu.cluster.party.kept_values import KeptValues
from ditto_spu.cluster.party.plan_checker import CheckedPlan
from ditto_spu.cluster.party.store import Store
from ditto_spu.cluster.party.weights import Weights
from ditto_spu.errors import ClusterError, nearest
from ditto_spu.plan.plan import Plan
from ditto_spu.plan.resources import PlanLimits, var_bytes


@dataclass(frozen=True)
class Call:
    """Holds one checked request for a plan.

    checked: the plan as the client sent it. `plan` has the dealer of this call if it has masked shares.
    places: the inputs that the client sends, by their places in the plan.
    count: the number of members in the batch. Each sends every input in `places`.
    away: the rank of the dealer of masked shares, who needs no secret input online.
    weights: the name of the weights, and `token` that of their upload.
    held: this party's shares of the weights, by the input's place.
    kept: this party's shares of the inputs that earlier requests have kept, for each member.
    keep: the outputs that stay here, by place, with the token of the weights whose plans alone may read
        them, or None.
    """

    checked: CheckedPlan
    plan: Plan
    places: tuple[int, ...]
    count: int
    away: int | None = None
    weights: str | None = None
    token: str | None = None
    held: Parts = field(default_factory=dict, repr=False)
    kept: tuple[Parts, ...] = field(default=(), repr=False)
    keep: Mapping[int, str | None] = field(default_factory=dict)

    @property
    def kept_sizes(self) -> list[int]:
        """Return the bytes of each output that stays here: of all members, in order."""
        plan = self.plan
        return [var_bytes(plan.vars[plan.outputs[place]]) for place in self.keep] * self.count

    @property
    def nbytes(self) -> int:
        """Return the bytes of the inputs that the client sends, as this party keeps them."""
        infos = [self.plan.vars[self.plan.inputs[place].var] for place in self.places]
        return self.count * sum(
            int(np.prod(info.shape))
            * (np.dtype(info.dtype).itemsize if info.fxp is None else 2 * info.fxp.dtype.itemsize)
            for info in infos
        )


def read_call(
    facts: Mapping[str, Any],
    store: Store,
    values: KeptValues,
    client: str,
    limits: PlanLimits,
    batch: int,
    ahead: bool,
) -> Call:
    """Check and return the call that `facts` ask for.

    values: the kept outputs of the session.
    ahead: whether the parties only deal material for it. Then public inputs follow at once, and secret
        inputs with the run.
    limits: those of the whole request. batch: the largest number of members.

    Raises ClusterError if the call is not sound, or if the client may not make it.
    """
    checked = store.plan(client, facts.get("plan"))
    plan = checked.plan
    dealer, count = facts.get("dealer"), facts.get("count")
    if plan.masked:
        if type(dealer) is not int or not 0 <= dealer < PARTIES:
            raise ClusterError("a plan with masked shares needs a dealer: 0, 1 or 2")
        plan = plan.dealt_by(dealer)
    elif dealer is not None:
        raise ClusterError("the plan has no masked shares: its dealers are fixed")
    if type(count) is not int or not 0 < count <= batch:
        raise ClusterError(f"a request has 1 to {batch} inputs, `batch` in [limits]")
    name = weights = served = token = None
    if facts.get("weights") is not None:
        name = facts["weights"]
        weights = store.weights(name, client, str(facts["plan"]))
        served, token = weights.serves[str(facts["plan"])], weights.token
    held = {} if served is None else dict(served.parts)
    keep: Mapping[int, str | None] = {}
    kept: tuple[Parts, ...] = tuple({} for _ in range(count))
    if not ahead:
        keep = read_keep(facts.get("keep"), plan, token, served)
        kept = read_kept(facts.get("kept"), plan, count, values, token, served)
    once = sum(var_bytes(plan.vars[plan.inputs[place].var]) for place in held)
    need = once + count * (checked.need.bytes - once)
    if need > limits.total_bytes or count * checked.need.work > limits.work:
        raise ClusterError(
            f"{count} inputs at a time need {need} bytes, or take longer than a request may take: "
            "`request_mb` in [limits] and `request` in [timeouts]; send fewer in one request"
        )
    public = {place for place, each in enumerate(plan.inputs) if plan.vars[each.var].fxp is None}
    wanted = set(range(len(plan.inputs))) - set(held) - set(kept[0])
    if ahead:
        wanted &= public
    elif facts.get("material") is not None:
        wanted -= public
    elif plan.masked:
        raise ClusterError("a plan with masked shares needs material that was dealt ahead")
    places = read_places(plan, facts.get("places"))
    if set(places) != wanted or set(held) & set(kept[0]):
        raise ClusterError("weights, kept outputs and inputs together are not the plan's inputs, each once")
    upload = None if served is None else served.token
    return Call(checked, plan, places, count, plan.mask_dealer, name, upload, held, kept, keep)


@dataclass(frozen=True)
class UploadRequest:
    """Holds one checked request to hold weights.

    call: the plan that they serve, and the places of its inputs whose shares the client sends now.
    places: all places of inputs that the weights are.
    lasting: whether they stay when the client's session ends.
    before: the weights of this name, if they get a further plan to serve.
    keep: the outputs of the plan that have to stay in shares.
    kept: the inputs that have to be such outputs.
    """

    call: Call
    places: tuple[int, ...]
    name: str
    users: tuple[str, ...]
    token: str
    replace: bool
    lasting: bool
    before: Weights | None
    keep: frozenset[int]
    kept: frozenset[int]

    @property
    def add(self) -> bool:
        """Return whether weights of this name get a further plan to serve."""
        return self.before is not None


UPLOAD_FACTS = ("name", "plan", "places", "users", "token", "replace", "lasting", "add", "keep", "kept")


def read_upload(
    facts: Mapping[str, Any], store: Store, client: str, clients: Collection[str]
) -> UploadRequest:
    """Check and return the upload that `facts` ask for. Raises ClusterError if it is not sound."""
    checked = store.plan(client, facts.get("plan"))
    plan, places = checked.plan, read_places(checked.plan, facts.get("places"))
    name, users, token = facts.get("name"), facts.get("users"), facts.get("token")
    replaces, lasting = facts.get("replace"), facts.get("lasting")
    if not isinstance(name, str) or not isinstance(token, str) or len(token) > 64:
        raise ClusterError("weights need a name, and a token")
    if not isinstance(replaces, bool) or not isinstance(lasting, bool):
        raise ClusterError("an upload says whether it replaces weights, and whether they last")
    if not isinstance(users, list):
        raise ClusterError("the users of weights are a list of clients of this cluster")
    if unknown := [each for each in users if each not in clients]:
        raise ClusterError(
            f"there is no client '{str(unknown[0])[:64]}'{nearest(str(unknown[0])[:64], clients)}"
        )
    keep, kept = read_outputs(plan, facts.get("keep")), frozenset(read_places(plan, facts.get("kept") or []))
    if kept & set(places) or any(plan.vars[plan.inputs[place].var].fxp is None for place in kept):
        raise ClusterError("inputs that have to be kept outputs are secret, and no weights")
    before, missing = None, places
    if facts.get("add") is True:
        before = store.own(name, client)
        if replaces or users or (before.session is None) is not lasting:
            raise ClusterError("a further plan changes neither the users of weights nor how long they stay")
        missing = before.missing(plan, places)
    call = Call(checked, plan, missing, 1, token=None if before is None else before.version)
    return UploadRequest(call, places, name, tuple(users), token, replaces, lasting, before, keep, kept)


def receive_inputs(call: Call, rank: int, port: ClientPort, timeout: float) -> list[Parts]:
    """Receive this party's parts of the inputs in `call.places`, for each member of the batch.

    The dealer of masked shares receives no secret input, because it drew its components in the offline phase.
    Raises LinkError if the client sends anything else, or nothing for `timeout` seconds.
    """
    members: list[Parts] = [{} for _ in range(call.count)]
    for number, parts in enumerate(members):
        for place in call.places:
            info = call.plan.vars[call.plan.inputs[place].var]
            if info.fxp is not None and rank == call.away:
                parts[place] = nothing(info.shape, info.fxp)
                continue
            message = port.receive(timeout)
            facts = message.facts
            if message.kind != "shares" or (facts.get("place"), facts.get("member")) != (place, number):
                raise LinkError(f"in place of input {place} the client sent '{message.kind}'")
            dtype = np.dtype(info.dtype) if info.fxp is None else info.fxp.dtype
            arrays = [array for _, array in message.tensors]
            wanted = [(info.shape, dtype)] * (1 if info.fxp is None else 2)
            if [(array.shape, array.dtype) for array in arrays] != wanted:
                raise LinkError(f"input {place} is not as the plan declares it ({info})")
            parts[place] = arrays[0] if info.fxp is None else Rss(arrays[0], arrays[1], info.fxp)
    return members


def receive_mask_keys(call: Call, rank: int, port: ClientPort, timeout: float) -> list[bytes]:
    """Receive the key of each member's masks, if this party deals masked shares.

    Other parties get an empty list. Raises LinkError if the client sends anything else.
    """
    if rank != call.plan.mask_dealer:
        return []
    message = port.receive(timeout)
    arrays = dict(message.tensors)
    keys = arrays.get("mask keys")
    if (
        message.kind != "shares"
        or keys is None
        or keys.dtype != np.uint8
        or keys.shape != (call.count, KEY_BYTES)
    ):
        raise LinkError(f"in place of keys for masks the client sent '{message.kind}'")
    return [each.tobytes() for each in keys]
