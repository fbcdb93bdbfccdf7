"""Lets material serve one request: a switch in memory, and a ledger of the unspent material in folders."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ditto_spu.errors import InputError


class SingleUse:
    """Knows whether material may still serve its one request.

    All copies of the material in a process share this object, because copying it returns the object itself.
    It cannot be pickled, so material reaches another process through a folder alone.

    Material in a folder has an entry in the ledger of its user's account. The request that spends the
    material removes the entry, and the system lets one request alone remove it. So a copy of the folder, or
    one that was restored from a backup, is refused, and so is a folder on another host.
    """

    def __init__(self, entry: str = "") -> None:
        """`entry` is the name of the ledger's entry, "" for material that is in memory alone."""
        self._entry = entry
        self._spent = False
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Spend the material, durably if it is in a folder. Return False if it was spent before.

        Raises OSError if the ledger cannot be written. The material does not serve then.
        """
        with self._lock:
            if self._spent:
                return False
            self._spent = True
            return self._entry == "" or _remove(self._entry)

    def keep(self, write: Callable[[str], None]) -> None:
        """Let the material be in a folder from now on.

        write: writes the folder, with the name of its entry in the ledger.

        Raises InputError if the material is spent, or if it is in a folder already. Raises the OSError of
        `write` or of the ledger. The material is spent then, because parts of it may have been written.
        """
        with self._lock:
            if self._spent:
                raise InputError("the material is spent: each serves one request, precompute another")
            if self._entry:
                raise InputError(
                    "the material is in a folder already: each serves one request, so there is one folder"
                )
            entry, self._spent = secrets.token_hex(16), True
            write(entry)
            _add(entry)
            self._entry, self._spent = entry, False

    def __copy__(self) -> SingleUse:
        return self

    def __deepcopy__(self, memo: object) -> SingleUse:
        return self

    def __reduce__(self) -> NoReturn:
        raise InputError("material cannot be pickled, because it serves once: save it to a folder")


def ledger() -> Path:
    """Return the folder of the ledger: one empty file for all unspent material that is in a folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "ditto-spu" / "unspent"


def is_unspent(entry: str) -> bool:
    """Return whether material with that entry may still serve."""
    return _is_name(entry) and (ledger() / entry).is_file()


def _add(entry: str) -> None:
    ledger().mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(ledger() / entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _sync(ledger())


def _remove(entry: str) -> bool:
    """Remove an entry, durably. Return False if it is not there."""
    if not _is_name(entry):
        return False
    try:
        os.unlink(ledger() / entry)
    except FileNotFoundError:
        return False
    _sync(ledger())
    return True


def _is_name(entry: str) -> bool:
    return len(entry) == 32 and set(entry) <= set("0123456789abcdef")


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
