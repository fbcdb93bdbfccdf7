"""Material for one request: it is kept in memory or in a folder, and serves once."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.link import Dealt
from ditto_kernels.protocol.randomness import PairKeys
from ditto_kernels.protocol.three_threads import Keys
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import PARTIES, Rss
from ditto_spu.errors import InputError
from ditto_spu.runtime.single_use import SingleUse, is_unspent

Sizes = dict[int, tuple[int, int]]  # by step, the bytes and messages of the material that one party deals
_SPENT = "spent"
_CLIENT = "client.npz"


@dataclass
class Material:
    """The keys and dealt tensors of one request, as each party holds them.

    Security: whoever reads all of it can read the request. The files of a folder are readable by their owner
    alone. `take` spends the material before anything is sent, and durably if it is in a folder. `use` refuses
    every copy of spent material, so a mask never serves twice.
    """

    plan: str  # the hash of the plan that it serves
    held: str  # the token of the held shares that it serves, "" for none
    public: str  # the digest of the public inputs that it was dealt for
    keys: Keys = field(repr=False)
    client_key: bytes = field(repr=False)  # of the stream from which the client draws shares
    dealt: tuple[Dealt, Dealt, Dealt] = field(repr=False)  # the tensors that each party receives
    dealer_values: dict[int, Any] | None = field(repr=False)  # by variable, with masked shares
    sizes: tuple[Sizes, Sizes, Sizes] = field(repr=False)
    seconds: float
    folder: Path | None = None
    use: SingleUse = field(default_factory=SingleUse, repr=False)

    @property
    def bytes(self) -> int:
        """Return the size of all dealt tensors in bytes."""
        return sum(array.nbytes for each in self.dealt for array in each.values())

    def take(self, plan: str, held: str, public: str) -> None:
        """Spend the material, for the one request that may use it.

        plan: the hash of the plan that is about to run.
        held: the token of the held shares that it uses, "" for none.
        public: the digest of its public inputs, from `precompute.digest_of_public`.

        Raises InputError if the material was spent before, here or elsewhere, if it belongs to another plan,
        to other held shares or to other public inputs, or if its folder cannot be marked.
        """
        if plan != self.plan:
            raise InputError(
                f"the material was made for plan {self.plan[:16]}, but this call compiles to plan "
                f"{plan[:16]}: precompute with the same function, shapes, configuration and mode"
            )
        if held != self.held:
            raise InputError(
                "the material was dealt for other held shares: precompute with the very function that runs"
            )
        if public != self.public:
            raise InputError(
                "the material was dealt for other public arguments: precompute with the values that run"
            )
        try:
            if not self.use.spend():
                raise InputError("the material is spent: each serves one request, precompute another")
            if self.folder is not None:
                _wipe(self.folder)
        except OSError as error:
            raise InputError(
                f"the material in '{self.folder}' cannot be marked as spent ({error.strerror}), so it is "
                "not used: make room, and precompute another"
            ) from None

    def save(self, folder: Path) -> Material:
        """Move the material to a new folder with one file per party and one for the client, and return it.

        Raises InputError if the material is spent or in a folder already, and if the folder exists or cannot
        be written. In the last case nothing is left behind, and the material is spent.
        """
        try:
            folder.mkdir(parents=True, mode=0o700)
            try:
                self.use.keep(lambda entry: self._write(folder, entry))
            except (OSError, InputError):
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except FileExistsError:
            raise InputError(f"'{folder}' exists: material goes into a folder of its own") from None
        except OSError as error:
            raise InputError(
                f"the material cannot be written to '{folder}' ({error.strerror}): nothing is kept there"
            ) from None
        self.folder = folder
        return self

    def _write(self, folder: Path, entry: str) -> None:
        for rank in range(PARTIES):
            keys = self.keys[rank]
            arrays = {f"tensor{place}": array for place, array in enumerate(self.dealt[rank].values())}
            facts = {
                "keys": [keys.mine.hex(), keys.next.hex()],
                "addresses": list(self.dealt[rank]),
                "sizes": [[step, *sent] for step, sent in self.sizes[rank].items()],
            }
            _write(folder / f"party{rank}.npz", facts, arrays)
        arrays, formats = {}, {}
        for var, value in (self.dealer_values or {}).items():
            shared = isinstance(value, Rss)
            formats[str(var)] = str(value.fxp) if shared else None
            arrays |= {f"{var}.mine": value.mine, f"{var}.next": value.next} if shared else {str(var): value}
        facts = {
            "plan": self.plan,
            "held": self.held,
            "public": self.public,
            "entry": entry,
            "client_key": self.client_key.hex(),
            "seconds": self.seconds,
            "dealer_values": formats if self.dealer_values is not None else None,
        }
        _write(folder / _CLIENT, facts, arrays)


def load(folder: str | Path) -> Material:
    """Read the material that `Material.save` wrote to a folder.

    Raises InputError if it, or a copy of it, is spent, and if it is incomplete or damaged.
    """
    folder = Path(folder)
    spent = f"the material in '{folder}' is spent: each serves one request, precompute another"
    if (folder / _SPENT).exists():
        raise InputError(spent)
    facts, arrays = _read(folder / _CLIENT)
    if not is_unspent(str(facts.get("entry"))):
        raise InputError(f"{spent}. Material serves on the host and in the account that made it alone")
    parties = [_read(folder / f"party{rank}.npz") for rank in range(PARTIES)]
    try:
        keys, dealt, sizes = [], [], []
        for rank, (own, tensors) in enumerate(parties):
            keys.append(PairKeys(rank, *(bytes.fromhex(each) for each in own["keys"])))
            addresses = [(int(source), str(tag)) for source, tag in own["addresses"]]
            dealt.append({each: tensors[f"tensor{place}"] for place, each in enumerate(addresses)})
            sizes.append({int(step): (int(sent), int(messages)) for step, sent, messages in own["sizes"]})
        formats = facts["dealer_values"]
        return Material(
            plan=facts["plan"],
            held=facts["held"],
            public=facts["public"],
            keys=(keys[0], keys[1], keys[2]),
            client_key=bytes.fromhex(facts["client_key"]),
            dealt=(dealt[0], dealt[1], dealt[2]),
            dealer_values=None if formats is None else _dealer_values(formats, arrays),
            sizes=(sizes[0], sizes[1], sizes[2]),
            seconds=facts["seconds"],
            folder=folder,
            use=SingleUse(facts["entry"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"the material in '{folder}' is damaged ({error}): precompute it anew") from None


def _dealer_values(formats: dict[str, str | None], arrays: dict[str, NDArray[Any]]) -> dict[int, Any]:
    return {
        int(var): arrays[var]
        if fxp is None
        else Rss(arrays[f"{var}.mine"], arrays[f"{var}.next"], Fxp.parse(fxp))
        for var, fxp in formats.items()
    }


def _write(path: Path, facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        np.savez(
            file, facts=np.array(json.dumps(facts)), **{key: np.asarray(each) for key, each in arrays.items()}
        )
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        facts: dict[str, Any] = json.loads(str(arrays.pop("facts")))
        return facts, arrays
    except FileNotFoundError:
        raise InputError(f"there is no material in '{path.parent}': '{path.name}' is missing") from None
    except Exception as error:  # zipfile, numpy and json raise different ones for a damaged file
        raise InputError(f"'{path}' is damaged ({error}): precompute the material anew") from None


def _wipe(folder: Path) -> None:
    """Delete the files of spent material, and leave a note. No request needs them any more."""
    os.close(os.open(folder / _SPENT, os.O_WRONLY | os.O_CREAT, 0o600))
    for path in (folder / _CLIENT, *(folder / f"party{rank}.npz" for rank in range(PARTIES))):
        path.unlink(missing_ok=True)
