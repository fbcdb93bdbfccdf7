"""Attack a cluster as a client with a certificate: take more than a share of it, or do harm to others.

Every attack takes the cluster file, the attacking client's name, and a source of random choices. It goes on
for a few seconds. Errors that the parties answer with are expected, and end it at most.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bench.hostile_plans import HOSTILE, local, with_hostile_numbers
from bench.malformed import frames, mutated
from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.client.client import ClusterClient
from ditto_spu.cluster.client.party_connections import Parties, Upload
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.errors import DittoError
from ditto_spu.plan.codec import decode_plan, encode_plan
from ditto_spu.plan.plan import Plan

Attack = Callable[[Path, str, random.Random], None]

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 16).reshape(4, 4).astype(np.float32)
HOSTILE_CLIENT = "mallory"
VICTIM = "owner/model"  # the name of weights that belong to somebody else
_PAUSE = 1.0  # seconds for which an attack keeps what it has got


@secure
def layer(w: Any, x: Any) -> Any:
    """Compute a layer with GeLU."""
    return jax.nn.gelu(x @ w)


@secure
def heavy(w: Any, x: Any) -> Any:
    """Compute for some tenths of a second."""
    for _ in range(8):
        x = jax.nn.gelu(x @ w)
    return x


PLAN = layer.lower(W, X).plan


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Go on after an error that a party answered with, or that the loss of the connection caused."""
    with contextlib.suppress(DittoError, LinkError, OSError):
        yield


def parties_of(client: ClusterClient) -> Parties:
    """Open a session, and return the client's connections, to send what no client would send."""
    client._session(lambda: None)
    return client._parties


def send_plan(parties: Parties, data: bytes) -> None:
    """Send a plan, and wait until it is accepted. Raises ClusterError if it is refused."""
    parties.ask("plan", {}, [("plan", np.frombuffer(data, np.uint8))], "planned")


def run_with_zeros(parties: Parties, plan: Plan) -> None:
    """Run a plan whose inputs are shares of zero. Raises ClusterError or PartyError if it is refused."""
    places = list(range(len(plan.inputs)))
    asked = {"plan": plan.hash(), "weights": None, "places": places, "dealer": None, "count": 1}
    parties.ask("run", asked | {"material": None}, (), "ready")

    def uploads(rank: int) -> list[Upload]:
        made: list[Upload] = []
        for place, each in enumerate(plan.inputs):
            info = plan.vars[each.var]
            zeros = np.zeros(info.shape, info.dtype if info.fxp is None else info.fxp.dtype)
            parts = [("public", zeros)] if info.fxp is None else [("mine", zeros), ("next", zeros)]
            made.append(({"member": 0, "place": place}, parts))
        return made

    parties.upload(uploads, "done")


def hostile_programs(file: Path, client: str, rng: random.Random) -> None:
    """Send plans whose programs crash or fill a parser or a compiler."""
    with connect(file, client) as me:
        parties = parties_of(me)
        for text, _ in rng.sample(list(HOSTILE.values()), 4):
            with refusals():
                send_plan(parties, encode_plan(local(text)))


def hostile_numbers(file: Path, client: str, rng: random.Random) -> None:
    """Send plans of a valid structure with wild numbers, and run those that pass."""
    with connect(file, client) as me:
        parties = parties_of(me)
        for _ in range(10):
            data = with_hostile_numbers(PLAN, rng)
            with refusals():
                send_plan(parties, data)
                run_with_zeros(parties, decode_plan(data))
            if parties.session is None or not parties._channels:
                return


def send_spoilt(client: ClusterClient, sound: Sequence[bytes], rng: random.Random) -> list[Channel]:
    """Send one sound message to all parties, changed, and say that no more follows."""
    channels = parties_of(client)._channels
    data = mutated(rng, rng.choice(sound))
    for channel in channels:
        channel._write(memoryview(data))
    for channel in channels:
        channel.finish()
    return channels


def malformed_messages(file: Path, client: str, rng: random.Random) -> None:
    """Send messages with changed, missing or added bytes, each in a session of its own."""
    plan = encode_plan(PLAN)
    sound = frames(plan, PLAN.hash())
    for _ in range(4):
        with refusals(), connect(file, client) as me:
            for channel in send_spoilt(me, sound, rng):
                channel.receive(_PAUSE)


def many_sessions(file: Path, client: str, rng: random.Random) -> None:
    """Open as many sessions as there may be, for a while. Then leave some to the other attacks."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            me = stack.enter_context(connect(file, client))
            with refusals():
                parties_of(me)
        time.sleep(_PAUSE)
    time.sleep(5 * _PAUSE)


def uploads_that_never_come(file: Path, client: str, rng: random.Random) -> None:
    """Announce weights, and send nothing."""
    with refusals(), connect(file, client) as me:
        parties_of(me)
        me._register(PLAN)
        facts = {"name": f"{client}/{rng.randrange(99)}", "plan": PLAN.hash(), "places": [0], "users": []}
        me._parties.ask("hold", facts | {"token": "t", "replace": True, "lasting": True}, (), "ready")
        time.sleep(_PAUSE)


def weights_of_others(file: Path, client: str, rng: random.Random) -> None:
    """Upload, drop and use weights of somebody else."""
    with connect(file, client) as me:
        held = layer.hold(w=W)
        for act in (
            lambda: me.upload(held, X, name=VICTIM, replace=True),
            lambda: me.drop(VICTIM),
            lambda: me.run(held, X, weights=VICTIM),
        ):
            with refusals():
                act()


def inconsistent_shares(file: Path, client: str, rng: random.Random) -> None:
    """Give the parties shares that belong to no common value."""
    with refusals(), connect(file, client) as me:
        parties = parties_of(me)
        me._register(PLAN)
        asked = {"plan": PLAN.hash(), "weights": None, "places": [0, 1], "dealer": None, "count": 1}
        parties.ask("run", asked | {"material": None}, (), "ready")

        def uploads(rank: int) -> list[Upload]:
            made: list[Upload] = []
            for place, each in enumerate(PLAN.inputs):
                info = PLAN.vars[each.var]
                assert info.fxp is not None
                size = int(np.prod(info.shape)) * info.fxp.dtype.itemsize
                parts = [
                    (name, np.frombuffer(secrets.token_bytes(size), info.fxp.dtype).reshape(info.shape))
                    for name in ("mine", "next")
                ]
                made.append(({"member": 0, "place": place}, parts))
            return made

        parties.upload(uploads, "done")


def many_requests(file: Path, client: str, rng: random.Random) -> None:
    """Ask for large batches and for material, one request after another."""
    with refusals(), connect(file, client) as me:
        for _ in range(5):
            me.run_many(layer, [(W, X)] * 32)
            me.precompute(layer, W, X)


def heavy_requests(file: Path, client: str, rng: random.Random) -> None:
    """Ask for what takes long to compute, and leave in the middle of it."""
    w, x = np.zeros((128, 128), np.float32), np.zeros((64, 128), np.float32)
    with refusals(), connect(file, client) as me:
        me.run(heavy, w, x)
        call = heavy.call(w, x)
        plan = call.lowered.plan
        asked = {"plan": plan.hash(), "weights": None, "places": [0, 1], "dealer": None, "count": 1}
        me._parties.ask("run", asked | {"material": None}, (), "ready")


def silent_connections(file: Path, client: str, rng: random.Random) -> None:
    """Occupy the places of those who have not proven their identity."""
    sockets = []
    for address in load_cluster(file).addresses:
        for _ in range(40):
            with contextlib.suppress(OSError):
                sockets.append(socket.create_connection(address, 1))
    time.sleep(_PAUSE)
    for each in sockets:
        each.close()


ATTACKS: tuple[Attack, ...] = (
    hostile_programs,
    hostile_numbers,
    malformed_messages,
    many_sessions,
    uploads_that_never_come,
    weights_of_others,
    inconsistent_shares,
    many_requests,
    heavy_requests,
    silent_connections,
)


def together(actions: Sequence[Callable[[], object]]) -> None:
    """Do actions in a thread each."""
    threads = [threading.Thread(target=each) for each in actions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def attack(file: Path, attacks: Sequence[Attack], over: Callable[[], object]) -> Counter[str]:
    """Do all attacks at once, again and again, until `over` returns. Returns how often each was done."""
    ends, count = threading.Event(), Counter[str]()

    def again(each: Attack, seed: int) -> None:
        rng = random.Random(seed)
        while not ends.is_set():
            with refusals():
                each(file, HOSTILE_CLIENT, rng)
            count[each.__name__] += 1

    def end() -> None:
        over()
        ends.set()

    together([end, *(lambda each=each, seed=seed: again(each, seed) for seed, each in enumerate(attacks))])
    return count
