"""Reads and writes the cluster file, a TOML file with three parties, their clients, timeouts and limits."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.certificates import Authority, create_authority, fingerprint, write_identity
from ditto_spu.errors import ConfigError, InputError, nearest
from ditto_spu.network.model import LOOPBACK, Network, parse_network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_PARTY = re.compile(r"party[0-9]*")


@dataclass(frozen=True)
class Timeouts:
    """Holds the timeouts of a cluster, in seconds.

    connect: until parties and clients are connected and agree.
    message: for which a participant that owes a message may be silent during a request.
    request: for a whole request, its wait in the queue included. Its computation may take as long again.
    plan: for the check of a plan, and for its compilation by SPU.
    idle: for a client that sends no request.
    weights: for held weights that nobody uses. Then the parties forget them.
    kept: for kept outputs that no request of their session reads. Then the parties forget them.
    """

    connect: float = 10.0
    message: float = 60.0
    request: float = 600.0
    plan: float = 60.0
    idle: float = 600.0
    weights: float = 30 * 86400.0
    kept: float = 3600.0


@dataclass(frozen=True)
class Limits:
    """Holds the limits of a cluster. Those that end in _mb are in MiB.

    share: the part of `sessions`, `running`, `queued_mb`, `held_mb`, `kept_mb` and `kept` that one client may
        have, of 1, and at least one session and one running request. A cluster with one client gives it
        everything.
    sessions: clients at a time.
    running: requests that compute at a time; the others wait.
    batch: inputs of one request.
    message_mb: size of one message, and of one value of a plan.
    request_mb: all values of a request that are in use at a time, at one party.
    queued_mb: inputs of all requests together, at one party.
    waiting_mb: tensors of a session that have arrived and are not used yet, and unspent material of a client.
    held_mb: held weights, at one party.
    kept_mb: kept outputs of all requests together, such as the caches of chats, at one party.
    kept: number of kept outputs. The cache of a chat is two for each layer, and twice that during a step.
    plan_mb: size of a plan.
    plans: number of plans that a party keeps for each client, besides those of held weights.
    """

    share: float = 0.5
    sessions: int = 8
    running: int = 1
    batch: int = 32
    message_mb: int = 1024
    request_mb: int = 32768
    queued_mb: int = 4096
    waiting_mb: int = 4096
    held_mb: int = 16384
    kept_mb: int = 4096
    kept: int = 65536
    plan_mb: int = 8
    plans: int = 32


@dataclass(frozen=True)
class Cluster:
    """Describes a cluster: the parties, the clients, and how each proves its identity.

    The participants are the parties, named party0 to party2, and the clients.

    addresses: host and port at which each party is reached, by rank.
    network: the network between the parties. Clients make plans for it, unless a function names another one.
    fingerprints: SHA-256 of each participant's certificate, by name. The authority's signature alone is not
        enough.
    via: host and port, by rank, for parties that this participant does not reach at their address. Each
        participant has its own.
    listen: host and port, by rank, for parties that listen elsewhere than at their address. Each party has
        its own.
    """

    folder: Path
    addresses: tuple[tuple[str, int], ...]
    fingerprints: Mapping[str, str]
    clients: tuple[str, ...]
    tls: bool = True
    network: Network = LOOPBACK
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    via: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    listen: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def reach(self, rank: int) -> tuple[str, int]:
        """Return the host and port at which this participant reaches a party."""
        return self.via.get(rank, self.addresses[rank])

    def of_client(self, amount: int) -> int:
        """Return how much of a limit one client may have."""
        return amount if len(self.clients) == 1 else max(1, int(amount * self.limits.share))

    def listens(self, rank: int) -> tuple[str, int]:
        """Return the host and port at which a party listens."""
        return self.listen.get(rank, self.addresses[rank])

    def hash(self) -> str:
        """Return a digest of what all participants must agree on: all but the folder, `via` and `listen`."""
        what = (self.addresses, sorted(self.fingerprints.items()), self.clients, self.tls, self.timeouts)
        return hashlib.sha256(repr((what, self.limits, self.network.spec)).encode()).hexdigest()

    @property
    def authority(self) -> Path:
        """Return the path of the authority's certificate."""
        return self.folder / "authority.crt"

    def identity(self, name: str) -> tuple[Path, Path]:
        """Return the paths of the certificate and key of a participant on this host."""
        return self.folder / "keys" / f"{name}.crt", self.folder / "keys" / f"{name}.key"


def load_cluster(path: str | Path) -> Cluster:
    """Read a cluster file. Raises ConfigError with the first mistake."""
    file = Path(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cluster file {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cluster file {file} is no TOML: {error}") from None
    _known(table, ("tls", "network", "party", "client", "timeouts", "limits"), str(file))
    tls = table.get("tls", True)
    parties, clients = table.get("party", []), table.get("client", [])
    if not isinstance(tls, bool):
        raise ConfigError(f"{file}: tls is true or false")
    network = _network(table.get("network", "loopback"), file)
    if not isinstance(parties, list) or len(parties) != PARTIES:
        raise ConfigError(f"{file}: there are three [[party]] tables, in the order of their ranks")
    if not isinstance(clients, list):
        raise ConfigError(f"{file}: clients are [[client]] tables")
    names: list[str] = []
    addresses, fingerprints, via, listen = [], {}, {}, {}
    for rank, entry in enumerate(parties):
        where = f"{file}, party {rank}"
        _known(entry, ("address", "fingerprint", "via", "listen"), where)
        addresses.append(_address(entry.get("address"), where))
        if "listen" in entry:
            listen[rank] = _address(entry["listen"], where, "listen")
        if "via" in entry:
            via[rank] = _address(entry["via"], where, "via")
        fingerprints[f"party{rank}"] = _fingerprint(entry.get("fingerprint", ""), tls, where)
    for entry in clients:
        _known(entry, ("name", "fingerprint"), f"{file}, a client")
        name = _new_client(entry.get("name"), names, str(file))
        fingerprints[name] = _fingerprint(entry.get("fingerprint", ""), tls, f"{file}, client '{name}'")
        names.append(name)
    limits = Limits(**_numbers(table.get("limits", {}), Limits, f"{file}, [limits]"))
    if limits.share > 1:
        raise ConfigError(f"{file}, [limits]: share is a part of 1, not {limits.share:g}")
    return Cluster(
        file.parent,
        tuple(addresses),
        fingerprints,
        tuple(names),
        tls,
        network,
        Timeouts(**_numbers(table.get("timeouts", {}), Timeouts, f"{file}, [timeouts]")),
        limits,
        via,
        listen,
    )


def init_cluster(
    folder: Path, addresses: tuple[str, ...], clients: tuple[str, ...], authority: Authority | None = None
) -> Path:
    """Write a cluster file, certificates and keys for a trial into a new folder, and return the file's path.

    `authority` signs the certificates. If it is None, a new authority signs them, and its key is not kept.
    Nothing is written for wrong names or addresses, which are a ConfigError. Raises InputError if the folder
    holds a cluster already.
    """
    for rank, address in enumerate(addresses):
        _address(address, f"party {rank}")
        if address in addresses[:rank]:
            raise ConfigError(
                f"parties {addresses.index(address)} and {rank} have the same address {address}"
            )
    for place, name in enumerate(clients):
        _new_client(name, clients[:place], "the clients")
    try:
        (folder / "keys").mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise InputError(f"'{folder}' holds a cluster already: choose a new folder") from None
    authority = authority or create_authority("ditto cluster")
    (folder / "authority.crt").write_bytes(authority.pem())
    lines = [
        "# Public: every participant has this file and authority.crt, and of keys/ its own two files alone."
    ]
    for rank, address in enumerate(addresses):
        print_ = _issue(authority, folder, f"party{rank}")
        lines += ["", "[[party]]", f'address = "{address}"', f'fingerprint = "{print_}"']
    for name in clients:
        print_ = _issue(authority, folder, name)
        lines += ["", "[[client]]", f'name = "{name}"', f'fingerprint = "{print_}"']
    file = folder / "cluster.toml"
    file.write_text("\n".join(lines) + "\n")
    load_cluster(file)
    return file


def _issue(authority: Authority, folder: Path, name: str) -> str:
    certificate, key = authority.issue(name)
    write_identity(folder / "keys", name, certificate, key)
    return fingerprint(certificate)


def _new_client(name: Any, others: Sequence[str], where: str) -> str:
    """Return a client's name if it is one, and if no other client has it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _PARTY.fullmatch(name):
        raise ConfigError(f"{where}: a client's name has small letters, digits and -, not {name!r}")
    if name in others:
        raise ConfigError(f"{where}: there are two clients '{name}'")
    return name


def _known(table: Any, names: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: a table is expected, with {', '.join(names)}")
    for name in table:
        if name not in names:
            raise ConfigError(f"{where}: there is no '{name}'{nearest(name, names)}")


def _address(text: Any, where: str, name: str = "address") -> tuple[str, int]:
    host, _, port = str(text).rpartition(":")
    if ":" in host and (host[0], host[-1]) == ("[", "]"):
        host = host[1:-1]  # an IPv6 address
    elif ":" in host:
        raise ConfigError(f'{where}: an IPv6 address has brackets, {name} = "[::1]:9400", not {text!r}')
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f'{where}: {name} = "host:port" is expected, not {text!r}')
    return host, int(port)


def _network(text: Any, file: Path) -> Network:
    try:
        return parse_network(str(text))
    except InputError as error:
        raise ConfigError(f"{file}: {error}") from None


def _fingerprint(text: Any, tls: bool, where: str) -> str:
    plain = str(text).replace(":", "").lower()  # openssl prints capitals, and a colon after every byte
    if tls and not (isinstance(text, str) and _FINGERPRINT.fullmatch(plain)):
        raise ConfigError(f"{where}: fingerprint is the certificate's SHA-256, 64 hexadecimal digits")
    return plain


def _numbers(table: Any, of: type, where: str) -> dict[str, Any]:
    known: dict[str, Any] = {each.name: type(each.default) for each in fields(of)}
    _known(table, tuple(known), where)
    for name, value in table.items():
        if type(value) not in (int, known[name]) or not 0 < value < math.inf:
            raise ConfigError(f"{where}: {name} is a positive number, not {value!r}")
    return {name: known[name](value) for name, value in table.items()}
