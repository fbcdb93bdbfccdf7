"""Limits the BLAS threads of parties that share a host.

Parties that multiply matrices side by side need no more threads than there are processors. Threads of a BLAS
wait for each other by spinning, and so they take time from threads that work.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MULTIPLYING = 2  # the parties that do most of a step's work at the same time are A and B


@dataclass
class _ThreadLimit:
    """The limit, which stays set while any run needs it. Runs of several threads overlap."""

    libraries: Any  # a ThreadpoolController
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: int = 0
    current: Any = None


@functools.cache
def _thread_limit() -> _ThreadLimit:
    from threadpoolctl import ThreadpoolController  # its import sets an environment variable

    return _ThreadLimit(ThreadpoolController())


@contextmanager
def shared_processors() -> Iterator[None]:
    """Limit each party to its part of the processors while the context is open.

    Contexts may overlap. When the last one closes, the process has as many BLAS threads as before.
    """
    limit = _thread_limit()
    with limit.lock:
        if not limit.runs:
            each = max(1, (os.cpu_count() or 1) // MULTIPLYING)
            limit.current = limit.libraries.limit(limits=each, user_api="blas")
        limit.runs += 1
    try:
        yield
    finally:
        with limit.lock:
            limit.runs -= 1
            if not limit.runs:
                limit.current.restore_original_limits()
