"""The handlers of Anthropic's door: /v1/messages, whole and streamed, and the counting of its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import msgspec
from aiohttp import web

from .. import tokens
from ..fanout import Batch
from ..model import Ask
from ..policy.books import Books
from ..translate import messages
from ..translate.messages_write import PING
from ..translate.openapi import Route
from ..translate.shapes_messages import CountTokensRequest, MessagesRequest
from ..workers import LARGE
from . import inputs
from .decoding import decode_body
from .generate import body_of
from .keys import BOOKS, ENGINE, NEW_ID, WORKERS
from .reply import Form, json_bytes, stream
from .row import Row

__all__ = ["ROWS"]

# How long an answer's beginning waits for the count of its prompt, in seconds.
PATIENCE = 0.05
FORM = Form(named=True, last=b"", beat=PING)


async def create_message(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages."""
    app, books = request.app, request[BOOKS]
    shape, fields = await decode_body(app, await body_of(request), MessagesRequest, books)
    note_tag(books, shape)
    engine = app[ENGINE]
    target = await engine.route(shape.model, "chat", books)
    ask = await app[WORKERS].run(books.size, messages.parse_shape, shape, fields)
    ask = await inputs.with_files(app, ask, books)
    id, thoughts = f"msg_01{app[NEW_ID]()[:22]}", messages.thoughts_of(shape)
    if not ask.stream:
        events = await engine.chat_whole(ask, target, books)
        books.ignored = messages.renamed(books.ignored)
        write = partial(messages.whole, events, id=id, model=shape.model, thoughts=thoughts, stops=ask.sampling.stop)
        return json_bytes(await app[WORKERS].run(books.answer, write))
    # Counted while the model reads the prompt itself.
    count = asyncio.get_running_loop().run_in_executor(None, tokens.estimate, ask)
    count.add_done_callback(look_at)
    batches = await engine.chat(ask, target, books)
    books.ignored = messages.renamed(books.ignored)
    writer = messages.MessageWriter(
        id=id, model=shape.model, thoughts=thoughts, stops=ask.sampling.stop, request_id=books.id
    )
    return await stream(request, with_prompt(batches, writer, ask, count), writer, form=FORM)


async def with_prompt(
    batches: AsyncGenerator[Batch], writer: messages.MessageWriter, ask: Ask, count: asyncio.Future[int]
) -> AsyncGenerator[Batch]:
    """Pass an answer on, and give its writer the size of the prompt before the first event."""
    async with aclosing(batches):
        async for batch in batches:
            if not writer.prompt:
                # The first count of a daemon waits for the vocabulary; an answer does not.
                done, _ = await asyncio.wait((count,), timeout=PATIENCE)
                writer.prompt = count.result() if done else messages.rough_count(ask)
            yield batch


def look_at(count: asyncio.Future[int]) -> None:
    """Take note of a count that is not wanted any more, so that asyncio does not complain of its error."""
    if not count.cancelled():
        count.exception()


async def count_tokens(request: web.Request) -> web.Response:
    """POST /v1/messages/count_tokens: an estimate; no model is asked."""
    app, books = request.app, request[BOOKS]
    shape, fields = await decode_body(app, await body_of(request), CountTokensRequest, books)
    await app[ENGINE].route(shape.model, "chat", books)
    ask = await app[WORKERS].run(books.size, messages.parse_shape, shape, fields)
    ask = await inputs.with_files(app, ask, books)
    books.ignored = ask.ignored
    # The vocabulary takes its time to be read, and a long conversation to be counted.
    count = await app[WORKERS].run(LARGE, tokens.count_ask, ask)
    return json_bytes(msgspec.json.encode({"input_tokens": count}))


def note_tag(books: Books, shape: MessagesRequest) -> None:
    """Take the person's id for the request's tag, where no header gives one."""
    if not books.tag and shape.metadata is not None:
        books.tag = messages.tag_of(shape.metadata.user_id or "")[:200]


ROWS: tuple[Row, ...] = (
    Row(
        Route("POST", "/v1/messages", "Answer a conversation (Anthropic's)", MessagesRequest, "Messages"),
        create_message,
    ),
    Row(
        Route("POST", "/v1/messages/count_tokens", "Count the tokens of one", CountTokensRequest, "Messages"),
        count_tokens,
    ),
)
