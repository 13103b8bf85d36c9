"""A server on OpenAI's own wire: LM Studio, vLLM, llama.cpp, OpenAI itself. What is sent is `translate.openai`'s.

Bytes of clients on the same wire pass through. Their own Authorization never does: the only key that leaves is the
one in the config. Never fetches, loads or deletes a model, because the wire has no such thing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

from aiohttp import ClientWebSocketResponse

from ..errors import BackendError, ModelNotFound, OproxyError, Unsupported, UpstreamDown, UpstreamFailed
from ..model import Call, ModelInfo
from ..policy.bases import likely_bases
from ..policy.redact import redact_url
from ..translate.openai import WIRE
from ..translate.openai_lists import read_models
from ..translate.wire import Wire
from .base import Health, Progress, Running
from .http import Client, HttpReply, unexpected

__all__ = ["OpenAIBackend"]

# The list may be this old (seconds) before it is asked for again.
LIFE = 10.0
# A better url is sought again after so long (seconds).
SOUGHT = 60.0
# Statuses of GET /models that say nothing about the url: our key is refused, or we ask too much.
OWN_TROUBLE = frozenset({401, 403, 407, 408, 429})
PASSES = frozenset({"/chat/completions", "/completions", "/embeddings"})


class OpenAIBackend:
    """`base.Backend` for an OpenAI-compatible server. `url` is the base below which /chat/completions is, most often
    ending in /v1; `clock` counts seconds and only goes forward."""

    kind = "openai"
    passes = PASSES

    def __init__(
        self,
        *,
        name: str,
        url: str,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 600.0,
        pool: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.hint = f"Start that server, or set url under [backends.{name}]."
        self._sent = sent = {key.lower(): value for key, value in (headers or {}).items()}
        if api_key:
            sent.setdefault("authorization", f"Bearer {api_key}")
        self._client, self._once = (
            Client(
                name=name, url=url, hint=self.hint, headers=sent, pool=pool, reuse=reuse,
                connect_timeout=connect_timeout, read_timeout=read_timeout,
            )
            # The second is for what is passed on as it is, and so can only be sent once.
            for reuse in (True, False)
        )  # fmt: skip
        self._clock = clock
        self._models: tuple[ModelInfo, ...] | None = None
        self._failure: OproxyError | None = None
        self._due = 0.0
        self._asked = 0
        self._sought, self._better = float("-inf"), ""
        self._lock = asyncio.Lock()

    @property
    def wire(self) -> Wire:
        return WIRE

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[HttpReply]:
        if not self._client.url:
            raise UpstreamDown(f"The backend '{self.name}' has no url under [backends.{self.name}].", backend=self.name)
        once = call.as_is and call.method != "GET"
        async with (self._once if once else self._client).open(call) as reply:
            yield reply

    def connect(self, call: Call, protocols: Sequence[str]) -> AbstractAsyncContextManager[ClientWebSocketResponse]:
        """Open a WebSocket by a client's own request. Raises errors.BackendError."""
        return self._once.connect(call, protocols)

    # --- what is there ----------------------------------------------------------------------------------------

    async def models(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """List the models. Callers that come while a list is on its way share it, or its failure."""
        seen = self._asked
        if not fresh and self._models is not None and self._clock() < self._due:
            return self._models
        async with self._lock:
            if seen == self._asked:
                await self._refresh()
            if self._failure is not None:
                raise self._failure
            return self._models or ()

    async def _refresh(self) -> None:
        try:
            found = await self._list()
        except OproxyError as exc:
            self._failure, self._due = exc, 0.0
        else:
            self._failure, self._due = None, self._clock() + LIFE
            if found != self._models:
                # The same list stays the same object: whoever derived something from it sees that nothing changed.
                self._models = found
        self._asked += 1

    async def _list(self) -> tuple[ModelInfo, ...]:
        async with self.open(Call("GET", "/models")) as reply:
            body = await reply.read()
        try:
            if reply.status >= 400:
                raise WIRE.error(reply.status, body, backend=self.name, model="", headers=reply.headers)
            return read_models(body, backend=self.name)
        except OproxyError as exc:
            if reply.status in OWN_TROUBLE or reply.status >= 500:
                raise exc if isinstance(exc, BackendError) else unexpected(exc, self.name) from exc
            # Its words are about a path that it does not know, and none of a client's business.
            raise UpstreamFailed(await self._misplaced(reply.status), backend=self.name) from exc

    async def _misplaced(self, status: int) -> str:
        """Say that there is no list of models below the url, and which url has one."""
        if self._clock() >= self._sought:
            self._sought, self._better = self._clock() + SOUGHT, await self._seek()
        told = f"The backend '{self.name}' answers GET {redact_url(self._client.url)}/models with status {status} and "
        if self._better:
            return f'{told}no list of models. Set url = "{self._better}" under [backends.{self.name}].'
        return (
            f"{told}no list of models. The url under [backends.{self.name}] must be the one below which "
            "/chat/completions is, most often ending in /v1."
        )

    async def _seek(self) -> str:
        """Return the url of the same server below which the models are listed, "" if none is found."""
        for base in likely_bases(self._client.url):
            client = Client(name=self.name, url=base, headers=self._sent, connect_timeout=2.0, read_timeout=4.0)
            try:
                status, body = await client.fetch(Call("GET", "/models"))
                if status == 200 and read_models(body, backend=self.name) is not None:
                    return redact_url(base)
            except OproxyError:
                continue
            finally:
                await client.aclose()
        return ""

    async def show(self, model: str) -> ModelInfo:
        """Describe a model by its entry in the list, which is all that the wire tells."""
        for fresh in (False, True):
            for info in await self.models(fresh=fresh):
                if info.id == model:
                    return info
        raise ModelNotFound(model, hint=f"The backend '{self.name}' does not list it.")

    async def running(self) -> tuple[Running, ...]:
        """Nothing: the wire does not tell what is in memory."""
        return ()

    async def check(self) -> Health:
        began = self._clock()
        try:
            await self.models(fresh=True)
        except OproxyError as exc:
            return Health(state="down", detail=exc.message)
        return Health(state="up", latency_ms=(self._clock() - began) * 1000)

    # --- what the wire has not --------------------------------------------------------------------------------

    def pulls(self, model: str) -> bool:
        return False

    def pull(self, model: str) -> AsyncIterator[Progress]:
        self._refuse("fetch", model)

    async def delete(self, model: str) -> None:
        self._refuse("delete", model)

    async def load(
        self, model: str, *, keep_alive: str | int | float | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self._refuse("load", model)

    async def unload(self, model: str) -> None:
        self._refuse("unload", model)

    def _refuse(self, what: str, model: str) -> NoReturn:
        raise Unsupported(
            f"The backend '{self.name}' cannot be told to {what} '{model}': OpenAI's API has no such call. "
            "Use that server's own tools.",
            code="unsupported_operation",
        )

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._once.aclose()
