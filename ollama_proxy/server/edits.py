"""The handler of POST /v1/edits, which old programs still call."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ..engine import Engine
from ..policy.books import Books
from ..policy.route import Target
from ..translate import edits
from ..translate.openapi import Route
from ..translate.shapes_edits import EditRequest
from .decoding import decode_body
from .generate import body_of
from .keys import BOOKS, ENGINE, WALL, WORKERS
from .reply import json_bytes
from .row import Row

__all__ = ["ROWS", "create_edit"]


async def create_edit(request: web.Request) -> web.Response:
    """POST /v1/edits."""
    app, books = request.app, request[BOOKS]
    ask = edits.parse_shape(*await decode_body(app, await body_of(request), EditRequest, books))
    engine = app[ENGINE]
    target = await route(engine, ask.model, books)
    created = int(app[WALL]())
    events = await engine.chat_each((ask,), target, books, param="input")
    return json_bytes(await request.app[WORKERS].run(books.answer, partial(edits.whole, events, created=created)))


async def route(engine: Engine, asked: str, books: Books) -> Target:
    """Return the model; for OpenAI's own names of this endpoint the usual one, as for its names of chat models."""
    snapshot = engine.snapshot
    if asked in edits.OPENAI and snapshot.settings.models.openai_names:
        listed = await engine.fleet.listed()
        if snapshot.names.resolve(asked, listed) is None and (usual := snapshot.names.usual(listed)) is not None:
            return await engine.route(asked, "chat", books, name=f"{usual.backend}/{usual.id}")
    return await engine.route(asked, "chat", books)


ROWS: tuple[Row, ...] = (
    Row(Route("POST", "/v1/edits", "Edit a text by an instruction (legacy)", EditRequest, "Completions"), create_edit),
)
