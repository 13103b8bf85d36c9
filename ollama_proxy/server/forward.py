"""A request that is sent on as it is, to a backend on OpenAI's own wire, and its answer as it comes back.

Forms go through while they come in and answers while they come out, neither is whole in memory; only JSON is, to know
its model and usage. The caller's key stays here, the backend's is sent. Never decides what is forwarded (`elsewhere`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from aiohttp import web

from ..backends.base import Reply
from ..errors import Invalid, OproxyError
from ..model import Call
from ..policy import credentials
from ..policy.books import Books
from ..policy.options import is_glob
from ..policy.redact import without_keys
from ..settings import Settings
from ..translate.forward import OBSERVED, AnswerObserver, answer_headers, named_model, renamed, request_headers
from ..translate.multipart import FieldFinder, boundary_of
from .body import PASSING, body_pieces, take_body
from .generate import body_of
from .keys import BOOKS, CHUNKS, CLERK, CLOCK, ENGINE
from .middleware import head

# Times its size that a JSON answer takes: its pieces, whole, and as the observer's.
HELD = 3

__all__ = ["call_path", "forward", "note_model", "placed"]


async def forward(request: web.Request, backends: Sequence[str]) -> web.StreamResponse:
    """Send a request on to one of these backends: the one that its model's name begins with, else the first."""
    books, engine = request[BOOKS], request.app[ENGINE]
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
        if asked := named_model(body):
            note_model(books, asked)
            name, books.served = placed(asked, backends, settings)
            headers = request_headers(request.headers.items(), settings.backends[name].headers)
            if books.served != asked or (books.caller.key is not None and books.caller.key.models):
                # Written anew, a key that stands in it twice stands there once.
                body = renamed(body, books.served)
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
            return await Answer(request, reply, settings.backends[name].url).passed()
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


class Answer:
    """An answer that passes by. `url` is the backend's base, which is no business of the client's."""

    def __init__(self, request: web.Request, reply: Reply, url: str) -> None:
        self._request, self._reply = request, reply
        self._books: Books = request[BOOKS]
        self._observer = AnswerObserver(reply.headers.get("content-type", ""))
        self._headers = [(name, local(value, url)) for name, value in answer_headers(reply.headers.items())]
        self._books.stream = self._observer.streams

    async def passed(self) -> web.StreamResponse:
        """Write it as it comes; return it when it is all written."""
        source = self._reply.chunks()
        held: list[bytes] = []
        if self._observer.json:
            size = 0
            async for data in source:
                self._observer.feed(data)
                self._books.hold.take_answer(HELD * len(data))
                held.append(data)
                size += len(data)
                if size > OBSERVED:
                    break
            else:
                body = self._observer.whole()
                self._books.usage = self._observer.usage
                response = web.Response(status=self._reply.status, body=body)
                response.headers.update(self._headers)
                return response
        return await self._streamed(held, source)

    async def _streamed(self, held: Sequence[bytes], source: AsyncIterator[bytes]) -> web.StreamResponse:
        request, books = self._request, self._books
        response = web.StreamResponse(status=self._reply.status)
        for name, value in self._headers:
            response.headers.add(name, value)
        response.headers.update(head(request))
        left = length_of(self._reply.headers)
        if left is not None:
            response.content_length = left
        await response.prepare(request)
        last = b""
        try:
            for data in held:
                left = await self._write(response, data, left)
            async for data in source:
                books.first = books.first or request.app[CLOCK]()
                self._observer.feed(data)
                left = await self._write(response, data, left)
                last = data
        except OproxyError as exc:
            books.code = exc.code
            await self._close()
            if self._observer.streams and (not last or last.endswith((b"\n\n", b"\r\n\r\n"))):
                await response.write(b"data: " + without_keys(msgspec.json.encode(exc.body())) + b"\n\n")
            elif request.transport is not None:
                # Whoever reads it must not take it for whole.
                request.transport.abort()
            return response
        await self._close()
        await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, data: bytes, left: int | None) -> int | None:
        """Write some; the books are closed before the last of it. Returns the bytes that are still to come."""
        if left is not None:
            left -= len(data)
        if left == 0 or self._observer.done:
            await self._close()
        chunks = self._request.get(CHUNKS)
        if chunks is not None and self._observer.streams:
            chunks.append(self._request.app[CLOCK](), data)
        await response.write(data)
        return left

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
