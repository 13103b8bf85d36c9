"""A WebSocket that is sent on as it is, to a backend on OpenAI's own wire: messages pass both ways as they come, and
are only looked at for the usage they tell. One connection is one line in the ledger. Never keeps a message.
"""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import msgspec
from aiohttp import WSMsgType, web

from ..backends.http import LARGEST_MESSAGE
from ..backends.openai import OpenAIBackend
from ..errors import Unsupported
from ..events import Usage
from ..model import Call
from ..policy.books import Books
from ..translate.forward import SECRET_PROTOCOLS, request_headers, usage_of
from .forward import call_path, note_model, placed
from .keys import BOOKS, ENGINE, TASKS
from .middleware import head

__all__ = ["forward_socket"]

# What a socket is closed with when its other side is gone. https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
GOING_AWAY = 1001
# Codes that are never sent: they say what was missing.
UNSENT = (None, 1005, 1006, 1015)

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def forward_socket(request: web.Request, backends: Sequence[str]) -> web.StreamResponse:
    """Open the same socket at a backend, then here, and pass messages on until either side is done."""
    books, engine = request[BOOKS], request.app[ENGINE]
    settings = engine.snapshot.settings
    name, path = backends[0], call_path(request)
    if asked := request.query.get("model", ""):
        note_model(books, asked)
        name, books.served = placed(asked, backends, settings)
        if books.served != asked:
            path = call_path(request.clone(rel_url=request.rel_url.update_query(model=books.served)))
    books.backend, books.stream = name, True
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
            here = web.WebSocketResponse(protocols=chosen, max_msg_size=LARGEST_MESSAGE)
            here.headers.update(head(request))
            await here.prepare(request)
            up = request.app[TASKS].start(passed(here, there, None), name="socket")
            try:
                await passed(there, here, books)
            finally:
                up.cancel()
    return here


def protocols_of(request: web.Request) -> list[str]:
    """Return the protocols that a client offers, without the key and the account that browsers put among them."""
    offered = request.headers.get("sec-websocket-protocol", "").split(",")
    return [one.strip() for one in offered if one.strip() and not one.strip().startswith(SECRET_PROTOCOLS)]


async def passed(source: Socket, sink: Socket, books: Books | None) -> None:
    """Pass messages on until the source is done, then close the sink as the source was closed."""
    while True:
        message = await source.receive()
        match message.type:
            case WSMsgType.TEXT:
                if books is not None:
                    note_usage(books, message.data)
                await sink.send_str(message.data)
            case WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case _:
                break
    code = source.close_code
    told = message.extra if isinstance(message.extra, str) else ""
    await sink.close(code=GOING_AWAY if code is None or code in UNSENT else code, message=told.encode()[:123])


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
