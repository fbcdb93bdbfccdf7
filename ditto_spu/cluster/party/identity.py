"""Holds what a party is in its cluster: its certificate, its facts, and whom it knows."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.agreement import difference, facts, party_facts
from ditto_spu.cluster.net.certificates import days_left
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.net.connect import context
from ditto_spu.errors import ClusterError

_SESSION = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Identity:
    """What a party is in its cluster. A reload of the cluster file replaces the whole object.

    incoming, outgoing: its certificate for connections that it takes and makes, or None in plaintext.
    facts, party_facts: what it compares with clients and with the other parties.
    """

    cluster: Cluster
    rank: int
    incoming: ssl.SSLContext | None = field(repr=False)
    outgoing: ssl.SSLContext | None = field(repr=False)
    facts: Mapping[str, str] = field(repr=False)
    party_facts: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        return f"party{self.rank}"

    @property
    def peers(self) -> tuple[int, ...]:
        """Return the ranks of the other parties."""
        return tuple(rank for rank in range(PARTIES) if rank != self.rank)

    def days_left(self) -> float:
        """Return for how many days the certificate is valid yet. In plaintext there is none to end."""
        if not self.cluster.tls:
            return math.inf
        return days_left(self.cluster.identity(self.name)[0].read_bytes())

    def checked(self, kind: str, hello: Mapping[str, Any], name: str) -> str:
        """Check the first message of a connection and return its sender's name.

        kind, hello: the message's kind and facts. A client sends "hello". A party may also send "ping", to
            learn whether this one is there.
        name: the one that the certificate shows, or "" in plaintext.

        Raises ClusterError if the message is refused.
        """
        claimed, session = hello.get("name"), hello.get("session")
        is_party = claimed in {f"party{rank}" for rank in range(PARTIES)}
        first = (kind == "hello" and isinstance(session, str)) or (kind == "ping" and is_party)
        if not first or not isinstance(claimed, str):
            raise ClusterError("a connection starts with a hello")
        if name and claimed != name:
            raise ClusterError(f"'{claimed[:64]}' shows the certificate of '{name}'")
        if claimed not in self.cluster.fingerprints:
            raise ClusterError(f"'{claimed[:64]}' is no participant of this cluster")
        if kind == "hello" and not _SESSION.fullmatch(str(session)):
            raise ClusterError("a session's name has 32 hexadecimal digits")
        mine = self.party_facts if is_party else self.facts
        differs = difference(mine, hello.get("facts"))
        if differs is not None:
            raise ClusterError(f"party {self.rank} and '{claimed}' differ in {differs}")
        return claimed


def identity(cluster: Cluster, rank: int) -> Identity:
    """Return what party `rank` is in a cluster.

    Raises ConfigError if its certificate or key is missing or cannot be used.
    """
    incoming, outgoing = (context(cluster, f"party{rank}", server=server) for server in (True, False))
    return Identity(cluster, rank, incoming, outgoing, facts(cluster), party_facts(cluster))
