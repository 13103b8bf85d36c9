"""The handlers that make a model answer: chat completions, completions and embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from .. import tokens
from ..events import Event, Note, Usage
from ..translate import chat, completions, embeddings, validate
from ..translate.completions import CompletionAsk
from ..translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from .door import note_tag
from .keys import BODY, BOOKS, ENGINE, NEW_ID, WALL
from .relay import relay
from .reply import json_bytes, stream

__all__ = ["chat_completions", "create_completion", "create_embedding"]


async def body_of(request: web.Request) -> bytes:
    """Read the body, and keep it for the recorder."""
    body = request[BODY] = await request.read()
    return body


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    engine, books = request.app[ENGINE], request[BOOKS]
    shape, fields = validate.decode(await body_of(request), ChatRequest)
    note_tag(books, shape)
    target = await engine.route(shape.model, "chat", books)
    if engine.passes(target, "/chat/completions"):
        return await relay(request, "/chat/completions", fields, target)
    ask = chat.parse_shape(shape, fields)
    legacy = bool(ask.extra.get("legacy_functions"))
    id, created = f"chatcmpl-{request.app[NEW_ID]()[:29]}", int(request.app[WALL]())
    if ask.stream:
        writer = chat.ChunkWriter(
            id=id,
            created=created,
            model=shape.model,
            include_usage=ask.include_usage,
            legacy_functions=legacy,
            include_obfuscation=bool(ask.extra.get("include_obfuscation")),
        )
        return await stream(request, await engine.chat(ask, target, books), writer)
    events = await engine.chat_whole(ask, target, books)
    return json_bytes(chat.whole(events, id=id, created=created, model=shape.model, legacy_functions=legacy))


async def create_completion(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions."""
    engine, books = request.app[ENGINE], request[BOOKS]
    shape, fields = validate.decode(await body_of(request), CompletionRequest)
    note_tag(books, shape)
    target = await engine.route(shape.model, "completion", books)
    if engine.passes(target, "/completions"):
        return await relay(request, "/completions", fields, target)
    ask = completions.parse_shape(shape, fields, decode_tokens=tokens.decode)
    books.ignored = ask.ignored
    id, created = f"cmpl-{request.app[NEW_ID]()[:29]}", int(request.app[WALL]())
    if ask.stream:
        writer = completions.ChunkWriter(
            id=id, created=created, model=ask.model, include_usage=ask.include_usage,
            echoes=ask.echoes, n=ask.n, logprobs=ask.logprobs,
        )  # fmt: skip
        batches = await engine.complete(ask.prompts, target, books, copies=ask.best_of)
        return await stream(request, batches, writer)
    events = best(ask, await engine.complete_whole(ask.prompts, target, books, copies=ask.best_of))
    return json_bytes(
        completions.whole(
            events, id=id, created=created, model=ask.model, echoes=ask.echoes, n=ask.n, logprobs=ask.logprobs
        )
    )


def best(ask: CompletionAsk, events: Sequence[Event]) -> Sequence[Event]:
    """Keep the `n` best of `best_of` candidates of each prompt."""
    if ask.best_of == ask.n:
        return events
    candidates: list[list[Event]] = [[] for _ in range(len(ask.prompts) * ask.best_of)]
    kept: list[Event] = []
    for event in events:
        match event:
            case Usage() | Note():
                kept.append(event)
            case _:
                candidates[getattr(event, "index", 0)].append(event)
    for place in range(len(ask.prompts)):
        mine = candidates[place * ask.best_of : (place + 1) * ask.best_of]
        kept.extend(completions.choose(mine, ask.n, first=place * ask.n))
    return kept


async def create_embedding(request: web.Request) -> web.StreamResponse:
    """POST /v1/embeddings."""
    engine, books = request.app[ENGINE], request[BOOKS]
    shape, fields = validate.decode(await body_of(request), EmbeddingRequest)
    note_tag(books, shape)
    target = await engine.route(shape.model, "embedding", books)
    if engine.passes(target, "/embeddings"):
        return await relay(request, "/embeddings", fields, target)
    ask = embeddings.parse_shape(shape, fields, decode_tokens=tokens.decode)
    books.ignored = ask.ignored
    vectors = await engine.embed(ask.embedding, target, books)
    return json_bytes(
        embeddings.write(
            vectors, model=ask.model, encoding_format=ask.encoding_format, dimensions=ask.embedding.dimensions
        )
    )
