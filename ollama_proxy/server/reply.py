"""Answers on the wire: whole JSON bodies, and streams with a head that waits for the first event.

A stream's head is held until the first event, so that an early failure has its true status; after some seconds it
is sent all the same and comments keep the line alive, because loading a model may take minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from aiohttp import web

from .. import framing
from ..errors import Internal, OproxyError
from ..events import Event, Fail
from .keys import BOOKS, CHUNKS, CLERK, ENGINE, TASKS
from .middleware import head

__all__ = ["EventStream", "Writer", "json_bytes", "stream"]


log = logging.getLogger(__name__)


class Writer(Protocol):
    """A front's writer of stream documents, e.g. `translate.chat.ChunkWriter`."""

    def feed(self, events: Sequence[Event]) -> list[bytes]: ...

    def flush(self) -> list[bytes]: ...


def json_bytes(body: bytes, *, status: int = 200) -> web.Response:
    """Return a JSON answer from encoded bytes."""
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8")


class EventStream:
    """A Server-Sent-Events answer that begins with its first write, or by itself after `hold` seconds."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._kept = request.get(CHUNKS)
        self._response: web.StreamResponse | None = None
        self._lock = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        server = request.app[ENGINE].snapshot.settings.server
        self._heartbeat = server.heartbeat
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._last = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(server.header_hold, self._begin_beating)

    @property
    def begun(self) -> bool:
        return self._response is not None

    async def begin(self) -> web.StreamResponse:
        """Send the head, once."""
        if self._response is None:
            async with self._lock:
                if self._response is None:
                    response = web.StreamResponse(headers=head(self._request))
                    response.headers["content-type"] = "text/event-stream; charset=utf-8"
                    response.headers["cache-control"] = "no-cache"
                    # nginx and the like would otherwise hold the stream back.
                    response.headers["x-accel-buffering"] = "no"
                    await response.prepare(self._request)
                    self._response = response
        return self._response

    async def write(self, data: bytes) -> None:
        response = self._response or await self.begin()
        self._last = now = self._loop.time()
        if self._kept is not None:
            self._kept.append((now, data))
        await response.write(data)

    async def end(self) -> web.StreamResponse:
        """Finish the answer and return it."""
        self.stop()
        response = await self.begin()
        await response.write_eof()
        return response

    def stop(self) -> None:
        """End the heartbeats. Call it however the answer ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def _begin_beating(self) -> None:
        self._timer = None
        self._beating = self._request.app[TASKS].start(self._beat(), name="heartbeat")

    async def _beat(self) -> None:
        try:
            if self._response is None:
                response = await self.begin()
                await response.write(framing.comment("waiting for the model"))
            while True:
                quiet = self._loop.time() - self._last
                if quiet >= self._heartbeat and self._response is not None:
                    self._last = self._loop.time()
                    await self._response.write(framing.comment("still waiting"))
                    quiet = 0.0
                await asyncio.sleep(self._heartbeat - quiet)
        except ConnectionError:
            # The client is gone; the handler will notice by its own write or be cancelled.
            return


async def stream(request: web.Request, batches: AsyncGenerator[list[Event]], writer: Writer) -> web.StreamResponse:
    """Write batches of events as they come, each batch in one write, `[DONE]` at the end.

    A failure before the head is raised; after it, the error goes into the stream, and no `[DONE]` follows it.
    """
    out = EventStream(request)
    failed = False
    try:
        try:
            async with aclosing(batches) as source:
                async for batch in source:
                    last = batch[-1]
                    if type(last) is Fail:
                        failed = True
                        break
                    if documents := writer.feed(batch):
                        await out.write(framed(documents))
            if failed and isinstance(last, Fail):
                # Only now it is known what the answer took.
                await closed(request, last.error.code)
                await out.write(framed(writer.feed(batch)))
        except OproxyError as exc:
            if not out.begun:
                raise
            failed = True
            await closed(request, exc.code)
            await out.write(framed(writer.feed([Fail(exc)])))
        except ConnectionError:
            # The client has left; there is nobody to tell.
            raise
        except Exception:
            if not out.begun:
                raise
            # The status is sent, so the stream itself has to say it.
            failed = True
            log.exception("request %s failed in its stream", request[BOOKS].id)
            await closed(request, "internal")
            await out.write(framed(writer.feed([Fail(Internal(request[BOOKS].id))])))
        if not failed:
            await closed(request, None)
            await out.write(framed(writer.flush()) + framing.DONE)
        return await out.end()
    finally:
        out.stop()


async def closed(request: web.Request, code: str | None) -> None:
    """Close the books before the client can know that it has all."""
    books = request[BOOKS]
    books.code = books.code or code
    books.status = 200
    await request.app[CLERK].close(books)


def framed(documents: Sequence[bytes]) -> bytes:
    if len(documents) == 1:
        return b"data: " + documents[0] + b"\n\n"
    return b"".join(b"data: " + document + b"\n\n" for document in documents)
