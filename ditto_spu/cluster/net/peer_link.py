"""Links one party process to the two others, for all requests of one session."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.link import Dealt, LinkError, Mailbox, Traffic
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.lane import Lane
from ditto_spu.cluster.net.wire import Message, Named
from ditto_spu.network.run_time import DISTANT_SECONDS

_CONTROL = "control:"  # marks facts between parties; the tags of kernels start with "/"
_STOPPED = re.compile(r"party \d stopped: ")  # a reason with this start is passed on unchanged
_MAX_CONTROL = 1 << 16
_ANSWER = 2.0  # seconds within which a party that works answers a ping


class PeerLink:
    """Carries the messages of a party's lanes over one connection to each of the other parties.

    One reader thread per connection puts arriving tensors into a mailbox. Each message carries the session,
    the number of the request and the sender's Lamport clock. A message that does not fit fails the whole
    link at once. Examples are a repeated address, a tensor of another session or of an old request, and
    more than `max_waiting` bytes that have arrived and were not taken. `finish` finds tensors that no step
    asked for.

    timeout: seconds that `receive` waits for one tensor.
    failed: is called with the reason when a connection fails.
    tunnel: an attribute, the function that takes the messages between the parties' SPU processes.
    """

    def __init__(
        self,
        rank: int,
        channels: Mapping[int, Channel],
        session: str,
        timeout: float,
        max_waiting: int,
        failed: Callable[[BaseException], None] = lambda failure: None,
    ) -> None:
        self.rank = rank
        self._channels = dict(channels)
        self._session = session
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._failed = failed
        self.tunnel: Callable[[int, Message], None] = _no_tunnel
        self._alive: set[int] = set()
        self._pinged: dict[int, float] = {}  # by peer, when a ping has left whose answer has not come
        self._round_trips: dict[int, float] = {}  # by peer, the shortest one, in seconds
        self._mailbox = Mailbox()
        self.expired: BaseException | None = None
        self._request = 0
        self._waiting = 0
        self._lanes: list[Lane] = []  # of this request; the first waits for SPU, and counts its bytes
        for source, channel in self._channels.items():
            threading.Thread(target=self._read, args=(source, channel), daemon=True).start()

    @property
    def failure(self) -> BaseException | None:
        """Return why the link has failed, or None while it works."""
        return self._mailbox.failure

    def begin(self, request: int) -> None:
        """Start a request. Its number becomes part of every address, and the counts start at zero."""
        with self._mailbox.condition:
            self._request = request
            self._lanes = []
            self._pinged = dict.fromkeys(self._channels, time.monotonic())
        self._ping_all()

    @property
    def distant(self) -> bool:
        """Return whether a message takes long to a peer and back, as far as pings of requests have told."""
        return any(self._round_trips.get(peer, DISTANT_SECONDS) >= DISTANT_SECONDS for peer in self._channels)

    def lane(self) -> Lane:
        """Return a lane for one more thread that runs protocols of this request."""
        self._lanes.append(Lane(self))
        return self._lanes[-1]

    def dealt(self) -> Dealt:
        """Take the tensors that the peers have dealt in this request and that have arrived."""
        start = f"{self._request}|"
        with self._mailbox.condition:
            mine = [each for each in self._mailbox.arrived if each[1].startswith(start)]
            found = {
                (each[0], each[1].removeprefix(start)): self._mailbox.arrived.pop(each)[0] for each in mine
            }
            self._waiting -= sum(array.nbytes for array in found.values())
        return found

    def supply(self, dealt: Dealt) -> None:
        """Put tensors that an earlier request dealt into the mailbox, for the steps of this request."""
        with self._mailbox.condition:
            self._waiting += sum(array.nbytes for array in dealt.values())
        for (source, tag), array in dealt.items():
            self._mailbox.put(source, f"{self._request}|{tag}", array, 0)

    def finish(self) -> None:
        """Raise LinkError if a peer sent a tensor in this request that no step asked for."""
        with self._mailbox.condition:
            left = [each for each in self._mailbox.arrived if each[1].startswith(f"{self._request}|")]
        if left:
            source, tag = left[0]
            raise LinkError(
                f"party {source} sent '{tag.partition('|')[2]}', which no step of the plan expects"
            )

    def post(self, peer: int, clock: int, tensors: Sequence[Named]) -> None:
        """Send tensors to a peer as one message. Raises LinkError with the reason if the link has failed."""
        facts = {"session": self._session, "request": self._request, "clock": clock}
        try:
            self._channels[peer].send("tensors", facts, tensors)
        except LinkError as error:
            with self._mailbox.condition:  # give the reader thread time to find the reason
                self._mailbox.condition.wait_for(lambda: self.failure is not None, _ANSWER)
            raise LinkError(str(self.failure or error)) from None

    def take(self, source: int, tag: str, within: float | None = None) -> tuple[NDArray[Any], int]:
        """Wait for a tensor, and return it with the sender's clock.

        within: seconds, and the link's own timeout if it is None.
        Raises LinkError if nothing arrives from this peer for so long.
        """
        timeout = self._timeout if within is None else within
        left = timeout
        while True:
            try:
                array, clock = self._mailbox.take(self.rank, source, f"{self._request}|{tag}", left)
                break
            except LinkError as error:
                if self.failure is not None:
                    raise LinkError(str(self.failure)) from None
                left = self._channels[source].heard + timeout - time.monotonic()
                if left <= 0:  # otherwise a large tensor is on its way
                    reason = f"party {self.rank} waited {timeout:g} s for '{tag}' from party {source}"
                    raise LinkError(
                        f"{reason}{self._unasked(source)}{self._whom_to_blame(source)}"
                    ) from error
        with self._mailbox.condition:
            self._waiting -= array.nbytes
        return array, clock

    def exchange(self, tag: str, facts: Mapping[str, Any], timeout: float | None = None) -> dict[int, Any]:
        """Tell both peers some facts and return theirs, by rank.

        These messages do not count as the plan's traffic. `timeout` is in seconds, and the link's own timeout
        if it is None.
        """
        self.tell(tag, facts)
        return self.learn(tag, timeout)

    def tell(self, tag: str, facts: Mapping[str, Any]) -> None:
        """Send facts to both peers. This is the first half of `exchange`."""
        data = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        for peer in self._channels:
            self.post(peer, 0, [(_CONTROL + tag, data)])

    def learn(self, tag: str, timeout: float | None = None) -> dict[int, Any]:
        """Return the facts of both peers. This is the second half of `exchange`."""
        learned = {}
        for peer in self._channels:
            array, _ = self.take(peer, _CONTROL + tag, timeout)
            try:
                learned[peer] = json.loads(array.tobytes()) if array.nbytes <= _MAX_CONTROL else None
            except ValueError:
                learned[peer] = None
            if not isinstance(learned[peer], dict):
                raise LinkError(f"party {peer} sent no facts as '{tag}'")
        return learned

    def traffic(self) -> Traffic:
        """Return the counts of all lanes of this request. Their rounds do not add up, and are left out."""
        return Traffic().beside([each.traffic() for each in self._lanes])._replace(rounds=0)

    def send_through(self, peer: int, facts: Mapping[str, Any], data: bytes) -> None:
        """Send bytes of the parties' SPU processes to a peer. They count as the plan's traffic."""
        with self._mailbox.condition:
            if self._lanes:  # not what SPU's processes say to each other before the first step
                self._lanes[0].count_other(len(data))
        self._channels[peer].send("tunnel", facts, [("data", np.frombuffer(data, np.uint8))])

    def expire(self, failure: BaseException) -> None:
        """Fail, and send nothing more.

        A link that has failed otherwise goes on with what has arrived: a peer may be done before this party.
        """
        self.expired = failure
        self.fail(failure)

    def fail(self, failure: BaseException) -> None:
        """Mark the link as failed, and wake every thread that waits on it."""
        self._mailbox.fail(failure)

    def close(self, reason: str) -> None:
        """Tell the peers the reason, if they still listen, and end the connections."""
        for channel in self._channels.values():
            with contextlib.suppress(LinkError):  # the peer may be gone
                channel.send("abort", {"reason": reason})
            channel.close()

    def _ping_all(self) -> None:
        for channel in self._channels.values():  # a thread for each: sending blocks if the peer does not read
            threading.Thread(target=_ping, args=(channel,), daemon=True).start()

    def _unasked(self, source: int) -> str:
        with self._mailbox.condition:
            others = [tag.partition("|")[2] for sender, tag in self._mailbox.arrived if sender == source]
        return f"; it sent '{others[0]}', for which nobody asked" if others else ""

    def _whom_to_blame(self, source: int) -> str:
        """Name the parties that do not answer a ping.

        The party that this one waits for may itself be waiting for the third.
        """
        with self._mailbox.condition:
            self._alive.clear()
        self._ping_all()
        with self._mailbox.condition:
            self._mailbox.condition.wait_for(lambda: len(self._alive) == len(self._channels), _ANSWER)
            silent = sorted(set(self._channels) - self._alive)
        if not silent:
            return f"; party {source} answers, and may be slow"
        return f"; party {' and party '.join(map(str, silent))} does not answer: frozen, or cut off"

    def _read(self, source: int, channel: Channel) -> None:
        try:
            while True:
                self._deliver(source, channel.receive(None))
        except Exception as error:  # a malformed message may cause any error, and none may go unnoticed
            self._mailbox.fail(error)
            self._failed(error)

    def _deliver(self, source: int, message: Message) -> None:
        facts = message.facts
        if message.kind == "abort":
            reason = str(facts.get("reason"))[:2000]
            raise LinkError(reason if _STOPPED.match(reason) else f"party {source} stopped: {reason}")
        if message.kind == "ping":
            self._channels[source].send("pong", {})
            return
        if message.kind == "pong":
            with self._mailbox.condition:
                self._alive.add(source)
                if (left := self._pinged.pop(source, None)) is not None:
                    taken = time.monotonic() - left
                    self._round_trips[source] = min(taken, self._round_trips.get(source, taken))
                self._mailbox.condition.notify_all()
            return
        if message.kind == "tunnel":
            self.tunnel(source, message)
            return
        if message.kind != "tensors":
            raise LinkError(f"party {source} sent a message of kind '{message.kind}' in place of tensors")
        request, clock = facts.get("request"), facts.get("clock")
        if facts.get("session") != self._session or type(request) is not int or type(clock) is not int:
            raise LinkError(f"party {source} sent tensors of another session, or without a clock")
        with self._mailbox.condition:
            current = self._request
            self._waiting += sum(array.nbytes for _, array in message.tensors)
            if self._waiting > self._max_waiting:
                raise LinkError(f"party {source} sent more than {self._max_waiting} bytes ahead of their use")
        if request not in (current, current + 1):
            raise LinkError(f"party {source} sent tensors of request {request} during request {current}")
        self._mailbox.put_all(source, [(f"{request}|{tag}", each) for tag, each in message.tensors], clock)


def _ping(channel: Channel) -> None:
    with contextlib.suppress(LinkError):
        channel.send("ping", {})


def _no_tunnel(source: int, message: Message) -> None:
    raise LinkError(f"party {source} sent bytes for SPU, which this session does not run")
