"""Limits the memory of a process that works for a client."""

from __future__ import annotations

import resource
import sys


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has. Only Linux tells what it has."""
    if sys.platform != "linux":
        return
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(each for each in file if each.startswith("VmData:"))
    most = (int(line.split()[1]) << 10) + more
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
