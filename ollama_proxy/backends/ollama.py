"""An Ollama server: its models, and its native API. What is sent and read is `translate.ollama`'s.

Lists and descriptions are cached for a short life, and callers that come at once share one request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ..errors import BackendError, ModelNotFound, OproxyError, UpstreamFailed
from ..framing import LineDecoder
from ..model import Call, ModelInfo
from ..policy.bases import misplaced_path
from ..policy.printable import shell_word
from ..policy.redact import redact_url
from ..translate.ollama import WHOLE, WIRE
from ..translate.openai_errors import stream_error
from ..translate.wire import Wire
from .base import Health, Progress, Reply, Running
from .http import Client, unexpected

__all__ = ["OllamaBackend", "resolve_url"]

# A list may be this old (seconds). Short, for whoever keeps it adds a life of their own.
TAGS_LIFE = 2.0
# A description may be this old (seconds): a model's abilities change only when it is made anew, with a new digest.
SHOW_LIFE = 60.0
DEFAULT_PORT = 11434

# Statuses that say nothing about the url: our key is refused, or we ask too much.
OWN_TROUBLE = frozenset({401, 403, 407, 408, 429})
# What reading JSON may raise.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

T = TypeVar("T")


class Details(Struct):
    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None


class Tag(Struct):
    name: str
    modified_at: str = ""
    size: int | None = None
    digest: str | None = None
    details: Details | None = None
    capabilities: list[str] | None = None


class Tags(Struct):
    models: list[Tag] | None = None


class Think(Struct):
    values: list[bool | str] = []


class Show(Struct):
    details: Details | None = None
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    template: str = ""
    thinking: Think | None = None


class Loaded(Struct):
    name: str
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: str = ""
    digest: str | None = None


class Ps(Struct):
    models: list[Loaded] | None = None


class Step(Struct):
    status: str = ""
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    error: Any = None


def resolve_url(url: str, env: Mapping[str, str]) -> str:
    """Return the base URL: the configured one, else OLLAMA_HOST as Ollama's own client reads it (host, host:port,
    :port, with or without scheme or path), else the usual address. Where a server listens on all addresses
    (0.0.0.0, ::) it is reached by loopback."""
    text = (url or env.get("OLLAMA_HOST", "")).strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        # The cloud has no plain HTTP; Ollama's own client makes the same exception.
        scheme, rest = "https" if text == "ollama.com" else "http", text
    scheme = scheme.lower()
    port = {"http": DEFAULT_PORT if not separator else 80, "https": 443}.get(scheme, DEFAULT_PORT)
    authority, slash, path = rest.partition("/")
    host, colon, given = authority.rpartition(":")
    bracketed = authority.startswith("[")
    if not colon or (bracketed and authority.endswith("]")) or (authority.count(":") > 1 and not bracketed):
        host, given = authority, ""
    if given.isdigit() and 0 < int(given) < 65536:
        port = int(given)
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    if host in ("", "0.0.0.0"):
        host = "127.0.0.1"
    elif host == "[::]":
        host = "[::1]"
    return f"{scheme}://{host}:{port}{slash}{path}".rstrip("/")


class Shared(Generic[T]):
    """One answer for all who ask within its life, and one request for all who ask while it is under way.

    Who waited shares what came, also an error; when the one who asks is cancelled, the next in line asks.
    """

    def __init__(self, life: float, clock: Callable[[], float]) -> None:
        self._life, self._clock = life, clock
        self._lock = asyncio.Lock()
        self._rounds = 0
        self._until = float("-inf")
        self._answer: T | OproxyError | None = None

    async def get(self, ask: Callable[[], Awaitable[T]], *, fresh: bool = False) -> T:
        if not fresh and self._answer is not None and self._clock() < self._until:
            return self._told(self._answer)
        before = self._rounds
        async with self._lock:
            if self._rounds == before or self._answer is None:
                try:
                    self._answer = await ask()
                    self._until = self._clock() + self._life
                except OproxyError as exc:
                    self._answer = exc
                    self.forget()
                self._rounds += 1
            return self._told(self._answer)

    def forget(self) -> None:
        self._until = float("-inf")

    def _told(self, answer: T | OproxyError) -> T:
        if isinstance(answer, OproxyError):
            raise answer
        return answer


class OllamaBackend:
    """`base.Backend` for Ollama. `clock` counts seconds and only goes forward."""

    kind = "ollama"
    passes: frozenset[str] = frozenset()

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
        self.hint = f"Start it with `ollama serve`, or set url under [backends.{name}]."
        self._sent = sent = dict(headers or {})
        if api_key:
            sent["authorization"] = f"Bearer {api_key}"
        self._client = Client(
            name=name, url=url, hint=self.hint, headers=sent,
            connect_timeout=connect_timeout, read_timeout=read_timeout, pool=pool,
        )  # fmt: skip
        self._clock = clock
        self._tags: Shared[tuple[ModelInfo, ...]] = Shared(TAGS_LIFE, clock)
        self._listed: tuple[ModelInfo, ...] = ()
        self._by_id: dict[str, ModelInfo] = {}
        # By (id, digest), so that a model made anew is described anew.
        self._shown: dict[tuple[str, str | None], Shared[ModelInfo]] = {}

    @property
    def wire(self) -> Wire:
        return WIRE

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        return self._client.open(call)

    # --- what is there ----------------------------------------------------------------------------------------

    async def models(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        if fresh:
            self._shown.clear()
        return await self._tags.get(self._list, fresh=fresh)

    async def _list(self) -> tuple[ModelInfo, ...]:
        tags = await self._tags_there()
        found = tuple(self._info(tag) for tag in tags.models or ())
        if any(info.capabilities is None for info in found):
            # An old server does not tell in its list what its models can.
            found = tuple(await asyncio.gather(*(self._told(info) for info in found)))
        if found != self._listed:
            # The same object says that nothing has changed.
            self._listed = found
            self._by_id = {info.id: info for info in found}
            kept = {(info.id, info.digest) for info in found}
            self._shown = {key: shared for key, shared in self._shown.items() if key in kept}
        return self._listed

    async def _tags_there(self) -> Tags:
        """Ask for the list; where the url leads to something else, say which is right."""
        status, body = await self._client.fetch(Call("GET", "/api/tags"))
        if status in OWN_TROUBLE or status >= 500:
            error = self._refusal(status, body, "")
            raise error if isinstance(error, BackendError) else unexpected(error, self.name)
        if status < 400 and (tags := read_tags(body)) is not None:
            return tags
        url = self._client.url
        better = await self._seek(url)
        advice = (
            f'Set url = "{better}" under [backends.{self.name}].'
            if better
            else f"The url under [backends.{self.name}] must be the server's address alone, like "
            'http://127.0.0.1:11434; a server that speaks OpenAI\'s API is of type = "openai".'
        )
        raise UpstreamFailed(
            f"The backend '{self.name}' at {redact_url(url)} does not answer like Ollama. {advice}", backend=self.name
        )

    async def _seek(self, url: str) -> str:
        """Return the address of the same server where an Ollama answers, "" if there is none."""
        parts = urlsplit(url)
        root = f"{parts.scheme}://{parts.netloc}"
        for base in dict.fromkeys((misplaced_path(url, "ollama"), root)):
            if not base or base == url:
                continue
            client = Client(name=self.name, url=base, headers=self._sent, connect_timeout=2.0, read_timeout=4.0)
            try:
                status, body = await client.fetch(Call("GET", "/api/tags"))
                if status == 200 and read_tags(body) is not None:
                    return redact_url(base)
            except OproxyError:
                continue
            finally:
                await client.aclose()
        return ""

    def _info(self, tag: Tag) -> ModelInfo:
        details = tag.details or Details()
        return ModelInfo(
            id=tag.name,
            backend=self.name,
            created=int(epoch(tag.modified_at) or 0),
            owned_by=tag.name.rpartition("/")[0].rpartition("/")[2] or "library",
            size=tag.size,
            parameters=details.parameter_size,
            quantization=details.quantization_level,
            family=details.family,
            context=details.context_length,
            embedding_length=details.embedding_length,
            capabilities=frozenset(tag.capabilities) if tag.capabilities is not None else None,
            digest=tag.digest,
        )

    async def _told(self, info: ModelInfo) -> ModelInfo:
        try:
            return await self._shown_of(info)
        except ModelNotFound:
            return info

    async def show(self, model: str) -> ModelInfo:
        return await self._shown_of(self._by_id.get(model) or await self._find(model))

    async def _shown_of(self, info: ModelInfo) -> ModelInfo:
        shared = self._shown.get((info.id, info.digest))
        if shared is None:
            shared = self._shown[info.id, info.digest] = Shared(SHOW_LIFE, self._clock)
        return await shared.get(lambda: self._describe(info))

    async def _find(self, model: str) -> ModelInfo:
        wanted = {model.casefold(), f"{model}:latest".casefold()}
        for fresh in (False, True):
            for info in await self.models(fresh=fresh):
                if info.id.casefold() in wanted:
                    return info
        raise ModelNotFound(model, hint=f"To fetch it: `oproxy models pull {shell_word(model)}`.")

    async def _describe(self, info: ModelInfo) -> ModelInfo:
        shown = await self._post("/api/show", {"model": info.id}, Show)
        facts = shown.model_info or {}
        arch = facts.get("general.architecture", "")
        context, width = facts.get(f"{arch}.context_length"), facts.get(f"{arch}.embedding_length")
        return msgspec.structs.replace(
            info,
            context=context if isinstance(context, int) else info.context,
            embedding_length=width if isinstance(width, int) else info.embedding_length,
            capabilities=frozenset(shown.capabilities) if shown.capabilities is not None else info.capabilities,
            think=tuple(shown.thinking.values) if shown.thinking is not None else (),
            # Only a model whose chat template llama.cpp renders is shown with one in jinja; a model with a template of
            # Ollama's own, or a built-in renderer, is shown with one in Go, which has no "{%".
            template="native" if "{%" in shown.template else "rendered",
        )

    async def running(self) -> tuple[Running, ...]:
        ps = await self._get("/api/ps", Ps)
        return tuple(
            Running(
                id=each.name,
                backend=self.name,
                size=each.size,
                size_vram=each.size_vram,
                context=each.context_length,
                expires_at=epoch(each.expires_at),
                digest=each.digest,
            )
            for each in ps.models or ()
        )

    async def check(self) -> Health:
        began = self._clock()
        try:
            answer = await self._get("/api/version", dict[str, Any])
        except OproxyError as exc:
            return Health(state="down", detail=exc.message)
        return Health(state="up", version=str(answer.get("version", "")), latency_ms=(self._clock() - began) * 1000)

    # --- changing what is there -------------------------------------------------------------------------------

    def pulls(self, model: str) -> bool:
        return True

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        decoder = LineDecoder()
        call = Call("POST", "/api/pull", msgspec.json.encode({"model": model}), stream=True)
        last = ""
        async with self._client.open(call) as reply:
            if reply.status >= 400:
                raise self._refusal(reply.status, await reply.read(), model)
            async for data in reply.chunks():
                for line in decoder.feed(data):
                    step = self._step(line, model)
                    last = step.status
                    yield step
            for line in decoder.flush():
                step = self._step(line, model)
                last = step.status
                yield step
        self._forget()
        if last != "success":
            raise UpstreamFailed(f"The backend '{self.name}' ended the pull before its end.", backend=self.name)

    def _step(self, line: bytes, model: str) -> Progress:
        try:
            step = msgspec.json.decode(line, type=Step)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise UpstreamFailed(f"The backend '{self.name}' sent no valid progress.", backend=self.name) from exc
        if step.error is not None:
            raise self._refusal(500, line, model)
        return Progress(step.status, step.digest, step.total, step.completed)

    def _forget(self) -> None:
        self._tags.forget()
        self._shown.clear()

    async def delete(self, model: str) -> None:
        await self._send("DELETE", "/api/delete", {"model": model}, model)
        self._by_id.pop(model, None)
        self._forget()

    async def load(
        self, model: str, *, keep_alive: str | int | float | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        body: dict[str, Any] = {"options": dict(options)} if options else {}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        await self._empty(model, body)

    async def unload(self, model: str) -> None:
        await self._empty(model, {"keep_alive": 0})

    async def _empty(self, model: str, body: dict[str, Any]) -> None:
        """Send a request with nothing in it: Ollama then only loads or unloads the model."""
        info = await self.show(model)
        embeds = info.capabilities is not None and "completion" not in info.capabilities
        path = "/api/embed" if embeds else "/api/generate"
        empty: dict[str, Any] = {"input": []} if embeds else {"prompt": "", **WHOLE}
        body = {"model": info.id, "stream": False, **empty, **body}
        await self._send("POST", path, body, model)

    # --- asking -----------------------------------------------------------------------------------------------

    async def _send(self, method: str, path: str, body: Any, model: str) -> bytes:
        data = msgspec.json.encode(body) if body is not None else None
        status, answer = await self._client.fetch(Call(method, path, data))
        if status >= 400:
            raise self._refusal(status, answer, model)
        return answer

    async def _get(self, path: str, shape: type[Any]) -> Any:
        return self._decoded(await self._send("GET", path, None, ""), shape)

    async def _post(self, path: str, body: dict[str, Any], shape: type[Any]) -> Any:
        return self._decoded(await self._send("POST", path, body, str(body.get("model", ""))), shape)

    def _decoded(self, body: bytes, shape: type[Any]) -> Any:
        try:
            value = msgspec.json.decode(body)
            if (error := stream_error(value, backend=self.name, model="")) is not None:
                raise error
            return msgspec.convert(value, shape)
        except UNREADABLE as exc:
            raise UpstreamFailed(
                f"The backend '{self.name}' at {redact_url(self._client.url)} does not answer like Ollama.",
                backend=self.name,
            ) from exc

    def _refusal(self, status: int, body: bytes, model: str) -> OproxyError:
        error = WIRE.error(status, body, backend=self.name, model=model)
        if isinstance(error, (ModelNotFound, BackendError)) or model:
            return error
        return UpstreamFailed(f"The backend '{self.name}' does not answer like Ollama.", backend=self.name)

    async def aclose(self) -> None:
        await self._client.aclose()


def read_tags(body: bytes) -> Tags | None:
    """Read Ollama's list of models; None for what is none."""
    try:
        value = msgspec.json.decode(body)
        return msgspec.convert(value, Tags) if isinstance(value, dict) and "models" in value else None
    except UNREADABLE:
        return None


def epoch(text: str) -> float | None:
    """Read a time as Go writes it (nanoseconds, any zone); None for none."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
