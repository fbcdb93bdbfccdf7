"""Connects a party to the two others: for a session, and to learn whether they are there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import PairKeys
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.connect import dial
from ditto_spu.cluster.net.pair_keys import KeyExchange
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.identity import Identity
from ditto_spu.cluster.party.meetings import Meetings
from ditto_spu.errors import DittoError

_EVERY = 5.0  # seconds between two looks at the other parties
_ANSWERS = 2.0  # seconds within which a party that works answers


def link_peers(
    mine: Identity, session: str, client: str, port: ClientPort, meetings: Meetings
) -> tuple[PeerLink, PairKeys]:
    """Connect to both other parties for a session, and return the link and the pairwise keys.

    Both connections are made at once. So a party that is frozen does not keep the two others from meeting,
    and none of them takes the other for the one that is missing.

    Raises LinkError or ClusterError unless they agree on software, client and session.
    """
    cluster = mine.cluster
    prints = [cluster.fingerprints[f"party{rank}"] for rank in range(PARTIES)]
    exchange = KeyExchange(mine.rank, session, prints)
    hello = {
        "name": mine.name,
        "session": session,
        "client": client,
        "facts": mine.party_facts,
        "public": exchange.public,
    }
    channels: dict[int, Channel] = {}
    over = threading.Event()

    def failure() -> BaseException | None:
        return LinkError("another party is missing") if over.is_set() else port.failure

    def meet(peer: int) -> str:
        answer: Mapping[str, Any]
        if peer < mine.rank:
            channels[peer], answer = meetings.take(session, peer, failure)
            channels[peer].send("hello", hello)
        else:
            channels[peer] = dial(cluster, peer, mine.outgoing, lambda: failure() is not None)
            if over.is_set():
                channels[peer].close()
            channels[peer].send("hello", hello)
            message = channels[peer].receive(cluster.timeouts.connect)
            answer = message.facts
            if message.kind == "error":
                raise LinkError(f"party {peer}: {str(answer.get('reason'))[:1000]}")
            mine.checked(message.kind, answer, f"party{peer}")
        if answer.get("client") != client or answer.get("session") != session:
            raise LinkError(f"party {peer} opened this session for another client")
        return str(answer.get("public"))

    pool = ThreadPoolExecutor(len(mine.peers))
    try:
        met = {peer: pool.submit(meet, peer) for peer in mine.peers}
        done, _ = wait(met.values(), return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()  # raises the first failure
        keys = exchange.pair_keys({peer: each.result() for peer, each in met.items()})
    except BaseException:
        over.set()
        for made in list(channels.values()):
            made.close()
        raise
    finally:
        pool.shutdown(wait=False)  # after a failure, the other connection may still be waited for
    timeouts, waiting = cluster.timeouts, cluster.limits.waiting_mb << 20
    return PeerLink(mine.rank, channels, session, timeouts.message, waiting, port.interrupt), keys


def ask_whether_there(mine: Identity, peer: int) -> None:
    """Ask another party whether it works. Raises LinkError with the reason if it does not answer in time."""
    soon = replace(mine.cluster, timeouts=replace(mine.cluster.timeouts, connect=_ANSWERS))
    made = dial(soon, peer, mine.outgoing, stopped=lambda: True)
    with contextlib.closing(made):
        made.send("ping", {"name": mine.name, "facts": mine.party_facts})
        answer = made.receive(_ANSWERS)
    if answer.kind != "pong":
        raise LinkError(f"party {peer}: {str(answer.facts.get('reason'))[:500]}")


class PeerWatch:
    """Asks the other parties every few seconds whether they are there, in a thread of its own."""

    def __init__(self, ask: Callable[[int], None], peers: Sequence[int], every: float = _EVERY) -> None:
        """`ask` asks one party, by its rank, and raises the reason why it is not there."""
        self._ask, self._every = ask, every
        self._missing: dict[int, str] = {}
        self._peers = tuple(peers)
        self._ends = threading.Event()

    def start(self) -> None:
        """Start to ask. Returns at once. Until a party was asked, it counts as missing."""
        self._missing = dict.fromkeys(self._peers, "it was not asked yet")
        threading.Thread(target=self._look, daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._ends.set()

    def missing(self) -> Mapping[int, str]:
        """Return which parties are not there, by rank, and why."""
        return {peer: reason for peer, reason in self._missing.copy().items() if reason}

    def _look(self) -> None:
        while not self._ends.is_set():
            for peer in self._peers:
                try:
                    self._ask(peer)
                    self._missing[peer] = ""
                except (LinkError, DittoError, OSError) as error:
                    self._missing[peer] = str(error) or type(error).__name__
            self._ends.wait(self._every)
