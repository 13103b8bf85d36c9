"""Reading what clients send: a body as a whole or in pieces, counted against the memory that requests may hold, and
given up when it does not come.

Every handler that reads a body does so here or in `forms`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from aiohttp import StreamReader, web

from ..errors import BodyTimeout, OproxyError
from ..policy.memory import BODY, Arriving, body_cost, default_budget
from ..policy.pace import patience
from ..settings import Settings
from ..translate.encodings import Unpacker, parse_encodings
from .keys import BODY as WHOLE
from .keys import BOOKS, ENGINE

__all__ = [
    "PASSING",
    "Pace",
    "Passing",
    "UnpackedContent",
    "body_pieces",
    "budget_of",
    "is_here",
    "machine_memory",
    "packed",
    "read_body",
    "take_body",
]

if sys.platform != "win32":
    import resource

T = TypeVar("T")

# What a body that only passes by takes (bytes): what aiohttp reads ahead, and a piece on each side.
PASSING = 256 * 1024
# Where a container's limit stands: cgroup v2, and v1. https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def budget_of(settings: Settings) -> int:
    """Return the memory that requests may hold together, in bytes."""
    return settings.server.memory or default_budget(machine_memory())


def machine_memory() -> int | None:
    """Return the bytes of memory of this machine, or of the container we are in; None where it does not say."""
    found = []
    # Windows has no sysconf.
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if sys.platform != "win32":
        found += [limit for limit in resource.getrlimit(resource.RLIMIT_AS)[:1] if limit != resource.RLIM_INFINITY]
    for path in LIMITS:
        # Not Linux, or "max".
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)


class Pace:
    """Waits for the pieces of one request's body, as long as the settings allow. Raises BodyTimeout."""

    __slots__ = ("_rate", "_timeout", "received", "waited")

    def __init__(self, request: web.Request) -> None:
        server = request.app[ENGINE].snapshot.settings.server
        self._timeout, self._rate = server.body_timeout, server.body_rate
        self.received = 0
        self.waited = 0.0

    async def wait(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` returns, if it does in time."""
        clock = asyncio.get_running_loop().time
        before = clock()
        seconds = patience(self.received, self.waited, timeout=self._timeout, rate=self._rate)
        try:
            async with asyncio.timeout(seconds):
                found = await read()
        except TimeoutError:
            raise self._given_up(seconds) from None
        self.waited += clock() - before
        return found

    def _given_up(self, seconds: float) -> BodyTimeout:
        if self.waited > seconds:
            why = f"came at less than {self._rate} bytes a second (body_rate under [server])"
        else:
            why = f"did not go on for {self._timeout:g} s (body_timeout under [server])"
        return BodyTimeout(
            f"The request body {why}; {self.received} bytes of it were received.", headers={"connection": "close"}
        )


async def body_pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Yield a body's bytes as they come, unpacked. Raises BodyTimeout, UnsupportedEncoding and Invalid."""
    pace, content, encodings = Pace(request), request.content, packed(request)
    unpacker = Unpacker(encodings) if encodings else None
    while data := await pace.wait(content.readany):
        pace.received += len(data)
        if unpacker is None:
            yield data
            continue
        for piece in unpacker.feed(data):
            yield piece
    if unpacker is not None:
        unpacker.flush()


def packed(request: web.Request) -> tuple[str, ...]:
    """Return the encodings of a body, in the order they were applied. Raises UnsupportedEncoding."""
    if "content-encoding" not in request.headers:
        return ()
    return parse_encodings(", ".join(request.headers.getall("content-encoding")))


class UnpackedContent(StreamReader):
    """A packed body for aiohttp's reader of forms: `pieces` are asked for when there is nothing left to read."""

    def __init__(self, request: web.Request, pieces: AsyncIterator[bytes]) -> None:
        # More than a piece is never in it, so that its reader is never told to wait.
        super().__init__(request.protocol, limit=1 << 22, loop=asyncio.get_running_loop())
        self._pieces = pieces

    async def _wait(self, func_name: str) -> None:
        if data := await anext(self._pieces, b""):
            self.feed_data(data)
        else:
            self.feed_eof()


class Passing:
    """A body that is sent on as it comes. `error` is why it stopped half-way: the backend only sees that no more
    comes."""

    def __init__(self, request: web.Request) -> None:
        take_body(request, PASSING)
        self.request = request
        self.error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for data in body_pieces(self.request):
                yield data
        except (OproxyError, web.RequestPayloadError) as exc:
            self.error = exc
            raise


def take_body(request: web.Request, size: int) -> None:
    """Take the memory for a body that is not held whole, before it is read. Raises Overloaded and TooLarge."""
    try:
        request[BOOKS].hold.take(size)
    except OproxyError as exc:
        exc.headers["connection"] = "close"
        raise


def is_here(request: web.Request) -> bool:
    """Return whether all of a body has come already."""
    return request.content.is_eof()


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, and note it for the recorder. Raises Overloaded and TooLarge as soon as it is known that
    there is no memory for it, BodyTimeout, and aiohttp's HTTPRequestEntityTooLarge."""
    known: bytes | None = request.get(WHOLE)
    if known is not None:
        return known
    hold = request[BOOKS].hold
    if is_here(request) and not packed(request):
        # The usual case: it came together with its head.
        body: bytes = await request.read()
        hold.take(body_cost(body))
    else:
        try:
            hold.check(BODY * (request.content_length or 0))
            body = await joined(request)
        except OproxyError as exc:
            # Others need it now, not only when this refusal is booked and sent.
            hold.release()
            # The rest is not read; a client that knows will not use the connection again.
            exc.headers["connection"] = "close"
            raise
    request[WHOLE] = body
    return body


async def joined(request: web.Request) -> bytes:
    """Return the pieces of a body as one. What it takes in memory is taken piece by piece, and as much ahead as has
    come: a client that announces much and sends nothing keeps nobody else out."""
    most = request.client_max_size
    arriving = Arriving(request[BOOKS].hold, 0 if packed(request) else request.content_length or 0)
    pieces: list[bytes] = []
    async for data in body_pieces(request):
        if arriving.size + len(data) > most:
            raise web.HTTPRequestEntityTooLarge(most, arriving.size + len(data))
        arriving.take(data)
        pieces.append(data)
    arriving.end()
    return b"".join(pieces)
