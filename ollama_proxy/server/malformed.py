"""What is no request that could be handled: told in OpenAI's form, with an id, like any other refusal.

aiohttp answers what its parser refuses by itself, in plain text, before any code of ours is asked; and an `Expect` that
nobody knows. Never sees what came: only what was wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from ..errors import Internal, Invalid, OproxyError
from ..policy.redact import without_keys
from .keys import NEW_ID

__all__ = ["Protocol", "Runner"]

NewId = Callable[[], str]


class Protocol(web.RequestHandler):
    """One connection; aiohttp's, with our words."""

    __slots__ = ("_new_id",)

    def __init__(self, server: web.Server, *, new_id: NewId, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._new_id = new_id

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
    """Makes a `Protocol` for each connection."""

    def __init__(self, made: web.Server, new_id: NewId, **options: Any) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            # https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            if (expect := request.headers.get(hdrs.EXPECT)) and expect.strip().lower() != "100-continue":
                return refusal(417, "the only Expect that is known is 100-continue", new_id)
            return await made.request_handler(request)

        super().__init__(handle, request_factory=made.request_factory, handler_cancellation=made.handler_cancellation)
        self._new_id = new_id
        self._options = options

    def __call__(self) -> Protocol:
        return Protocol(self, new_id=self._new_id, loop=asyncio.get_running_loop(), **self._options)


class Runner(web.AppRunner):
    """Runs an application; `options` are those of each connection (times and sizes)."""

    __slots__ = ("_new_id", "_options")

    def __init__(self, app: web.Application, *, shutdown_timeout: float, **options: Any) -> None:
        super().__init__(app, access_log=None, handler_cancellation=True, shutdown_timeout=shutdown_timeout)
        self._new_id = app[NEW_ID]
        self._options = options

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self._new_id, access_log=None, **self._options)


def refusal(status: int, message: str, new_id: NewId) -> web.Response:
    """Return an answer with what the parser says; what follows its first line is what came."""
    id = f"req_{new_id()[:32]}"
    said = message.strip().partition("\n")[0].rstrip(":. ")[:200]
    error: OproxyError = Internal(id)
    if status < 500:
        error = Invalid(f"We could not read your HTTP request{f': {said}' if said else ''}.")
    return web.Response(
        status=status,
        body=without_keys(msgspec.json.encode(error.body())),
        content_type="application/json",
        headers={"x-request-id": id, "openai-version": "2020-10-01", "server": "oproxy"},
    )
