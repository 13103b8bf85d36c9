"""A request that is sent on as it is, to a backend on OpenAI's own wire, and its answer as it comes back.

Forms go through while they come in and answers while they come out, neither is whole in memory; only JSON is, to know
its model and usage. The caller's key stays here, the backend's is sent. Never decides what is forwarded (`elsewhere`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec
from aiohttp import web

from ..backends.base import Reply
from ..errors import Invalid, OproxyError, UpstreamDown, UpstreamFailed
from ..framing import BOM, Overlong, escape_breaks, sse
from ..model import Call
from ..policy import credentials
from ..policy.books import Books
from ..policy.memory import Unsent
from ..policy.options import is_glob
from ..policy.redact import redact_error
from ..settings import Settings
from ..translate.forward import (
    OBSERVED,
    AnswerObserver,
    Ends,
    EventGuard,
    answer_headers,
    answered_error,
    asks_stream,
    free_form,
    named_model,
    renamed,
    request_headers,
)
from ..translate.multipart import FieldFinder, boundary_of
from ..translate.ollama_pass import is_record
from ..translate.openai_errors import stream_error, unreadable
from .body import PASSING, body_pieces, take_body
from .cutting import ending
from .generate import body_of
from .keys import BOOKS, CHUNKS, CLERK, CLOCK, ENGINE, WORKERS
from .middleware import head

# Times its size that a JSON answer takes: its pieces, whole, and as the observer's.
HELD = 3

__all__ = ["call_path", "forward", "note_model", "placed"]


async def forward(request: web.Request, backends: Sequence[str]) -> web.StreamResponse:
    """Send a request on to one of these backends: the one that its model's name begins with, else the first."""
    books, engine, work = request[BOOKS], request.app[ENGINE], request.app[WORKERS].run
    settings = engine.snapshot.settings
    headers = request_headers(request.headers.items(), settings.backends[backends[0]].headers)
    name, body, upload = backends[0], None, None
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is not None:
        take_body(request, PASSING)
        upload = Upload(request, boundary)
        if "content-encoding" not in request.headers and "content-length" in request.headers:
            headers["content-length"] = request.headers["content-length"]
    elif request.can_read_body:
        body = await body_of(request)
        if asked := await work(len(body), named_model, body):
            note_model(books, asked)
            name, books.served = placed(asked, backends, settings)
            headers = request_headers(request.headers.items(), settings.backends[name].headers)
            if books.served != asked or (books.caller.key is not None and books.caller.key.models):
                # Written anew, a key that stands in it twice stands there once.
                body = await work(len(body), renamed, body, books.served)
    books.backend = name
    path = call_path(request)
    chunks = upload.chunks() if upload is not None else None
    call = Call(request.method, path, body, headers, as_is=True, upload=chunks)
    await engine.gate.admit(books, lambda: 0, 0)
    # What only asks how something stands need not wait for its turn behind what is being made.
    waits = request.method == "POST" and not engine.turns.unlimited
    caller = books.caller
    turn = engine.turns.turn(name, books.served, caller.id or caller.name or caller.address) if waits else None
    try:
        async with (opened := engine.fleet.open(name, call, turn)) as reply:
            books.tries += 1
            books.queued = opened.waited
            if reply.status >= 400:
                wire = engine.fleet[name].wire
                raise wire.error(
                    reply.status, await reply.read(books.hold), backend=name, model=books.asked, headers=reply.headers
                )
            if body or upload is not None:
                stream = await work(len(body or b""), asks_stream, body)
            else:
                stream = request.query.get("stream") == "true"
            wanted = Wanted(free_form(path), stream, request.method)
            return await Answer(request, reply, settings.backends[name].url, wanted).passed()
    except OproxyError:
        if upload is not None and upload.error is not None:
            # The backend was only told that no more would come.
            raise upload.error from None
        raise


def call_path(request: web.Request) -> str:
    """Return a request's path below /v1 with its query, as it was written."""
    path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    path = path.removeprefix("/v1").rstrip("/")
    return f"{path}?{query}" if query else path


def note_model(books: Books, asked: str) -> None:
    """Book the model that is asked for. Raises ModelNotFound where the key is not for it."""
    books.asked = asked[:200]
    if books.caller.key is not None:
        credentials.check_model(books.caller.key, asked)


def placed(asked: str, backends: Sequence[str], settings: Settings) -> tuple[str, str]:
    """Return which of these backends a model's name leads to, and what it is called there. Whether it has such a model
    is the backend's to say."""
    aliases = settings.models.aliases
    name = aliases.get(asked, "") if not is_glob(asked) else ""
    if not name:
        # A glob may be meant for chats only, unless it leads here by name.
        found = (to for pattern, to in aliases.items() if is_glob(pattern) and fnmatchcase(asked, pattern))
        name = next((to for to in found if to.partition("/")[0] in backends), asked)
    backend, slash, model = name.partition("/")
    return (backend, model) if slash and backend in backends else (backends[0], name)


class Upload:
    """A form on its way. `error` is why it stopped half-way."""

    def __init__(self, request: web.Request, boundary: bytes) -> None:
        self._request = request
        self._models = FieldFinder(boundary, "model")
        self.error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the form's bytes as they come. A model that the key is not for stops it before its end."""
        models, books = self._models, self._request[BOOKS]
        key = books.caller.key
        # Of a key that is not for every model, the last piece waits until the form is known to be readable.
        careful, held = key is not None and bool(key.models), b""
        try:
            async for data in body_pieces(self._request):
                models.feed(data)
                for model in models.found:
                    note_model(books, model)
                    books.served = model
                models.found.clear()
                if careful:
                    held, data = data, held
                if data:
                    yield data
            if careful and not (models.sound and models.ended):
                raise Invalid("The form could not be read, and this API key is not for every model.")
            if held:
                yield held
        except (OproxyError, web.RequestPayloadError) as exc:
            self.error = exc
            raise


class Wanted(NamedTuple):
    """What kind of answer a request may have: one of any kind or JSON only; whether a stream was asked for (None: that
    is not known)."""

    free: bool
    stream: bool | None
    method: str


class Answer:
    """An answer that passes by. `url` is the backend's base, which is no business of the client's."""

    def __init__(self, request: web.Request, reply: Reply, url: str, wanted: Wanted) -> None:
        self._request, self._reply, self._wanted = request, reply, wanted
        self._books: Books = request[BOOKS]
        self._observer = AnswerObserver(reply.headers.get("content-type", ""))
        self._headers = [(name, local(value, url)) for name, value in answer_headers(reply.headers.items())]
        self._books.stream = self._observer.streams
        self._guard = EventGuard() if self._observer.streams else None
        self._work = request.app[WORKERS].run
        self._unsent = Unsent(self._books.hold)
        # Of a document that is too large to be read as a whole.
        self._ends: Ends | None = None
        self._early = b""

    async def passed(self) -> web.StreamResponse:
        """Write it as it comes; return it when it is all written. Raises errors.UpstreamFailed for what is no answer,
        before a byte of it is sent where that can be known."""
        source = self._reply.chunks()
        held: list[bytes] = []
        if self._is_checked():
            size = 0
            self._ends = ends = Ends()
            async for data in source:
                self._observer.feed(data)
                ends.feed(data)
                self._books.hold.take_answer(HELD * len(data))
                held.append(data)
                size += len(data)
                if size > OBSERVED:
                    break
            else:
                body = b"".join(held)
                return await self._work(len(body), self._whole, body)
            if not self._observer.json or not ends.opens:
                raise unreadable(held[0], self._books.backend)
        return await self._streamed(held, source)

    def _is_checked(self) -> bool:
        """Return whether the answer is read before it is passed on: all but streams and what may be of any kind."""
        if self._request.method == "HEAD":
            return False
        if self._observer.streams:
            # Events where one document was asked for are no answer.
            return self._wanted.stream is False and not self._wanted.free
        # A page of HTML is never the answer of an API, but a file may be one.
        kind = self._reply.headers.get("content-type", "").lower()
        page = kind.startswith("text/html")
        json = kind.partition(";")[0].strip().endswith("json")
        return json or not self._wanted.free or (page and not self._request.path.endswith("/content"))

    def _may_be_empty(self) -> bool:
        """Return whether an empty answer is one: of a file, of what is deleted, of what is not called JSON."""
        if self._wanted.method == "DELETE" or self._request.path.endswith("/content"):
            return True
        return self._wanted.free and "json" not in self._reply.headers.get("content-type", "")

    def _whole(self, body: bytes) -> web.Response:
        """Return an answer in JSON, whatever its header calls it."""
        self._observer.whole()
        self._books.usage = self._observer.usage
        body = body.removeprefix(BOM)
        if (body.strip() or not self._may_be_empty()) and (not is_record(body) or self._wanted.stream):
            raise unreadable(body, self._books.backend)
        if (error := answered_error(body, asked=self._books.asked, backend=self._books.backend)) is not None:
            raise error
        response = web.Response(status=self._reply.status, body=body)
        response.headers.update(self._headers)
        if body and not self._observer.json:
            response.headers["content-type"] = "application/json"
        return response

    async def _streamed(self, held: Sequence[bytes], source: AsyncIterator[bytes]) -> web.StreamResponse:
        request, books = self._request, self._books
        response = web.StreamResponse(status=self._reply.status)
        for name, value in self._headers:
            response.headers.add(name, value)
        response.headers.update(head(request))
        left = length_of(self._reply.headers) if self._guard is None else None
        if left is not None:
            response.content_length = left
        if self._guard is None:
            await response.prepare(request)
        try:
            with ending(request.app):
                for data in held:
                    left = await self._write(response, data, left)
                async for data in source:
                    books.first = books.first or request.app[CLOCK]()
                    await self._work(self._worked_on(data), self._observer.feed, data)
                    if self._ends is not None:
                        self._ends.feed(data)
                        if left == len(data) and not self._ends.sound:
                            break
                    left = await self._write(response, data, left)
                if self._ends is not None and not self._ends.sound:
                    raise UpstreamDown(
                        f"The backend '{books.backend}' ended its answer before it was complete.", backend=books.backend
                    )
                if self._guard is not None:
                    await self._end_events(response, self._guard)
        except (OproxyError, Overlong) as exc:
            error = exc if isinstance(exc, OproxyError) else UpstreamFailed(f"The backend sent too much: {exc}.")
            if not response.prepared:
                raise error from exc
            books.code = error.code
            await self._close()
            if self._guard is not None:
                await response.write(sse(redact_error(msgspec.json.encode(error.body()))))
            elif request.transport is not None:
                # Whoever reads it must not take it for whole.
                request.transport.abort()
            return response
        await self._close()
        await response.write_eof()
        return response

    async def _end_events(self, response: web.StreamResponse, guard: EventGuard) -> None:
        """Write the last event. Raises UpstreamDown for a stream that never had one."""
        if (rest := guard.flush()) and guard.seen:
            await self._send(response, self._early + escape_breaks(rest))
        if guard.broken is not None:
            raise unreadable(guard.broken, self._books.backend)
        if not guard.seen:
            raise UpstreamDown(
                f"The backend '{self._books.backend}' ended its answer before it was complete.",
                backend=self._books.backend,
            )

    async def _write(self, response: web.StreamResponse, data: bytes, left: int | None) -> int | None:
        """Write some; the books are closed before the last of it. Returns the bytes that are still to come."""
        if self._guard is not None:
            events = await self._work(self._worked_on(data), self._guard.feed, data)
            if not events:
                self._unsent.add(len(data))
            elif self._unsent.size:
                self._unsent.clear()
            if self._guard.failed is not None:
                await self._fail(response, self._guard.failed)
            if not self._guard.seen and self._wanted.stream is None:
                # Whether a stream was asked for is not known, and heartbeats alone are no answer yet.
                self._early += events
            elif events:
                await self._send(response, self._early + escape_breaks(events))
                self._early = b""
            if self._guard.broken is not None:
                raise unreadable(self._guard.broken, self._books.backend)
            return None
        if left is not None:
            left -= len(data)
        await self._send(response, data, last=left == 0)
        return left

    def _worked_on(self, data: bytes) -> int:
        """Return the bytes that observing a piece of the answer works on."""
        return len(data) + self._guard.held if self._guard is not None else 0

    async def _fail(self, response: web.StreamResponse, event: bytes) -> None:
        """Note an error that the backend tells in its stream. Raises it where nothing has been sent yet."""
        books = self._books
        error = stream_error(msgspec.json.decode(event), backend=books.backend, model=books.asked)
        if error is not None and not response.prepared:
            raise error
        books.code = books.code or (error.code if error is not None else None) or UpstreamFailed.code

    async def _send(self, response: web.StreamResponse, data: bytes, *, last: bool = False) -> None:
        if last or self._observer.done:
            await self._close()
        if not response.prepared:
            await response.prepare(self._request)
        chunks = self._request.get(CHUNKS)
        if chunks is not None and self._observer.streams:
            chunks.append(self._request.app[CLOCK](), data)
        await response.write(data)

    async def _close(self) -> None:
        books = self._books
        books.usage = self._observer.usage
        books.status = self._reply.status
        await self._request.app[CLERK].close(books)


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return how long an answer is, None where it is not said, or not of what comes out of its packing."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and "content-encoding" not in headers else None


def local(value: str, url: str) -> str:
    """Return a header's value; an address of the backend becomes one of ours."""
    base = url.rstrip("/")
    return f"/v1{value[len(base) :]}" if base and value.startswith(f"{base}/") else value
