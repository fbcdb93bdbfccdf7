"""Three parties as threads of one process: for tests, simulation and measurement."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from jax.experimental import enable_x64

from ditto_kernels.link import Dealt, MemLink, Traffic, memory_links
from ditto_kernels.party import Party
from ditto_kernels.prg import KEY_BYTES, PairKeys, Randomness

Keys = tuple[PairKeys, PairKeys, PairKeys]


def fresh_keys(seed: bytes | None = None) -> Keys:
    """Pairwise keys, from the system. A seed makes the run reproducible and INSECURE."""
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
    """Run `program(party, link)` at three threads. The first exception of any party reaches the caller.

    keys: of a request for which `dealt` was made ahead; fresh ones otherwise.
    """
    links = memory_links(timeout, dealt)
    keys = fresh_keys(seed) if keys is None else keys
    results: list[Any] = [None] * 3
    failures: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            links[rank].observer = observer
            with enable_x64():
                results[rank] = program(Party(rank, Randomness(keys[rank])), links[rank])
        except BaseException as failure:  # every failure, also KeyboardInterrupt, must stop the other two
            failures.append(failure)
            links[rank].abort(failure)

    threads = [threading.Thread(target=work, args=(rank,), name=f"party-{rank}") for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results, [link.traffic() for link in links]
