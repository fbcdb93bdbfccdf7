"""Sends malformed bytes, messages and plans to the ports of a party.

Each case returns a description of the party's wrong reaction, or None.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.agreement import facts, party_facts
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.net.connect import context, dial
from ditto_spu.cluster.net.pair_keys import KeyExchange
from ditto_spu.cluster.net.wire import KINDS, PREFIX_BYTES, pack

VICTIM = 2  # parties connect to those of higher rank, so the test can play parties 0 and 1
JUNK: tuple[Any, ...] = (
    True,
    -1,
    10**30,
    1.5,
    "x",
    "\ud83d",
    [],
    [[]],
    [0] * 99,
    {},
    {"fxp": "x"},
    "fxp32.40",
)
PATIENCE = 10.0


def frames(plan: bytes, plan_hash: str) -> list[bytes]:
    """Return sound messages of a client. Each has the sequence number of the first one after a hello."""
    run = {"plan": plan_hash, "weights": None, "places": [0], "dealer": None, "count": 1, "material": None}
    hold = {"name": "alice/w", "plan": plan_hash, "places": [0], "users": [], "token": "t"}
    hold |= {"replace": False, "lasting": True}
    return [
        pack("plan", 1, {}, [("plan", np.frombuffer(plan, np.uint8))]) + plan,
        pack("run", 1, run),
        pack("ahead", 1, run | {"places": []}),
        pack("hold", 1, hold),
    ]


def mutated(rng: random.Random, frame: bytes) -> bytes:
    """Return the frame with its prefix or header changed, cut off or moved."""
    (header,) = np.frombuffer(frame[14:18], "<u4")
    head = PREFIX_BYTES + int(header)
    data = bytearray(frame)
    how = rng.randrange(6)
    if how == 0:
        data[rng.randrange(head)] ^= 1 << rng.randrange(8)
    elif how == 1:
        del data[rng.randrange(len(data)) :]
    elif how == 2:
        place = rng.randrange(head)
        data[place:place] = rng.randbytes(1 + rng.randrange(30))
    elif how == 3:
        place = rng.randrange(head)
        del data[place : place + 1 + rng.randrange(8)]
    elif how == 4:
        place = rng.randrange(head)
        data[place : place + 8] = bytes(rng.choice((0, 255)) for _ in range(8))
    else:
        data[: rng.randrange(1, head)] = rng.randbytes(head)
    return bytes(data) if bytes(data) != frame else b"\0" + frame


def foreign(rng: random.Random) -> bytes:
    """Return random bytes, which may start like another protocol."""
    start = rng.choice(
        (
            b"",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"\x16\x03\x03\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"DTTO",
            b"SSH-2.0-",
        )
    )
    return start + rng.randbytes(rng.randrange(1, 400))


def raw_bytes(address: tuple[str, int], data: bytes) -> str | None:
    """Send bytes as a stranger, and stop. Only a refusal may come back."""
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := sock.recv(1 << 16):
                answer += part
        except TimeoutError:
            return "the party neither answers nor closes"
        except OSError:
            pass
    return "it was welcomed" if b"welcome" in answer else None


def http_bytes(address: tuple[str, int], data: bytes) -> str | None:
    """Send bytes to the metrics port, and stop. Only an HTTP error, or nothing, may come back."""
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        try:
            answer = sock.recv(1 << 16)
        except TimeoutError:
            return "the port neither answers nor closes"
        except OSError:
            return None
    return f"it answers {answer[:40]!r}" if b" 200 " in answer[:20] else None


@dataclass
class Puppets:
    """Opens a session at party 2, in which the test plays the client and the other parties."""

    cluster: Cluster
    client: Channel = field(init=False)
    peers: list[Channel] = field(init=False)

    def __post_init__(self) -> None:
        session, cluster = secrets.token_hex(16), self.cluster
        prints = [cluster.fingerprints[f"party{rank}"] for rank in range(3)]
        self.session = session
        self.client = dial(cluster, VICTIM, context(cluster, "alice", server=False))
        self.client.send("hello", {"name": "alice", "session": session, "facts": facts(cluster)})
        self.peers = []
        for rank in range(VICTIM):
            made = dial(cluster, VICTIM, context(cluster, f"party{rank}", server=False))
            hello = {"name": f"party{rank}", "session": session, "client": "alice"}
            hello |= {"facts": party_facts(cluster), "public": KeyExchange(rank, session, prints).public}
            made.send("hello", hello)
            self.peers.append(made)
        for made in self.peers:
            assert made.receive(PATIENCE).kind == "hello"
        assert self.client.receive(PATIENCE).kind == "welcome"

    def refused(self, channel: Channel, data: bytes) -> str | None:
        """Send bytes on a connection, and stop. The client must hear that the session is over."""
        with contextlib.suppress(LinkError):
            channel._write(memoryview(data))
        channel.finish()
        try:
            answer = self.client.receive(PATIENCE)
        except LinkError as error:
            return None if "closed" in str(error) or "lost" in str(error) else str(error)
        return None if answer.kind == "error" else f"it answers '{answer.kind}'"

    def close(self) -> None:
        for channel in (self.client, *self.peers):
            channel.close()


@contextlib.contextmanager
def puppets(cluster: Cluster) -> Iterator[Puppets]:
    """Open a session of `Puppets`, and close its connections at the end."""
    made = Puppets(cluster)
    try:
        yield made
    finally:
        made.close()


def client_frame(cluster: Cluster, data: bytes) -> str | None:
    """Send bytes in a session as its client."""
    with puppets(cluster) as made:
        return made.refused(made.client, data)


def peer_frame(cluster: Cluster, rng: random.Random) -> str | None:
    """Send a malformed message in a session as another party."""
    with puppets(cluster) as made:
        good = {"session": made.session, "request": 1, "clock": 1}
        array = np.arange(4)
        if rng.randrange(3):
            data = mutated(rng, pack("tensors", 1, good, [("/t", array)])) + array.tobytes()
        else:
            key, kind = (
                rng.choice(("session", "request", "clock")),
                rng.choice(("tensors", "tensors", *KINDS)),
            )
            if kind in ("ping", "pong"):  # a party accepts these at any time
                kind = "hello"
            bad: dict[str, Any] = good | {key: rng.choice([each for each in JUNK if each is not True])}
            if key == "clock":
                bad["clock"] = "x"
            data = pack(kind, 1, bad, [("/t", array)]) + array.tobytes()
        return made.refused(made.peers[rng.randrange(2)], data)


def spoilt_plan(rng: random.Random, plan: bytes) -> bytes:
    """Return a plan that is cut off, lacks an entry, or has an entry of another type."""
    if not rng.randrange(6):
        return plan[: rng.randrange(len(plan))]
    table = json.loads(plan)
    node, key = table, rng.choice(sorted(table))
    while isinstance(node[key], dict | list) and node[key] and rng.randrange(5):
        node = node[key]
        key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
    if not rng.randrange(4) and isinstance(node, dict):
        del node[key]
    else:
        kind = type(node[key])
        numbers = (10**30, 1.5) if kind in (float, type(None)) else ()  # a range may be any positive number
        node[key] = rng.choice([each for each in JUNK if type(each) is not kind and each not in numbers])
    return json.dumps(table).encode()


def junk_facts(rng: random.Random, plan_hash: str) -> tuple[str, dict[str, Any]]:
    """Return the kind and facts of a request with one wrong fact."""
    kind, places = rng.choice((("run", [0]), ("ahead", [])))  # the plan's one input is secret
    sound: dict[str, Any] = {"plan": plan_hash, "weights": None, "places": places, "dealer": None, "count": 1}
    key = rng.choice(sorted(sound))
    return kind, sound | {key: rng.choice([each for each in JUNK if each != sound[key] or each is True])}
