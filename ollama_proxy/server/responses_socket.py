"""The Responses API over a WebSocket: `response.create` in, events out, one turn after the other.

Each turn is a request of its own: with its key looked at again, its limits, its row in the ledger. What is not stored
is remembered as long as the connection lives, so that the next turn can go on from it.
https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from .. import framing
from ..errors import ClientGone, Internal, Invalid, OproxyError
from ..events import Fail
from ..policy.books import Books
from ..policy.memory import Hold, body_cost
from ..policy.redact import redact_error
from ..translate.responses_replay import documents
from ..workers import LARGE
from .cutting import ending
from .dialects import RESPONSES
from .door import enter
from .keys import BODY, BOOKS, CLERK, CLOCK, ENGINE, LEAVING, MEMORY, NEW_ID, TASKS, WALL, WORKERS
from .malformed import release_incoming
from .middleware import head, tell
from .reply import Feeder
from .responses_ask import Prepared, Said, answered, keep, prepare
from .sockets import PING, open_socket

__all__ = ["serve_socket"]

log = logging.getLogger(__name__)

# Seconds a connection lives, as OpenAI's.
LIFE = 3600.0
# Turns whose items are remembered.
REMEMBERED = 8
# Times its letters that a frame takes while it waits.
FRAME = 2
# Frames that wait while a turn runs.
WAITING = 16
# Keys of a frame that are no parameters of the response.
PARAMETERS = ("type", "generate", "stream_id", "event_id", "stream", "background")


async def serve_socket(request: web.Request) -> web.WebSocketResponse:
    """Serve one connection until it ends."""
    request[BOOKS].endpoint = ""
    with open_socket(request):
        return await served(request)


async def served(request: web.Request) -> web.WebSocketResponse:
    size = request.app[ENGINE].snapshot.settings.server.max_body
    # Packed frames could not be counted before they are unpacked.
    ws = web.WebSocketResponse(heartbeat=PING, max_msg_size=size, autoping=True, compress=False)
    ws.headers.update(head(request))
    try:
        await ws.prepare(request)
    except web.HTTPBadRequest as exc:
        raise Invalid(f"The WebSocket handshake is wrong: {exc.text}.") from exc
    # The endpoint of its turns.
    conversation = Socket(request, ws)
    turns = request.app[TASKS].start(conversation.run(), name="responses-socket")
    request.app[LEAVING].add(conversation.leave)
    try:
        async for message in ws:
            release_incoming(request)
            if message.type is not WSMsgType.TEXT:
                continue
            size = FRAME * len(message.data)
            if conversation.frames.full():
                await conversation.refuse(Invalid("Too many requests wait on this connection.", code="too_many"))
            elif not conversation.hold.attempt(size):
                await conversation.refuse(conversation.hold.refusal(size))
            else:
                conversation.frames.put_nowait(message.data)
    finally:
        request.app[LEAVING].discard(conversation.leave)
        turns.cancel()
        with conversation.hold:
            await asyncio.wait([turns])
    return ws


class Socket:
    """One connection. `frames` are those that wait for their turn; `hold` is the memory for them, and for what is
    remembered."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self.frames: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._request = request
        self._app = request.app
        self._ws = ws
        self._leaving = False
        # By the ids of responses that are not stored, all that was said up to their end.
        self._memory: OrderedDict[str, Said] = OrderedDict()
        self.hold = Hold(request.app[MEMORY])

    async def run(self) -> None:
        """Take the turns until cancelled, until the connection is too old, or until the daemon ends."""
        try:
            async with asyncio.timeout(LIFE):
                while not self._leaving:
                    if frame := await self.frames.get():
                        self.hold.give(FRAME * len(frame))
                        await self._turn(frame)
            await self._ws.close(code=WSCloseCode.GOING_AWAY)
        except TimeoutError:
            error = Invalid(
                "Responses websocket connection limit reached (60 minutes). Create a new websocket connection to "
                "continue.",
                code="websocket_connection_limit_reached",
            )
            await self.refuse(error)
            await self._ws.close()
        except ConnectionError:
            return

    def leave(self) -> None:
        """End after the turn that runs, at once if none does."""
        self._leaving = True
        if self.frames.empty():
            self.frames.put_nowait("")

    async def refuse(self, error: OproxyError) -> None:
        """Tell an error in the form that WebSockets have for it."""
        told = RESPONSES.body(error, "")["error"]
        data = msgspec.json.encode({"type": "error", "status": error.status, "error": told})
        await self._send(redact_error(data))

    async def _send(self, document: bytes) -> None:
        await self._ws.send_str(framing.escape_breaks(document).decode())

    async def _turn(self, text: str) -> None:
        app, request = self._app, self._request
        clock = app[CLOCK]
        books = Books(clock(), id=f"req_{app[NEW_ID]()[:32]}", at=app[WALL](), memory=app[MEMORY])
        request[BOOKS], request[BODY] = books, text.encode()
        answer = b""
        try:
            enter(request, app[ENGINE].snapshot.settings)
            books.hold.take(body_cost(request[BODY]))
            answer = await self._answer(text, books)
        except OproxyError as exc:
            books.status, books.code = exc.status, exc.code
            await self._closed(books)
            await self.refuse(exc)
        except (asyncio.CancelledError, ConnectionError):
            books.status, books.code = ClientGone.status, ClientGone.code
            raise
        except Exception:
            log.exception("request %s failed", books.id)
            books.status, books.code = 500, "internal"
            await self._closed(books)
            await self.refuse(Internal(books.id))
        finally:
            books.ended = clock()
            app[CLERK].close_now(books)
            tell(request, books, answer)
            books.hold.release()

    async def _closed(self, books: Books) -> None:
        """Close the books before the client can know that it has all."""
        books.ended = self._app[CLOCK]()
        await self._app[CLERK].close(books)

    async def _answer(self, text: str, books: Books) -> bytes:
        """Answer one frame; returns the response for the recorder."""
        app = self._app
        frame = await app[WORKERS].run(len(text), read, text)
        generate = frame.get("generate") is not False
        fields = {key: value for key, value in frame.items() if key not in PARAMETERS}
        body = await app[WORKERS].run(len(text), msgspec.json.encode, fields | {"stream": True})
        previous = frame.get("previous_response_id")
        try:
            prepared = await prepare(app, body, books, memory=self._memory)
            last = await self._stream(prepared, books) if generate else self._warm(prepared)
        except OproxyError:
            # A turn that failed is not gone on from by accident: its client has to say all again.
            self._forget(previous if isinstance(previous, str) else "")
            raise
        books.status = 200
        await self._closed(books)
        await keep(app, prepared, books)
        self._remember(prepared, books.hold.held)
        for document in documents(last):
            await self._send(document)
        return await app[WORKERS].run(books.answer, msgspec.json.encode, prepared.writer.response)

    def _warm(self, prepared: Prepared) -> list[bytes]:
        """Return the events of a turn that only gets what comes next ready; no model is asked."""
        return [*prepared.writer.feed([]), *prepared.writer.flush()]

    async def _stream(self, prepared: Prepared, books: Books) -> list[bytes]:
        """Send the events of an answer as they come; returns the last ones, for when the books are closed."""
        app, writer = self._app, prepared.writer
        target = await app[ENGINE].route(prepared.request.model, "chat", books)
        begun, feeder = False, Feeder(app, books)
        try:
            with ending(app):
                async with aclosing(answered(app, prepared, target, books)) as batches:
                    async for batch in batches:
                        if isinstance(last := batch[-1], Fail):
                            books.code = last.error.code
                            return await feeder.run(writer.feed, batch)
                        long = books.answer >= LARGE
                        for document in documents(await feeder.feed(writer, batch) if long else writer.feed(batch)):
                            begun = True
                            await self._send(document)
        except OproxyError as exc:
            if not begun:
                raise
            books.code = exc.code
            return await feeder.run(writer.feed, [Fail(exc)])
        return await feeder.run(writer.flush)

    def _remember(self, prepared: Prepared, size: int) -> None:
        """Remember a turn that took `size` bytes, if there is memory for it. What came before it is shared with the
        turns before."""
        response = prepared.writer.response
        if prepared.stored or response["status"] not in ("completed", "incomplete") or not self.hold.attempt(size):
            return
        self._memory[prepared.id] = Said([*prepared.before, *prepared.items, *response["output"]], size)
        while len(self._memory) > REMEMBERED:
            self._forget(next(iter(self._memory)))

    def _forget(self, id: str) -> None:
        if (said := self._memory.pop(id, None)) is not None:
            self.hold.give(said.size)


def read(text: str) -> dict[str, Any]:
    """Return a frame. Raises errors.Invalid."""
    try:
        frame = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
        raise Invalid("We could not parse the JSON of your message.", code="invalid_json") from exc
    if not isinstance(frame, dict):
        raise Invalid("Invalid message: expected an object.", code="invalid_type")
    kind = frame.get("type")
    if kind is None:
        raise Invalid("Missing required parameter: 'type'.", param="type", code="missing_required_parameter")
    if kind != "response.create":
        raise Invalid(
            f"Invalid value: {str(kind)[:100]!r}. Supported values are: 'response.create'.",
            param="type",
            code="invalid_value",
        )
    return frame
