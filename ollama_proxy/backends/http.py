"""The one way out: an aiohttp session per backend, and the gate where aiohttp's errors stop.

The pool is kept alive and sized from the settings. Bodies are read with `iter_any`, never by lines: aiohttp's own
line reader refuses lines over 512 KiB, which one batch of embeddings passes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType

import aiohttp
from yarl import URL

from ..errors import AnswerTooLarge, BackendError, OproxyError, UpstreamDown, UpstreamFailed, UpstreamSlow
from ..model import Call
from ..policy.memory import Hold, answer_cost
from ..policy.redact import redact_url

__all__ = ["Client", "HttpReply", "gate", "unexpected"]

log = logging.getLogger(__name__)

# What aiohttp would add to a client's own request.
AUTOMATIC: tuple[str, ...] = ("accept", "content-type", "user-agent")
# The largest answer to a question of our own, as for a list of models (bytes).
LARGEST_ANSWER = 64 * 1024 * 1024
# The largest message of a WebSocket (bytes): OpenAI's take 15 MiB of sound, which is a third more in base64.
LARGEST_MESSAGE = 32 * 1024 * 1024
# Bodies larger than this are sent in pieces of this size (bytes).
PIECE = 1024 * 1024


class gate:  # noqa: N801  (used as `with gate(…)`, like a function)
    """Turn every error of aiohttp (and of the socket under it) into one of ours, naming the backend.

    A class and not a generator, for it stands on the way of every request.
    """

    __slots__ = ("_backend", "_hint")

    def __init__(self, backend: str, hint: str = "") -> None:
        self._backend, self._hint = backend, hint

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None and (error := translated(value, self._backend, self._hint)) is not None:
            raise error from value


def translated(exc: BaseException, backend: str, hint: str) -> BackendError | None:
    """Return our error for whatever a call to a backend raised; None for what is ours already, and for what is no
    error of the backend (a cancellation). Never repeats a foreign text: it may hold the URL or a header."""
    match exc:
        case OproxyError() | MemoryError():
            return None
        case TimeoutError():
            # aiohttp's ServerTimeoutError and SocketTimeoutError are TimeoutErrors too.
            return UpstreamSlow(
                f"The backend '{backend}' did not answer in time. "
                f"Raise its timeouts under [backends.{backend}] if the model needs longer.",
                backend=backend,
            )
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return UpstreamDown(no_connection(exc, backend, hint), backend=backend)
        case aiohttp.ClientResponseError(message=str(text)) if text.startswith("Bad status line"):
            return UpstreamDown(
                f"The backend '{backend}' does not answer in HTTP. If it serves HTTPS, write https:// in url under "
                f"[backends.{backend}].",
                backend=backend,
            )
        case aiohttp.ClientError() | OSError() if not isinstance(exc, ValueError):
            return UpstreamDown(
                f"The connection to the backend '{backend}' was lost ({type(exc).__name__}). {hint}".rstrip(),
                backend=backend,
            )
        case Exception():
            return unexpected(exc, backend)
        case _:
            return None


class Pieces:
    """A large body in pieces, as often as it is sent: written at once, it would be copied and sent in one turn of the
    event loop."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), PIECE):
            yield self._data[start : start + PIECE]


def no_connection(exc: aiohttp.ClientError, backend: str, hint: str) -> str:
    """Say why there is no connection: nobody listens, or there is no understanding about TLS."""
    place = f"{getattr(exc, 'host', '')}:{getattr(exc, 'port', '')}"
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"The certificate of the backend '{backend}' at {place} is not trusted. Let SSL_CERT_FILE name its "
                f"authority, or write another url under [backends.{backend}]."
            )
        case aiohttp.ClientConnectorSSLError():
            return (
                f"The backend '{backend}' does not speak HTTPS at {place}. If it serves plain HTTP, write http:// in "
                f"url under [backends.{backend}]."
            )
        case _:
            return f"The backend '{backend}' is not reachable at {place}. {hint}".rstrip()


def unexpected(exc: Exception, backend: str) -> BackendError:
    """Return the error for what no library should have raised. It is this backend's trouble alone."""
    if isinstance(exc, OproxyError):
        return UpstreamFailed(exc.message, backend=backend)
    log.debug("the backend %s raised", backend, exc_info=exc)
    return UpstreamFailed(
        f"The backend '{backend}' cannot be asked, or its answer not be read ({type(exc).__name__}). "
        f"See url, api_key and headers under [backends.{backend}].",
        backend=backend,
    )


class HttpReply:
    """`base.Reply` over an aiohttp response."""

    __slots__ = ("_backend", "_hint", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, backend: str, hint: str) -> None:
        self._response = response
        self._backend = backend
        self._hint = hint
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        with gate(self._backend, self._hint):
            async for data in self._response.content.iter_any():
                yield data

    async def read(self, hold: Hold | None = None) -> bytes:
        pieces: list[bytes] = []
        size = 0
        # In pieces, for a body may be endless. Not through `chunks`: one generator less for every answer.
        with gate(self._backend, self._hint):
            async for data in self._response.content.iter_any():
                size += len(data)
                if hold is not None:
                    hold.take_answer(answer_cost(data))
                elif size > LARGEST_ANSWER:
                    raise AnswerTooLarge(
                        f"The backend '{self._backend}' sent more than {LARGEST_ANSWER} bytes.", backend=self._backend
                    )
                pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Opening:
    """A call on its way, as an async context: enter to have the reply, leave to be done with it."""

    __slots__ = ("_call", "_client", "_response")

    def __init__(self, client: Client, call: Call) -> None:
        self._client, self._call = client, call

    async def __aenter__(self) -> HttpReply:
        response = self._response = await self._client.send(self._call)
        if not (200 <= response.status < 300 or response.status >= 400):
            # A redirected POST would lose its body, or its key to another host.
            response.close()
            raise UpstreamFailed(_not_followed(response, self._client.name), backend=self._client.name)
        return HttpReply(self._response, self._client.name, self._client.hint)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At the end of the body the connection is already back in the pool and this does nothing.
        self._response.close()


def _not_followed(response: aiohttp.ClientResponse, backend: str) -> str:
    if "location" in response.headers:
        to = redact_url(response.headers["location"])
        return f"The backend '{backend}' redirects to {to}. Set that as url under [backends.{backend}]."
    return f"The backend '{backend}' answered with status {response.status}, which is no answer."


class Client:
    """One backend's connections. `url` is the base without a trailing slash; times are seconds.

    `reuse` False: every call has a connection of its own, for servers that hang up without having said so.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 600.0,
        pool: int = 100,
        reuse: bool = True,
    ) -> None:
        self.name, self.url, self.hint = name, url.rstrip("/"), hint
        self._headers = {"accept-encoding": "identity", **(headers or {})}
        # `sock_read` bounds the silence between two pieces, not the whole answer: models may take minutes to load.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
        self._pool = pool
        self._reuse = reuse
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._pool, force_close=not self._reuse, keepalive_timeout=60 if self._reuse else None
                ),
                timeout=self._timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                # trust_env stays False: HTTP_PROXY is not meant for a model on this machine.
            )
        return self._session

    def open(self, call: Call) -> Opening:
        """Send `call`; leaving before the body is read to its end drops the connection, which frees the model."""
        return Opening(self, call)

    async def send(self, call: Call) -> aiohttp.ClientResponse:
        """Send `call` and return the response once its head is here.

        A kept connection may have been closed by the server just as we wrote to it (uvicorn does so after 5 s of
        silence). Nothing was answered then, so the call is made once more, on a new connection.
        """
        with gate(self.name, self.hint):
            if call.as_is:
                url, skipped = URL(self.url + call.path, encoded=True), AUTOMATIC
                data, headers = call.upload if call.upload is not None else call.body, call.headers
            else:
                known = self._urls.get(call.path)
                url = known or self._urls.setdefault(call.path, URL(self.url + call.path))
                data, skipped = call.body, ()
                headers = {"content-type": "application/json", **call.headers} if data is not None else call.headers
                if call.body is not None and len(call.body) > PIECE:
                    data, headers = Pieces(call.body), {**headers, "content-length": str(len(call.body))}
            session = self._open_session()
            try:
                return await session.request(
                    call.method, url, headers=headers, data=data, allow_redirects=False, skip_auto_headers=skipped
                )
            except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError):
                if call.upload is not None or (call.as_is and not self._reuse):
                    # It was a new connection; and what came in piece by piece is gone.
                    raise
                return await session.request(
                    call.method, url, headers={**headers, "connection": "close"}, data=data, allow_redirects=False,
                    skip_auto_headers=skipped,
                )  # fmt: skip

    @asynccontextmanager
    async def connect(self, call: Call, protocols: Sequence[str]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket by a client's own request; leaving closes it. Raises UpstreamFailed where it is refused."""
        with gate(self.name, self.hint):
            url = URL(self.url + call.path, encoded=True)
            try:
                socket = await self._open_session().ws_connect(
                    url, protocols=protocols, headers=call.headers, max_msg_size=LARGEST_MESSAGE
                )
            except aiohttp.WSServerHandshakeError as exc:
                raise UpstreamFailed(
                    f"The backend '{self.name}' refused the WebSocket (status {exc.status}).",
                    backend=self.name,
                    # What is wrong with our key is not the client's fault.
                    status=exc.status if exc.status in (400, 404, 429) else 502,
                ) from exc
        try:
            yield socket
        finally:
            await socket.close()

    async def fetch(self, call: Call) -> tuple[int, bytes]:
        """Send `call` and return (status, whole body)."""
        async with self.open(call) as reply:
            return reply.status, await reply.read()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
