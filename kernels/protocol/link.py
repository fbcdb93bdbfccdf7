"""Links are channels between parties, and every link always counts bytes, messages and rounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Array


class LinkError(RuntimeError):
    """A peer is gone, is silent for too long, or sent something that the protocol does not expect."""


class Send(NamedTuple):
    """A tensor for one peer.

    `offline` marks dealt material, which does not depend on inputs and may be sent in the offline phase.
    """

    to: int
    tag: str
    array: Array
    offline: bool = False


class Receive(NamedTuple):
    """A tensor that is expected from one peer. Shape and dtype follow from public shapes alone."""

    source: int
    tag: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Traffic(NamedTuple):
    """The counts of one party's messages.

    `rounds` is the longest chain of dependent online messages since `start_clock`.
    """

    bytes_sent: int = 0
    messages: int = 0
    offline_bytes: int = 0
    offline_messages: int = 0
    rounds: int = 0

    def beside(self, others: Sequence[Traffic]) -> Traffic:
        """Return the counts of all together. Rounds that pass at the same time count once."""
        every = (self, *others)
        return Traffic(
            sum(each.bytes_sent for each in every),
            sum(each.messages for each in every),
            sum(each.offline_bytes for each in every),
            sum(each.offline_messages for each in every),
            max(each.rounds for each in every),
        )

    def since(self, earlier: Traffic) -> Traffic:
        """Return the counts since an earlier reading. Rounds count from the last `start_clock` anyway."""
        return Traffic(
            self.bytes_sent - earlier.bytes_sent,
            self.messages - earlier.messages,
            self.offline_bytes - earlier.offline_bytes,
            self.offline_messages - earlier.offline_messages,
            self.rounds,
        )


class Link(Protocol):
    """The methods of a channel that protocols need."""

    rank: int

    def send(self, messages: Sequence[Send]) -> None:
        """Send tensors. Those for one peer travel as one message."""

    def receive(self, expected: Sequence[Receive]) -> list[NDArray[Any]]:
        """Wait for the tensors and return them in the order in which they are asked for."""

    def start_clock(self) -> None:
        """Count rounds from here. Steps of a plan follow each other, so their rounds add up."""

    def traffic(self) -> Traffic:
        """Return all counts so far."""


@dataclass
class Mailbox:
    """The tensors that arrived at one party, by (source, tag), each with the sender's clock."""

    condition: threading.Condition = field(default_factory=threading.Condition)
    arrived: dict[tuple[int, str], tuple[NDArray[Any], int]] = field(default_factory=dict)
    failure: BaseException | None = None

    def put(self, source: int, tag: str, array: NDArray[Any], clock: int) -> None:
        """Keep a tensor until it is taken. Raises LinkError if one with that address still lies here."""
        self.put_all(source, ((tag, array),), clock)

    def put_all(self, source: int, tensors: Sequence[tuple[str, NDArray[Any]]], clock: int) -> None:
        """Do `put` for the tensors of one message, and wake whoever waits once."""
        with self.condition:
            for tag, array in tensors:
                if (source, tag) in self.arrived:
                    raise LinkError(f"party {source} sent '{tag}' twice")
                self.arrived[source, tag] = (array, clock)
            self.condition.notify_all()

    def take(self, rank: int, source: int, tag: str, timeout: float) -> tuple[NDArray[Any], int]:
        """Wait for a tensor on behalf of party `rank`.

        Raises LinkError after `timeout` seconds, or if a party failed.
        """
        address = (source, tag)
        with self.condition:
            self.condition.wait_for(lambda: address in self.arrived or self.failure is not None, timeout)
            if address in self.arrived:
                return self.arrived.pop(address)
            if self.failure is not None:
                raise LinkError(f"party {rank} stops: {self.failure}") from self.failure
            raise LinkError(f"party {rank} waited {timeout:g} s for '{tag}' from party {source}")

    def fail(self, failure: BaseException) -> None:
        """Wake all who wait, because a party has failed. The first failure is kept."""
        with self.condition:
            self.failure = self.failure or failure
            self.condition.notify_all()


def checked(item: Receive, array: NDArray[Any]) -> NDArray[Any]:
    """Return the tensor if it has the expected shape and dtype. Raises LinkError otherwise."""
    if array.shape != tuple(item.shape) or array.dtype != item.dtype:
        raise LinkError(
            f"party {item.source} sent '{item.tag}' as {array.dtype}{list(array.shape)}, "
            f"expected {item.dtype}{list(item.shape)}"
        )
    return array


class Tray(Mailbox):
    """A mailbox for parties that take turns. Nobody waits, so nothing is locked."""

    def put(self, source: int, tag: str, array: NDArray[Any], clock: int) -> None:
        if self.arrived.setdefault((source, tag), entry := (array, clock)) is not entry:
            raise LinkError(f"party {source} sent '{tag}' twice")

    def take(self, rank: int, source: int, tag: str, timeout: float) -> tuple[NDArray[Any], int]:
        return self.arrived.pop((source, tag))


class MemLink:
    """A link between threads of one process. A Lamport clock on the messages counts rounds."""

    def __init__(
        self, rank: int, mailboxes: Sequence[Mailbox], timeout: float, meeting: threading.Barrier
    ) -> None:
        self.rank = rank
        self._mailboxes = mailboxes
        self._timeout = timeout
        self._meeting = meeting
        self._clock = 0
        self._counts = [0, 0, 0, 0]
        self.observer: Callable[[int, Send], None] | None = None

    def send(self, messages: Sequence[Send]) -> None:
        for message in messages:
            array = np.asarray(message.array)
            self._counts[2 * message.offline] += array.nbytes
            if self.observer is not None:
                self.observer(self.rank, message)
            clock = 0 if message.offline else self._clock + 1
            self._mailboxes[message.to].put(self.rank, message.tag, array, clock)
        for _, offline in {(message.to, message.offline) for message in messages}:
            self._counts[1 + 2 * offline] += 1

    def receive(self, expected: Sequence[Receive]) -> list[NDArray[Any]]:
        box = self._mailboxes[self.rank]
        taken: list[NDArray[Any]] = []
        clock = self._clock
        for item in expected:
            array, sent_at = box.take(self.rank, item.source, item.tag, self._timeout)
            taken.append(checked(item, array))
            clock = max(clock, sent_at)
        self._clock = clock
        return taken

    def arrived(self, expected: Sequence[Receive]) -> bool:
        """Return whether `receive` would not wait."""
        lying = self._mailboxes[self.rank].arrived
        return all((item.source, item.tag) in lying for item in expected)

    def start_clock(self) -> None:
        self._clock = 0

    def meet(self) -> None:
        """Wait, without a message, until all parties of the process have come so far.

        Raises LinkError as `receive` does: after the timeout, or if a party failed.
        """
        try:
            self._meeting.wait(self._timeout)
        except threading.BrokenBarrierError:
            failure = self._mailboxes[self.rank].failure
            if failure is not None:
                raise LinkError(f"party {self.rank} stops: {failure}") from failure
            raise LinkError(f"party {self.rank} waited {self._timeout:g} s for the others") from None

    def abort(self, failure: BaseException) -> None:
        """Wake every party that waits, because one of them has failed."""
        for box in self._mailboxes:
            box.fail(failure)
        self._meeting.abort()

    def traffic(self) -> Traffic:
        sent, messages, offline_sent, offline_messages = self._counts
        return Traffic(sent, messages, offline_sent, offline_messages, self._clock)


Dealt = dict[tuple[int, str], NDArray[Any]]  # A party's tensors from the offline phase, by (source, tag).


def memory_links(
    timeout: float = 60.0,
    dealt: Sequence[Dealt] = ({}, {}, {}),
    mailbox: type[Mailbox] = Mailbox,
) -> tuple[MemLink, MemLink, MemLink]:
    """Return three connected links for three threads, or for three parties that take turns.

    `dealt` has the tensors that each party received in the offline phase.
    """
    boxes = [mailbox(arrived={key: (array, 0) for key, array in each.items()}) for each in dealt]
    meeting = threading.Barrier(len(boxes))
    first, second, third = (MemLink(rank, boxes, timeout, meeting) for rank in range(3))
    return first, second, third
