"""Serve the gateway on the loopback interface."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from ditto_spu.errors import InputError

LOOPBACK = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback interface alone. Port 0 takes a free one.

    Raises InputError for a port that cannot be had.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"port {port} of {LOOPBACK} cannot be had ({error}): choose another --port"
        ) from None
    return listening


def server(application: Any) -> uvicorn.Server:
    """Return the server of an application. It logs no request, since these are what users keep secret."""
    config = uvicorn.Config(application, access_log=False, log_level="warning", server_header=False)
    return uvicorn.Server(config)
