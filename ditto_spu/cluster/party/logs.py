"""Writes a party's log: one line of JSON per event, and never a value or a share."""

from __future__ import annotations

import json
import logging
import os
import time


class JsonLines(logging.Handler):
    """Writes the time, level, name and facts of each event to a file descriptor, unbuffered.

    A line that cannot be written, for example because the disk is full, is dropped and counted. Before the
    next line that can be written, another one gives the number of lost lines. The party goes on.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lost = 0
        self._torn = False  # whether the last line was written only in part

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "facts", {})
        if self._lost and self._write(record.created, "warning", "log lines lost", {"lines": self._lost}):
            self._lost = 0
        self._lost += not self._write(record.created, record.levelname.lower(), record.getMessage(), facts)

    def _write(self, created: float, level: str, event: str, facts: dict[str, object]) -> bool:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
        line = json.dumps({"time": f"{when}Z", "level": level, "event": event, **facts}) + "\n"
        data = (b"\n" if self._torn else b"") + line.encode()
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            return False
        self._torn = written < len(data)
        return not self._torn
