"""Ollama's own API, for its own clients: chat, generate and embed. Where an Ollama answers the model, bytes go through
(`ollama_api_relay`); any other model is answered through the hub, in Ollama's form.

Models and all else of that API are `ollama_api_models`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from aiohttp import web

from .. import tokens
from ..errors import Invalid, ModelNotFound, OproxyError, Unsupported
from ..model import Ask
from ..policy.route import Target
from ..translate import ollama_front as front
from ..translate import ollama_front_write as write
from ..translate import validate
from ..translate.ollama_pass import joined
from ..translate.openapi import Route
from ..translate.shapes_ollama import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
)
from .decoding import decode_body
from .generate import body_of
from .keys import BOOKS, CLOCK, ENGINE, WALL, WORKERS
from .ollama_api_relay import NDJSON, Asked, relay, relay_embedding
from .reply import Form, json_bytes, stream
from .row import Row

__all__ = ["ROWS", "stamp"]

Fields = Mapping[str, msgspec.Raw]

LINES = Form(named=True, last=b"", type=NDJSON)
# Values that ask for nothing, as they stand in a body.
EMPTY = frozenset({b"", b"null", b'""', b"[]"})


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /api/chat."""
    came = await coming(request, "chat", Invalid("model is required", param="model"))
    if came.own:
        return await relay(request, asked("/api/chat", came, chat_size, "messages"), came.target)
    shape, fields = await decode_body(request.app, came.body, OllamaChatRequest, request[BOOKS])
    lines = write.ChatLines(model=came.model, stamp=now(request.app), times=times(request))
    if not shape.messages:
        return await load(request, came.target, shape.keep_alive, lines)
    ask = await request.app[WORKERS].run(request[BOOKS].size, front.parse_chat, shape, fields)
    return await answered(request, ask, came.target, lines)


async def generate(request: web.Request) -> web.StreamResponse:
    """POST /api/generate."""
    engine, books = request.app[ENGINE], request[BOOKS]
    came = await coming(request, "completion", ModelNotFound(""))
    if came.own:
        return await relay(request, asked("/api/generate", came, generate_size, "prompt"), came.target)
    shape, fields = await decode_body(request.app, came.body, OllamaGenerateRequest, books)
    lines = write.GenerateLines(model=came.model, stamp=now(request.app), times=times(request))
    if not shape.prompt:
        return await load(request, came.target, shape.keep_alive, lines)
    ask, books.ignored = front.parse_generate(shape, fields)
    if isinstance(ask, Ask):
        return await answered(request, ask, came.target, lines)
    if ask.stream:
        return await stream(request, await engine.complete([ask], came.target, books), lines, form=LINES)
    events = await engine.complete_whole([ask], came.target, books)
    return json_bytes(await request.app[WORKERS].run(books.answer, write.whole, events, lines))


async def embed(request: web.Request) -> web.StreamResponse:
    """POST /api/embed."""
    books = request[BOOKS]
    came = await coming(request, "embedding", ModelNotFound(""))
    if came.own:
        return await relay_embedding(request, asked("/api/embed", came, embed_size, "input"), came.target)
    ask, ignored = front.parse_embed(*await decode_body(request.app, came.body, OllamaEmbedRequest, books))
    if not ask.inputs:
        await loaded(request, came.target, ask.keep_alive)
        return json_bytes(msgspec.json.encode({"model": came.model, "embeddings": []}))
    books.ignored = ignored
    vectors = await request.app[ENGINE].embed(ask, came.target, books)
    taken = times(request)()
    return json_bytes(write.embedded(vectors, model=came.model, dimensions=ask.dimensions, times=taken))


async def embeddings(request: web.Request) -> web.StreamResponse:
    """POST /api/embeddings, the older form: one text, one vector."""
    books = request[BOOKS]
    came = await coming(request, "embedding", ModelNotFound(""))
    if came.own:
        return await relay_embedding(request, asked("/api/embeddings", came, embeddings_size, "prompt"), came.target)
    shape, fields = await decode_body(request.app, came.body, OllamaEmbeddingsRequest, books)
    ask, ignored = front.parse_embeddings(shape, fields)
    if not ask.inputs:
        await loaded(request, came.target, ask.keep_alive)
        return json_bytes(b'{"embedding":[]}')
    books.ignored = ignored
    vectors = await request.app[ENGINE].embed(ask, came.target, books)
    return json_bytes(msgspec.json.encode({"embedding": vectors.rows[0]}))


class Coming(NamedTuple):
    """A request that has come in: the model as it was asked for, who answers it (`own`: an Ollama), and the body."""

    model: str
    target: Target
    own: bool
    body: bytes
    fields: Fields


async def coming(request: web.Request, kind: str, missing: OproxyError) -> Coming:
    """Read a request and find its model; without one it is refused as Ollama does."""
    engine, books = request.app[ENGINE], request[BOOKS]
    came = await body_of(request)
    books.size = len(came)
    body, fields = await request.app[WORKERS].run(books.size, front.opened, came)
    if not (model := front.named(fields, "model")):
        raise missing
    target = await engine.route(model, kind, books)
    # Unless it says no; embeddings never are.
    books.stream = kind != "embedding" and bytes(fields.get("stream", b"")) != b"false"
    return Coming(model, target, engine.backend_of(target).kind == "ollama", body, fields)


# --- through the hub --------------------------------------------------------------------------------------------------


async def answered(request: web.Request, ask: Ask, target: Target, lines: write.Lines) -> web.StreamResponse:
    """Answer a conversation in Ollama's form."""
    engine, books = request.app[ENGINE], request[BOOKS]
    if ask.stream:
        return await stream(request, await engine.chat(ask, target, books), lines, form=LINES)
    events = await engine.chat_whole(ask, target, books)
    return json_bytes(await request.app[WORKERS].run(books.answer, write.whole, events, lines))


async def load(
    request: web.Request, target: Target, keep_alive: str | int | float | None, lines: write.Lines
) -> web.Response:
    """Answer a request without a prompt, which only loads or unloads."""
    unload = await loaded(request, target, keep_alive)
    return json_bytes(write.loaded(lines, unload=unload))


async def loaded(request: web.Request, target: Target, keep_alive: str | int | float | None) -> bool:
    """Bring the model into memory or take it out; return whether it was taken out. A server that loads by itself when
    it is asked has no such call, and needs none."""
    engine, books = request.app[ENGINE], request[BOOKS]
    await engine.gate.admit(books, lambda: 0, 0)
    unload = front.unloads(keep_alive)
    try:
        if unload:
            await engine.backend_of(target).unload(target.info.id)
        else:
            await engine.load(target, keep_alive=keep_alive)
    except Unsupported:
        return unload
    return unload


def now(app: web.Application) -> Callable[[], str]:
    """Return what tells the time as Ollama writes it."""
    return lambda: stamp(app[WALL]())


def stamp(at: float) -> str:
    """Return epoch seconds as Go writes a time in UTC: `2026-11-21T06:03:02.988280722Z`; 0 is Go's zero time, which the
    `ollama` command shows as "Never"."""
    if not at:
        return "0001-01-01T00:00:00Z"
    whole, part = divmod(round(at * 1e9), 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{part:09d}Z"


def times(request: web.Request) -> Callable[[], write.Times]:
    """Return what tells how long an answer took so far."""
    clock, books = request.app[CLOCK], request[BOOKS]

    def measured() -> write.Times:
        end = clock()
        first = books.first if books.first is not None else end
        total, prompt, answer = (
            round(seconds * 1e9) for seconds in (end - books.started, first - books.started, end - first)
        )
        return write.Times(total=total, prompt=prompt, answer=answer)

    return measured


# --- on their way -----------------------------------------------------------------------------------------------------


def asked(path: str, came: Coming, size: Callable[[bytes], int], prompt: str) -> Asked:
    """Return a request that is passed on; `size` counts the tokens of a body, `prompt` is what its prompt is called."""
    body, fields = came.body, came.fields

    def counted() -> int:
        try:
            return size(body)
        except OproxyError:
            # Ollama may take what we do not; about what it holds.
            return tokens.estimate_text(bytes(fields.get(prompt, b"")).decode("utf-8", "replace"))

    idle = bytes(fields.get(prompt, b"")) in EMPTY
    # Of a key that stands there twice, Go takes the last but for null: with each key once, nothing is asked after all.
    return Asked(path, joined(fields) if idle else body, fields, counted, most_tokens(fields), idle)


def chat_size(body: bytes) -> int:
    return tokens.estimate(front.parse_chat(*validate.decode(body, OllamaChatRequest)))


def generate_size(body: bytes) -> int:
    ask = front.parse_generate(*validate.decode(body, OllamaGenerateRequest)).ask
    return tokens.estimate(ask) if isinstance(ask, Ask) else tokens.estimate_text(ask.prompt)


def embed_size(body: bytes) -> int:
    return tokens.estimate_texts(front.parse_embed(*validate.decode(body, OllamaEmbedRequest))[0].inputs)


def embeddings_size(body: bytes) -> int:
    return tokens.estimate_texts(front.parse_embeddings(*validate.decode(body, OllamaEmbeddingsRequest))[0].inputs)


class Limit(msgspec.Struct):
    num_predict: int | None = None


def most_tokens(fields: Fields) -> int:
    """Return the most tokens that a request asks for; 0 where it does not say."""
    try:
        limit = msgspec.json.decode(fields.get("options", b"null"), type=Limit | None)
    except (msgspec.DecodeError, RecursionError):
        return 0
    return max(0, limit.num_predict or 0) if limit is not None else 0


ROWS: tuple[Row, ...] = (
    Row(Route("POST", "/api/chat", "Answer a conversation", OllamaChatRequest, "Ollama"), chat),
    Row(Route("POST", "/api/generate", "Answer a prompt", OllamaGenerateRequest, "Ollama"), generate),
    Row(Route("POST", "/api/embed", "Embed texts", OllamaEmbedRequest, "Ollama"), embed),
    Row(Route("POST", "/api/embeddings", "Embed a text (older form)", OllamaEmbeddingsRequest, "Ollama"), embeddings),
)
