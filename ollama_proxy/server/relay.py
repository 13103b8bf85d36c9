"""Where client and backend speak the same wire: bytes go through and are only observed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
from aiohttp import web

from .. import tokens
from ..backends.base import Reply
from ..errors import OproxyError
from ..model import Call
from ..policy.books import Books
from ..policy.redact import without_keys
from ..policy.route import Target
from ..translate import passthrough
from .cutting import ending
from .keys import BOOKS, CLERK, CLOCK, ENGINE, WORKERS
from .reply import EventStream, json_bytes
from .stored_chat import Keeper

__all__ = ["relay", "relay_whole"]

# What each wire calls its prompt, for errors.
PROMPTS = {"/chat/completions": "messages", "/completions": "prompt", "/embeddings": "input", "/moderations": "input"}


async def relay(
    request: web.Request, path: str, fields: dict[str, msgspec.Raw], target: Target, keeper: Keeper | None = None
) -> web.StreamResponse:
    """Send a request on with only its model's name changed, and its answer back with the name asked for; `keeper` keeps
    it, under an id of ours."""
    books = request[BOOKS]
    async with passed(request.app, books, path, fields, target) as reply:
        if not reply.headers.get("content-type", "").startswith("text/event-stream"):
            body, books.usage = passthrough.observe_whole(await reply.read(books.hold), books.asked)
            if keeper is not None:
                body = await keeper.passed(body)
            return json_bytes(body, status=reply.status)
        observer = passthrough.StreamObserver(
            asked=books.asked,
            strip_usage=not passthrough.asks_usage(fields),
            id=keeper.id if keeper is not None else "",
        )
        return await streamed(request, reply, observer, keeper)


async def relay_whole(
    app: web.Application, books: Books, path: str, fields: dict[str, msgspec.Raw], target: Target
) -> bytes:
    """The same for an answer that is not streamed: return its body."""
    async with passed(app, books, path, fields, target) as reply:
        body, books.usage = passthrough.observe_whole(await reply.read(books.hold), books.asked)
        return body


@asynccontextmanager
async def passed(
    app: web.Application, books: Books, path: str, fields: dict[str, msgspec.Raw], target: Target
) -> AsyncIterator[Reply]:
    """Pass a request on; what the backend refuses is raised."""
    engine = app[ENGINE]
    backend = engine.backend_of(target)
    books.stream = passthrough.streams(fields)
    observe = books.stream and not passthrough.asks_usage(fields)
    rewrite = partial(passthrough.rewrite_request, fields, model=target.info.id, observe=observe)
    call = Call("POST", path, await app[WORKERS].run(books.size, rewrite))
    prompt = fields.get(PROMPTS[path])

    def size() -> int:
        # About: the JSON around the text is counted with it.
        return tokens.estimate_text(bytes(prompt).decode(errors="replace")) if prompt is not None else 0

    answer = passthrough.most_tokens(fields)
    async with engine.relay(call, target, books, prompt=size, answer=answer) as reply:
        if reply.status >= 400:
            raise backend.wire.error(
                reply.status,
                await reply.read(books.hold),
                backend=backend.name,
                model=books.asked,
                param=PROMPTS[path],
                headers=reply.headers,
            )
        yield reply


async def streamed(
    request: web.Request, reply: Reply, observer: passthrough.StreamObserver, keeper: Keeper | None
) -> web.StreamResponse:
    """Pass a stream on as it comes. An error of the backend in its middle is told in the stream."""
    books = request[BOOKS]
    out = EventStream(request)
    try:
        try:
            with ending(request.app):
                async for data in reply.chunks():
                    if books.first is None and observer.first_token:
                        books.first = request.app[CLOCK]()
                    if passed := observer.feed(data):
                        if keeper is not None:
                            keeper.take(passed)
                        if observer.done:
                            await closed(request, observer, keeper)
                        await out.write(passed)
            if rest := observer.flush():
                if keeper is not None:
                    keeper.take(rest)
                await closed(request, observer, keeper)
                await out.write(rest)
        except OproxyError as exc:
            if not out.begun:
                raise
            books.code = exc.code
            await closed(request, observer)
            await out.write(b"data: " + without_keys(msgspec.json.encode(exc.body())) + b"\n\n")
        await closed(request, observer)
        return await out.end()
    finally:
        books.usage = observer.usage
        out.stop()


async def closed(request: web.Request, observer: passthrough.StreamObserver, keeper: Keeper | None = None) -> None:
    """Close the books before the client can know that it has all, and have it kept."""
    books = request[BOOKS]
    books.usage = observer.usage
    books.status = 200
    await request.app[CLERK].close(books)
    if keeper is not None:
        await keeper.done()
