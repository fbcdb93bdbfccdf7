"""Names weights that parties hold, and reads what the parties say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.wire import Message
from ditto_spu.errors import PartyError


@dataclass(frozen=True)
class HeldWeights:
    """Describes weights that the parties hold.

    name: the owner's name, a slash, and the owner's label.
    users: the clients that may use them besides their owner.
    plans: the hashes of the plans that they serve.
    nbytes: the size of one party's shares in bytes.
    complete: whether all three parties hold the same uploads. Otherwise the owner uploads them again.
    """

    name: str
    users: tuple[str, ...]
    plans: tuple[str, ...]
    nbytes: int
    complete: bool


def full_name(client: str, name: str) -> str:
    """Return the name with its owner: "model" of the client "alice" is "alice/model"."""
    return name if "/" in name else f"{client}/{name}"


def listed(answers: Mapping[int, Message]) -> list[HeldWeights]:
    """Return the weights that the parties list, by name. Raises PartyError if an answer is malformed."""
    try:
        by_party = [
            {
                str(name): (tuple(map(str, users)), tuple(map(str, plans)), int(nbytes), str(version))
                for name, users, plans, nbytes, version in answers[rank].facts["weights"]
            }
            for rank in range(PARTIES)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise PartyError(f"a party sent a malformed list of weights: {error}") from None
    found = []
    for name in sorted({name for each in by_party for name in each}):
        rows = [each.get(name) for each in by_party]
        users, plans, nbytes, _ = next(row for row in rows if row is not None)
        found.append(HeldWeights(name, users, plans, nbytes, all(row == rows[0] for row in rows)))
    return found
