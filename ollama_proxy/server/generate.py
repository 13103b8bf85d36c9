"""The handlers that make a model answer: chat completions, completions and embeddings."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from .. import tokens
from ..translate import chat, completions
from ..translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from . import inputs, stored_chat
from .answers import chat_answer, completion_answer, embedding_answer
from .body import read_body
from .decoding import decode_body
from .door import note_tag
from .keys import BOOKS, ENGINE, NEW_ID, WALL, WORKERS
from .relay import relay
from .reply import json_bytes, stream

__all__ = ["body_of", "chat_completions", "create_completion", "create_embedding"]


async def body_of(request: web.Request) -> bytes:
    """Read the whole body."""
    return await read_body(request)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    app, books = request.app, request[BOOKS]
    shape, fields = await decode_body(app, await body_of(request), ChatRequest, books)
    note_tag(books, shape)
    if not shape.stream:
        return json_bytes(await chat_answer(app, shape, fields, books))
    engine = app[ENGINE]
    target = await engine.route(shape.model, "chat", books)
    passes = engine.passes(target, "/chat/completions")
    ask = None
    if not passes:
        ask = await app[WORKERS].run(books.size, chat.parse_shape, shape, fields)
        ask = await inputs.with_files(app, ask, books)
    id, created = f"chatcmpl-{app[NEW_ID]()[:29]}", int(app[WALL]())
    keeper = await stored_chat.keeper(app, shape, fields, books, id, created)
    if ask is None:
        sent = await inputs.sent_with_files(app, fields, books)
        return await relay(request, "/chat/completions", sent, target, keeper)
    writer = chat.ChunkWriter(
        id=id,
        created=created,
        model=shape.model,
        include_usage=ask.include_usage,
        legacy_functions=bool(ask.extra.get("legacy_functions")),
        include_obfuscation=bool(ask.extra.get("include_obfuscation")),
    )
    batches = await engine.chat(stored_chat.told(ask, books), target, books)
    if keeper is None:
        return await stream(request, batches, writer)
    return await stream(request, keeper.watched(batches), writer, ended=keeper.ended)


async def create_completion(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    app, books = request.app, request[BOOKS]
    shape, fields = await decode_body(app, await body_of(request), CompletionRequest, books)
    note_tag(books, shape)
    if not shape.stream:
        return json_bytes(await completion_answer(app, shape, fields, books))
    engine = app[ENGINE]
    target = await engine.route(shape.model, "completion", books)
    if engine.passes(target, "/completions"):
        return await relay(request, "/completions", fields, target)
    parse = partial(completions.parse_shape, decode_tokens=tokens.decode)
    ask = await app[WORKERS].run(books.size, parse, shape, fields)
    books.ignored = ask.ignored
    writer = completions.ChunkWriter(
        id=f"cmpl-{app[NEW_ID]()[:29]}",
        created=int(app[WALL]()),
        model=ask.model,
        include_usage=ask.include_usage,
        echoes=ask.echoes,
        n=ask.n,
        logprobs=ask.logprobs,
    )
    batches = await engine.complete(ask.prompts, target, books, copies=ask.best_of)
    return await stream(request, batches, writer)


async def create_embedding(request: web.Request) -> web.StreamResponse:
    """POST /v1/embeddings."""
    books = request[BOOKS]
    app = request.app
    shape, fields = await decode_body(app, await body_of(request), EmbeddingRequest, books)
    note_tag(books, shape)
    return json_bytes(await embedding_answer(app, shape, fields, books))
