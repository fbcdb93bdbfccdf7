"""Three parties run as threads of one process, for tests, simulation and measurement."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jax.experimental import enable_x64

from ditto_kernels.protocol.link import Dealt, MemLink, Traffic, memory_links
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.randomness import KEY_BYTES, PairKeys, Randomness
from ditto_kernels.values.replicated import PARTIES

T = TypeVar("T")
PATIENCE = 1.0  # seconds for which the caller of a failed run waits for the other parties
Keys = tuple[PairKeys, PairKeys, PairKeys]


def fresh_keys(seed: bytes | None = None) -> Keys:
    """Return pairwise keys from the system. A seed makes the run reproducible and INSECURE."""
    if seed is None:
        keys = [secrets.token_bytes(KEY_BYTES) for _ in range(3)]
    else:
        import hashlib

        keys = [hashlib.blake2b(seed, digest_size=KEY_BYTES, salt=bytes([j])).digest() for j in range(3)]
    return (
        PairKeys(0, keys[0], keys[1]),
        PairKeys(1, keys[1], keys[2]),
        PairKeys(2, keys[2], keys[0]),
    )


def run_three(
    program: Callable[[Party, MemLink], Any],
    *,
    seed: bytes | None = None,
    keys: Keys | None = None,
    dealt: Sequence[Dealt] = ({}, {}, {}),
    timeout: float = 60.0,
    observer: Callable[[int, Any], None] | None = None,
) -> tuple[list[Any], list[Traffic]]:
    """Run `program(party, link)` in three threads and return the results and each party's traffic.

    The first exception of any party reaches the caller. `keys` are those of the request for which the offline
    phase made `dealt`. Without them fresh keys are used.
    """
    links = memory_links(timeout, dealt)
    keys = fresh_keys(seed) if keys is None else keys

    def work(rank: int) -> Any:
        links[rank].observer = observer
        return program(Party(rank, Randomness(keys[rank])), links[rank])

    # Every failure must stop the other two parties, KeyboardInterrupt included.
    results = at_three_threads(work, lambda rank, failure: links[rank].abort(failure))
    return results, [link.traffic() for link in links]


def at_three_threads(
    work: Callable[[int], T], failed: Callable[[int, BaseException], None] = lambda *_: None
) -> list[T]:
    """Run `work(rank)` in a thread per party, with 64-bit types, and return the results.

    The first exception of any party reaches the caller. `failed` is called with each exception, after the
    first one is recorded, and is expected to end the other parties. The caller waits a second for them. They
    are daemons, because a party inside foreign code, such as SPU's, may wait there until its own timeout.
    """
    done: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()

    def run(rank: int) -> None:
        try:
            with enable_x64():
                done.put((rank, work(rank), None))
        except BaseException as failure:  # It is raised below.
            done.put((rank, None, failure))
            failed(rank, failure)

    threads = [
        threading.Thread(target=run, args=(rank,), name=f"party-{rank}", daemon=True)
        for rank in range(PARTIES)
    ]
    for thread in threads:
        thread.start()
    results: dict[int, Any] = {}
    try:
        while len(results) < PARTIES:
            rank, result, failure = done.get()
            if failure is not None:
                raise failure
            results[rank] = result
    except BaseException as failure:  # an interrupt of the caller ends the parties, too
        failed(0, failure)
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        raise
    return [results[rank] for rank in range(PARTIES)]
