"""The handlers of Anthropic's door: /v1/messages, whole and streamed, and the counting of its tokens."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from .. import tokens
from ..policy.books import Books
from ..translate import messages, validate
from ..translate.messages_write import PING
from ..translate.openapi import Route
from ..translate.shapes_messages import CountTokensRequest, MessagesRequest
from . import inputs
from .generate import body_of
from .keys import BOOKS, ENGINE, NEW_ID
from .reply import Form, json_bytes, stream
from .row import Row

__all__ = ["ROWS"]

FORM = Form(named=True, last=b"", beat=PING)


async def create_message(request: web.Request) -> web.StreamResponse:
    """POST /v1/messages."""
    app, books = request.app, request[BOOKS]
    shape, fields = validate.decode(await body_of(request), MessagesRequest)
    note_tag(books, shape)
    engine = app[ENGINE]
    target = await engine.route(shape.model, "chat", books)
    ask = await inputs.with_files(app, messages.parse_shape(shape, fields), books)
    id, thoughts = f"msg_01{app[NEW_ID]()[:22]}", messages.thoughts_of(shape)
    if not ask.stream:
        events = await engine.chat_whole(ask, target, books)
        books.ignored = messages.renamed(books.ignored)
        return json_bytes(messages.whole(events, id=id, model=shape.model, thoughts=thoughts, stops=ask.sampling.stop))
    batches = await engine.chat(ask, target, books)
    books.ignored = messages.renamed(books.ignored)
    writer = messages.MessageWriter(
        id=id, model=shape.model, thoughts=thoughts, stops=ask.sampling.stop, request_id=books.id
    )
    return await stream(request, batches, writer, form=FORM)


async def count_tokens(request: web.Request) -> web.Response:
    """POST /v1/messages/count_tokens: an estimate; no model is asked."""
    books = request[BOOKS]
    shape, fields = validate.decode(await body_of(request), CountTokensRequest)
    await request.app[ENGINE].route(shape.model, "chat", books)
    ask = await inputs.with_files(request.app, messages.parse_shape(shape, fields), books)
    books.ignored = ask.ignored
    # The vocabulary takes its time to be read, and a long conversation to be counted.
    count = await asyncio.to_thread(tokens.estimate, ask)
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
