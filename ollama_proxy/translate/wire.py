"""What a back must be able to say and read: the contract between the engine and the back translators.

`translate/ollama.py` and `translate/openai.py` implement it. Pure, like all of translate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from ..errors import OproxyError
from ..events import Event
from ..model import Abilities, Ask, Call, Completion, Embedding, ModelInfo

__all__ = ["Reader", "Vectors", "Wire"]


class Reader(Protocol):
    """Turns a backend's answer into events as its bytes arrive.

    A reader always ends in Finish or Fail: bytes that end too early, are no JSON, or carry the backend's own error
    line become `Fail` with an error of `errors.py`. After Fail nothing more comes. All events have index 0: the
    engine numbers choices. ToolStart ids are the backend's made to begin with `call_`, or "" where it has none.
    """

    @property
    def held(self) -> int:
        """The bytes of a record that has begun: `feed` works on them when its end comes."""
        ...

    def feed(self, data: bytes) -> list[Event]: ...

    def flush(self) -> list[Event]: ...


class Vectors(Struct, frozen=True):
    """Embeddings in the order of their inputs; `tokens` is the backend's count, None where it does not say."""

    rows: tuple[tuple[float, ...], ...]
    tokens: int | None = None


class Wire(Protocol):
    """One backend wire, both directions. `backend` in errors is the backend's name from the config."""

    @property
    def abilities(self) -> Abilities: ...

    def chat(self, ask: Ask, info: ModelInfo) -> Call:
        """Write one chat request; `ask.stream` decides whether the answer is streamed."""
        ...

    def chat_reader(self, ask: Ask, *, backend: str) -> Reader: ...

    def complete(self, ask: Completion, info: ModelInfo) -> Call: ...

    def completion_reader(self, ask: Completion, *, backend: str) -> Reader: ...

    def embed(self, ask: Embedding, info: ModelInfo) -> Call: ...

    def read_embeddings(self, body: bytes, *, backend: str) -> Vectors: ...

    def error(
        self,
        status: int,
        body: bytes,
        *,
        backend: str,
        model: str,
        param: str = "messages",
        headers: Mapping[str, str] | None = None,
    ) -> OproxyError:
        """Read an answer with an error status. `param` names the prompt in the client's wire; `headers` are the
        backend's, for what it says of trying again."""
        ...
