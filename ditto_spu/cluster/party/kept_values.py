"""Keeps outputs that stay in shares at a party, such as the caches of chats, until their session ends."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.values.replicated import Rss
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.errors import ClusterError

log = logging.getLogger("ditto_spu.cluster")


@dataclass(frozen=True)
class KeptValue:
    """Holds one party's two components of an output that a request has left here.

    bound: the token of the weights whose plans alone may read it, if their owner has asked for that.
    """

    part: Rss = field(repr=False)
    bound: str | None = None

    @classmethod
    def of(cls, value: Rss, bound: str | None) -> KeptValue:
        """Copy an output, which may be a view of something larger."""
        return cls(Rss(np.array(value.mine), np.array(value.next), value.fxp), bound)

    @property
    def nbytes(self) -> int:
        """Return the size of the components in bytes."""
        return self.part.mine.nbytes + self.part.next.nbytes


class KeptValues:
    """Keeps the values of one session at one party, by name.

    A name has the session and the number of the request that made the value, so no two values ever have the
    same one. No other session finds the value, also none of the same client, and it is gone with its session.

    nbytes, count: quotas of all clients. They count the bytes and the number of values in all sessions.
    idle: seconds after which values that no request reads are forgotten. `clock` returns the present time.
    """

    def __init__(
        self,
        client: str,
        session: str,
        nbytes: Quota,
        count: Quota,
        idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._session = client, session
        self._bytes, self._count = nbytes, count
        self._idle, self._clock = idle, clock
        self._kept: dict[str, KeptValue] = {}
        self._used: dict[str, float] = {}
        self._room: tuple[int, ...] | None = None  # the sizes of values that the request under way may keep

    def find(self, name: Any) -> KeptValue:
        """Return a value. Raises ClusterError if this session has none of that name."""
        self._forget_unused()
        found = self._kept.get(name) if isinstance(name, str) else None
        if found is None:
            shown = str(name)[:80]
            if not shown.startswith(f"{self._session}."):
                raise ClusterError(f"the kept output '{shown}' is of another session: no other one reads it")
            raise ClusterError(
                f"'{self._client}' has no kept output '{shown}' any more: it was released, or no request has "
                f"read it for {self._idle:g} s (`kept` in [timeouts]); run again what made it"
            )
        self._used[name] = self._clock()
        return found

    @contextlib.contextmanager
    def room(self, sizes: Sequence[int]) -> Iterator[None]:
        """Reserve room for values of these sizes until the context ends. `add` fills it.

        Raises ClusterError if the client may not have so much more.
        """
        self._forget_unused()
        self._count.take(self._client, len(sizes))
        try:
            self._bytes.take(self._client, sum(sizes))
        except ClusterError:
            self._count.give_back(self._client, len(sizes))
            raise
        self._room = tuple(sizes)
        try:
            yield
        finally:
            if self._room is not None:  # no values have come
                self._give_back(self._room)
                self._room = None

    def add(
        self, request: int, members: Sequence[Sequence[Any]], keep: Mapping[int, str | None]
    ) -> list[str]:
        """Keep outputs of a request, in the room that was reserved for them. Returns their names, in order.

        members: the outputs of each member.
        keep: the places of those that stay, in order, with the weights that they are bound to.
        """
        values = {
            f"{self._session}.{request}.{member}.{place}": KeptValue.of(outputs[place], weights)
            for member, outputs in enumerate(members)
            for place, weights in keep.items()
        }
        if values:
            sizes = tuple(each.nbytes for each in values.values())
            assert self._room == sizes, "the room was made for other values"
            self._room = None  # the values have it from now on
            self._kept.update(values)
            self._used.update(dict.fromkeys(values, self._clock()))
        return list(values)

    def forget(self, names: Any) -> None:
        """Forget values that the client has released. Those that are gone already are left out."""
        if not isinstance(names, list):
            raise ClusterError("the kept outputs to forget are a list of names")
        for name in names:
            if isinstance(name, str) and name in self._kept:
                self._forget(name)

    def clear(self) -> None:
        """Forget everything, because the session ends."""
        for name in list(self._kept):
            self._forget(name)

    def _forget_unused(self) -> None:
        now = self._clock()
        unused = [name for name, used in self._used.items() if now - used > self._idle]
        for name in unused:
            self._forget(name)
        if unused:
            facts = {"session": self._session, "client": self._client, "values": len(unused)}
            log.info("kept outputs unused", extra={"facts": facts})

    def _forget(self, name: str) -> None:
        found = self._kept.pop(name)
        del self._used[name]
        self._give_back((found.nbytes,))

    def _give_back(self, sizes: Sequence[int]) -> None:
        self._count.give_back(self._client, len(sizes))
        self._bytes.give_back(self._client, sum(sizes))
