"""The kinds of backends there are, and how one is made from its settings. A new kind is a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from .base import Backend
from .embedded import EmbeddedBackend
from .ollama import OllamaBackend, resolve_url
from .openai import OpenAIBackend

__all__ = ["KINDS", "Spec", "build"]


class Spec(Struct, frozen=True, kw_only=True):
    """What a backend is made of: its settings, and what surrounds it."""

    name: str
    env: Mapping[str, str]
    clock: Callable[[], float]
    data_dir: Path
    url: str = ""
    api_key: str = ""
    api_key_env: str = ""
    connect_timeout: float = 5.0
    read_timeout: float = 600.0
    pool: int = 100
    headers: Mapping[str, str] = {}
    model_path: str = ""
    embedding_path: str = ""
    context: int = 4096
    threads: int = 0

    def key(self) -> str | None:
        """Return the key to send: the one written down, else the one in the named environment variable."""
        found = self.api_key or (self.env.get(self.api_key_env, "") if self.api_key_env else "")
        # A secret that is mounted, or comes from a file of Windows, ends in a line end.
        return found.strip() or None

    def timing(self) -> dict[str, Any]:
        return {"connect_timeout": self.connect_timeout, "read_timeout": self.read_timeout, "pool": self.pool}


def ollama(spec: Spec) -> Backend:
    url = resolve_url(spec.url, spec.env)
    return OllamaBackend(
        name=spec.name, url=url, api_key=spec.key(), headers=spec.headers, clock=spec.clock, **spec.timing()
    )


def openai(spec: Spec) -> Backend:
    return OpenAIBackend(
        name=spec.name, url=spec.url, api_key=spec.key(), headers=spec.headers, clock=spec.clock, **spec.timing()
    )


def embedded(spec: Spec) -> Backend:
    return EmbeddedBackend(
        name=spec.name, data_dir=spec.data_dir, clock=spec.clock, model_path=spec.model_path,
        embedding_path=spec.embedding_path, context=spec.context, threads=spec.threads, **spec.timing(),
    )  # fmt: skip


KINDS: Mapping[str, Callable[[Spec], Backend]] = {"ollama": ollama, "openai": openai, "embedded": embedded}


def build(name: str, *, type: str, **fields: Any) -> Backend:
    """Make the backend `name` of kind `type`; `fields` are those of `Spec`."""
    return KINDS[type](Spec(name=name, **fields))
