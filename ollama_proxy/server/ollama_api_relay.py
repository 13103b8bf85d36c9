"""Ollama's API where an Ollama answers: bytes go through, limited, booked and only observed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from .. import tokens
from ..backends.base import Reply
from ..errors import OproxyError, UpstreamFailed
from ..events import Event, Fail, Finish, Usage
from ..framing import BOM, Overlong
from ..model import Call
from ..policy.books import Books
from ..policy.meter import Meter
from ..policy.redact import redact_error
from ..policy.route import Target
from ..translate import ollama_pass, passthrough
from ..translate.ollama_front_write import error_line
from ..translate.ollama_read import ChatReader, CompletionReader
from ..translate.openai_errors import unreadable
from ..translate.wire import Reader
from ..workers import LARGE
from .cutting import ending
from .keys import BOOKS, CLERK, CLOCK, ENGINE, WORKERS
from .middleware import error_response
from .reply import EventStream, received

__all__ = ["NDJSON", "Asked", "relay", "relay_embedding"]

NDJSON = "application/x-ndjson"


class Asked(msgspec.Struct, frozen=True):
    """A request on its way: where it goes, its body as it came and by its keys, and what it asks of the limits.

    `prompt` counts its prompt's tokens, `answer` is the most tokens it asks for. `idle`: it only loads or unloads, so
    no model has to be waited for.
    """

    path: str
    body: bytes
    fields: Mapping[str, msgspec.Raw]
    prompt: Callable[[], int]
    answer: int = 0
    idle: bool = False


class Observer:
    """Watches an answer for its books; what is passed on is not its business."""

    def __init__(self, app: web.Application, books: Books, asked: Asked) -> None:
        kind: type[ChatReader | CompletionReader] = ChatReader if asked.path == "/api/chat" else CompletionReader
        self._reader: Reader = kind(backend=books.backend, model=books.asked, logprobs=False)
        self._meter = Meter(books, app[CLOCK], prompt=asked.prompt, count=tokens.estimate_text, model=books.asked)
        self.ended = False
        self.error: OproxyError | None = None

    def feed(self, data: bytes) -> None:
        self._see(self._reader.feed(data))

    def flush(self) -> None:
        self._see(self._reader.flush())

    def close(self) -> None:
        """Write down what the answer took, also of one that broke off."""
        self._meter.close()

    def _see(self, events: list[Event]) -> None:
        if not events:
            return
        for event in events:
            match event:
                case Finish():
                    self.ended = True
                case Fail(error=error):
                    self.ended, self.error = True, error
        self._meter.see(events)


async def relay(request: web.Request, asked: Asked, target: Target) -> web.StreamResponse:
    """Send a chat or a generation on, and its answer back as it comes."""
    app, books = request.app, request[BOOKS]
    work = app[WORKERS].run
    asked = await measured(app, books, asked)
    async with passed(app, books, asked, target) as reply:
        if reply.status >= 400:
            return await refused(request, reply, target)
        observer = Observer(app, books, asked)
        name = None if ollama_pass.same_name(books.asked, target.info.id) else books.asked
        if books.stream and reply.headers.get("content-type", "").startswith(NDJSON):
            return await streamed(request, reply, observer, ollama_pass.Renamer(name))
        try:
            body = await reply.read(books.hold)
            books.answer = len(body)
            body = await work(books.answer, ollama_pass.one_record, body, books.backend)
            await work(books.answer, observer.feed, body + b"\n")
            observer.flush()
        finally:
            observer.close()
        if observer.error is not None and not await work(books.answer, ollama_pass.answers, body):
            raise observer.error
        books.code = observer.error.code if observer.error is not None and b"_debug_info" not in body else None
        if books.stream and b"\n" in body:
            # Clients of streams read lines.
            body = await work(books.answer, lambda: msgspec.json.encode(msgspec.json.decode(body)))
        return answered(body if name is None else await work(books.answer, ollama_pass.renamed, body, name), reply)


async def streamed(
    request: web.Request, reply: Reply, observer: Observer, renamer: ollama_pass.Renamer
) -> web.StreamResponse:
    """Pass a stream on as it comes. One that breaks off, or holds what is no record, ends in a line that says so."""
    books = request[BOOKS]
    out = EventStream(request, type=NDJSON)
    work = request.app[WORKERS].run
    try:
        try:
            with ending(request.app):
                async for data in reply.chunks():
                    size = received(books, renamer.held, data)
                    if rest := renamer.feed(data) if size < LARGE else await work(size, renamer.feed, data):
                        await work(len(rest), observer.feed, rest)
                        if observer.ended:
                            await closed(request, observer)
                        await out.write(rest)
                    if renamer.broken is not None and not observer.ended:
                        raise unreadable(renamer.broken, books.backend)
            if rest := renamer.flush():
                rest += b"\n"
                observer.feed(rest)
            if not observer.ended:
                observer.flush()
                if observer.error is not None:
                    raise observer.error
        except (OproxyError, Overlong) as exc:
            error = exc if isinstance(exc, OproxyError) else overlong(exc, books.backend)
            if not out.begun:
                raise error from exc
            observer.error = error
            rest = redact_error(error_line(error))
        await closed(request, observer)
        if rest:
            await out.write(rest)
        return await out.end()
    finally:
        if not books.closed:
            # The client has left, or there was no answer.
            observer.close()
        out.stop()


def overlong(exc: Overlong, backend: str) -> UpstreamFailed:
    return UpstreamFailed(f"The backend '{backend}' sent too much: {exc}.", backend=backend)


async def closed(request: web.Request, observer: Observer) -> None:
    """Close the books before the client can know that it has all."""
    books = request[BOOKS]
    if books.closed:
        return
    observer.close()
    books.code = observer.error.code if observer.error is not None else None
    books.status = 200
    await request.app[CLERK].close(books)


class Embedded(msgspec.Struct):
    """What is looked at of an answer; the vectors are skipped unread."""

    embeddings: list[msgspec.Raw] | None = None
    embedding: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt_eval_count: int | None = None
    error: Any = None

    def holds(self, path: str, inputs: int | None) -> bool:
        """Return whether there are vectors in the form that the path has, one for each of the inputs where their number
        is known."""
        if path == "/api/embed":
            vectors = self.embeddings or []
            return len(vectors) == (inputs or len(vectors) or 1) and all(bytes(each)[:1] == b"[" for each in vectors)
        return isinstance(self.embedding, msgspec.Raw) and bytes(self.embedding)[:1] == b"["


async def relay_embedding(request: web.Request, asked: Asked, target: Target) -> web.StreamResponse:
    """Send texts to be embedded on. Where the answer has no count (the older form), the books have an estimate."""
    books = request[BOOKS]
    asked = await measured(request.app, books, asked)
    async with passed(request.app, books, asked, target) as reply:
        if reply.status >= 400:
            return await refused(request, reply, target)
        body = (await reply.read(books.hold)).removeprefix(BOM)
    work = request.app[WORKERS].run
    try:
        found = await work(len(body), partial(msgspec.json.decode, body, type=Embedded))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise unreadable(body, books.backend) from None
    if found.error is not None:
        wire = request.app[ENGINE].backend_of(target).wire
        raise wire.error(502, body, backend=books.backend, model=books.asked)
    if not asked.idle and not found.holds(asked.path, passthrough.inputs_of(asked.fields)):
        raise unreadable(body, books.backend)
    count = found.prompt_eval_count
    if count is not None or asked.idle:
        books.usage = Usage(prompt=count or 0, completion=0)
    else:
        books.usage = Usage(prompt=asked.prompt(), completion=0, exact=False)
    same = ollama_pass.same_name(books.asked, target.info.id)
    return answered(body if same else await work(len(body), ollama_pass.renamed, body, books.asked), reply)


async def measured(app: web.Application, books: Books, asked: Asked) -> Asked:
    """Count the prompt of a large request now, in a thread: its body would have to be decoded for that when the client
    leaves, where nothing can be waited for."""
    if books.size < LARGE:
        return asked
    count = await app[WORKERS].run(books.size, asked.prompt)
    return msgspec.structs.replace(asked, prompt=lambda: count)


@asynccontextmanager
async def passed(app: web.Application, books: Books, asked: Asked, target: Target) -> AsyncIterator[Reply]:
    """Pass a request on when it is its turn."""
    engine = app[ENGINE]
    same = ollama_pass.same_name(books.asked, target.info.id)
    rename = partial(ollama_pass.with_name, asked.fields, target.info.id, "model")
    body = asked.body if same else await app[WORKERS].run(len(asked.body), rename)
    call = Call("POST", asked.path, body)
    opening: AbstractAsyncContextManager[Reply]
    if asked.idle:
        await engine.gate.admit(books, lambda: 0, 0)
        books.tries += 1
        opening = engine.fleet.open(target.info.backend, call)
    else:
        opening = engine.relay(call, target, books, prompt=asked.prompt, answer=asked.answer)
    async with opening as reply:
        yield reply


async def refused(request: web.Request, reply: Reply, target: Target) -> web.Response:
    """Return the backend's refusal in its own words; one without any gets ours."""
    books = request[BOOKS]
    backend = request.app[ENGINE].backend_of(target)
    body = await reply.read(books.hold)
    error = backend.wire.error(reply.status, body, backend=backend.name, model=books.asked, headers=reply.headers)
    books.code = error.code
    return answered(body, reply) if body.strip() else error_response(error, request)


def answered(body: bytes, reply: Reply) -> web.Response:
    kind = reply.headers.get("content-type", "")
    if reply.status < 400 and "json" not in kind:
        # It has been read, whatever it was called.
        kind = ""
    kind = kind or "application/json; charset=utf-8"
    return web.Response(status=reply.status, body=body, headers={"content-type": kind})
