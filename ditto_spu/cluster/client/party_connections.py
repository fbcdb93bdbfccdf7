"""Connects a client to the three parties in one session. All three are asked at once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.agreement import difference, facts
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.net.connect import context, dial
from ditto_spu.cluster.net.wire import Message, Named
from ditto_spu.errors import ClusterError, PartyError

Upload = tuple[Mapping[str, Any], Sequence[Named]]  # the facts and tensors of a message of kind "shares"
_REASON = 1.0  # seconds that parties get to tell why a connection was lost
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between the tries of a request that parties want again


class AskAgain(ClusterError):
    """A party refuses a request at this moment alone, because its weights are just being replaced."""


class Parties:
    """Opens and keeps a session with all three parties. If one fails, PartyError ends the session."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster = cluster
        self._client = client
        self._facts = facts(cluster)
        self._tls = context(cluster, client, server=False)
        self._pool = ThreadPoolExecutor(PARTIES)
        self._channels: list[Channel] = []
        self.session: str | None = None
        self.latest = ""  # the name of the latest session, also of one that has ended

    def open(self) -> str:
        """Open a new session, and return its name.

        Raises ClusterError if client and parties differ in software or configuration, and PartyError if a
        party cannot be reached or refuses the client.
        """
        self.latest = session = secrets.token_hex(16)
        hello = {"name": self._client, "session": session, "facts": self._facts}
        opened: dict[int, Channel] = {}

        def open_one(rank: int) -> Message:
            opened[rank] = dial(self._cluster, rank, self._tls)
            opened[rank].send("hello", hello)
            # The parties connect among themselves within their own connect timeout.
            return opened[rank].receive(3 * self._cluster.timeouts.connect)

        try:
            for rank, answer in self._each(open_one, lambda: list(opened.values())).items():
                expect(rank, answer, "welcome")
                differs = difference(self._facts, answer.facts.get("facts"))
                if differs is not None:
                    raise ClusterError(f"this client and party {rank} differ in {differs}")
        except BaseException:
            for channel in opened.values():
                channel.close()
            raise
        self._channels = [opened[rank] for rank in range(PARTIES)]
        self.session = session
        return session

    def leave(self) -> None:
        """End the session, if one is open."""
        for channel in self._channels:
            channel.close()
        self._channels, self.session = [], None

    def close(self) -> None:
        """End the session and the threads that serve it."""
        self.leave()
        self._pool.shutdown(wait=False)

    def ask(
        self, kind: str, facts_: Mapping[str, Any], tensors: Sequence[Named], answer: str
    ) -> dict[int, Message]:
        """Send the same message to all three parties, and return the answers, of kind `answer`, by rank.

        Asks again for a while if weights are just being replaced. Raises ClusterError if a party refuses.
        """
        for pause in _PAUSES:
            try:
                return self._ask(kind, facts_, tensors, answer)
            except AskAgain:
                time.sleep(pause)
        return self._ask(kind, facts_, tensors, answer)

    def _ask(
        self, kind: str, facts_: Mapping[str, Any], tensors: Sequence[Named], answer: str
    ) -> dict[int, Message]:

        def one(rank: int) -> Message:
            self._send(rank, kind, facts_, tensors)
            return self._channels[rank].receive(self._cluster.timeouts.request)

        answers = self._each(one)
        for rank, message in answers.items():
            expect(rank, message, answer)
        return answers

    def upload(self, uploads: Callable[[int], Sequence[Upload]], answer: str) -> dict[int, Message]:
        """Send each party its own messages of shares. Returns the answers, of kind `answer`, by rank."""

        def one(rank: int) -> Message:
            for facts_, tensors in uploads(rank):
                if self._channels[rank].waiting():  # no answer is due yet, so the party tells why it stops
                    break
                self._send(rank, "shares", facts_, tensors)
            return self._channels[rank].receive(self._cluster.timeouts.request)

        messages = self._each(one)
        for rank, message in messages.items():
            expect(rank, message, answer)
        return messages

    def _send(self, rank: int, kind: str, facts_: Mapping[str, Any], tensors: Sequence[Named]) -> None:
        """Send a message to a party.

        If that fails, the LinkError has the party's own reason, if it gave one before the connection broke.
        """
        try:
            self._channels[rank].send(kind, facts_, tensors)
        except LinkError as error:
            try:
                answer = self._channels[rank].receive(_REASON)
            except LinkError:
                raise error from None
            raise LinkError(f"party {rank}: {answer.facts.get('reason')}") from None

    def _each(
        self, action: Callable[[int], Message], open_: Callable[[], Any] | None = None
    ) -> dict[int, Message]:
        """Do an action with all three parties at once, and return the answers by rank.

        A failure closes all connections. A party's reason tells more than a lost connection, so the other
        parties first get a moment to give theirs.
        """
        said: dict[int, str] = {}

        def one(rank: int) -> Message:
            try:
                answer = action(rank)
            except LinkError as error:
                raise PartyError(str(error)) from None
            if answer.kind == "error" and answer.facts.get("over"):
                said[rank] = f"party {rank}: {answer.facts.get('reason')}"
                raise PartyError(said[rank])
            return answer

        tasks = [self._pool.submit(one, rank) for rank in range(PARTIES)]
        done, running = wait(tasks, return_when=FIRST_EXCEPTION)
        if not any(task.exception() for task in done):
            return {rank: task.result() for rank, task in enumerate(tasks)}
        if not said:
            wait(running, _REASON, FIRST_EXCEPTION)
        for channel in (open_ or (lambda: self._channels))():
            channel.close()
        wait(running)
        failures = [
            (rank, task.exception()) for rank, task in enumerate(tasks) if task.exception() is not None
        ]
        first = next((error for rank, error in failures if rank in said), failures[0][1])
        assert first is not None
        raise first


def expect(rank: int, message: Message, kind: str) -> None:
    """Raise ClusterError with the reason if a party refuses, or PartyError if its answer is not `kind`."""
    if message.kind == "error":
        refusal = AskAgain if message.facts.get("again") is True else ClusterError
        raise refusal(f"party {rank}: {message.facts.get('reason')}")
    if message.kind != kind:
        raise PartyError(f"party {rank} answered '{message.kind}' in place of '{kind}'")
