"""Handles of outputs that stay in shares at the parties of a cluster, and what a client says about them."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from ditto_spu.api import Call
from ditto_spu.cluster.client.answers import agreed
from ditto_spu.cluster.net.wire import Message
from ditto_spu.errors import InputError, PartyError
from ditto_spu.plan.kept import Kept
from ditto_spu.runtime.client import check_kept


class KeptThere(Kept):
    """A tensor that the parties of a cluster hold in shares for one session of one client.

    The parties forget it once the handle is released or nobody has it any more. They hear of it with the
    next request. They also forget it when the session ends, and when no request reads it for as long as
    `kept` in [timeouts] says.
    """

    def __init__(self, described: Kept, session: str, name: str, released: list[str]) -> None:
        super().__init__(described.path, str(described.dtype), described.shape, described.fxp)
        self._session, self._name = session, name
        self._given_up = weakref.finalize(self, released.append, name)
        self._given_up.atexit = False

    @property
    def state(self) -> str:
        """Return in words where the shares are."""
        return "at the parties of a cluster" if self._given_up.alive else "released"

    def release(self) -> None:
        """Have the parties forget the shares. Every later use of the handle raises InputError."""
        self._given_up()

    def name_in(self, session: str | None) -> str:
        """Return the name at the parties. Raises InputError if it is released, or of another session."""
        if not self._given_up.alive:
            raise InputError(f"the shares of '{self.path}' were released: run again what made them")
        if session != self._session:
            raise InputError(
                f"'{self.path}' was kept in a session that has ended, or in one of another client: only the "
                "session that made it reads it; run again what made it"
            )
        return self._name


class KeptOutputs:
    """The outputs that the parties keep for one session of a client. `released` are those to forget."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._released: list[str] = []

    def forget(self) -> list[str]:
        """Return the names that were released since the last request."""
        names = list(self._released)  # a handle may be released by another thread meanwhile
        del self._released[: len(names)]
        return names

    def handles(
        self, calls: Sequence[Call], places: Sequence[int], answers: Mapping[int, Message]
    ) -> list[dict[int, Kept]]:
        """Return the handles of the outputs that stay, by place, for each call.

        places: of those outputs, in order.

        Raises PartyError if the parties name them differently.
        """
        names = agreed(answers, "kept", list, "the parties keep outputs under different names")
        if len(names) != len(calls) * len(places) or not all(isinstance(each, str) for each in names):
            raise PartyError("the parties keep other outputs than asked")
        given = iter(names)
        return [
            {
                place: KeptThere(call.handle(place), self._session, next(given), self._released)
                for place in places
            }
            for call in calls
        ]


def kept_inputs(calls: Sequence[Call], session: str | None) -> list[list[Any]]:
    """Return the inputs that are kept outputs, as a place and the name in each call.

    Raises InputError for handles that do not fit the plan or are not at these parties, and if the calls take
    handles for different arguments.
    """
    places = calls[0].kept
    if any(each.kept != places for each in calls):
        raise InputError("the inputs of one request take handles of kept outputs for the same arguments")
    return [[place, [_name(call, place, session) for call in calls]] for place in places]


def _name(call: Call, place: int, session: str | None) -> str:
    plan, value = call.lowered.plan, call.values[place]
    if not isinstance(value, KeptThere):
        raise InputError(
            f"argument '{plan.inputs[place].path}': the shares of '{value.path}' are not at the parties of "
            f"this cluster ({value.state}): give a handle that `run(keep=...)` of this client has returned"
        )
    check_kept(plan, plan.inputs[place], value)
    return value.name_in(session)
