"""Processors for the products of matrices of parties that share a host.

Parties that multiply side by side need no more threads than there are processors: threads of a BLAS wait for
each other by spinning, and take the time of those that work.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MULTIPLYING = 2  # parties that do most of a step's work at a time: A and B


@dataclass
class _ThreadLimit:
    """The limit that is set while any run needs it: runs of several threads overlap."""

    libraries: Any  # a ThreadpoolController
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: int = 0
    current: Any = None


@functools.cache
def _thread_limit() -> _ThreadLimit:
    from threadpoolctl import ThreadpoolController  # sets a variable of the environment when imported

    return _ThreadLimit(ThreadpoolController())


@contextmanager
def shared_processors() -> Iterator[None]:
    """Give each party its part of the processors; afterwards the process has the threads that it had."""
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
