"""The offline phase of a request: three parties deal for a plan before its inputs exist."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ditto_kernels.protocol.link import Dealt
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.randomness import KEY_BYTES, Randomness
from ditto_kernels.protocol.three_threads import at_three_threads, fresh_keys
from ditto_kernels.sharing.deal_ahead import nothing
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu.plan.plan import Plan, Step
from ditto_spu.runtime.deal_plan import PartyMaterial, deal_offline
from ditto_spu.runtime.material import Material, Sizes

RandomBytes = Callable[[int], bytes]
Observer = Callable[[int, int, Step, Sequence[Any]], None]  # takes rank, step's number, step, results


@dataclass(frozen=True)
class HeldShares:
    """Shares of inputs that serve many requests.

    parts: the three parties' parts of an input, by its place in the plan.
    """

    parts: Mapping[int, Sequence[Any]]
    token: str  # material that was dealt for these shares serves no others


NO_HELD_SHARES = HeldShares({}, "")


def client_key(seed: int | None) -> bytes:
    """Return a fresh key for `random_bytes`, or the INSECURE key of a seed."""
    return secrets.token_bytes(KEY_BYTES) if seed is None else random.Random(seed).randbytes(KEY_BYTES)


def random_bytes(key: bytes) -> RandomBytes:
    """Return the client's source of random bytes for shares.

    It is AES-128 in counter mode, with one key per request. It has to be fast, because weights take gigabytes
    of it.
    """
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: stream.update(bytes(count))


def key_seed(seed: int | None) -> bytes | None:
    """Return the bytes from which a seed's keys for the parties are derived, or None without a seed."""
    return None if seed is None else seed.to_bytes(16, "big", signed=True)


def precompute(
    plan: Plan,
    values: Sequence[Any],
    *,
    seed: int | None = None,
    observe: Observer | None = None,
    held: HeldShares = NO_HELD_SHARES,
) -> Material:
    """Draw fresh keys, and produce everything that the parties deal for one request.

    values: as for `simulate`. Only the public ones are read.
    seed: as for `simulate`. It makes the material reproducible and INSECURE.
    observe: is called with the rank, the number of the step, the step and the results that the dealer of
        masked shares computes.
    held: as for `simulate`.

    With masked shares their dealer alone has work. Otherwise each party deals its part. Parties run as
    threads.
    """
    keys, key = fresh_keys(key_seed(seed)), client_key(seed)
    dealer = plan.mask_dealer
    held_masks = {} if dealer is None else {place: parts[dealer] for place, parts in held.parts.items()}
    masks = {} if dealer is None else input_masks(plan, random_bytes(key), held_masks)

    def work(rank: int) -> PartyMaterial:
        own_masks = masks if rank == plan.mask_dealer else {}
        inputs = [
            _input(plan, entry.var, value, own_masks)
            for entry, value in zip(plan.inputs, values, strict=True)
        ]
        notify = None if observe is None else lambda *what: observe(rank, *what)
        return deal_offline(plan, Party(rank, Randomness(keys[rank])), inputs, notify)

    started = time.perf_counter()
    finished = at_three_threads(work)
    seconds = time.perf_counter() - started
    sizes = [_sizes(each) for each in finished]
    boxes: tuple[Dealt, Dealt, Dealt] = ({}, {}, {})
    for rank, each in enumerate(finished):
        for sends in each.sends.values():
            for send in sends:
                boxes[send.to][rank, send.tag] = np.asarray(send.array)
    dealer_values = None if dealer is None else finished[dealer].dealer_values
    return Material(
        plan.hash(),
        held.token,
        digest_of_public(plan, values),
        keys,
        key,
        boxes,
        dealer_values,
        (sizes[0], sizes[1], sizes[2]),
        seconds,
    )


def digest_of_public(plan: Plan, values: Sequence[Any]) -> str:
    """Return a digest of the public inputs of a request.

    values: one per input of the plan. Only the public ones are read.
    """
    digest = hashlib.sha256()
    for place, (entry, value) in enumerate(zip(plan.inputs, values, strict=True)):
        if plan.vars[entry.var].fxp is None:
            array = np.ascontiguousarray(np.asarray(value))
            digest.update(f"{place}:{array.dtype}{array.shape}:".encode() + array.tobytes())
    return digest.hexdigest()


def input_masks(plan: Plan, source: RandomBytes, held: Mapping[int, Any]) -> dict[int, Rss]:
    """Return the dealer's components of every secret input, by variable.

    The dealer draws them from the client's stream just as the client does when it shares the inputs.

    source: that stream.
    held: the dealer's parts of inputs that serve many requests, by their places in the plan.
    """
    masks = {}
    for place, entry in enumerate(plan.inputs):
        info = plan.vars[entry.var]
        if info.fxp is None:
            continue
        if place in held:
            masks[entry.var] = held[place]
        else:
            mine, following = (_component(info.shape, info.fxp, source) for _ in range(2))
            masks[entry.var] = Rss(mine, following, info.fxp)
    return masks


def _component(shape: tuple[int, ...], fxp: Fxp, source: RandomBytes) -> Any:
    empty = np.empty(shape, fxp.dtype)
    return np.frombuffer(source(empty.nbytes), fxp.dtype).reshape(shape)


def _input(plan: Plan, var: int, value: Any, masks: dict[int, Rss]) -> Any:
    info = plan.vars[var]
    if info.fxp is None:
        return np.asarray(value)
    return masks[var] if var in masks else nothing(info.shape, info.fxp)


def _sizes(material: PartyMaterial) -> Sizes:
    """Return by step the bytes and messages that a party deals."""
    return {
        step: (sum(np.asarray(each.array).nbytes for each in sends), len({each.to for each in sends}))
        for step, sends in material.sends.items()
        if sends
    }
