"""The handlers of /v1/responses: answer, and what can be done with a response that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from .. import tokens
from ..errors import Invalid
from ..stored import Stored
from ..translate import responses, validate
from ..translate.openapi import Route
from ..translate.paging import parse_paging, unknown_cursor, write_page
from ..translate.responses_items import items_of
from ..translate.shapes_responses import CountRequest, ResponsesRequest
from .generate import body_of
from .keys import BOOKS, ENGINE
from .reply import Form, json_bytes, stream
from .responses_ask import (
    KIND,
    answered,
    finished,
    history_of,
    keep,
    missing,
    prepare,
    referred,
    with_files,
)
from .row import Row
from .shelf import kept, owner_of, sees

__all__ = ["ROWS"]

NAMED = Form(named=True, last=b"")


async def create_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    app, books = request.app, request[BOOKS]
    prepared = await prepare(app, await body_of(request), books)
    target = await app[ENGINE].route(prepared.request.model, "chat", books)
    if not prepared.request.stream:
        return json_bytes(await finished(app, prepared, target, books))

    async def ended() -> None:
        await keep(app, prepared, books)

    return await stream(request, answered(app, prepared, target, books), prepared.writer, form=NAMED, ended=ended)


# --- what is kept -----------------------------------------------------------------------------------------------------


async def found(request: web.Request) -> Stored:
    """Return the response of the path. Raises NotFound."""
    id = request.match_info["response_id"]
    thing = await kept(request.app, lambda objects: objects.get(id, kind=KIND, owner=sees(request)))
    if thing is None:
        raise missing(id)
    return thing


async def retrieve_response(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}."""
    thing = await found(request)
    response = msgspec.json.decode(thing.data)["response"]
    return json_bytes(msgspec.json.encode(response))


async def delete_response(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/responses/{id}."""
    id = request.match_info["response_id"]
    if not await kept(request.app, lambda objects: objects.remove(id, kind=KIND, owner=sees(request))):
        raise missing(id)
    return json_bytes(msgspec.json.encode({"id": id, "object": "response", "deleted": True}))


async def list_input_items(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}/input_items."""
    thing = await found(request)
    paging = parse_paging(request.query.items())
    count: int = msgspec.json.decode(thing.data)["inputs"]
    page = await kept(
        request.app,
        lambda objects: objects.pieces_page(
            thing.id,
            after=paging.after,
            before=paging.before,
            limit=paging.limit,
            ascending=paging.ascending,
            first=count,
        ),
    )
    if page is None:
        raise unknown_cursor(paging)
    return json_bytes(write_page([each.data for each in page.data], [each.id for each in page.data], more=page.more))


async def count_input(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses/input_tokens. No model is asked."""
    app, books = request.app, request[BOOKS]
    shape, fields = validate.decode(await body_of(request), CountRequest)
    if shape.previous_response_id is not None and shape.conversation is not None:
        raise Invalid(
            "Mutually exclusive parameters. Ensure you are only providing one of: 'previous_response_id' or "
            "'conversation'.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )
    owner = owner_of(books.caller)
    conversation = responses.conversation_id(shape.conversation)
    before = await history_of(app, shape.previous_response_id, conversation, owner)
    items = await with_files(app, [*before, *await referred(app, items_of(shape.input), before, owner)], owner)
    ask = responses.count_ask(shape, items, history=len(before))
    books.ignored = validate.ignored_keys(fields, CountRequest)
    counted: Mapping[str, Any] = {"object": "response.input_tokens", "input_tokens": tokens.estimate(ask)}
    return json_bytes(msgspec.json.encode(counted))


ROWS: tuple[Row, ...] = (
    Row(
        Route("POST", "/v1/responses", "Answer, and keep the response", ResponsesRequest, "Responses"), create_response
    ),
    Row(
        Route("POST", "/v1/responses/input_tokens", "Count the tokens of a prompt", CountRequest, "Responses"),
        count_input,
    ),
    Row(Route("GET", "/v1/responses/{response_id}", "Show a response", None, "Responses"), retrieve_response),
    Row(Route("DELETE", "/v1/responses/{response_id}", "Forget a response", None, "Responses"), delete_response),
    Row(
        Route("GET", "/v1/responses/{response_id}/input_items", "List what it was asked", None, "Responses"),
        list_input_items,
    ),
)
