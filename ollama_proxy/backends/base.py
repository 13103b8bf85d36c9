"""What every backend offers the engine. One module per kind implements it; the contract tests run over all.

A backend knows its address, its pool and its models; it does not know what it carries (its `wire` does).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Struct

from ..model import Call, ModelInfo
from ..policy.memory import Hold
from ..translate.wire import Wire

__all__ = ["Backend", "Health", "Progress", "Reply", "Running", "remaining_hint"]


class Reply(Protocol):
    """An answer that has begun. Leaving its context closes the connection if the answer is not read to its end,
    which is what frees the model."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises errors.UpstreamDown / UpstreamSlow, never a library's own error."""
        ...

    async def read(self, hold: Hold | None = None) -> bytes:
        """Return the whole body; `hold` takes the memory for it. Raises as `chunks` does, errors.AnswerTooLarge for
        one that is too large, and errors.Overloaded where others hold the memory."""
        ...


class Progress(Struct, frozen=True):
    """One step of a pull: bytes of `digest`, or only a `status`."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


class Running(Struct, frozen=True, kw_only=True):
    """A model in memory. `size` and `size_vram` are bytes; `expires_at` epoch seconds, None for never/unknown."""

    id: str
    backend: str
    size: int | None = None
    size_vram: int | None = None
    context: int | None = None
    expires_at: float | None = None
    digest: str | None = None


class Health(Struct, frozen=True, kw_only=True):
    """Whether the backend answers: state "up", "down" or "idle" (an embedded model not yet started)."""

    state: str
    version: str | None = None
    detail: str = ""
    latency_ms: float | None = None


def remaining_hint(detail: str, hint: str) -> str:
    """Return what is still to be said after `detail` of a backend that is down: its hint, "" where `detail` names
    another way out itself."""
    return "" if detail.startswith("The ") and not detail.endswith(hint) else hint


class Backend(Protocol):
    """One configured backend."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """The `type` in the config: "ollama", "openai" or "embedded"."""
        ...

    @property
    def wire(self) -> Wire: ...

    @property
    def passes(self) -> frozenset[str]:
        """The paths under /v1 whose bytes pass through untranslated, e.g. {"/chat/completions"}."""
        ...

    @property
    def hint(self) -> str:
        """What to do when it is unreachable, in one sentence (for error messages and the banner)."""
        ...

    def open(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """Send a call. Raises errors.UpstreamDown (unreachable) or UpstreamSlow; an error status is a Reply."""
        ...

    async def models(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """List the installed models, cached for a few seconds unless `fresh`. Raises errors.BackendError."""
        ...

    async def show(self, model: str) -> ModelInfo:
        """Describe one model with its capabilities, cached. Raises errors.ModelNotFound."""
        ...

    async def running(self) -> tuple[Running, ...]: ...

    def pull(self, model: str) -> AsyncIterator[Progress]:
        """Fetch a model. Raises errors.Unsupported where the backend has no such thing."""
        ...

    def pulls(self, model: str) -> bool:
        """Return whether `pull` knows how to fetch a model of this name (it may still fail)."""
        ...

    async def delete(self, model: str) -> None: ...

    async def load(
        self, model: str, *, keep_alive: str | int | float | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        """Bring a model into memory. `options` are those later requests will send (num_ctx: another value would
        make the backend load it again)."""
        ...

    async def unload(self, model: str) -> None: ...

    async def check(self) -> Health:
        """Ask the backend for a sign of life; never raises."""
        ...

    async def aclose(self) -> None:
        """Give everything back: connections, child processes."""
        ...
