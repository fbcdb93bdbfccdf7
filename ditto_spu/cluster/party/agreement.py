"""The three parties agree on a client's request before shares move, and again before they compute."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.input_digests import InputDigests
from ditto_spu.cluster.party.request_queue import Turns
from ditto_spu.cluster.party.requests import Call
from ditto_spu.errors import ClusterError


class OtherUpload(ClusterError):
    """The parties have different uploads of the weights, because one is just being replaced: ask again."""


class Agreement:
    """Compares the requests of one session at this party with those at the others.

    Each request of the session has a number, which `request` holds.
    """

    def __init__(self, client: str, port: ClientPort, link: PeerLink, turns: Turns, timeout: float) -> None:
        """`timeout` bounds, in seconds, how long the parties wait for each other and for a turn."""
        self._client = client
        self._port, self._link, self._turns = port, link, turns
        self._timeout = timeout
        self.request = 0

    @contextlib.contextmanager
    def reached(self, what: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Call]]:
        """Compare the request and its checks with the other parties. If one party refuses, all refuse.

        The body of the context checks the request, and puts its `Call` into the dictionary as "call". The
        client learns which inputs it is to send.
        """
        self.request += 1
        self._link.begin(self.request)
        found: dict[str, Call] = {}
        refusal: ClusterError | None = None
        try:
            yield found
        except ClusterError as error:
            refusal = error
        if self._port.stopping is not None:
            refusal = ClusterError(self._port.stopping)
        token = found["call"].token if "call" in found else None
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        reason = None if refusal is None else str(refusal)
        mine = {"what": what, "asked": digest, "token": token, "refusal": reason}
        for peer, theirs in self._link.exchange("agree", mine).items():
            if refusal is not None:
                continue
            if theirs.get("refusal") is not None:
                refusal = ClusterError(f"party {peer}: {str(theirs['refusal'])[:1000]}")
            elif theirs != mine:
                refusal = self._difference(mine, peer, theirs)
        if refusal is not None:
            raise refusal
        places = list(found["call"].places) if "call" in found else []
        self._port.channel.send("ready", {"request": self.request, "places": places})

    def _difference(self, mine: Mapping[str, Any], peer: int, theirs: Mapping[str, Any]) -> ClusterError:
        differ = next((key for key in mine if mine[key] != theirs.get(key)), "facts")
        names = {"token": "uploads of the weights", "asked": "requests"}
        kind = OtherUpload if differ == "token" else ClusterError
        return kind(f"parties {self._link.rank} and {peer} have different {names.get(differ, differ)}")

    def together(self, what: str, mine: InputDigests) -> None:
        """Wait until all three parties are here. Raises LinkError if they were given different inputs."""
        self._link.tell(what, mine.facts())
        self._compare(what, mine)

    def _compare(self, what: str, mine: InputDigests) -> None:
        mine.compare(self._link.rank, self._link.learn(what, self._timeout))

    @contextlib.contextmanager
    def turn(self, mine: InputDigests) -> Iterator[None]:
        """Compute in turn: party 0 starts as many requests as may compute, and the others follow.

        Party 0 waits for a turn only once all three parties have the inputs. So a slow client keeps nobody
        else waiting. Raises LinkError if the parties were given different inputs.
        """
        if self._link.rank == 0:
            self._compare("go", mine)
            with self._turns.turn(self._client, self._timeout, lambda: self._link.failure):
                self._link.tell("go", mine.facts())
                yield
        else:
            self.together("go", mine)
            with self._turns.follow():
                yield
