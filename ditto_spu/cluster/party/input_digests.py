"""Digests of what a client gave a party, which the parties compare before anything is computed.

Without the comparison a client could give two parties different arrays in the place of one. Outputs would
then depend on single components of other people's weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.values.absent import is_absent
from ditto_kernels.values.replicated import PARTIES, Rss


@dataclass(frozen=True)
class InputDigests:
    """Digests of a request's inputs at one party.

    public: of all public inputs.
    tags: of the components of all secret inputs, by the component's number. Empty without secret inputs.
    """

    public: str
    tags: Mapping[int, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return the digests for a message to the other parties."""
        return {"public": self.public, "tags": {str(number): tag for number, tag in self.tags.items()}}

    def compare(self, rank: int, theirs: Mapping[int, Mapping[str, Any]]) -> None:
        """Raise LinkError if the client gave any two parties different inputs.

        rank: this party's rank. theirs: the facts of both others, by rank. Every party compares all of them,
        so that all stop alike.
        """
        tags: dict[int, Mapping[Any, Any]] = {rank: {str(number): tag for number, tag in self.tags.items()}}
        for peer, facts in theirs.items():
            if facts.get("public") != self.public:
                raise LinkError(f"parties {rank} and {peer} were given different public inputs")
            given = facts.get("tags")
            tags[peer] = given if isinstance(given, dict) else {}
        for number in range(PARTIES):
            holders = number, (number - 1) % PARTIES
            first, second = (tags[each].get(str(number)) for each in holders)
            if first != second:
                raise LinkError(
                    f"parties {holders[1]} and {holders[0]} were given different shares of the inputs"
                )


def digests(members: Sequence[Mapping[int, Any]], rank: int, randomness: Randomness) -> InputDigests:
    """Return the digests of the inputs of a batch at party `rank`.

    members: the parts of each member's inputs, by place. Absent components have no tag.
    randomness: the streams of the request. They key each component's tag.

    Security: the third party does not hold a component and gets its tag. It does not have the tag's key,
    which is a stream of the two holders, so the tag is a pseudo-random number to it.
    """
    public = hashlib.sha256()
    tags: dict[int, Any] = {}
    for member, parts in enumerate(members):
        for place, part in sorted(parts.items()):
            where = f"{member}.{place}:".encode()
            if not isinstance(part, Rss):
                public.update(where)
                public.update(_bytes(part))
                continue
            for number, array in zip((rank, (rank + 1) % PARTIES), (part.mine, part.next), strict=True):
                if is_absent(array):
                    continue
                if number not in tags:
                    tags[number] = hashlib.blake2b(key=_key(randomness, number), digest_size=32)
                tags[number].update(where)
                tags[number].update(_bytes(array))
    return InputDigests(public.hexdigest(), {number: tag.hexdigest() for number, tag in tags.items()})


def _key(randomness: Randomness, component: int) -> bytes:
    return randomness.draw(component, "tag of inputs", (32,), np.dtype(np.uint8)).tobytes()


def _bytes(array: Any) -> Any:
    flat = np.ascontiguousarray(array)
    return flat.reshape(-1).view(np.uint8).data if flat.size else b""
