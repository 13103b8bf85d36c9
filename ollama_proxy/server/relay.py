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
from ..events import Usage
from ..model import Call
from ..policy.books import Books
from ..policy.redact import redact_error
from ..policy.route import Target
from ..translate import passthrough
from ..workers import LARGE
from .cutting import ending
from .keys import BOOKS, CLERK, CLOCK, ENGINE, WORKERS
from .reply import EventStream, received
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
        observer = passthrough.StreamObserver(
            asked=books.asked,
            strip_usage=not passthrough.asks_usage(fields),
            id=keeper.id if keeper is not None else "",
            path=path,
            backend=books.backend,
        )
        return await streamed(request, reply, observer, keeper)


async def relay_whole(
    app: web.Application, books: Books, path: str, fields: dict[str, msgspec.Raw], target: Target
) -> bytes:
    """The same for an answer that is not streamed: return its body."""
    async with passed(app, books, path, fields, target) as reply:
        body = await reply.read(books.hold)

        def observe() -> tuple[bytes, Usage | None]:
            inputs = passthrough.inputs_of(fields) if path == "/embeddings" else None
            return passthrough.observe_whole(body, path, asked=books.asked, backend=books.backend, inputs=inputs)

        answer, books.usage = await app[WORKERS].run(len(body), observe)
        return answer


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
    work = request.app[WORKERS].run
    try:
        try:
            with ending(request.app):
                async for data in reply.chunks():
                    if books.first is None and observer.first_token:
                        books.first = request.app[CLOCK]()
                    size = received(books, observer.held, data)
                    passed = observer.feed(data) if size < LARGE else await work(size, observer.feed, data)
                    if observer.error is not None:
                        if not out.begun:
                            raise observer.error
                        passed = redact_error(passed)
                    if passed:
                        if keeper is not None:
                            keeper.take(passed)
                        if observer.done or observer.error is not None:
                            await closed(request, observer, keeper)
                        await out.write(passed)
                    if observer.error is not None:
                        # What comes after it is of no use: the backend is left to itself.
                        break
            rest = await work(books.answer, observer.flush)
            if observer.error is not None:
                if not out.begun:
                    raise observer.error
                rest = redact_error(rest)
            if rest:
                if keeper is not None:
                    keeper.take(rest)
                await closed(request, observer, keeper)
                await out.write(rest)
        except OproxyError as exc:
            if not out.begun:
                raise
            books.code = exc.code
            await closed(request, observer)
            await out.write(b"data: " + redact_error(msgspec.json.encode(exc.body())) + b"\n\n")
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
    if observer.error is not None:
        books.code = observer.error.code
    await request.app[CLERK].close(books)
    if keeper is not None:
        await keeper.done()
