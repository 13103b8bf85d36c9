"""The handlers of batches, and the office of the one who runs them: lines answered like requests, kept and booked.

A line has books of its own, which are opened and closed here as the middleware does it for a request; what answers it
is `answers`. When it is asked is decided in `batches` and `batchlines`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from aiohttp import web

from ..account import Caller
from ..batches import Runner
from ..batchlines import Answer
from ..blobs import gate
from ..errors import ClientGone, Forbidden, Internal, Invalid, NotFound, OproxyError
from ..policy import credentials
from ..policy.batch import OVER, Batch, Creator, Fault, Kept, Retry, Status, cancelled
from ..policy.books import Books
from ..policy.memory import body_cost
from ..policy.redact import redact_error
from ..sections_state import Batches
from ..stored import Stored
from ..translate import batches, paging, query, validate
from ..translate.ids import check_id
from ..translate.openapi import Route
from ..translate.shapes_batches import BatchRequest
from ..translate.shapes_queries import Paging
from .answers import ANSWERS
from .dialects import dialect_of
from .files import file_of, keep_file
from .generate import body_of
from .keys import (
    BATCHES,
    BLOBS,
    BOOKS,
    CLERK,
    CLOCK,
    ENGINE,
    NEW_ID,
    SAY,
    TASKS,
    WALL,
)
from .reply import json_bytes
from .row import Row
from .shelf import kept, new_id, owner_of, sees
from .unattended import caller_again, close_books, open_books

__all__ = ["ROWS", "Desk", "prepare"]

log = logging.getLogger(__name__)

DAY = 86400
# What the models of an endpoint must be able to do; the rest is known when it is asked.
KINDS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
}
_KEPT = msgspec.json.Decoder(Kept)


def prepare(app: web.Application) -> None:
    """Put the runner in its place. It begins with its `watch`."""
    app[BATCHES] = Runner(
        app[BLOBS].folder / "batches",
        Desk(app),
        app[TASKS],
        wall=app[WALL],
        clock=app[CLOCK],
        new_id=app[NEW_ID],
        say=app[SAY],
    )


class Desk:
    """`batchlines.Office` for an application."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def settings(self) -> Batches:
        return self._app[ENGINE].snapshot.settings.batches

    def most(self) -> int:
        return self._app[ENGINE].snapshot.settings.server.max_body

    def place(self, id: str) -> Path:
        return self._app[BLOBS].path(id)

    async def load(self, id: str) -> Kept | None:
        thing = await kept(self._app, lambda objects: objects.get(id, kind="batch", owner=None))
        return _KEPT.decode(thing.data) if thing is not None else None

    async def save(self, batch: Kept, *, only: Status) -> bool:
        data = msgspec.json.encode(batch)
        return await kept(
            self._app,
            lambda objects: objects.change(
                batch.batch.id, kind="batch", owner=None, only=(only,), status=batch.batch.status, data=data
            ),
        )

    async def keep(self, batch: Kept, id: str, filename: str) -> None:
        if await file_of(self._app, id, None) is not None:
            return
        expires = self._app[WALL]() + batch.lifetime if batch.lifetime is not None else None
        made = await keep_file(
            self._app, id=id, owner=batch.owner, filename=filename, purpose="batch_output", expires=expires
        )
        self._app[BLOBS].count(made["bytes"])

    async def find(self, batch: Kept, model: str) -> str | None:
        kind = KINDS.get(batch.batch.endpoint)
        if kind is None:
            return ""
        books = Books(self._app[CLOCK]())
        try:
            books.caller = self._caller(batch)
            return (await self._app[ENGINE].route(model, kind, books)).info.backend
        except (NotFound, Forbidden):
            return None
        except OproxyError:
            # A backend that is away may well have it.
            return ""

    def busy(self, backend: str) -> bool:
        return self._app[ENGINE].fleet.busy(backend)

    async def answer(
        self, batch: Kept, body: bytes, *, behind: int, retry: Callable[[OproxyError], Retry | None]
    ) -> Answer | Retry:
        app, clerk = self._app, self._app[CLERK]
        books = open_books(app, batch.batch.endpoint)
        books.behind = behind
        books.address, books.agent = batch.creator.address, batch.creator.agent
        # In the books also where the key is none any more.
        books.caller = Caller(name=batch.creator.name, address=batch.creator.address)
        try:
            clerk.ready()
            books.hold.take(body_cost(body))
            books.caller = caller = self._caller(batch)
            if caller.key is not None:
                credentials.check_endpoint(caller.key, books.endpoint)
            status, answer = 200, await ANSWERS[books.endpoint](app, body, books)
        except OproxyError as exc:
            if (later := retry(exc)) is not None:
                # It is one request, however often it is tried: only its last try is in the ledger.
                books.endpoint = ""
                clerk.close_now(books)
                return later
            told = dialect_of(batch.batch.endpoint, {}).body(exc, books.id)
            status, answer, books.code = exc.status, redact_error(msgspec.json.encode(told)), exc.code
        except asyncio.CancelledError:
            books.status, books.code, books.ended = ClientGone.status, ClientGone.code, app[CLOCK]()
            books.tag = books.tag or batch.batch.id
            clerk.close_now(books)
            raise
        except Exception:
            log.exception("request %s of %s failed", books.id, batch.batch.id)
            status, answer, books.code = 500, msgspec.json.encode(Internal(books.id).body()), "internal"
        finally:
            books.hold.release()
        books.tag = books.tag or batch.batch.id
        await close_books(app, books, status, body, answer, aloud=False)
        return Answer(status, books.id, answer)

    def _caller(self, batch: Kept) -> Caller:
        """Return who asks: the key that made the batch, as it is now. Raises Unauthorized once it opens nothing."""
        creator = batch.creator
        before = Caller(name=creator.name, address=creator.address, admin=creator.admin)
        return caller_again(self._app, batch.owner, before)


# --- handlers ---------------------------------------------------------------------------------------------------------


async def create_batch(request: web.Request) -> web.Response:
    """POST /v1/batches"""
    app, books = request.app, request[BOOKS]
    shape, fields = validate.decode(await body_of(request), BatchRequest)
    books.ignored = validate.ignored_keys(fields, BatchRequest)
    if shape.endpoint not in ANSWERS:
        raise validate.invalid_value("endpoint", shape.endpoint, sorted(ANSWERS))
    caller = books.caller
    if caller.key is not None:
        credentials.check_endpoint(caller.key, shape.endpoint)
    if app[ENGINE].snapshot.settings.server.strict_ids:
        check_id("input_file_id", shape.input_file_id)
    file = await file_of(app, shape.input_file_id, sees(request))
    # OpenAI looks for the file only after it has answered: the batch fails.
    fault = Fault(**batches.no_input(shape.input_file_id)._asdict()) if file is None else None
    if file is not None and file["purpose"] != "batch":
        raise Invalid(
            f"Invalid 'input_file_id': the purpose of the file must be 'batch', but it is '{file['purpose']}'.",
            param="input_file_id",
            code="invalid_file_purpose",
        )
    now = app[WALL]()
    batch = Batch(
        id=new_id(app, "batch_", 32),
        endpoint=shape.endpoint,
        input_file_id=shape.input_file_id,
        created_at=int(now),
        expires_at=int(now) + DAY,
        metadata=shape.metadata,
    )
    made = Kept(
        batch=batch,
        owner=owner_of(caller),
        creator=Creator(name=caller.name, address=caller.address, agent=books.agent, admin=caller.admin),
        output=new_id(app, "file-", 24),
        errors=new_id(app, "file-", 24),
        lifetime=shape.output_expires_after.seconds if shape.output_expires_after is not None else None,
        fault=fault,
    )
    await begin(app, made, now)
    return written(batch)


async def begin(app: web.Application, made: Kept, now: float) -> None:
    """Keep a new batch, and let it run."""
    batch, runner = made.batch, app[BATCHES]
    with gate():
        await asyncio.to_thread(runner.prepare, batch.id)
    thing = Stored(
        id=batch.id, kind="batch", owner=made.owner, created=now, data=msgspec.json.encode(made), status=batch.status
    )
    await kept(app, lambda objects: objects.add(thing))
    runner.start(batch.id)


async def found(request: web.Request) -> Kept:
    """Return the batch that the URL names. Raises NotFound."""
    id, owner = request.match_info["batch_id"], sees(request)
    thing = await kept(request.app, lambda objects: objects.get(id, kind="batch", owner=owner))
    if thing is None:
        raise batches.no_batch(id)
    return _KEPT.decode(thing.data)


def current(app: web.Application, batch: Batch) -> Batch:
    """Return a batch with its counts as they are in this moment, if it runs here."""
    live = app[BATCHES].live(batch.id)
    if live is None or batch.status not in ("in_progress", "cancelling"):
        return batch
    return msgspec.structs.replace(batch, request_counts=live.batch.request_counts, usage=live.batch.usage)


def written(batch: Batch) -> web.Response:
    return json_bytes(msgspec.json.encode(batch))


async def retrieve_batch(request: web.Request) -> web.Response:
    """GET /v1/batches/{batch_id}"""
    batch = (await found(request)).batch
    if batch.status not in OVER:
        # Somebody waits for it; without a daemon nobody else would go on with it.
        request.app[BATCHES].start(batch.id)
    return written(current(request.app, batch))


async def list_batches(request: web.Request) -> web.Response:
    """GET /v1/batches"""
    asked, request[BOOKS].ignored = query.parse(request.query.items(), Paging)
    owner = sees(request)
    page = await kept(
        request.app,
        lambda objects: objects.page(
            "batch",
            owner=owner,
            after=asked.after,
            before=asked.before,
            limit=asked.limit,
            ascending=asked.ascending,
        ),
    )
    if page is None:
        raise paging.unknown_cursor(asked)
    data = [msgspec.json.encode(current(request.app, _KEPT.decode(each.data).batch)) for each in page.data]
    return json_bytes(paging.write_page(data, [each.id for each in page.data], more=page.more))


async def cancel_batch(request: web.Request) -> web.Response:
    """POST /v1/batches/{batch_id}/cancel"""
    app = request.app
    await body_of(request)
    while True:
        before = await found(request)
        batch = cancelled(before.batch, app[WALL]())
        if batch is before.batch:
            break
        batch = current(app, batch)
        if await app[BATCHES].office.save(msgspec.structs.replace(before, batch=batch), only=before.batch.status):
            # At once where it runs; where nobody is at it, somebody has to be.
            app[BATCHES].stir(batch.id)
            app[BATCHES].start(batch.id)
            break
    return written(current(app, batch))


ROWS: tuple[Row, ...] = (
    Row(Route("POST", "/v1/batches", "Have a file of requests answered", BatchRequest, "Batches"), create_batch),
    Row(Route("GET", "/v1/batches", "List the batches", None, "Batches", query=Paging), list_batches),
    Row(Route("GET", "/v1/batches/{batch_id}", "Tell how far a batch is", None, "Batches"), retrieve_batch),
    Row(Route("POST", "/v1/batches/{batch_id}/cancel", "Cancel a batch", None, "Batches", more=(409,)), cancel_batch),
)
