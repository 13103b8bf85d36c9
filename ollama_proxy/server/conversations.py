"""The handlers of /v1/conversations, and what /v1/responses does with a conversation: load it, and append a turn.

A conversation is kept until it is deleted, and its items with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..stored import Piece, Stored
from ..translate import conversations, ids, query, validate
from ..translate.openapi import Route
from ..translate.paging import unknown_cursor
from ..translate.shapes_conversations import CreateConversation, CreateItems, UpdateConversation
from ..translate.shapes_queries import ItemQuery, ItemsQuery
from .body import read_body
from .decoding import decode_body
from .keys import BOOKS, ENGINE, WALL, WORKERS
from .reply import json_bytes
from .row import Row
from .shelf import kept, new_id, owner_of, sees

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = ["KIND", "ROWS", "append", "load"]

KIND = "conversation"


# --- for /v1/responses ------------------------------------------------------------------------------------------------


async def load(app: web.Application, id: str, owner: str | None) -> list[Piece]:
    """Return the items of a conversation, oldest first. Raises NotFound where this owner has no such conversation."""

    def found(objects: Objects) -> list[Piece] | None:
        return list(objects.pieces(id)) if objects.get(id, kind=KIND, owner=owner) is not None else None

    items = await kept(app, found)
    if items is None:
        raise conversations.not_found(id)
    return items


async def append(
    app: web.Application, id: str, owner: str | None, items: Sequence[dict[str, Any]], size: int = 0
) -> bool:
    """Put canonical items of `size` bytes behind those of a conversation; those that are there already stay where they
    are. Returns False where the conversation is gone."""
    pieces = await app[WORKERS].run(size, conversations.pieces_of, items)
    done = await kept(app, lambda objects: objects.join(id, kind=KIND, owner=owner, pieces=pieces, skip=True))
    return done is not None


# --- conversations ----------------------------------------------------------------------------------------------------


def strict(app: web.Application) -> bool:
    return app[ENGINE].snapshot.settings.server.strict_ids


def id_of(request: web.Request) -> str:
    """Return the id in the path. Raises Invalid for one that has not the form, where the settings ask for it."""
    id = request.match_info["conversation_id"]
    if strict(request.app):
        ids.check_id("conversation_id", id)
    return id


async def conversation_of(request: web.Request) -> Stored:
    """Return the conversation that the URL names. Raises NotFound."""
    id, owner = id_of(request), sees(request)
    thing = await kept(request.app, lambda objects: objects.get(id, kind=KIND, owner=owner))
    if thing is None:
        raise conversations.not_found(id)
    return thing


async def create_conversation(request: web.Request) -> web.Response:
    """POST /v1/conversations."""
    app, books = request.app, request[BOOKS]
    # Nothing has to be said of a new one, and some clients do not say it in JSON.
    body = await read_body(request)
    shape, fields = await decode_body(app, body or b"{}", CreateConversation, books)
    books.ignored = validate.ignored_keys(fields, CreateConversation)
    if strict(app):
        ids.check_items(shape.items or (), "items")
    made = app[WORKERS].run(books.size, conversations.new_items, shape.items or (), lambda prefix: new_id(app, prefix))
    pieces = await made
    id, created = new_id(app, "conv_"), app[WALL]()
    data = conversations.document(id, created, shape.metadata)
    thing = Stored(id=id, kind=KIND, owner=owner_of(books.caller), created=created, data=data)
    await kept(app, lambda objects: objects.add(thing, pieces=pieces))
    return json_bytes(data)


async def retrieve_conversation(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}."""
    return json_bytes((await conversation_of(request)).data)


async def update_conversation(request: web.Request) -> web.Response:
    """POST /v1/conversations/{conversation_id}: other metadata."""
    body = await read_body(request)
    shape, fields = validate.decode(body, UpdateConversation)
    request[BOOKS].ignored = validate.ignored_keys(fields, UpdateConversation)
    thing, owner = await conversation_of(request), sees(request)
    data = conversations.with_metadata(thing.data, shape.metadata)
    if not await kept(request.app, lambda objects: objects.change(thing.id, kind=KIND, owner=owner, data=data)):
        raise conversations.not_found(thing.id)
    return json_bytes(data)


async def delete_conversation(request: web.Request) -> web.Response:
    """DELETE /v1/conversations/{conversation_id}."""
    id, owner = id_of(request), sees(request)
    if not await kept(request.app, lambda objects: objects.remove(id, kind=KIND, owner=owner)):
        raise conversations.not_found(id)
    return json_bytes(conversations.deleted(id))


# --- items ------------------------------------------------------------------------------------------------------------


async def create_items(request: web.Request) -> web.Response:
    """POST /v1/conversations/{conversation_id}/items."""
    app, books = request.app, request[BOOKS]
    body = await read_body(request)
    shape, fields = await decode_body(app, body, CreateItems, books)
    _, unheard = query.parse(request.query.items(), ItemQuery)
    books.ignored = (*validate.ignored_keys(fields, CreateItems), *unheard)
    id, owner = id_of(request), sees(request)
    if strict(app):
        ids.check_items(shape.items, "items")
    made = app[WORKERS].run(books.size, conversations.new_items, shape.items, lambda prefix: new_id(app, prefix))
    pieces = await made
    there = await kept(app, lambda objects: objects.join(id, kind=KIND, owner=owner, pieces=pieces))
    if there is None:
        raise conversations.not_found(id)
    if there:
        raise conversations.duplicate(there[0])
    return json_bytes(conversations.write_items(pieces))


async def list_items(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}/items."""
    asked, request[BOOKS].ignored = query.parse(request.query.items(), ItemsQuery)
    thing = await conversation_of(request)
    page = await kept(
        request.app,
        lambda objects: objects.pieces_page(
            thing.id, after=asked.after, before=asked.before, limit=asked.limit, ascending=asked.ascending
        ),
    )
    if page is None:
        raise unknown_cursor(asked)
    return json_bytes(conversations.write_items(page.data, more=page.more))


async def retrieve_item(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}/items/{item_id}."""
    _, request[BOOKS].ignored = query.parse(request.query.items(), ItemQuery)
    thing, id = await conversation_of(request), request.match_info["item_id"]
    piece = await kept(request.app, lambda objects: objects.piece(thing.id, id))
    if piece is None:
        raise conversations.item_not_found(id, thing.id)
    return json_bytes(piece.data)


async def delete_item(request: web.Request) -> web.Response:
    """DELETE /v1/conversations/{conversation_id}/items/{item_id}: the answer is the conversation."""
    thing, id = await conversation_of(request), request.match_info["item_id"]
    if not await kept(request.app, lambda objects: objects.remove_piece(thing.id, id)):
        raise conversations.item_not_found(id, thing.id)
    return json_bytes(thing.data)


GROUP = "Conversations"
ALL = "/v1/conversations"
ONE = f"{ALL}/{{conversation_id}}"
ITEMS = f"{ONE}/items"
ITEM = f"{ITEMS}/{{item_id}}"
ROWS: tuple[Row, ...] = (
    Row(Route("POST", ALL, "Begin a conversation", CreateConversation, GROUP, optional=True), create_conversation),
    Row(Route("GET", ONE, "Show a conversation", None, GROUP), retrieve_conversation),
    Row(Route("POST", ONE, "Change its metadata", UpdateConversation, GROUP), update_conversation),
    Row(Route("DELETE", ONE, "Delete it with its items", None, GROUP), delete_conversation),
    Row(Route("POST", ITEMS, "Add items", CreateItems, GROUP, query=ItemQuery), create_items),
    Row(Route("GET", ITEMS, "List the items", None, GROUP, query=ItemsQuery), list_items),
    Row(Route("GET", ITEM, "Show an item", None, GROUP, query=ItemQuery), retrieve_item),
    Row(Route("DELETE", ITEM, "Take an item out", None, GROUP), delete_item),
)
