"""Whole answers, without the request they came by: what a client waits for and what runs with nobody waiting (batches,
background responses) is answered by the same code.

Fills the books; never opens or closes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec
from aiohttp import web

from .. import tokens
from ..events import Event, Note, Usage
from ..policy.books import Books
from ..translate import chat, completions, embeddings
from ..translate.completions import CompletionAsk
from ..translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from . import inputs, stored_chat
from .decoding import decode_body
from .door import note_tag
from .judging import moderation_answer
from .keys import ENGINE, NEW_ID, WALL, WORKERS
from .relay import relay_whole
from .responses_ask import response_body

__all__ = ["ANSWERS", "Answer", "chat_answer", "completion_answer", "embedding_answer"]

Answer = Callable[[web.Application, bytes, Books], Awaitable[bytes]]
Fields = dict[str, msgspec.Raw]


async def chat_answer(app: web.Application, shape: ChatRequest, fields: Fields, books: Books) -> bytes:
    """Answer a conversation that does not ask for a stream."""
    engine = app[ENGINE]
    target = await engine.route(shape.model, "chat", books)
    passes = engine.passes(target, "/chat/completions")
    ask = None if passes else await app[WORKERS].run(books.size, chat.parse_shape, shape, fields)
    if ask is not None and inputs.names_files(ask):
        ask = await inputs.with_files(app, ask, books)
    id, created = f"chatcmpl-{app[NEW_ID]()[:29]}", int(app[WALL]())
    keeper = await stored_chat.keeper(app, shape, fields, books, id, created) if shape.store else None
    if ask is None:
        sent = await inputs.sent_with_files(app, fields, books)
        body = await relay_whole(app, books, "/chat/completions", sent, target)
        return body if keeper is None else await keeper.passed(body)
    events = await engine.chat_whole(stored_chat.told(ask, books) if shape.store else ask, target, books)
    legacy = bool(ask.extra.get("legacy_functions"))
    write = partial(chat.whole, events, id=id, created=created, model=shape.model, legacy_functions=legacy)
    body = await app[WORKERS].run(books.answer, write)
    if keeper is not None:
        await keeper.keep(body)
    return body


async def completion_answer(app: web.Application, shape: CompletionRequest, fields: Fields, books: Books) -> bytes:
    """Continue a text that does not ask for a stream."""
    engine = app[ENGINE]
    target = await engine.route(shape.model, "completion", books)
    if engine.passes(target, "/completions"):
        return await relay_whole(app, books, "/completions", fields, target)
    parse = partial(completions.parse_shape, decode_tokens=tokens.decode)
    ask = await app[WORKERS].run(books.size, parse, shape, fields)
    books.ignored = ask.ignored
    id, created = f"cmpl-{app[NEW_ID]()[:29]}", int(app[WALL]())
    events = best(ask, await engine.complete_whole(ask.prompts, target, books, copies=ask.best_of))
    write = partial(
        completions.whole,
        events,
        id=id,
        created=created,
        model=ask.model,
        echoes=ask.echoes,
        n=ask.n,
        logprobs=ask.logprobs,
    )
    # What is echoed counts too.
    return await app[WORKERS].run(max(books.answer, books.size), write)


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


async def embedding_answer(app: web.Application, shape: EmbeddingRequest, fields: Fields, books: Books) -> bytes:
    """Embed texts."""
    engine = app[ENGINE]
    target = await engine.route(shape.model, "embedding", books)
    if engine.passes(target, "/embeddings"):
        return await relay_whole(app, books, "/embeddings", fields, target)
    parse = partial(embeddings.parse_shape, decode_tokens=tokens.decode)
    ask = await app[WORKERS].run(books.size, parse, shape, fields)
    books.ignored = ask.ignored
    vectors = await engine.embed(ask.embedding, target, books)
    write = partial(
        embeddings.write,
        vectors,
        model=ask.model,
        encoding_format=ask.encoding_format,
        dimensions=ask.embedding.dimensions,
    )
    return await app[WORKERS].run(books.answer, write)


async def chat_body(app: web.Application, body: bytes, books: Books) -> bytes:
    shape, fields = await decode_body(app, body, ChatRequest, books)
    note_tag(books, shape)
    return await chat_answer(app, shape, fields, books)


async def completion_body(app: web.Application, body: bytes, books: Books) -> bytes:
    shape, fields = await decode_body(app, body, CompletionRequest, books)
    note_tag(books, shape)
    return await completion_answer(app, shape, fields, books)


async def embedding_body(app: web.Application, body: bytes, books: Books) -> bytes:
    shape, fields = await decode_body(app, body, EmbeddingRequest, books)
    note_tag(books, shape)
    return await embedding_answer(app, shape, fields, books)


# By the path of the endpoint. Each takes a body and returns one; refusals are raised.
ANSWERS: Mapping[str, Answer] = {
    "/v1/chat/completions": chat_body,
    "/v1/completions": completion_body,
    "/v1/embeddings": embedding_body,
    "/v1/moderations": moderation_answer,
    "/v1/responses": response_body,
}
