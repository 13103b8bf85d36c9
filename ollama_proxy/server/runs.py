"""Responses in the background: made with nobody waiting, looked at, followed, cancelled, and begun anew after a
restart.

What is running is here, in memory, with all its events so far; what is kept of it is in the store from the moment it
is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from ..account import Caller
from ..errors import ClientGone, Internal, OproxyError
from ..events import Event, Fail
from ..policy.books import Books
from ..policy.memory import body_cost
from ..stored import Stored
from ..translate.responses_replay import ENDED, documents
from ..workers import LARGE
from .accounting import data_folder
from .keys import ACCOUNTS, CLERK, CLOCK, ENGINE, TASKS, WALL, WORKERS
from .reply import Feeder
from .responses_ask import KIND, Prepared, answered, expiry, keep_conversation, pieces_of, prepare, stored_of
from .shelf import kept
from .unattended import caller_again, close_books, open_books

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = ["EVENTS", "Run", "Runs"]

log = logging.getLogger(__name__)

# The events of a response that was streamed from the background.
EVENTS = "response.events"
# Seconds a response that is not stored can still be asked for.
REMEMBERED = 600.0
PAGE = 100
# What an event takes in memory beside its bytes.
FRAME = 50
# Events that a follower gets at once: what it does not read yet is not joined for it.
FOLLOWED = 256


class Run:
    """One response in the making. `frames` are its events so far, each in the place of its number."""

    def __init__(self, prepared: Prepared, books: Books, body: bytes) -> None:
        self.prepared = prepared
        # In pieces, whether somebody follows or not: a call that is left in its middle frees the model at once.
        prepared.ask = msgspec.structs.replace(prepared.ask, stream=True)
        self.books = books
        self.body = body
        self.frames: list[bytes] = []
        self.done = False
        self.cancelled = False
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def response(self) -> dict[str, Any]:
        """The response as far as it has come."""
        return self.prepared.writer.response

    def add(self, frames: list[bytes], *, done: bool = False) -> None:
        self.frames += frames
        self.done = done
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def kept(self) -> None:
        """Return when what has ended is kept too: whoever is told of its end may go on from it at once."""
        if self.response["status"] in ENDED:
            async for _ in self.follow(len(self.frames)):
                pass

    async def follow(self, first: int = 0) -> AsyncIterator[list[bytes]]:
        """Yield the events from the number `first` on, as they come."""
        while True:
            if first < len(self.frames):
                fresh = self.frames[first : first + FOLLOWED]
                first += len(fresh)
                yield fresh
            elif self.done:
                return
            else:
                await self._news.wait()


class Runs:
    """All that run."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runs: dict[str, Run] = {}
        # Of two daemons on one database each begins its own anew.
        self._home = f"{socket.gethostname()}:{data_folder()}"

    def get(self, id: str, owner: str | None) -> Run | None:
        """Return what runs by this id, if it is the owner's."""
        run = self._runs.get(id)
        return run if run is not None and owner in (None, run.prepared.owner) else None

    async def start(self, body: bytes, books: Books) -> Run:
        """Begin a response; it is kept when this returns. `books` are the asking request's: it is booked when the
        response has ended, not when it was asked for."""
        app = self._app
        mine = open_books(app, books.endpoint, id=books.id)
        mine.caller, mine.address, mine.agent, mine.tag = books.caller, books.address, books.agent, books.tag
        try:
            return self._begin(await self._prepared(body, books, mine))
        except BaseException:
            mine.hold.release()
            raise

    async def _prepared(self, body: bytes, books: Books, mine: Books) -> Run:
        """Get a response ready, and keep it."""
        app = self._app
        mine.hold.take(body_cost(body))
        prepared = await prepare(app, body, mine, queued=True)
        # A model that is not there is told at once.
        await app[ENGINE].route(prepared.request.model, "chat", mine)
        books.endpoint = ""
        books.asked, books.served, books.backend = mine.asked, mine.served, mine.backend
        books.ignored = prepared.ask.ignored
        prepared.writer.response["status"] = "queued"
        if prepared.stored:
            who = {"name": mine.caller.name, "address": mine.address, "agent": mine.agent, "admin": mine.caller.admin}
            more = {"home": self._home, "request": msgspec.Raw(body), "who": who, "req": mine.id, "tag": mine.tag}
            thing = stored_of(app, prepared, more)
            await kept(app, lambda objects: objects.add(thing, pieces=pieces_of(prepared.items)))
        return Run(prepared, mine, body)

    def _begin(self, run: Run) -> Run:
        self._runs[run.prepared.id] = run
        run.task = self._app[TASKS].start(self._make(run), name=run.prepared.id)
        run.task.add_done_callback(lambda task: self._ended(run))
        return run

    def _ended(self, run: Run) -> None:
        """Forget a run that is kept; one that is not can still be asked for."""
        if run.prepared.stored or not run.done:
            self.forget(run)
        else:
            asyncio.get_running_loop().call_later(REMEMBERED, self.forget, run)

    def forget(self, run: Run) -> None:
        """Let go of a run and of the memory that it holds. Calling it again does nothing."""
        self._runs.pop(run.prepared.id, None)
        run.books.hold.release()

    async def cancel(self, run: Run) -> None:
        """Stop a run; returns when that is kept."""
        run.cancelled = True
        if run.task is not None:
            run.task.cancel()
            await asyncio.wait([run.task])

    async def _make(self, run: Run) -> None:
        app, writer, books = self._app, run.prepared.writer, run.books
        status, last, feeder = 200, [b""], Feeder(app, books)
        try:
            run.add(writer.feed([]))
            if not await self._mark(run):
                run.cancelled = True
            last, failed = await self._answer(run, feeder)
            if failed is not None:
                status, books.code = failed.status, failed.code
        except asyncio.CancelledError:
            if not run.cancelled:
                # The daemon ends: what is kept says that it runs, and the next one begins anew.
                books.status, books.code, books.ended = ClientGone.status, ClientGone.code, app[CLOCK]()
                app[CLERK].close_now(books)
                raise
            status, books.code = ClientGone.status, "cancelled"
            last = await feeder.run(writer.cancel)
        except Exception:
            log.exception("response %s failed", run.prepared.id)
            status, books.code, last = 500, "internal", await feeder.run(writer.feed, [Fail(Internal(books.id))])
        await close_books(app, books, status, run.body, await feeder.run(msgspec.json.encode, run.response))
        await self._keep(run, [*run.frames, *last])
        run.add(last, done=True)

    async def _answer(self, run: Run, feeder: Feeder) -> tuple[list[bytes], OproxyError | None]:
        """Ask the model; return the last events, which are to be written when all is kept, and what failed."""
        app, prepared, writer, books = self._app, run.prepared, run.prepared.writer, run.books
        if run.cancelled:
            return writer.cancel(), None
        try:
            target = await app[ENGINE].route(prepared.request.model, "chat", books)
            async with aclosing(answered(app, prepared, target, books)) as batches:
                async for batch in batches:
                    if (error := failure(batch)) is not None:
                        return await feeder.run(writer.feed, batch), error
                    long = books.answer >= LARGE
                    frames = await feeder.feed(writer, batch) if long else writer.feed(batch)
                    books.hold.take_answer(sum(map(len, frames)) + FRAME * len(frames))
                    run.add(frames)
        except OproxyError as exc:
            return await feeder.run(writer.feed, [Fail(exc)]), exc
        return await feeder.run(writer.flush), None

    async def _mark(self, run: Run) -> bool:
        """Say that it runs; returns whether it is still wanted."""
        if not run.prepared.stored:
            return True
        return await self._try(
            lambda objects: objects.change(
                run.prepared.id, kind=KIND, owner=None, only=("queued", "in_progress"), status="in_progress"
            ),
            True,
        )

    async def _keep(self, run: Run, frames: list[bytes]) -> None:
        app, prepared = self._app, run.prepared
        work, large = app[WORKERS].run, max(run.books.size, run.books.answer)
        spoken = await work(large, pieces_of, run.response["output"])
        thing = await work(large, stored_of, app, prepared)

        def put(objects: Objects) -> bool:
            # What was cancelled by another daemon of the same database stays so.
            done = objects.change(
                thing.id, kind=KIND, owner=None, only=("queued", "in_progress"), status=thing.status, data=thing.data,
                expires=thing.expires, pieces=spoken,
            )  # fmt: skip
            if done and prepared.request.stream:
                objects.add(events_of(app, prepared, frames))
            return done

        if prepared.stored:
            await self._try(put, False)
        await keep_conversation(app, prepared, large)

    async def _try(self, call: Any, otherwise: bool) -> bool:
        try:
            return bool(await kept(self._app, call))
        except OproxyError as exc:
            log.warning("a response in the background cannot be kept: %s", exc.message)
            return otherwise

    # --- after a restart ----------------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Begin anew what ran when the daemon ended. Never raises for a database that fails."""
        accounts = self._app[ACCOUNTS]
        await accounts.usable()
        if accounts.store is None:
            return
        after, more = "", True
        while more:
            page = await kept(
                self._app,
                lambda objects, after=after: objects.page(  # type: ignore[misc]
                    KIND, owner=None, statuses=("queued", "in_progress"), ascending=True, after=after, limit=PAGE
                ),
            )
            if page is None:
                return
            for thing in page.data:
                await self._again(thing)
            more, after = page.more, page.data[-1].id if page.data else ""

    async def _again(self, thing: Stored) -> None:
        app = self._app
        data = msgspec.json.decode(thing.data)
        if data.get("home") != self._home or thing.id in self._runs:
            return
        body, who = msgspec.json.encode(data["request"]), data["who"]
        books = open_books(app, "/v1/responses", id=data["req"])
        books.tag, books.address, books.agent = data["tag"], who["address"], who["agent"]
        try:
            before = Caller(name=who["name"], address=who["address"], admin=who["admin"])
            books.caller = caller_again(app, thing.owner, before)
            books.hold.take(body_cost(body))
            prepared = await prepare(app, body, books, id=thing.id, queued=True)
        except OproxyError as exc:
            books.hold.release()
            response = {**data["response"], "status": "failed"}
            response["error"] = {"code": "server_error", "message": exc.message}
            told = msgspec.json.encode({**data, "response": response})
            await self._try(
                lambda objects: objects.change(thing.id, kind=KIND, owner=None, status="failed", data=told), False
            )
            return
        pieces = await kept(app, lambda objects: objects.pieces(thing.id))
        prepared.items = [msgspec.json.decode(piece.data) for piece in pieces]
        prepared.writer.response["created_at"] = data["response"]["created_at"]
        log.info("response %s is begun anew", thing.id)
        self._begin(Run(prepared, books, body))


def failure(batch: list[Event]) -> OproxyError | None:
    """Return the error that ends a batch, if one does."""
    match batch[-1]:
        case Fail(error=error):
            return error
    return None


def events_of(app: web.Application, prepared: Prepared, frames: list[bytes]) -> Stored:
    """Return the events of a run as they are kept, to be followed later with the same numbers."""
    return Stored(
        id=f"{prepared.id}.events",
        kind=EVENTS,
        owner=prepared.owner,
        created=app[WALL](),
        expires=expiry(app),
        parent=prepared.id,
        data=b"[" + b",".join(documents(frames)) + b"]",
    )
