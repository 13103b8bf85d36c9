"""The single calls that an answer is made of, each with who sends, reads and filters it. Calls nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec

from . import tokens
from .backends.base import Backend, Reply
from .errors import ContextTooLong, OproxyError, UpstreamDown
from .events import Event, Refusal, Text, Thinking, ToolDelta
from .fanout import Batch
from .model import Ask, Call, Completion, Embedding, ModelInfo
from .policy.filter import Filter
from .policy.meter import Meter
from .translate.wire import Reader, Vectors

__all__ = [
    "Given",
    "Leg",
    "Legs",
    "filtered",
    "flushed",
    "most",
    "portions",
    "read",
    "read_whole",
    "vectors_of",
    "window_of",
]

# Letters of a large answer that are written at once, and what an event counts besides its own.
PORTION, EVENT = 64 * 1024, 64


class Leg(NamedTuple):
    """One call of an answer: what is sent, who reads it, what it passes on its way. No call: the reader knows all.

    `asked`, `param` (what the client's wire calls its prompt), `window` (tokens) and `size` (counts the prompt) are for
    errors. `blame` names what the client sent in a refusal of what the plan made of it.
    """

    backend: Backend
    call: Call | None
    reader: Reader
    filters: Sequence[Filter]
    asked: str
    param: str
    window: int | None
    size: Callable[[], int]
    blame: Callable[[OproxyError], OproxyError] | None = None

    def refusal(self, reply: Reply, body: bytes) -> OproxyError:
        """Read a backend's refusal. One that a prompt is too long for gets its numbers, where the backend gave none:
        the window that was asked for, and our own count of the prompt."""
        error = self.backend.wire.error(
            reply.status, body, backend=self.backend.name, model=self.asked, param=self.param, headers=reply.headers
        )
        if isinstance(error, ContextTooLong) and (error.limit is None or error.tokens is None):
            limit = error.limit if error.limit is not None else self.window
            count = error.tokens if error.tokens is not None else self.size()
            # Where our tokenizer makes less of it than the model's own did, its number would only confuse.
            return ContextTooLong(
                limit=limit, tokens=count if limit is None or count > limit else None, param=self.param
            )
        return error if self.blame is None else self.blame(error)


class Legs(NamedTuple):
    """All calls of an answer: the n-th is made when its turn comes."""

    leg: Callable[[int], Awaitable[Leg]]
    total: int
    meter: Meter


class Given:
    """A reader of an answer that is known without asking."""

    def __init__(self, events: Batch) -> None:
        self._events = events

    held = 0

    def feed(self, data: bytes) -> Batch:
        return []

    def flush(self) -> Batch:
        events, self._events = self._events, []
        return events


def window_of(ask: Ask | Completion | Embedding, info: ModelInfo) -> int | None:
    """Return the context window that a call asks for, in tokens; None where it is the backend's to choose."""
    asked = ask.options.get("num_ctx")
    return asked if isinstance(asked, int) else info.context


def vectors_of(
    backend: Backend, call: Call, ask: Embedding, info: ModelInfo, asked: str, reply: Reply, body: bytes
) -> Vectors:
    """Read what came for an embedding. Raises the backend's refusal, and UpstreamDown for too few vectors or many."""
    if reply.status >= 400:
        size = partial(most, ask.inputs, info.id)
        leg = Leg(backend, call, Given([]), (), asked, "input", window_of(ask, info), size)
        raise leg.refusal(reply, body)
    vectors = backend.wire.read_embeddings(body, backend=backend.name)
    if len(vectors.rows) != len(ask.inputs):
        raise UpstreamDown(
            f"The backend '{backend.name}' returned {len(vectors.rows)} embeddings for {len(ask.inputs)} inputs.",
            backend=backend.name,
        )
    return vectors


def most(texts: Sequence[str], model: str) -> int:
    """Return the tokens of the longest text: each input of an embedding has the window for itself."""
    return tokens.estimate_text(max(texts, key=len, default=""), model)


def read(leg: Leg, data: bytes) -> Batch:
    """Return the events that `data` completes, through the filters."""
    return filtered(leg.reader.feed(data), leg.filters)


def read_whole(leg: Leg, body: bytes) -> Batch:
    """Return the events of a whole answer."""
    return (read(leg, body) if body else []) + flushed(leg)


def portions(batch: Batch) -> Iterator[Batch]:
    """Yield a large batch in small ones, its long texts in pieces."""
    portion: Batch = []
    size = 0
    for event in chain.from_iterable(map(pieces, batch)):
        portion.append(event)
        size += EVENT + letters(event)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def letters(event: Event) -> int:
    match event:
        case Text(text=text, logprobs=logprobs):
            return len(text) + EVENT * len(logprobs or ())
        case Thinking(text=text) | ToolDelta(arguments=text) | Refusal(text=text):
            return len(text)
        case _:
            return 0


def pieces(event: Event) -> Iterator[Event]:
    """Yield an event with a long text as several. The log probabilities of a text are one piece with it."""
    match event:
        case Text(text=text, logprobs=None) | Refusal(text=text) if len(text) > PORTION:
            for start in range(0, len(text), PORTION):
                yield msgspec.structs.replace(event, text=text[start : start + PORTION])
        case Thinking(text=text, signature=signature) if len(text) > PORTION:
            for start in range(0, len(text), PORTION):
                last = start + PORTION >= len(text)
                yield Thinking(event.index, text[start : start + PORTION], signature if last else None)
        case ToolDelta(arguments=text) if len(text) > PORTION:
            for start in range(0, len(text), PORTION):
                yield ToolDelta(event.index, event.call, text[start : start + PORTION])
        case _:
            yield event


def filtered(events: Batch, filters: Sequence[Filter]) -> Batch:
    for each in filters:
        events = each.feed(events)
    return events


def flushed(leg: Leg) -> Batch:
    """Return what the end of the bytes brings, through the filters."""
    batch = filtered(leg.reader.flush(), leg.filters)
    for step, each in enumerate(leg.filters):
        batch.extend(filtered(each.flush(), leg.filters[step + 1 :]))
    return batch
