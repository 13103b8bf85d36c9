"""Answers on the wire: whole JSON bodies, and streams with a head that waits for the first event.

A stream's head is held until the first event, so that an early failure has its true status; after some seconds it
is sent all the same and comments keep the line alive, because loading a model may take minutes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol, TypeVar, TypeVarTuple, Unpack

from aiohttp import web

from .. import framing
from ..errors import Internal, OproxyError
from ..events import Event, Fail
from ..policy.books import Books
from ..policy.memory import answer_cost
from ..workers import LARGE
from .cutting import ending
from .keys import BOOKS, CHUNKS, CLERK, ENGINE, TASKS, WORKERS
from .middleware import head

__all__ = ["EventStream", "Feeder", "Form", "Writer", "json_bytes", "received", "stream"]


log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


EVENTS = "text/event-stream; charset=utf-8"


class Writer(Protocol):
    """A front's writer of what is streamed, e.g. `translate.chat.ChunkWriter`: JSON documents, or whole frames where
    `Form.named` says so."""

    def feed(self, events: Sequence[Event]) -> list[bytes]: ...

    def flush(self) -> list[bytes]: ...


class Form(NamedTuple):
    """How a front's stream is framed. `named`: the writer gives whole frames, with the names of their events; `last`
    ends a stream that did not fail; `beat` keeps a quiet line alive (empty: comments do). Of another `type` than
    events, which has no comments, nothing is sent before the answer itself."""

    named: bool = False
    last: bytes = framing.DONE
    beat: bytes = b""
    type: str = EVENTS


CHAT = Form()
# Bytes that are written at once: more would be copied in one turn of the event loop.
PIECE = 1024 * 1024


def received(books: Books, held: int, data: bytes) -> int:
    """Count a piece of a backend's answer; return the bytes that its reader, which holds the beginning of a record,
    works on now. A large record takes memory: raises errors.AnswerTooLarge and Overloaded."""
    size = len(data)
    books.answer += size
    if (size := size + held) >= LARGE:
        books.hold.take_answer(answer_cost(data))
    return size


class Feeder:
    """Feeds a front's writer with a long answer. An event that may end one of its parts, whose whole text is then
    joined, sealed and encoded, is written in a thread; one more piece of the same part on the loop."""

    __slots__ = ("_books", "_last", "_lock", "_work")

    def __init__(self, app: web.Application, books: Books) -> None:
        self._work, self._books = app[WORKERS].run, books
        self._last: type[Event] | None = None
        # A caller that is cancelled leaves its thread behind: what comes after it waits for that.
        self._lock = threading.Lock()

    async def feed(self, writer: Writer, batch: Sequence[Event]) -> list[bytes]:
        """Return what the writer makes of a batch."""
        last, self._last = self._last, type(batch[-1]) if batch else None
        if len(batch) == 1 and type(batch[0]) is last:
            return writer.feed(batch)
        return await self.run(writer.feed, batch)

    async def run(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `function(*args)`, which works on all of the answer so far."""
        return await self._work(self._books.answer, self._locked, function, *args)

    def _locked(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        with self._lock:
            return function(*args)


def json_bytes(body: bytes, *, status: int = 200) -> web.Response:
    """Return a JSON answer from encoded bytes."""
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8")


class EventStream:
    """A Server-Sent-Events answer that begins with its first write, or by itself after `hold` seconds."""

    def __init__(self, request: web.Request, *, beat: bytes = b"", type: str = EVENTS) -> None:
        self._request = request
        self._type = type
        self._comments = (
            (beat, beat) if beat else (framing.comment("waiting for the model"), framing.comment("still waiting"))
        )
        self._kept = request.get(CHUNKS)
        self._response: web.StreamResponse | None = None
        self._lock = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        server = request.app[ENGINE].snapshot.settings.server
        self._heartbeat = server.heartbeat
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._last = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if type == EVENTS:
            self._timer = loop.call_later(server.header_hold, self._begin_beating)

    @property
    def begun(self) -> bool:
        return self._response is not None

    async def begin(self) -> web.StreamResponse:
        """Send the head, once."""
        if self._response is None:
            async with self._lock:
                if self._response is None:
                    response = web.StreamResponse(headers=head(self._request))
                    response.headers["content-type"] = self._type
                    response.headers["cache-control"] = "no-cache"
                    # nginx and the like would otherwise hold the stream back.
                    response.headers["x-accel-buffering"] = "no"
                    await response.prepare(self._request)
                    self._response = response
        return self._response

    async def write(self, data: bytes) -> None:
        """Send whole events or lines; the first ones begin the answer."""
        data = framing.escape_breaks(data)
        response = self._response or await self.begin()
        self._last = now = self._loop.time()
        if self._kept is not None:
            self._kept.append(now, data)
        if len(data) <= PIECE:
            await response.write(data)
            return
        for start in range(0, len(data), PIECE):
            await response.write(data[start : start + PIECE])
            await asyncio.sleep(0)

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
                await response.write(self._comments[0])
            while True:
                quiet = self._loop.time() - self._last
                if quiet >= self._heartbeat and self._response is not None:
                    self._last = self._loop.time()
                    await self._response.write(self._comments[1])
                    quiet = 0.0
                await asyncio.sleep(self._heartbeat - quiet)
        except ConnectionError:
            # The client is gone; the handler will notice by its own write or be cancelled.
            return


async def stream(
    request: web.Request,
    batches: AsyncGenerator[list[Event]],
    writer: Writer,
    *,
    form: Form = CHAT,
    ended: Callable[[], Awaitable[None]] | None = None,
) -> web.StreamResponse:
    """Write batches of events as they come, each batch in one write, `form.last` at the end.

    A failure before the head is raised; after it, the error goes into the stream, and no `[DONE]` follows it. `ended`
    is awaited when the last frames are made and before they are sent: what a client may ask for next is kept then.
    """
    out = EventStream(request, beat=form.beat, type=form.type)
    framed = b"".join if form.named else framed_documents
    feeder = Feeder(request.app, request[BOOKS])
    try:
        failed = await relayed(request, out, batches, writer, framed, feeder)
        # Only now it is known what the answer took.
        await closed(request, code_of(failed) if failed else None)
        last = await feeder.run(writer.feed, failed) if failed else await feeder.run(writer.flush)
        rest = framed(last) if failed else framed(last) + form.last
        if ended is not None:
            await ended()
        await out.write(rest)
        return await out.end()
    finally:
        out.stop()


async def relayed(
    request: web.Request,
    out: EventStream,
    batches: AsyncGenerator[list[Event]],
    writer: Writer,
    framed: Callable[[Sequence[bytes]], bytes],
    feeder: Feeder,
) -> list[Event]:
    """Write what comes. Returns the events of a failure that is to be told in the stream, the Fail last; none if all
    went well. A failure before the head is raised."""
    books = request[BOOKS]
    try:
        with ending(request.app):
            async with aclosing(batches) as source:
                async for batch in source:
                    if type(batch[-1]) is Fail:
                        return batch
                    long = books.answer >= LARGE
                    if documents := await feeder.feed(writer, batch) if long else writer.feed(batch):
                        await out.write(framed(documents))
    except OproxyError as exc:
        if not out.begun:
            raise
        return [Fail(exc)]
    except ConnectionError:
        # The client has left; there is nobody to tell.
        raise
    except Exception:
        if not out.begun:
            raise
        # The status is sent, so the stream itself has to say it.
        log.exception("request %s failed in its stream", request[BOOKS].id)
        return [Fail(Internal(request[BOOKS].id))]
    return []


def code_of(failed: Sequence[Event]) -> str | None:
    """Return what the books call a failure."""
    match failed[-1]:
        case Fail(error=Internal()):
            return "internal"
        case Fail(error=error):
            return error.code
    return None


async def closed(request: web.Request, code: str | None) -> None:
    """Close the books before the client can know that it has all."""
    books = request[BOOKS]
    books.code = books.code or code
    books.status = 200
    await request.app[CLERK].close(books)


def framed_documents(documents: Sequence[bytes]) -> bytes:
    if len(documents) == 1:
        return b"data: " + documents[0] + b"\n\n"
    return b"".join(b"data: " + document + b"\n\n" for document in documents)
