"""Ollama's answers, read into events as their bytes arrive. A stream is NDJSON, a whole answer one such record.

Never asks for more, never decides what to do about a failure: a broken answer ends in Fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..errors import UpstreamFailed
from ..events import Event, Fail, Finish, Logprob, Note, Text, Thinking, ToolDelta, ToolStart, Usage
from ..framing import LineDecoder, Overlong
from . import ollama_errors
from .openai_errors import unreadable
from .wire import Vectors

__all__ = ["ChatReader", "CompletionReader", "embeddings"]


class Function(Struct):
    name: str
    arguments: Any = None


class Call(Struct):
    function: Function
    id: str = ""


class Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Candidate(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Candidate):
    top_logprobs: list[Candidate] | None = None


class Record(Struct):
    """What records of /api/chat and /api/generate share. Ollama leaves out counters that are 0."""

    done: bool = False
    done_reason: str | None = None
    error: Any = None
    logprobs: list[TokenLogprob] | None = None
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int | None = None
    eval_count: int = 0
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_duration: int = 0
    eval_duration: int = 0


class ChatRecord(Record):
    message: Message | None = None


class GenerateRecord(Record):
    response: str | None = None
    thinking: str | None = None


R = TypeVar("R", bound=Record)

CHAT = msgspec.json.Decoder(ChatRecord)
GENERATE = msgspec.json.Decoder(GenerateRecord)


class _Reader(Generic[R]):
    """The state of one answer: lines in, events out, exactly one end."""

    def __init__(self, decoder: msgspec.json.Decoder[R], *, backend: str, model: str, logprobs: bool) -> None:
        self._decode = decoder.decode
        self._backend, self._model, self._logprobs = backend, model, logprobs
        self._lines = LineDecoder()
        self._calls = 0
        self._held: list[TokenLogprob] = []
        self._ended = False

    @property
    def held(self) -> int:
        return self._lines.held

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of the records that `data` completes."""
        try:
            lines = self._lines.feed(data)
        except Overlong as exc:
            return self._fail(f"sent {exc}")
        out: list[Event] = []
        for line in lines:
            if self._ended:
                break
            self._line(line, out)
        return out

    def flush(self) -> list[Event]:
        """Return what the end of the bytes means: nothing, if the answer had ended; else that it broke off."""
        out: list[Event] = []
        if not self._ended:
            for line in self._lines.flush():
                self._line(line, out)
        if not self._ended:
            out += self._fail("ended the answer without finishing it")
        return out

    def _line(self, line: bytes, out: list[Event]) -> None:
        try:
            record = self._decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._ended = True
            out.append(Fail(unreadable(line, self._backend)))
            return
        if record.error is not None:
            self._ended = True
            error = ollama_errors.read_text(record.error, status=500, backend=self._backend, model=self._model)
            out.append(Fail(error))
            return
        self._content(record, out)
        if record.done:
            self._ended = True
            self._done(record, out)

    def _content(self, record: R, out: list[Event]) -> None:
        raise AssertionError("each reader says what a record holds")

    def _said(self, text: str | None, record: R, out: list[Event], *, aside: bool) -> None:
        """Add the answer's text. `aside`: the record also holds what is no text (a thought, a call)."""
        if not self._logprobs:
            if text:
                out.append(Text(0, text))
            return
        found = self._held + record.logprobs if record.logprobs else self._held
        if not text:
            # Either these tokens belong to a thought or a call, or their text is held back and comes later.
            self._held = [] if aside else found
            return
        if aside or self._held:
            found = tokens_of(text, found)
        self._held = []
        out.append(Text(0, text, tuple(map(logprob, found)) if found else None))

    def _done(self, record: R, out: list[Event]) -> None:
        reason = record.done_reason
        out.append(Finish(0, "length" if reason == "length" else "tool_calls" if self._calls else "stop"))
        out.append(
            Usage(
                prompt=record.prompt_eval_count,
                completion=record.eval_count,
                cached=min(record.prompt_eval_cached_count or 0, record.prompt_eval_count),
            )
        )
        if record.total_duration:
            out.append(Note(durations(record)))

    def _fail(self, what: str) -> list[Event]:
        self._ended = True
        return [Fail(UpstreamFailed(f"The backend '{self._backend}' {what}.", backend=self._backend))]


class ChatReader(_Reader[ChatRecord]):
    """Reads /api/chat."""

    def __init__(self, *, backend: str, model: str, logprobs: bool) -> None:
        super().__init__(CHAT, backend=backend, model=model, logprobs=logprobs)

    def _content(self, record: ChatRecord, out: list[Event]) -> None:
        message = record.message
        if message is None:
            return
        if message.thinking:
            out.append(Thinking(0, message.thinking))
        self._said(message.content, record, out, aside=bool(message.thinking or message.tool_calls))
        for call in message.tool_calls or ():
            out.append(ToolStart(0, self._calls, call_id(call.id), call.function.name))
            out.append(ToolDelta(0, self._calls, arguments(call.function.arguments)))
            self._calls += 1


class CompletionReader(_Reader[GenerateRecord]):
    """Reads /api/generate."""

    def __init__(self, *, backend: str, model: str, logprobs: bool) -> None:
        super().__init__(GENERATE, backend=backend, model=model, logprobs=logprobs)

    def _content(self, record: GenerateRecord, out: list[Event]) -> None:
        if record.thinking:
            out.append(Thinking(0, record.thinking))
        self._said(record.response, record, out, aside=bool(record.thinking))


def tokens_of(text: str, tokens: Sequence[TokenLogprob]) -> list[TokenLogprob]:
    """Return the tokens that make up `text`, which is their end: before it the model thought or wrote a call."""
    found: list[TokenLogprob] = []
    left = text
    for token in reversed(tokens):
        if not left:
            break
        if token.token and left.endswith(token.token):
            left = left[: -len(token.token)]
        elif left.strip() and left.strip() in token.token:
            # A thought's end and the text's beginning in one token.
            left = ""
        elif found and token.token.strip():
            # Ollama leaves out the tokens of a split character; what is before them cannot be told apart.
            break
        else:
            continue
        found.append(token)
    return found[::-1]


def logprob(token: TokenLogprob) -> Logprob:
    top = tuple(Logprob(c.token, c.logprob, octets(c)) for c in token.top_logprobs or ())
    return Logprob(token.token, token.logprob, octets(token), top)


def octets(token: Candidate) -> tuple[int, ...]:
    return tuple(token.bytes) if token.bytes is not None else tuple(token.token.encode("utf-8", "surrogatepass"))


def call_id(id: str) -> str:
    """Return an id as OpenAI's look: Ollama's rendered path makes such, its native path only the letters."""
    return id if not id or id.startswith("call_") else f"call_{id}"


def arguments(value: Any) -> str:
    """Return a call's arguments as JSON text, compact as OpenAI writes it."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value if value is not None else {}).decode()


def durations(record: Record) -> dict[str, Any]:
    """Return the backend's own timings in seconds."""
    names = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    return {name: getattr(record, name) / 1e9 for name in names}


class Embedded(Struct):
    # One by one: all vectors at once would hold the interpreter's lock for as long as they take.
    embeddings: list[Raw]
    prompt_eval_count: int | None = None


EMBEDDED = msgspec.json.Decoder(Embedded)
VECTOR = msgspec.json.Decoder(tuple[float, ...])


def embeddings(body: bytes, *, backend: str) -> Vectors:
    """Read an answer of /api/embed."""
    try:
        answer = EMBEDDED.decode(body)
        rows = tuple(map(VECTOR.decode, answer.embeddings))
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise unreadable(body, backend) from exc
    return Vectors(rows, answer.prompt_eval_count)
