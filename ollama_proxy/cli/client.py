"""How commands talk to the models: to the running daemon, or, where none runs, to the same application in this
process on a port of its own. Either way it is the same HTTP API, so that there is one code path.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from .. import __version__, certs, daemon, framing
from ..server.app import build_app
from ..settings import Loaded, load
from .failure import Failure

__all__ = ["ENDS", "Api", "ApiError", "connect", "load_settings", "run"]

T = TypeVar("T")

# Until the first byte of an answer: loading a big model may take minutes.
PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=900)


# The last events of a response's stream.
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ApiError(Exception):
    """The daemon refused. `message` is for the person, `status` the HTTP status (0: no connection)."""

    def __init__(self, message: str, *, status: int = 0, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


class Api:
    """A connection to the API. `base` is the URL without /v1; `inside` whether it runs in this process; `token` lets
    this machine's commands in as administrators."""

    def __init__(self, session: aiohttp.ClientSession, base: str, *, inside: bool, token: str = "") -> None:
        self._session = session
        # The daemon's own word for this user's commands; one of an older version has none.
        self._token = token or "oproxy-cli"
        self._trust = certs.client_context(base) or True
        self.base = base
        self.inside = inside

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, body: Any = None, form: aiohttp.FormData | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data = msgspec.json.encode(body) if body is not None else form
        headers = {"authorization": f"Bearer {self._token}", "user-agent": f"oproxy/{__version__}"}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            async with self._session.request(
                method, self.base + path, data=data, headers=headers, ssl=self._trust
            ) as response:
                if response.status >= 400:
                    raise error_of(response.status, await response.read())
                yield response
        except aiohttp.ClientError as exc:
            raise ApiError(f"The connection to {self.base} was lost ({type(exc).__name__}).") from exc
        except TimeoutError as exc:
            raise ApiError(f"No answer from {self.base} in time.") from exc

    async def get(self, path: str) -> Any:
        """GET a JSON answer."""
        async with self._open("GET", path) as response:
            return decoded(await response.read())

    async def delete(self, path: str) -> Any:
        async with self._open("DELETE", path) as response:
            return decoded(await response.read())

    async def post(self, path: str, body: Any) -> tuple[Any, dict[str, str]]:
        """POST and return the JSON answer with its headers (lower case)."""
        async with self._open("POST", path, body) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return decoded(await response.read()), headers

    async def upload(
        self,
        path: str,
        file: Path,
        fields: Mapping[str, str],
        *,
        name: str = "file",
        sent: Callable[[int], None] = lambda size: None,
    ) -> Any:
        """POST a form with a file in it, read as it is sent; `sent` gets the size of each piece. OSError if it cannot
        be read."""
        form = aiohttp.FormData()
        for field, value in fields.items():
            form.add_field(field, value)
        with await asyncio.to_thread(Watched, file, sent) as source:
            form.add_field(name, source, filename=file.name, content_type="application/octet-stream")
            return await self.send(path, form)

    async def send(self, path: str, form: aiohttp.FormData) -> Any:
        """POST a form."""
        async with self._open("POST", path, form=form) as response:
            return decoded(await response.read())

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """GET and yield an answer's bytes as they come."""
        async with self._open("GET", path) as response:
            async for data in response.content.iter_any():
                yield data

    async def lines(self, path: str, body: Any) -> AsyncIterator[dict[str, Any]]:
        """POST and yield the objects of an NDJSON answer. Raises ApiError on an error line."""
        decoder = framing.LineDecoder()
        async with self._open("POST", path, body) as response:
            async for data in response.content.iter_any():
                for line in decoder.feed(data):
                    yield checked(decoded(line))
            for line in decoder.flush():
                yield checked(decoded(line))

    async def events(
        self, path: str, body: Any, *, head: Callable[[Mapping[str, str]], None] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """POST and yield the chunks of a streamed answer until [DONE], or the event that ends a response. Raises
        ApiError on an error event.

        `head` gets the response's headers (lower case) before the first chunk.
        """
        decoder = framing.SseDecoder()
        async with self._open("POST", path, body) as response:
            if head is not None:
                head({name.lower(): value for name, value in response.headers.items()})
            async for data in response.content.iter_any():
                for event in decoder.feed(data):
                    if event.data == b"[DONE]":
                        return
                    yield (found := checked(decoded(event.data)))
                    if found.get("type") in ENDS:
                        return
        raise ApiError(f"The answer of {self.base} ended before its end was said.")


class Watched(io.BufferedReader):
    """A file that tells how much of it is read. aiohttp reads it piece by piece in a thread, and says its length at the
    head of the request, so that what is too large is refused at once."""

    def __init__(self, path: Path, sent: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._sent = sent

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._sent(len(data))
        return data


def decoded(data: bytes) -> Any:
    """Read JSON of the daemon; whatever else listens there is told as such."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ApiError("The server's answer is not JSON; is it oproxy that listens there?") from exc


def error_of(status: int, body: bytes) -> ApiError:
    try:
        error = msgspec.json.decode(body)["error"]
        if isinstance(error, str):
            return ApiError(error, status=status)
        return ApiError(error["message"], status=status, code=error.get("code"))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ApiError(f"The server answered {status} without saying why.", status=status)


def checked(value: dict[str, Any]) -> dict[str, Any]:
    if error := value.get("error"):
        raise ApiError(str(error.get("message", error)), code=error.get("code"))
    return value


def load_settings(config: Path | None) -> Loaded:
    """Read the settings as a command sees them: file and environment."""
    return load(path=config, env=os.environ, flags={})


@asynccontextmanager
async def connect(config: Path | None) -> AsyncIterator[Api]:
    """Reach the daemon if one runs; else serve the application in this process for as long as the context lasts."""
    running = daemon.running()
    if running is not None:
        async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as session:
            yield Api(session, running.url, inside=False, token=running.token)
        return
    loaded = load_settings(config)
    # Nobody reads a request log here, and warnings would run into the answer.
    token = secrets.token_urlsafe(32)
    app = build_app(loaded, say=logging.getLogger(__name__).debug, control=token, unattended=False)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    try:
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as session:
            yield Api(session, f"http://{host}:{port}", inside=True, token=token)
    finally:
        await runner.cleanup()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what the API refuses becomes a message and exit status 1."""
    try:
        return asyncio.run(work)
    except ApiError as exc:
        raise Failure(exc.message) from exc
