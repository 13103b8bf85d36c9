"""The connections of clients, and what is no request that could be handled: told in OpenAI's form, with an id, like any
other refusal.

aiohttp answers what its parser refuses by itself, in plain text, before any code of ours is asked; and an `Expect` that
nobody knows. Never sees what came: only what was wrong with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from aiohttp import WSCloseCode, hdrs, web

from ..errors import Internal, Invalid, OproxyError, Overloaded
from ..policy.crowd import Unsent, most_connections, standstills
from ..policy.memory import Hold, Memory
from ..policy.redact import redact_error
from ..sections import Server as ServerSettings
from .dialects import dialect_of
from .keys import ENGINE, MEMORY, NEW_ID

if sys.platform != "win32":
    import resource

__all__ = ["Protocol", "Runner", "release_incoming"]

NewId = Callable[[], str]

# Files that we want to be allowed to open.
FILES = 65_536
# Seconds between looks at which clients take nothing of their answers.
LOOK = 5.0


class Incoming:
    """A WebSocket's parser that counts what has come of a message against the memory of requests: a message may be as
    large as a body, and nobody sees it before it is whole."""

    def __init__(self, parser: Any, transport: asyncio.Transport | None, memory: Memory | None) -> None:
        self.hold = Hold(memory)
        self._parser = parser
        self._transport = transport

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self.hold.attempt(len(data)):
            found: tuple[bool, bytes] = self._parser.feed_data(data)
            return found
        self.hold.release()
        if self._transport is not None:
            self._transport.write(close_frame(WSCloseCode.TRY_AGAIN_LATER, "The server has no memory left for this."))
        self._parser.feed_eof()
        return True, b""

    def feed_eof(self) -> None:
        self.hold.release()
        self._parser.feed_eof()


def close_frame(code: int, reason: str) -> bytes:
    """Return the frame that closes a WebSocket. https://www.rfc-editor.org/rfc/rfc6455#section-5.5.1"""
    payload = code.to_bytes(2, "big") + reason.encode()[:123]
    return b"\x88" + bytes([len(payload)]) + payload


class Protocol(web.RequestHandler):
    """One connection; aiohttp's, with our words. `busy`: a request of it is handled; `surplus`: there were too many
    connections when it came."""

    __slots__ = ("_new_id", "_server", "busy", "incoming", "surplus")

    def __init__(self, server: Server, *, new_id: NewId, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._new_id = new_id
        self._server = server
        self.busy = self.surplus = False
        self.incoming: Incoming | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.open.pop(self, None)
        if self.incoming is not None:
            self.incoming.hold.release()
        super().connection_lost(exc)

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        self.incoming = Incoming(parser, self.transport, self._server.memory)
        super().set_parser(self.incoming, data_received_cb)  # type: ignore[arg-type]

    def cut(self) -> None:
        """Cancel the request that is being answered; its handler may still tell its client why."""
        if self._task_handler is not None:
            self._task_handler.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be handled, and hang up: where the next request begins nobody knows."""
        if status >= 500:
            self.log_exception("a request could not be handled", exc_info=exc)
        else:
            self.log_debug("no request: %s", message)
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun already.")
        response = refusal(status, message or "", self._new_id)
        response.force_close()
        return response


class Server(web.Server):
    """Makes a `Protocol` for each connection. `open` are those that are open, the oldest first; there may be `most`."""

    def __init__(self, made: web.Server, new_id: NewId, memory: Memory | None, most: int, **options: Any) -> None:
        self.open: dict[Protocol, None] = {}
        self.memory = memory
        self._most = most

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            protocol = request.protocol
            assert isinstance(protocol, Protocol)
            if protocol.surplus:
                return full(request, new_id, most)
            protocol.busy = True
            try:
                return await answer(request)
            finally:
                protocol.busy = False

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            # https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            if (expect := request.headers.get(hdrs.EXPECT)) and expect.strip().lower() != "100-continue":
                return refusal(417, "the only Expect that is known is 100-continue", new_id)
            return await made.request_handler(request)

        super().__init__(handle, request_factory=made.request_factory, handler_cancellation=made.handler_cancellation)
        self._new_id = new_id
        self._options = options

    def add(self, protocol: Protocol) -> None:
        """Note a connection. Where there are too many, the oldest idle one is closed; where none is idle, the new one
        is only told so."""
        self.open[protocol] = None
        if len(self.open) > self._most:
            idle = next((each for each in self.open if not each.busy and each is not protocol), None)
            if idle is None:
                protocol.surplus = True
            else:
                del self.open[idle]
                idle.force_close()

    def __call__(self) -> Protocol:
        return Protocol(self, new_id=self._new_id, loop=asyncio.get_running_loop(), **self._options)


class Runner(web.AppRunner):
    """Runs an application; `options` are those of each connection (times and sizes)."""

    __slots__ = ("_memory", "_most", "_new_id", "_options", "_settings")

    def __init__(self, app: web.Application, *, shutdown_timeout: float, **options: Any) -> None:
        super().__init__(app, access_log=None, handler_cancellation=True, shutdown_timeout=shutdown_timeout)
        self._new_id, self._memory = app[NEW_ID], app.get(MEMORY)
        self._settings = partial(settings_of, app)
        self._most = most_connections(self._settings().max_connections, open_files())
        # Packed bodies are unpacked where they are read: what is wrong with one is then told like any other refusal.
        self._options = {"auto_decompress": False, **options}

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(made, self._new_id, self._memory, self._most, access_log=None, **self._options)

    async def watch(self, every: float = LOOK) -> None:
        """Close the connections of clients that take nothing of their answers, until cancelled."""
        clock = asyncio.get_running_loop().time
        unsent: dict[Protocol, Unsent] = {}
        while True:
            await asyncio.sleep(every)
            server = self.server
            if not isinstance(server, Server):
                continue
            sizes = {each: unsent_of(each) for each in server.open}
            unsent, over = standstills(unsent, sizes, clock(), self._settings().send_timeout)
            for protocol in over:
                if protocol.transport is not None:
                    protocol.transport.abort()


def settings_of(app: web.Application) -> ServerSettings:
    """Return [server] as it is now; an application without an engine has the defaults."""
    engine = app.get(ENGINE)
    return engine.snapshot.settings.server if engine is not None else ServerSettings()


def unsent_of(protocol: Protocol) -> int:
    """Return the bytes that wait to be sent on a connection."""
    return protocol.transport.get_write_buffer_size() if protocol.transport is not None else 0


def open_files() -> int | None:
    """Return how many files we may open, after raising that to what the system allows at most; None where it does not
    say."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return None if soft == resource.RLIM_INFINITY else soft


def full(request: web.BaseRequest, new_id: NewId, most: int) -> web.Response:
    """Return the refusal of a connection that is one too many."""
    error = Overloaded(f"The server has {most} connections open (max_connections under [server]).", wait=1.0)
    dialect, id = dialect_of(request.path, request.headers), f"req_{new_id()[:32]}"
    response = web.Response(
        status=dialect.status(error),
        body=msgspec.json.encode(dialect.body(error, id)),
        content_type="application/json",
        headers={**error.headers, "x-request-id": id, "server": "oproxy"},
    )
    response.force_close()
    return response


def refusal(status: int, message: str, new_id: NewId) -> web.Response:
    """Return an answer with what the parser says; what follows its first line is what came."""
    id = f"req_{new_id()[:32]}"
    said = message.strip().partition("\n")[0].rstrip(":. ")[:200]
    error: OproxyError = Internal(id)
    if status < 500:
        error = Invalid(f"We could not read your HTTP request{f': {said}' if said else ''}.")
    return web.Response(
        status=status,
        body=redact_error(msgspec.json.encode(error.body())),
        content_type="application/json",
        headers={"x-request-id": id, "openai-version": "2020-10-01", "server": "oproxy"},
    )


def release_incoming(request: web.BaseRequest) -> None:
    """Give back what was counted of a WebSocket's message on its way: it is whole, and its reader counts it."""
    if isinstance(request.protocol, Protocol) and request.protocol.incoming is not None:
        request.protocol.incoming.hold.release()
