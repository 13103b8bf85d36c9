"""The one way out: an aiohttp session per backend, and the gate where aiohttp's errors stop.

The pool is kept alive and sized from the settings. Bodies are read with `iter_any`, never by lines: aiohttp's own
line reader refuses lines over 512 KiB, which one batch of embeddings passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

from ..errors import BackendError, UpstreamDown, UpstreamSlow
from ..model import Call

__all__ = ["Client", "HttpReply", "gate"]


@contextmanager
def gate(backend: str, hint: str = "") -> Iterator[None]:
    """Turn every error of aiohttp (and of the socket under it) into one of ours, naming the backend."""
    try:
        yield
    except BackendError:
        raise
    except TimeoutError as exc:
        # aiohttp's ServerTimeoutError and SocketTimeoutError are TimeoutErrors too.
        raise UpstreamSlow(
            f"The backend '{backend}' did not answer in time. "
            f"Raise its timeouts under [backends.{backend}] if the model needs longer.",
            backend=backend,
        ) from exc
    except aiohttp.ClientConnectorError as exc:
        raise UpstreamDown(
            f"The backend '{backend}' is not reachable at {exc.host}:{exc.port}. {hint}".rstrip(),
            backend=backend,
        ) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise UpstreamDown(
            f"The connection to the backend '{backend}' was lost ({type(exc).__name__}). {hint}".rstrip(),
            backend=backend,
        ) from exc


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

    async def read(self) -> bytes:
        with gate(self._backend, self._hint):
            return await self._response.read()


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

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[HttpReply]:
        """Send `call`; leaving before the body is read to its end drops the connection, which frees the model."""
        kwargs: dict[str, Any] = {}
        if call.body is not None:
            kwargs["data"] = call.body
        headers = dict(call.headers)
        if call.body is not None:
            headers.setdefault("content-type", "application/json")
        with gate(self.name, self.hint):
            response = await self._open_session().request(
                call.method, self.url + call.path, headers=headers, allow_redirects=False, **kwargs
            )
        try:
            yield HttpReply(response, self.name, self.hint)
        finally:
            # At the end of the body the connection is already back in the pool and this does nothing.
            response.close()

    async def fetch(self, call: Call) -> tuple[int, bytes]:
        """Send `call` and return (status, whole body)."""
        async with self.open(call) as reply:
            return reply.status, await reply.read()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
