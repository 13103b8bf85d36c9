"""A WebSocket that is sent on as it is, to a backend on OpenAI's own wire: messages pass both ways as they come, and
are only looked at for the usage they tell. One connection is one line in the ledger. Never keeps a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from ..backends.http import LARGEST_MESSAGE
from ..backends.openai import OpenAIBackend
from ..errors import Unsupported
from ..events import Usage
from ..model import Call
from ..policy.books import Books
from ..policy.memory import Hold
from ..translate.forward import SECRET_PROTOCOLS, request_headers, usage_of
from .forward import call_path, note_model, placed
from .keys import ACCOUNTS, BOOKS, CLERK, ENGINE, LEAVING, MEMORY, TASKS, WORKERS
from .malformed import release_incoming
from .middleware import head
from .sockets import PING, open_socket

__all__ = ["forward_socket"]

# What a socket is closed with when its other side is gone. https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
GOING_AWAY = 1001
# Times its size that a message takes: as it came, and as it is sent.
MESSAGE = 2
# Codes that are never sent: they say what was missing.
UNSENT = (None, 1005, 1006, 1015)


class End(NamedTuple):
    """How a socket was closed."""

    code: int
    reason: bytes


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def forward_socket(request: web.Request, backends: Sequence[str]) -> web.StreamResponse:
    """Open the same socket at a backend, then here, and pass messages on until either side is done."""
    with open_socket(request):
        return await forwarded(request, backends)


async def forwarded(request: web.Request, backends: Sequence[str]) -> web.StreamResponse:
    books, engine = request[BOOKS], request.app[ENGINE]
    settings = engine.snapshot.settings
    name, path = backends[0], call_path(request)
    if asked := request.query.get("model", ""):
        note_model(books, asked)
        name, books.served = placed(asked, backends, settings)
        if books.served != asked:
            path = call_path(request.clone(rel_url=request.rel_url.update_query(model=books.served)))
    books.backend, books.stream = name, True
    # However the connection ends, its line can be written at once.
    await request.app[ACCOUNTS].settled()
    await engine.gate.admit(books, lambda: 0, 0)
    offered = protocols_of(request)
    call = Call(
        "GET", path, None, request_headers(request.headers.items(), settings.backends[name].headers), as_is=True
    )
    async with engine.fleet.hold(name) as backend:
        if not isinstance(backend, OpenAIBackend):
            # The config was exchanged a moment ago.
            raise Unsupported(f"The backend '{name}' has no WebSockets.")
        books.tries += 1
        async with backend.connect(call, offered) as there:
            chosen = (there.protocol,) if there.protocol else ()
            # It is closed by us, when it is written down. Packed frames could not be counted before they are unpacked.
            here = web.WebSocketResponse(
                protocols=chosen, max_msg_size=LARGEST_MESSAGE, autoclose=False, heartbeat=PING, compress=False
            )
            here.headers.update(head(request))
            await here.prepare(request)
            app = request.app
            up = app[TASKS].start(passed_up(request, here, there), name="socket")

            def leave() -> None:
                app[TASKS].start(there.close(code=GOING_AWAY), name="close-socket")

            app[LEAVING].add(leave)
            try:
                end = await passed(request, there, here, books)
            finally:
                app[LEAVING].discard(leave)
                up.cancel()
            # Before the client can know that it is over.
            books.status = here.status
            await request.app[CLERK].close(books)
            await here.close(code=end.code, message=end.reason)
    return here


def protocols_of(request: web.Request) -> list[str]:
    """Return the protocols that a client offers, without the key and the account that browsers put among them."""
    offered = request.headers.get("sec-websocket-protocol", "").split(",")
    return [one.strip() for one in offered if one.strip() and not one.strip().startswith(SECRET_PROTOCOLS)]


async def passed_up(request: web.Request, here: Socket, there: Socket) -> None:
    """Pass on what the client says; when it is done, so is the other side."""
    end = await passed(request, here, there, None)
    await there.close(code=end.code, message=end.reason)


async def passed(request: web.Request, source: Socket, sink: Socket, books: Books | None) -> End:
    """Pass messages on until the source is done; return how it was closed. Without books, they come from the client."""
    hold = Hold(request.app[MEMORY])
    while True:
        message = await source.receive()
        if books is None:
            release_incoming(request)
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            break
        with hold:
            if not hold.attempt(MESSAGE * len(message.data)):
                return End(WSCloseCode.TRY_AGAIN_LATER, b"The server has no memory left for this message.")
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
                continue
            if books is not None:
                await request.app[WORKERS].run(len(message.data), note_usage, books, message.data)
            await sink.send_str(message.data)
    code = source.close_code
    told = message.extra if isinstance(message.extra, str) else ""
    return End(GOING_AWAY if code is None or code in UNSENT else code, told.encode()[:123])


def note_usage(books: Books, text: str) -> None:
    """Add up what the answers of a connection took."""
    if '"usage"' not in text:
        return
    try:
        found = usage_of(msgspec.json.decode(text))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    if found is not None:
        books.usage = (books.usage or Usage(prompt=0, completion=0)) + found
