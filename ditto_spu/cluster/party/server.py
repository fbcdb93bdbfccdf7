"""Runs one party as a server: accepts clients and the other parties, and serves sessions."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.net.connect import accept, channel, check_pin
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.handshakes import Handshakes
from ditto_spu.cluster.party.identity import identity
from ditto_spu.cluster.party.meetings import Meetings
from ditto_spu.cluster.party.metrics import MetricsServer
from ditto_spu.cluster.party.peers import PeerWatch, ask_whether_there, link_peers
from ditto_spu.cluster.party.plan_checker import PlanChecker
from ditto_spu.cluster.party.session import Session
from ditto_spu.cluster.party.shared import shared_objects
from ditto_spu.errors import ClusterError, ConfigError, DittoError

log = logging.getLogger("ditto_spu.cluster")
_RENEW = 30.0  # days: a certificate that ends earlier is a warning at the start
_LINGER = 2.0  # seconds that the other end gets to read why it is refused or its session is over
_OPENING = 0.1  # seconds that a client owes for a session
_END = 5.0  # seconds that sessions get to end after their connections were closed


class PartyServer:
    """Serves as party `rank` of a cluster.

    `start` listens. `stop` refuses new requests and returns when the running ones are done. `metrics` is the
    host and port at which to show metrics and health. None shows neither. Parties of one process may have a
    common `checker` of plans. Whoever gives it closes it.
    """

    def __init__(
        self,
        cluster: Cluster,
        rank: int,
        metrics: tuple[str, int] | None = None,
        checker: PlanChecker | None = None,
    ) -> None:
        self._rank = rank
        self._identity = identity(cluster, rank)
        self._ends_checker = checker is None
        self._shared = shared_objects(cluster, checker or PlanChecker())
        self._metrics = self._shared.metrics
        self._metrics_address = metrics
        self._metrics_server: MetricsServer | None = None
        self._handshakes = Handshakes()
        self._changed = threading.Condition()
        self._sessions: dict[str, ClientPort | None] = {}
        self._meetings = Meetings(cluster.timeouts.connect)
        self._peers = PeerWatch(lambda peer: ask_whether_there(self._identity, peer), self._identity.peers)
        self._stopping = False
        self._listener: socket.socket | None = None
        self._metrics.watch("ditto_sessions", "Clients connected.", lambda: len(self._sessions))
        crowded = "Connections that had to make room before they had proven their identity."
        self._metrics.watch("ditto_handshakes_ended", crowded, lambda: self._handshakes.ended)
        self._metrics.watch(
            "ditto_certificate_days", "Until the party's own ends.", lambda: self._identity.days_left()
        )

    def start(self) -> None:
        """Listen, and return at once. Raises ClusterError if the address cannot be used."""
        host, port = self._identity.cluster.listens(self._rank)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=64)
        except OSError as error:
            raise ClusterError(f"party {self._rank} cannot listen at {host}:{port}: {error}") from None
        if self._metrics_address is not None:
            self._metrics_server = MetricsServer(self._metrics_address, self._metrics, self._unready)
            shown = f"{self._metrics_address[0]}:{self._metrics_server.port}"
            _event("metrics", party=self._rank, address=shown)
            self._peers.start()
        if self._identity.incoming is None:
            log.warning("plaintext", extra={"facts": {"warning": "tls = false: nobody is authenticated"}})
        elif (days := self._identity.days_left()) < _RENEW:
            log.warning("certificate ends", extra={"facts": {"party": self._rank, "days": round(days, 1)}})
        self._shared.checker.start()
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()
        _event("listening", party=self._rank, address=f"{host}:{port}")

    def reload(self, cluster: Cluster) -> None:
        """Use a cluster file with other clients or certificates from now on.

        Weights stay, and sessions that are open go on. Raises ConfigError, and changes nothing, if anything
        else differs, or if this party's own certificate cannot be used.
        """
        before = self._identity.cluster
        alike = replace(cluster, clients=before.clients, fingerprints=before.fingerprints)
        if alike.hash() != before.hash():
            raise ConfigError("a running party takes other clients and certificates alone: start it anew")
        self._identity = identity(cluster, self._rank)
        self._shared = replace(self._shared, cluster=cluster)
        _event("reloaded", party=self._rank, clients=len(cluster.clients))

    @property
    def metrics_port(self) -> int | None:
        """Return the port of the metrics server, or None if there is none."""
        return None if self._metrics_server is None else self._metrics_server.port

    def stop(self, grace: float) -> None:
        """Stop the party: refuse new clients and requests, and give running requests `grace` seconds to end.

        Requests that take longer are ended.
        """
        with self._changed:
            self._stopping = True
            sessions = [port for port in self._sessions.values() if port is not None]
        _event("stopping", party=self._rank, sessions=len(sessions))
        for port in sessions:
            port.stop(self._refusal())
        with self._changed:
            self._changed.wait_for(lambda: not self._sessions, grace)
            left = [port for port in self._sessions.values() if port is not None]
        for port in left:
            port.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._sessions, _END)
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._peers.close()
        if self._metrics_server is not None:
            self._metrics_server.close()
        if self._ends_checker:
            self._shared.checker.close()
        _event("stopped", party=self._rank)

    def _refusal(self) -> str | None:
        """Return why nothing new may start, or None."""
        return f"party {self._rank} is stopping: try again later" if self._stopping else None

    def _unready(self) -> str | None:
        if self._stopping:
            return self._refusal()
        if self._identity.days_left() <= 0:
            return "its certificate has expired"
        if len(self._sessions) >= self._shared.cluster.limits.sessions:
            return "as many clients are connected as its limits allow"
        if self._handshakes.full:
            return "all places for handshakes are taken"
        missing = self._peers.missing()
        return "; ".join(f"party {peer} is not there: {why}" for peer, why in missing.items()) or None

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, address = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return
                time.sleep(0.1)  # perhaps there are no file descriptors left; others will be closed
                continue
            try:
                place = self._handshakes.enter(sock)
            except OSError:
                sock.close()
                continue
            where = f"{address[0]}:{address[1]}"
            threading.Thread(target=self._admit, args=(sock, where, place), daemon=True).start()

    def _admit(self, sock: socket.socket, where: str, place: int) -> None:
        """Verify who connects. A client gets a session, and a party joins the session that it names."""
        made: Channel | None = None
        try:
            mine = self._identity
            secured, name = accept(mine.cluster, sock, mine.incoming)
            made = channel(mine.cluster, secured, name or where)
            check_pin(mine.cluster, name, secured)
            hello = made.receive(mine.cluster.timeouts.connect)
            made.peer = name = mine.checked(hello.kind, hello.facts, name)
            self._handshakes.leave(place)
            if hello.kind == "ping":
                made.send("pong", {})
                made.close()
            elif name in mine.cluster.clients:
                self._serve(hello.facts["session"], name, made)
            else:
                self._meet(hello.facts["session"], name, made, hello.facts)
        except Exception as error:  # a stranger's bytes may cause any error, and the party goes on
            _event("refused", peer=where, reason=str(error)[:500])
            self._metrics.refused.inc()
            if made is None:
                sock.close()
            else:
                with contextlib.suppress(LinkError):
                    made.send("error", {"reason": str(error), "over": True})
                    made.finish()
                    made.receive(_LINGER)  # unread bytes at the close would make the kernel drop the reason
                made.close()
        finally:
            self._handshakes.leave(place)

    def _meet(self, session: str, name: str, made: Channel, hello: Mapping[str, Any]) -> None:
        rank = int(name.removeprefix("party"))
        made.peer = f"party {rank}"
        with self._changed:
            if self._stopping and session not in self._sessions:
                raise ClusterError(self._refusal())
        self._meetings.bring(session, rank, made, hello)

    def _serve(self, session: str, client: str, made: Channel) -> None:
        """Open a client's session together with the other parties, and serve it until it ends."""
        self._shared.delays.charge(client, _OPENING)
        self._shared.delays.wait(client)
        with self._changed:
            if session in self._sessions:
                raise ClusterError("this session exists already")
            if self._stopping:
                raise ClusterError(self._refusal())
            self._shared.sessions.take(client, 1)
            self._sessions[session] = None
        port = ClientPort(made)
        link: PeerLink | None = None
        served: Session | None = None
        reason = "the client has left"
        try:
            with self._changed:
                self._sessions[session] = port
            mine = self._identity
            link, keys = link_peers(mine, session, client, port, self._meetings)
            port.stops(link)
            made.send("welcome", {"facts": mine.facts})
            _event("session", session=session, client=client)
            served = Session(self._shared, client, session, port, link, keys)
            port.stop(self._refusal())
            served.serve()
        except Exception as error:  # an error of a kernel or a peer ends this session alone
            known = isinstance(error, LinkError | DittoError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            _event("session over", session=session, client=client, reason=reason)
        finally:
            if served is not None:
                served.close()
            if link is not None:
                link.close(reason)
            port.refuse(reason, _LINGER)
            port.close()
            with self._changed:
                self._shared.sessions.give_back(client, 1)
                del self._sessions[session]
                self._changed.notify_all()


def _event(event: str, **what: Any) -> None:
    log.info(event, extra={"facts": what})
