"""The handlers of /v1/responses: answer, and what can be done with a response that is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from .. import tokens
from ..errors import Invalid, MethodNotAllowed, ServerShutdown
from ..stored import Stored
from ..translate import query, responses, validate
from ..translate.ids import check_id
from ..translate.openapi import Route
from ..translate.paging import unknown_cursor, write_page
from ..translate.responses_items import items_of
from ..translate.responses_replay import ENDED, replay
from ..translate.responses_write import error_event
from ..translate.shapes_queries import ItemsQuery, ResponseQuery
from ..translate.shapes_responses import CompactRequest, CountRequest, ResponsesRequest
from ..workers import LARGE
from .compact import compact_response
from .cutting import ending
from .decoding import decode_body
from .generate import body_of
from .keys import BOOKS, ENGINE, RUNS, WORKERS
from .reply import EventStream, Form, json_bytes, stream
from .responses_ask import KIND, answered, check_ids, finished, history_of, keep, missing, prepare, referred, with_files
from .responses_socket import serve_socket
from .row import Row
from .runs import EVENTS, FOLLOWED
from .shelf import kept, owner_of, sees

__all__ = ["ROWS"]

NAMED = Form(named=True, last=b"")
_background = msgspec.json.Decoder(msgspec.defstruct("Background", [("background", Any, None), ("stream", Any, None)]))


async def create_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    app, books = request.app, request[BOOKS]
    body = await body_of(request)
    if b'"background"' in body and wants_background(body):
        return await in_background(request, body)
    prepared = await prepare(app, body, books)
    target = await app[ENGINE].route(prepared.request.model, "chat", books)
    if not prepared.request.stream:
        return json_bytes(await finished(app, prepared, target, books))

    async def ended() -> None:
        await keep(app, prepared, books)

    return await stream(request, answered(app, prepared, target, books), prepared.writer, form=NAMED, ended=ended)


def wants_background(body: bytes) -> bool:
    """Return whether nobody is to wait for the answer; what is wrong with the body is told later."""
    try:
        return _background.decode(body).background is True  # type: ignore[attr-defined]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False


async def in_background(request: web.Request, body: bytes) -> web.StreamResponse:
    """Begin a response; show it as it is now, or follow it."""
    run = await request.app[RUNS].start(body, request[BOOKS])
    if run.prepared.request.stream:
        return await send(request, run.follow())
    return json_bytes(msgspec.json.encode(run.response))


async def send(request: web.Request, frames: AsyncIterator[list[bytes]], number: int = 0) -> web.StreamResponse:
    """Write events as they come, from `number` on. A client that leaves ends nothing but its own stream; one that is
    cut at the end of the grace time gets an error event, and the next daemon begins its response again."""
    out = EventStream(request)
    try:
        try:
            with ending(request.app):
                async for fresh in frames:
                    number += len(fresh)
                    await out.write(b"".join(fresh))
        except ServerShutdown as exc:
            if not out.begun:
                raise
            request[BOOKS].code = exc.code
            await out.write(error_event(exc, number))
        return await out.end()
    finally:
        out.stop()


# --- what is kept -----------------------------------------------------------------------------------------------------


def id_of(request: web.Request) -> str:
    """Return the id in the path. Raises Invalid for one that has not the form, where the settings ask for it."""
    id = request.match_info["response_id"]
    if request.app[ENGINE].snapshot.settings.server.strict_ids:
        check_id("response_id", id)
    return id


async def found(request: web.Request) -> Stored:
    """Return the response of the path. Raises NotFound."""
    id = id_of(request)
    thing = await kept(request.app, lambda objects: objects.get(id, kind=KIND, owner=sees(request)))
    if thing is None:
        raise missing(id)
    return thing


async def retrieve_response(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}, as it is or as a stream."""
    asked, request[BOOKS].ignored = query.parse(request.query.items(), ResponseQuery)
    streamed, first = asked.stream, asked.starting_after + 1 if asked.starting_after is not None else 0
    run = request.app[RUNS].get(id_of(request), sees(request))
    if run is not None:
        if streamed:
            return await send(request, run.follow(first), first)
        await run.kept()
        return json_bytes(msgspec.json.encode(run.response))
    thing = await found(request)
    response = msgspec.json.decode(thing.data)["response"]
    if not streamed:
        return json_bytes(msgspec.json.encode(response))
    if response["status"] not in ENDED:
        raise Invalid(f"The response '{thing.id}' is not running here and cannot be followed.", param="stream")
    return await send(request, pieces(await events_of(request, response), first), first)


async def events_of(request: web.Request, response: dict[str, Any]) -> list[bytes]:
    """Return the events of a response that has ended: those it was streamed as, or as it would have been."""
    id = f"{response['id']}.events"
    kept_events = await kept(request.app, lambda objects: objects.get(id, kind=EVENTS, owner=None))
    if kept_events is None:
        return replay(response)
    return [
        b"event: %b\ndata: %b\n\n" % (msgspec.json.decode(raw)["type"].encode(), raw)
        for raw in msgspec.json.decode(kept_events.data, type=list[msgspec.Raw])
    ]


async def pieces(frames: list[bytes], first: int) -> AsyncIterator[list[bytes]]:
    for place in range(first, len(frames), FOLLOWED):
        yield frames[place : place + FOLLOWED]


async def delete_response(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/responses/{id}."""
    id = id_of(request)
    owner = sees(request)
    run = request.app[RUNS].get(id, owner)
    if run is not None:
        await request.app[RUNS].cancel(run)
        request.app[RUNS].forget(run)
    removed = await kept(request.app, lambda objects: objects.remove(id, kind=KIND, owner=owner))
    await kept(request.app, lambda objects: objects.remove(f"{id}.events", kind=EVENTS, owner=owner))
    if not removed and run is None:
        raise missing(id)
    return json_bytes(msgspec.json.encode({"id": id, "object": "response", "deleted": True}))


async def cancel_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses/{id}/cancel."""
    run = request.app[RUNS].get(id_of(request), sees(request))
    if run is not None:
        await request.app[RUNS].cancel(run)
        return json_bytes(msgspec.json.encode(run.response))
    thing = await found(request)
    data = msgspec.json.decode(thing.data)
    response = data["response"]
    if not response["background"]:
        raise Invalid("Cannot cancel a synchronous response.")
    if response["status"] not in ENDED:
        # Left behind by a daemon that is gone, or still to be begun anew.
        response["status"] = "cancelled"
        told = msgspec.json.encode(data)
        await kept(
            request.app,
            lambda objects: objects.change(thing.id, kind=KIND, owner=None, status="cancelled", data=told),
        )
    return json_bytes(msgspec.json.encode(response))


async def list_input_items(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{id}/input_items."""
    thing = await found(request)
    paging, request[BOOKS].ignored = query.parse(request.query.items(), ItemsQuery)
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
    shape, fields = await decode_body(app, await body_of(request), CountRequest, books)
    check_ids(app, shape)
    responses.exclusive(shape.previous_response_id, shape.conversation)
    owner = owner_of(books.caller)
    conversation = responses.conversation_id(shape.conversation)
    before = await history_of(app, books, shape.previous_response_id, conversation, owner)
    items = await with_files(app, [*before, *await referred(app, items_of(shape.input), before, owner)], books, owner)
    books.ignored = validate.ignored_keys(fields, CountRequest)

    def counted() -> int:
        return tokens.count_ask(responses.count_ask(shape, items, history=len(before)))

    # The vocabulary takes its time to be read, and a long conversation to be counted; what is kept of it has any size.
    count = await app[WORKERS].run(LARGE, counted)
    return json_bytes(msgspec.json.encode({"object": "response.input_tokens", "input_tokens": count}))


async def compact(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses/compact."""
    return json_bytes(await compact_response(request.app, await body_of(request), request[BOOKS]))


async def socket(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses, which is a WebSocket or nothing."""
    if request.headers.get("upgrade", "").lower() != "websocket":
        error = MethodNotAllowed(
            f"Not allowed to GET on {request.path} (allowed: POST). "
            "(HINT: Perhaps you meant to use a different HTTP method?)"
        )
        error.headers["allow"] = "POST"
        raise error
    return await serve_socket(request)


def row(method: str, path: str, summary: str, handler: Any, shape: Any = None, **more: Any) -> Row:
    return Row(Route(method, f"/v1/responses{path}", summary, shape, "Responses", **more), handler)


ROWS: tuple[Row, ...] = (
    row("POST", "", "Answer, and keep the response", create_response, ResponsesRequest),
    row("GET", "", "Answer over a WebSocket", socket, more=(405,)),
    row("POST", "/input_tokens", "Count the tokens of a prompt", count_input, CountRequest),
    row("POST", "/compact", "Make a conversation short", compact, CompactRequest),
    row("GET", "/{response_id}", "Show a response", retrieve_response, query=ResponseQuery),
    row("DELETE", "/{response_id}", "Forget a response", delete_response),
    row("POST", "/{response_id}/cancel", "Stop a response in the background", cancel_response),
    row("GET", "/{response_id}/input_items", "List what it was asked", list_input_items, query=ItemsQuery),
)
