"""Getting a request to /v1/responses ready, answering it and keeping the response: what all ways in have in common
(a request, a batch's line, the background, a WebSocket).

What was said before is fetched, references and uploaded files are put in their places. An answer is kept before its
last byte is sent; one that cannot be kept is given all the same, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from ..errors import ContextTooLong, Invalid, NotFound, Overloaded
from ..events import Event, Fail
from ..model import Ask
from ..policy.books import Books
from ..policy.memory import body_cost, items_cost
from ..policy.route import Target
from ..policy.shorten import shorten
from ..stored import Piece, Stored
from ..translate import ids, responses
from ..translate.responses_items import canonical, items_of
from ..translate.responses_write import ResponseWriter
from ..translate.shapes_responses import ResponsesRequest
from . import conversations
from .decoding import decode_body
from .door import note_tag
from .inputs import Reader
from .keys import ACCOUNTS, ENGINE, WALL, WORKERS
from .shelf import kept, new_id, owner_of

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = [
    "KIND",
    "Memory",
    "Prepared",
    "Said",
    "answered",
    "expiry",
    "finished",
    "history_of",
    "keep",
    "keep_conversation",
    "missing",
    "pieces_of",
    "prepare",
    "response_body",
    "stored_of",
]

log = logging.getLogger(__name__)

KIND = "response"
DAY = 86400.0
# Bytes of a response that is kept, at most.
MOST = 32 * 1024 * 1024
# The longest chain of responses that is followed; longer ones have outgrown every model's window long ago.
LONGEST = 10_000
# Times a prompt that is too long is made shorter.
SHORTENINGS = 8

Item = dict[str, Any]


class Said(NamedTuple):
    """All that was said up to a response, and the bytes of memory that it takes."""

    items: Sequence[Item]
    size: int


# Responses that are not kept in the database, by their ids: what a WebSocket remembers.
Memory = Mapping[str, Said]
NONE: Memory = MappingProxyType({})


class Prepared:
    """One request, ready to be answered. `items` are those that it brought, as they are kept; `before` those of the
    conversation so far."""

    def __init__(
        self,
        request: ResponsesRequest,
        question: responses.Question,
        writer: ResponseWriter,
        *,
        items: list[Item],
        before: list[Item],
        owner: str,
    ) -> None:
        self.request = request
        self.ask = question.ask
        self.writer = writer
        self.items = items
        self.before = before
        self.owner = owner
        self.id: str = writer.response["id"]
        self.stored = request.store is not False
        self.conversation = responses.conversation_id(request.conversation)
        # The kept response that it goes on from.
        self.after = request.previous_response_id


async def prepare(
    app: web.Application, body: bytes, books: Books, *, memory: Memory = NONE, id: str = "", queued: bool = False
) -> Prepared:
    """Read a request and fetch what it refers to. `id`: the response has one already. Raises errors.Invalid and others
    in OpenAI's words."""
    shape, fields = await decode_body(app, body, ResponsesRequest, books)
    note_tag(books, shape)
    check_ids(app, shape)
    responses.check(shape)
    owner = owner_of(books.caller)
    before = await history_of(
        app, books, shape.previous_response_id, responses.conversation_id(shape.conversation), owner, memory
    )
    brought = await referred(app, items_of(shape.input), before, owner)
    prompt = await with_files(app, [*before, *brought], books, owner)
    work = app[WORKERS].run
    question = await work(books.size, partial(responses.parse, shape, fields, prompt, history=len(before)))
    items = await work(books.size, canonical, brought, lambda prefix: new_id(app, prefix))
    writer = ResponseWriter(
        responses.echo(shape, id=id or new_id(app, "resp_"), created=int(app[WALL]())),
        clock=app[WALL],
        names=question.names,
        summary=question.summary,
        sealed=question.sealed,
        padded=bool(shape.stream_options and shape.stream_options.include_obfuscation),
        queued=queued,
    )
    prepared = Prepared(shape, question, writer, items=items, before=before, owner=owner)
    if shape.previous_response_id in memory and prepared.stored:
        # What it goes on from is kept nowhere: it has to hold all by itself.
        prepared.items, prepared.before, prepared.after = [*before, *items], [], None
    if prepared.stored and not await can_keep(app):
        # Told before the head of a stream is sent, or it could not say so.
        prepared.stored = False
        prepared.ask = msgspec.structs.replace(prepared.ask, ignored=(*prepared.ask.ignored, "store"))
    return prepared


def check_ids(app: web.Application, shape: msgspec.Struct) -> None:
    """Check the form of a request's ids, where the settings ask for it. Raises errors.Invalid."""
    if app[ENGINE].snapshot.settings.server.strict_ids:
        ids.check_request(shape)


async def can_keep(app: web.Application) -> bool:
    """Return whether the database can be used, as far as that is known."""
    if app[ACCOUNTS].store is not None:
        return True
    try:
        await kept(app, lambda objects: None)
    except Overloaded as exc:
        log.warning("responses are not kept: %s", exc.message)
        return False
    return True


async def history_of(
    app: web.Application,
    books: Books,
    previous: str | None,
    conversation: str | None,
    owner: str,
    memory: Memory = NONE,
) -> list[Item]:
    """Return the items of the conversation so far, oldest first. They count for the size of the request, as if it had
    brought them. Raises errors.TooLarge and Overloaded where there is no memory for them."""
    if previous is not None and previous in memory:
        books.size += memory[previous].size
        return list(memory[previous].items)
    if previous is not None:
        pieces = await kept(app, lambda objects: chain(objects, previous, owner))
    elif conversation is not None:
        pieces = await conversations.load(app, conversation, owner)
    else:
        return []
    size = sum(len(piece.data) for piece in pieces)
    books.size += size
    work = app[WORKERS].run
    books.hold.take(await work(size, lambda: sum(body_cost(piece.data) for piece in pieces)))
    return await work(size, lambda: [msgspec.json.decode(piece.data) for piece in pieces])


def chain(objects: Objects, last: str, owner: str) -> list[Piece]:
    """Return the items of what was said up to a response, all that it goes on from included. Raises errors.Invalid."""
    links = objects.line(last, kind=KIND, owner=owner, longest=LONGEST)
    if not links or links[0].parent:
        # The oldest that is there goes on from one that is not, or there are more than anybody reads.
        lost = links[0].parent if links else last
        raise Invalid(
            f"Previous response with id '{lost[:200]}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    for link in links:
        if link.status in ("queued", "in_progress"):
            raise Invalid(
                f"The response '{link.id}' is not complete yet (status '{link.status}'). Wait for it, or cancel it.",
                param="previous_response_id",
                code="previous_response_not_complete",
            )
    return [piece for link in links for piece in link.pieces]


def missing(id: str) -> NotFound:
    """Return OpenAI's error for a response that is not there."""
    return NotFound(f"Response with id '{id[:200]}' not found.")


async def referred(app: web.Application, items: list[Item], before: Sequence[Item], owner: str) -> list[Item]:
    """Put the items that are only named by their ids in their places; those of the conversation are there already."""
    known = {item.get("id") for item in before}
    found: list[Item] = []
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else ""
        id = item.get("id") if isinstance(item, dict) else None
        if not isinstance(id, str) or not (kind == "item_reference" or (kind is None and "role" not in item)):
            found.append(item)
        elif id not in known:
            found.append(await lookup(app, id, owner))
    return found


async def lookup(app: web.Application, id: str, owner: str) -> Item:
    for kind in (KIND, conversations.KIND):
        piece = await kept(app, lambda objects, kind=kind: objects.find_piece(id, kind=kind, owner=owner))  # type: ignore[misc]
        if piece is not None:
            item: Item = msgspec.json.decode(piece.data)
            return item
    raise NotFound(f"Item with id '{id[:200]}' not found.", param="input")


# --- uploaded files -----------------------------------------------------------------------------------------------


async def with_files(app: web.Application, items: Sequence[Item], books: Books, owner: str) -> list[Item]:
    """Return items with the content of uploaded files in them, for the prompt alone. What all of them will take is
    counted here. Raises TooLarge and Overloaded."""
    books.hold.take(items_cost(len(items)))
    if not any(map(names_file, items)):
        return list(items)
    reader = Reader(app, books, owner)
    return [await with_file(reader, item) if names_file(item) else item for item in items]


def names_file(item: Any) -> bool:
    return isinstance(item, dict) and any(
        isinstance(part, dict) and isinstance(part.get("file_id"), str)
        for name in ("content", "output")
        if isinstance(parts := item.get(name), list)
        for part in parts
    )


async def with_file(reader: Reader, item: Item) -> Item:
    filled = dict(item)
    for name in ("content", "output"):
        if isinstance(parts := item.get(name), list):
            filled[name] = [await part_of_file(reader, part) for part in parts]
    return filled


async def part_of_file(reader: Reader, part: Any) -> Any:
    if not isinstance(part, dict) or not isinstance(id := part.get("file_id"), str):
        return part
    data, media, name = await reader.read(id)
    uri = f"data:{media};base64,{data}"
    rest = {key: value for key, value in part.items() if key != "file_id"}
    match part.get("type"):
        case "input_image":
            return {**rest, "image_url": uri}
        case "input_file":
            return {"filename": name, **rest, "file_data": uri}
        case _:
            return part


# --- answering ----------------------------------------------------------------------------------------------------


async def answered(
    app: web.Application, prepared: Prepared, target: Target, books: Books
) -> AsyncGenerator[list[Event]]:
    """Yield the events of the answer; a prompt that is too long is made shorter first, where that is wanted."""
    engine = app[ENGINE]
    ask, attempt = prepared.ask, 0
    while True:
        begun = False
        try:
            async with aclosing(await engine.chat(ask, target, books)) as batches:
                async for batch in batches:
                    begun = True
                    yield batch
            return
        except ContextTooLong as exc:
            attempt = SHORTENINGS if begun else attempt
            ask = await shorter(app, prepared, ask, books, exc, attempt)
            attempt += 1


async def answered_whole(app: web.Application, prepared: Prepared, target: Target, books: Books) -> list[Event]:
    """The same, all events at once."""
    ask, attempt = prepared.ask, 0
    while True:
        try:
            return await app[ENGINE].chat_whole(ask, target, books)
        except ContextTooLong as exc:
            ask = await shorter(app, prepared, ask, books, exc, attempt)
            attempt += 1


async def shorter(
    app: web.Application, prepared: Prepared, ask: Ask, books: Books, error: ContextTooLong, attempt: int
) -> Ask:
    """Return a shorter question; raises the error where it must not be shortened, or cannot be. `attempt`: how often it
    was shortened before."""
    wanted = prepared.request.truncation == "auto" and attempt < SHORTENINGS
    cut = partial(shorten, ask, tokens=error.tokens, limit=error.limit)
    less = await app[WORKERS].run(books.size, cut) if wanted else None
    if less is None:
        raise responses.too_long(error) from error
    # What was reserved for the longer one is given back; the shorter one asks anew.
    app[ENGINE].gate.settle(books, None, None)
    books.limits = None
    return less


# --- keeping ------------------------------------------------------------------------------------------------------


def expiry(app: web.Application) -> float | None:
    """Return when what is kept now is to be forgotten."""
    days = app[ENGINE].snapshot.settings.responses.keep
    return app[WALL]() + days * DAY if days else None


def stored_of(app: web.Application, prepared: Prepared, more: Mapping[str, Any] = {}) -> Stored:
    """Return a response as it is kept."""
    response = prepared.writer.response
    data = {"response": response, "inputs": len(prepared.items), "after": prepared.after, **more}
    return Stored(
        id=prepared.id,
        kind=KIND,
        owner=prepared.owner,
        created=app[WALL](),
        expires=expiry(app),
        status=response["status"],
        parent=prepared.after or "",
        data=msgspec.json.encode(data),
    )


def pieces_of(items: Sequence[Item]) -> list[Piece]:
    return [Piece(item["id"], msgspec.json.encode(item)) for item in items]


async def keep(app: web.Application, prepared: Prepared, books: Books) -> None:
    """Keep a response that has ended, and let its conversation go on. Never raises for a database that fails."""
    work, large = app[WORKERS].run, max(books.size, books.answer)
    if not prepared.stored:
        await keep_conversation(app, prepared, large)
        return
    spoken = await work(large, pieces_of, [*prepared.items, *prepared.writer.response["output"]])
    thing = await work(large, stored_of, app, prepared)
    if len(thing.data) > MOST:
        books.ignored = (*books.ignored, "store")
        log.warning("response %s is not kept: it has more than %d bytes", prepared.id, MOST)
    else:
        try:
            await kept(app, lambda objects: objects.add(thing, pieces=spoken))
        except Overloaded as exc:
            books.ignored = (*books.ignored, "store")
            log.warning("response %s is not kept: %s", prepared.id, exc.message)
    await keep_conversation(app, prepared, large)


async def keep_conversation(app: web.Application, prepared: Prepared, size: int) -> None:
    """Let the conversation of an answer go on; `size` are the bytes of what was said last. Never raises for a database
    that fails."""
    response, conversation = prepared.writer.response, prepared.conversation
    if conversation is None or response["status"] not in ("completed", "incomplete"):
        return
    spoken = [*prepared.items, *response["output"]]
    try:
        await conversations.append(app, conversation, prepared.owner, spoken, size)
    except Overloaded as exc:
        log.warning("conversation %s does not have response %s: %s", conversation, prepared.id, exc.message)


async def finished(app: web.Application, prepared: Prepared, target: Target, books: Books) -> bytes:
    """Answer a request that does not ask for a stream, and keep the response; return it as JSON. An answer that
    broke off is kept as one that failed, and its error is raised: SDKs do not look at the status of a response."""
    events, writer, work = await answered_whole(app, prepared, target, books), prepared.writer, app[WORKERS].run
    await work(books.answer, writer.feed, events)
    await work(books.answer, writer.flush)
    await keep(app, prepared, books)
    match events[-1] if events else None:
        case Fail(error=error):
            raise error
    return await work(books.answer, msgspec.json.encode, writer.response)


async def response_body(app: web.Application, body: bytes, books: Books) -> bytes:
    """Answer a request for whoever has no connection (a batch)."""
    prepared = await prepare(app, body, books)
    target = await app[ENGINE].route(prepared.request.model, "chat", books)
    return await finished(app, prepared, target, books)
