"""Fixtures for share-level tests run a protocol in three threads and join its result."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.link import Traffic
from ditto_kernels.protocol.party import run
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import Rss, reconstruct, share


@dataclass(frozen=True)
class Outcome:
    """The joined result of a run, the parts and the traffic of each party, and every message."""

    value: Any
    parts: list[Any]
    traffic: list[Traffic]
    messages: list[tuple[int, Any]]

    def assert_cost(self, cost: Cost, dealer: int) -> None:
        online, offline = cost.by_rank(dealer)
        assert tuple(each.bytes_sent for each in self.traffic) == online
        assert tuple(each.offline_bytes for each in self.traffic) == offline
        assert max(each.rounds for each in self.traffic) == cost.rounds


def _mpc(
    protocol: Callable[..., Any],
    *operands: Any,
    dealer: int = 2,
    seed: bytes | None = None,
    masked: bool = False,
    **attributes: Any,
) -> Outcome:
    """Run `protocol(party, *operands, **attributes)` at three parties.

    An operand is (array, Fxp) if it is to be shared, or a public array.
    """
    shared = [
        share(encode(value[0], value[1]), value[1], os.urandom) if _is_shared(value) else (value,) * 3
        for value in operands
    ]
    messages: list[tuple[int, Any]] = []

    def program(party: Any, link: Any) -> Any:
        mine = [each[party.rank] for each in shared]
        return run(link, protocol(party._replace(dealer=dealer, masked=masked), *mine, **attributes))

    parts, traffic = run_three(
        program, seed=seed, timeout=30, observer=lambda rank, sent: messages.append((rank, sent))
    )
    value = decode(reconstruct(parts), parts[0].fxp) if isinstance(parts[0], Rss) else parts
    return Outcome(value, parts, traffic, messages)


def _is_shared(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Fxp)


@pytest.fixture(scope="session")
def mpc() -> Callable[..., Outcome]:
    return _mpc
