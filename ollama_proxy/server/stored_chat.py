"""Chat completions that clients have us keep (`store: true`): keeping them, and the routes to what is kept.

An answer is kept before its last byte is sent, so that whoever has it can ask for it. One that cannot be kept is given
all the same, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from ..errors import Overloaded
from ..events import Event, Fail
from ..model import Ask
from ..policy.books import Books
from ..recorder.assemble import assemble
from ..stored import Page, Stored
from ..translate import chat, paging, query, stored_chat, validate
from ..translate.openapi import Route
from ..translate.shapes import ChatRequest
from ..translate.shapes_conversations import UpdateChatCompletion
from ..translate.shapes_queries import ChatMessagesQuery, ChatsQuery
from .body import read_body
from .keys import BOOKS, ENGINE, WALL, WORKERS
from .reply import json_bytes
from .row import Row
from .shelf import kept, owner_of, sees

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = ["KIND", "ROWS", "Keeper", "keeper", "told"]

log = logging.getLogger(__name__)

KIND = "chat"
DAY = 86400.0
# Bytes of an answer that are kept at most, and what an event takes in memory.
LARGEST, EVENT = 16 * 1024 * 1024, 120
# How many are looked through at once where not all of them match.
SCAN = 100
# As many as a page has, whatever is asked for: OpenAI names no maximum.
MOST = 1000


# --- keeping ----------------------------------------------------------------------------------------------------------


async def keeper(
    app: web.Application, shape: ChatRequest, fields: dict[str, msgspec.Raw], books: Books, id: str, created: int
) -> Keeper | None:
    """Return what keeps the answer `id`; None where it is not to be kept, or cannot be, which the books then tell."""
    if not shape.store:
        return None
    found = Keeper(app, shape, fields, books, id, created)
    # Known before the head of a stream is sent, or it could not say so.
    return found if await found.attempt(lambda objects: None) else None


def told(ask: Ask, books: Books) -> Ask:
    """Return the question with what the books already know to have no effect."""
    return msgspec.structs.replace(ask, ignored=(*ask.ignored, *books.ignored)) if books.ignored else ask


class Keeper:
    """Keeps one answer. For a stream it gathers first: `watched` events, or the bytes it is told to `take`."""

    def __init__(
        self,
        app: web.Application,
        shape: ChatRequest,
        fields: dict[str, msgspec.Raw],
        books: Books,
        id: str,
        created: int,
    ) -> None:
        self.id = id
        self.created = created
        self._app = app
        self._shape = shape
        self._fields = fields
        self._books = books
        self._events: list[Event] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False

    async def attempt(self, call: Callable[[Objects], None]) -> bool:
        """Do something with the store; where that fails, log it and name `store` among what had no effect."""
        try:
            await kept(self._app, call)
        except Overloaded as exc:
            log.warning("request %s: the completion is not kept: %s", self._books.id, exc.message)
            self._books.ignored = (*self._books.ignored, "store")
            return False
        return True

    async def keep(self, body: bytes) -> None:
        """Keep a whole answer."""
        if len(body) > LARGEST:
            self._refuse(f"it has more than {LARGEST} bytes")
            return
        await self.attempt(lambda objects: self._add(objects, body))

    async def passed(self, body: bytes) -> bytes:
        """Keep a foreign whole answer; return it as the client gets it."""
        body, whole = await self._app[WORKERS].run(len(body), self._identified, body)
        if whole is not None:
            await self.keep(whole)
        return body

    def _identified(self, body: bytes) -> tuple[bytes, bytes | None]:
        """Return a foreign answer with our id, and as it is kept."""
        body = stored_chat.identified(body, self.id)
        answer = stored_chat.read(body)
        return body, self._complete(answer) if answer is not None else None

    def _complete(self, answer: Mapping[str, Any]) -> bytes:
        return stored_chat.complete(
            answer, id=self.id, model=self._shape.model, created=self.created, usage=self._books.usage
        )

    def _add(self, objects: Objects, body: bytes) -> None:
        days = self._app[ENGINE].snapshot.settings.responses.keep
        now = self._app[WALL]()
        thing = Stored(
            id=self.id,
            kind=KIND,
            owner=owner_of(self._books.caller),
            created=now,
            expires=now + days * DAY if days else None,
            # By which lists are narrowed.
            parent=self._shape.model,
            data=stored_chat.document(body, self._fields, request_id=self._books.id),
        )
        objects.add(thing, pieces=stored_chat.messages(self._fields, self.id))

    async def watched(self, batches: AsyncGenerator[list[Event]]) -> AsyncGenerator[list[Event]]:
        """Yield the events of a stream, and remember them."""
        async with aclosing(batches) as source:
            async for batch in source:
                if self._room(EVENT * len(batch)):
                    self._events.extend(batch)
                yield batch
        self._whole = self._size <= LARGEST and not any(type(event) is Fail for event in self._events[-1:])

    def _room(self, size: int) -> bool:
        """Return whether so much more of a stream can be remembered. Of one that is too long nothing is kept."""
        if self._size > LARGEST:
            return False
        before, self._size = self._size, self._size + size
        if self._size > LARGEST:
            self._refuse(f"it has more than {LARGEST} bytes")
        elif self._books.hold.attempt(size):
            return True
        else:
            self._refuse("there is no memory left for it (memory under [server])")
        self._size = LARGEST + 1
        self._events, self._pieces = [], []
        self._books.hold.give(before)
        return False

    def _refuse(self, why: str) -> None:
        """Name `store` among what had no effect."""
        log.warning("request %s: the completion is not kept: %s", self._books.id, why)
        self._books.ignored = (*self._books.ignored, "store")

    async def ended(self) -> None:
        """Keep a stream's events, if they came to their end."""
        if not self._whole:
            return
        legacy = bool(self._shape.functions)
        write = partial(
            chat.whole,
            self._events,
            id=self.id,
            created=self.created,
            model=self._shape.model,
            legacy_functions=legacy,
        )
        await self.keep(await self._app[WORKERS].run(self._size, write))

    def take(self, data: bytes) -> None:
        """Remember a piece of a foreign stream, as it goes to the client."""
        if self._room(len(data) + EVENT):
            self._pieces.append(data)

    async def done(self) -> None:
        """Keep the pieces of a foreign stream, if it came to its end. Does so once."""
        if self._size > LARGEST:
            return
        pieces, self._pieces = self._pieces, []
        if (whole := await self._app[WORKERS].run(self._size, self._assembled, pieces)) is not None:
            await self.keep(whole)

    def _assembled(self, pieces: Sequence[bytes]) -> bytes | None:
        """Return a foreign stream as it is kept; None if it did not come to its end."""
        found = assemble(pieces)
        if found.done and isinstance(found.answer, dict) and "error" not in found.answer:
            return self._complete(found.answer)
        return None


# --- what is kept -----------------------------------------------------------------------------------------------------


async def found(request: web.Request) -> Stored:
    """Return the completion that the URL names. Raises NotFound."""
    id, owner = request.match_info["completion_id"], sees(request)
    thing = await kept(request.app, lambda objects: objects.get(id, kind=KIND, owner=owner))
    if thing is None:
        raise stored_chat.not_found(id)
    return thing


async def list_completions(request: web.Request) -> web.Response:
    """GET /v1/chat/completions."""
    books = request[BOOKS]
    # It asks no model, and must not be counted as if it did.
    books.endpoint = "GET /v1/chat/completions"
    asked, books.ignored = query.parse(request.query.items(), ChatsQuery)
    owner = sees(request)
    page = await kept(request.app, lambda objects: search(objects, asked, owner))
    if page is None:
        raise paging.unknown_cursor(asked)
    return json_bytes(
        paging.write_page([thing.data for thing in page.data], [thing.id for thing in page.data], more=page.more)
    )


def search(objects: Objects, asked: ChatsQuery, owner: str | None) -> Page[Stored] | None:
    """Return a page of those that match, looking on until it is full."""
    limit = min(asked.limit, MOST)
    after, matching = asked.after, list[Stored]()
    while len(matching) <= limit:
        page = objects.page(
            KIND,
            owner=owner,
            after=after,
            before=asked.before,
            limit=SCAN if asked.metadata else limit + 1,
            ascending=asked.ascending,
            parent=asked.model or None,
        )
        if page is None:
            # Nobody's fault if the last one seen was deleted meanwhile: the page ends there.
            return None if after == asked.after else Page(matching, False)
        matching += [thing for thing in page.data if stored_chat.matches(thing.data, asked.metadata)]
        if not page.more:
            break
        after = page.data[-1].id
    return Page(matching[:limit], len(matching) > limit)


async def retrieve_completion(request: web.Request) -> web.Response:
    """GET /v1/chat/completions/{completion_id}."""
    return json_bytes((await found(request)).data)


async def update_completion(request: web.Request) -> web.Response:
    """POST /v1/chat/completions/{completion_id}: other metadata."""
    body = await read_body(request)
    shape, fields = validate.decode(body, UpdateChatCompletion)
    request[BOOKS].ignored = validate.ignored_keys(fields, UpdateChatCompletion)
    thing = await found(request)
    data = stored_chat.with_metadata(thing.data, shape.metadata)
    owner = sees(request)
    if not await kept(request.app, lambda objects: objects.change(thing.id, kind=KIND, owner=owner, data=data)):
        raise stored_chat.not_found(thing.id)
    return json_bytes(data)


async def delete_completion(request: web.Request) -> web.Response:
    """DELETE /v1/chat/completions/{completion_id}."""
    id, owner = request.match_info["completion_id"], sees(request)
    if not await kept(request.app, lambda objects: objects.remove(id, kind=KIND, owner=owner)):
        raise stored_chat.not_found(id)
    return json_bytes(stored_chat.deleted(id))


async def list_messages(request: web.Request) -> web.Response:
    """GET /v1/chat/completions/{completion_id}/messages."""
    asked, request[BOOKS].ignored = query.parse(request.query.items(), ChatMessagesQuery)
    thing = await found(request)
    page = await kept(
        request.app,
        lambda objects: objects.pieces_page(
            thing.id, after=asked.after, before=asked.before, limit=min(asked.limit, MOST), ascending=asked.ascending
        ),
    )
    if page is None:
        raise paging.unknown_cursor(asked)
    return json_bytes(
        paging.write_page([piece.data for piece in page.data], [piece.id for piece in page.data], more=page.more)
    )


GROUP = "Chat"
ONE = "/v1/chat/completions/{completion_id}"
ROWS: tuple[Row, ...] = (
    Row(
        Route("GET", "/v1/chat/completions", "List the kept completions", None, GROUP, query=ChatsQuery),
        list_completions,
    ),
    Row(Route("GET", ONE, "Show a kept completion", None, GROUP), retrieve_completion),
    Row(Route("POST", ONE, "Change its metadata", UpdateChatCompletion, GROUP), update_completion),
    Row(Route("DELETE", ONE, "Forget it", None, GROUP), delete_completion),
    Row(
        Route("GET", f"{ONE}/messages", "List the messages it answered", None, GROUP, query=ChatMessagesQuery),
        list_messages,
    ),
)
