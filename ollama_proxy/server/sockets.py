"""The WebSockets that are open: how many there may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from ..errors import Overloaded
from .keys import BOOKS, ENGINE, SOCKETS

__all__ = ["PING", "open_socket"]

# Seconds between pings; a client that is gone is noticed by them.
PING = 30.0


@contextmanager
def open_socket(request: web.Request) -> Iterator[None]:
    """Count a WebSocket while it is open. Raises Overloaded where there are too many."""
    sockets, most = request.app[SOCKETS], request.app[ENGINE].snapshot.settings.server.max_sockets
    if len(sockets) >= most:
        raise Overloaded(f"The server has {most} WebSockets open (max_sockets under [server]).", wait=1.0)
    id = request[BOOKS].id
    sockets.add(id)
    try:
        yield
    finally:
        sockets.discard(id)
