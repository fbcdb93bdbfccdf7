"""Counts a party's events, and serves Prometheus metrics and health checks over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ditto_spu.errors import ClusterError

_Answer = tuple[int, str, bytes]  # status, content type, body
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_CONNECTIONS = 16  # served at a time; more are closed
_PATIENCE = 5.0  # seconds that a connection may take to send its request


class Metrics:
    """Holds the counters and gauges of one party. Labels come from fixed lists, so nobody can add more."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ditto_requests", "Requests done.", ["kind"], registry=self.registry
        )  # kind: plan, hold, ahead, run
        self.failures = Counter(
            "ditto_failures", "Requests refused or failed.", ["reason"], registry=self.registry
        )  # reason: refused, client, peer, party, internal
        self.seconds = Histogram(
            "ditto_request_seconds",
            "Of computing alone, without uploads and queue.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bytes_sent = Counter(
            "ditto_bytes_sent", "Sent to the other parties while computing.", registry=self.registry
        )
        self.refused = Counter("ditto_connections_refused", "Connections refused.", registry=self.registry)
        ProcessCollector(registry=self.registry)  # memory, processor time, open files

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Add a gauge. `read` returns its value at each scrape, and `what` is its description."""
        Gauge(name, what, registry=self.registry).set_function(read)


class MetricsServer:
    """Serves `/metrics`, `/healthz/live` and `/healthz/ready` over HTTP.

    `/healthz/live` answers 200 while the process runs. `/healthz/ready` answers 200 if the party takes new
    clients, and 503 with the reason otherwise. `/healthz` is another name for it. This is plain HTTP without
    authentication, so it belongs on the loopback interface or on a network of operators alone.
    """

    def __init__(self, address: tuple[str, int], metrics: Metrics, unready: Callable[[], str | None]) -> None:
        """Listen at `address`, a host and port. `unready` returns why the party takes no clients, or None.

        Raises ClusterError if the address cannot be used.
        """
        room = threading.BoundedSemaphore(_CONNECTIONS)

        def answer(path: str) -> _Answer:
            if path == "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry)
            if path == "/healthz/live":
                return 200, "application/json", b'{"live": true}\n'
            if path in ("/healthz", "/healthz/ready"):
                reason = unready()
                body = {"live": True, "ready": reason is None} | ({"reason": reason} if reason else {})
                return 503 if reason else 200, "application/json", json.dumps(body).encode() + b"\n"
            return 404, "text/plain", b"there are /metrics, /healthz/live and /healthz/ready\n"

        class Handler(_Handler):
            answers = staticmethod(answer)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, request: Any, client_address: Any) -> None:
                if room.acquire(blocking=False):
                    super().process_request(request, client_address)
                else:
                    self.shutdown_request(request)

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    room.release()

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Ignore connections that break."""

        if ":" in address[0]:
            Server.address_family = socket.AF_INET6
        try:
            self._server = Server(address, Handler)
        except OSError as error:
            raise ClusterError(f"metrics cannot be shown at {address[0]}:{address[1]}: {error}") from None
        self.port: int = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD. The base class refuses everything else."""

    timeout = _PATIENCE
    server_version, sys_version = "ditto", ""

    answers: Callable[[str], _Answer]  # takes the path

    def do_GET(self) -> None:
        self._send(body=True)

    def do_HEAD(self) -> None:
        self._send(body=False)

    def _send(self, body: bool) -> None:
        status, kind, data = self.answers(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing: scrapes are not events of the party."""


def metrics_address(text: str) -> tuple[str, int]:
    """Parse "PORT", which means the loopback interface, or "HOST:PORT" into host and port.

    Raises ClusterError for anything else.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise ClusterError(f"metrics are shown at PORT or HOST:PORT, not at {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)
