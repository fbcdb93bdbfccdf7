"""Connects participants by TLS with certificates on both sides, each pinned to a name."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.certificates import fingerprint
from ditto_spu.cluster.net.channel import Channel, tls_reason
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.errors import ConfigError

log = logging.getLogger("ditto_spu.cluster")
_OTHERS = 0o077  # permissions of a key's group and of everybody
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between attempts to connect; the last pause repeats


def context(cluster: Cluster, name: str, server: bool) -> ssl.SSLContext | None:
    """Return a TLS 1.3 context with the certificate of participant `name`, or None for plaintext.

    `server` chooses between listening and dialling. Raises ConfigError if a certificate or key is missing or
    cannot be used, or if others than its owner can read the key.
    """
    if not cluster.tls:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    certificate, key = cluster.identity(name)
    for path in (certificate, key, cluster.authority):
        if not path.exists():
            raise ConfigError(f"'{path}' is missing: '{name}' needs it to prove who it is")
    if key.stat().st_mode & _OTHERS:
        raise ConfigError(f"'{key}' can be read by others than its owner: chmod 600 '{key}'")
    try:
        made.load_cert_chain(certificate, key)
        made.load_verify_locations(cluster.authority)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"certificate or key of '{name}' cannot be used: {error}") from None
    made.verify_mode = ssl.CERT_REQUIRED
    if server:
        made.num_tickets = 0  # no TLS session is resumed, so each connection proves both identities anew
    return made


def dial(
    cluster: Cluster,
    rank: int,
    tls: ssl.SSLContext | None,
    stopped: Callable[[], bool] = lambda: False,
) -> Channel:
    """Connect to a party and verify its identity.

    Retries a party that does not answer, until the connect timeout or until `stopped` returns True. A wrong
    certificate is final. Raises LinkError if the party cannot be reached or is refused.
    """
    host, port = cluster.reach(rank)
    peer, where = f"party{rank}", f"party {rank} at {host}:{port}"
    deadline = time.monotonic() + cluster.timeouts.connect
    attempt = 0
    while True:
        try:
            sock = socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic()))
            return channel(cluster, _secured(cluster, sock, tls, peer, deadline), f"party {rank}")
        except TimeoutError as error:
            if isinstance(error, _Frozen):
                raise LinkError(
                    f"{where} takes the connection and does not answer within "
                    f"{cluster.timeouts.connect:g} s: frozen?"
                ) from None
            failure: OSError = error
        except ssl.SSLError as error:
            raise LinkError(f"{where} is refused: {tls_reason(error)}") from None
        except LinkError as error:
            raise LinkError(f"{where} is refused: {error}") from None
        except OSError as error:  # also a connection that a crowded party has ended
            failure = error
        pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
        attempt += 1
        if time.monotonic() + pause > deadline or stopped():
            raise LinkError(f"{where} cannot be reached ({failure}; {attempt} attempts): is it running?")
        facts = {"party": rank, "attempt": attempt, "error": str(failure)}
        log.warning("unreachable", extra={"facts": facts})
        time.sleep(pause)


class _Frozen(TimeoutError):
    """A party takes a connection and does not answer."""


def _secured(
    cluster: Cluster, sock: socket.socket, tls: ssl.SSLContext | None, peer: str, deadline: float
) -> socket.socket:
    """Return the connection after the TLS handshake, with the certificate of `peer` verified."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(max(0.1, deadline - time.monotonic()))
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=peer)
            check_pin(cluster, peer, sock)
        return sock
    except TimeoutError as error:
        sock.close()
        raise _Frozen(str(error)) from None
    except BaseException:
        sock.close()
        raise


def accept(cluster: Cluster, sock: socket.socket, tls: ssl.SSLContext | None) -> tuple[socket.socket, str]:
    """Verify the peer of an accepted connection, and return (the socket, the name in its certificate).

    The name is "?" if the certificate has none. In plaintext it is "", because nobody proves a name there.
    Raises LinkError if the TLS handshake fails.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(cluster.timeouts.connect)
    if tls is None:
        return sock, ""
    try:
        secured = tls.wrap_socket(sock, server_side=True)
    except ssl.SSLError as error:
        raise LinkError(f"TLS refused: {tls_reason(error)}") from None
    except OSError as error:
        raise LinkError(f"no TLS handshake: {error}") from None
    shown: Any = secured.getpeercert() or {}
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
    return secured, str(names[0]) if names else "?"


def check_pin(cluster: Cluster, name: str, sock: socket.socket) -> None:
    """Raise LinkError unless the peer shows the certificate that the cluster file gives for `name`.

    A plaintext socket passes.
    """
    if not isinstance(sock, ssl.SSLSocket):
        return
    if name not in cluster.fingerprints:
        raise LinkError(f"'{name}' is no participant of this cluster")
    found = fingerprint(sock.getpeercert(binary_form=True) or b"")
    if found != cluster.fingerprints[name]:
        raise LinkError(f"the certificate shown for '{name}' is not the one in the cluster file ({found})")


def channel(cluster: Cluster, sock: socket.socket, peer: str) -> Channel:
    """Return a channel over the socket with the cluster's message timeout and size limit."""
    return Channel(sock, peer, cluster.timeouts.message, cluster.limits.message_mb << 20)
