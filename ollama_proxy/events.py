"""The hub's answers: what happens while a model answers, whatever backend it came from.

A back reads its records into these events, a front writes them as its chunks or gathers them into one body.
`index` is the choice (0 … n-1). The order within a choice is: any of Text, Thinking, Refusal, ToolStart/ToolDelta,
then one Finish; Usage may come before or after the Finish, or not at all; Fail ends everything at once.
Frozen, small and quick to make: one of these is born for each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from .errors import OproxyError

__all__ = [
    "Event",
    "Fail",
    "Finish",
    "FinishReason",
    "Logprob",
    "Note",
    "Refusal",
    "Text",
    "Thinking",
    "ToolDelta",
    "ToolStart",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Logprob(Struct, frozen=True, gc=False):
    """One token with its log probability; `bytes` is its UTF-8, `top` the likeliest tokens at its place."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[Logprob, ...] = ()


class Text(Struct, frozen=True, gc=False):
    """A piece of the answer's text. `logprobs` is None when not asked for."""

    index: int
    text: str
    logprobs: tuple[Logprob, ...] | None = None


class Thinking(Struct, frozen=True, gc=False):
    """A piece of the model's thinking. `signature` closes it where a backend signs its thoughts."""

    index: int
    text: str
    signature: str | None = None


class Refusal(Struct, frozen=True, gc=False):
    """A piece of a refusal."""

    index: int
    text: str


class ToolStart(Struct, frozen=True, gc=False):
    """A tool call begins. `call` counts the calls of this choice from 0; `id` is unique (`call_…`)."""

    index: int
    call: int
    id: str
    name: str
    kind: Literal["function", "custom"] = "function"


class ToolDelta(Struct, frozen=True, gc=False):
    """A piece of a call's arguments (JSON text) or of a custom tool's input."""

    index: int
    call: int
    arguments: str


class Finish(Struct, frozen=True, gc=False):
    """The choice is complete. `stop` is the sequence that matched, where the backend tells."""

    index: int
    reason: FinishReason
    stop: str | None = None


class Usage(Struct, frozen=True, gc=False):
    """Tokens of the whole call. `prompt` includes `cached`, `completion` includes `reasoning`.

    `exact` is False when a number is our own estimate.
    """

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    exact: bool = True

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.exact and other.exact,
        )


class Note(Struct, frozen=True):
    """Something the books want that no wire carries: timings of the backend, a schema miss …"""

    values: Mapping[str, Any]


class Fail(Struct, frozen=True):
    """The answer broke off. Nothing comes after it."""

    error: OproxyError


Event = Text | Thinking | Refusal | ToolStart | ToolDelta | Finish | Usage | Note | Fail
