"""Answers of OpenAI-compatible servers to events, streamed or whole.

`AnswerReader` takes the bytes apart and knows when an answer is complete; `ChatChoice` and `TextChoice` read the one
choice in it. Servers differ in what they leave out, so nothing but a list of choices is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ..errors import OproxyError, UpstreamDown, UpstreamFailed
from ..events import (
    Event,
    Fail,
    Finish,
    FinishReason,
    Logprob,
    Refusal,
    Text,
    Thinking,
    ToolDelta,
    ToolStart,
    Usage,
)
from ..framing import BOM, LIMIT, Overlong, SseDecoder
from .openai_errors import stream_error, unreadable

__all__ = ["AnswerReader", "ChatChoice", "TextChoice", "read_usage"]

# Everything else ("stop", "eos", "eos_token", "stop_sequence", "word", "abort" …) is a "stop".
REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "limit": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
}

_decode = msgspec.json.Decoder().decode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)


class Choice(Protocol):
    """Reads one choice of an answer."""

    @property
    def called(self) -> bool:
        """Return whether a tool was called."""
        ...

    def take(self, choice: Mapping[str, Any], *, whole: bool) -> Iterator[Event]:
        """Yield what a choice, or a piece of it, holds beside its end."""
        ...


class AnswerReader:
    """`wire.Reader` for Server-Sent Events and for one JSON body; which of them it is, its first byte tells."""

    __slots__ = (
        "_backend",
        "_choice",
        "_done",
        "_failed",
        "_finished",
        "_held",
        "_model",
        "_param",
        "_size",
        "_sse",
        "_usage",
        "_whole",
    )

    def __init__(self, choice: Choice, *, backend: str, model: str, param: str = "messages") -> None:
        self._choice = choice
        self._backend, self._model, self._param = backend, model, param
        self._sse = SseDecoder()
        # None: nothing but white space has come.
        self._whole: bool | None = None
        self._held: list[bytes] = []
        self._size = 0
        self._usage: Usage | None = None
        self._finished = self._failed = self._done = False

    @property
    def held(self) -> int:
        # A whole answer is read at its end.
        return 0 if self._whole else self._sse.held

    def feed(self, data: bytes) -> list[Event]:
        if self._whole is None:
            data = data.removeprefix(BOM).lstrip()
            if not data:
                return []
            self._whole = data[:1] in (b"{", b"[", b"<")
        if self._whole:
            self._size += len(data)
            if self._size <= LIMIT:
                self._held.append(data)
                return []
            self._held.clear()
            return [] if self._failed else self._too_much(f"more than {LIMIT} bytes")
        if self._failed or self._done:
            return []
        out: list[Event] = []
        try:
            for event in self._sse.feed(data):
                self._event(event.data, out)
        except Overlong as exc:
            out += self._too_much(str(exc))
        return out

    def _too_much(self, what: str) -> list[Event]:
        self._failed = True
        return [Fail(UpstreamFailed(f"The backend '{self._backend}' sent too much: {what}.", backend=self._backend))]

    def flush(self) -> list[Event]:
        out: list[Event] = []
        if self._failed or self._done:
            return out
        if self._whole:
            self._body(b"".join(self._held), out)
        elif not self._finished:
            # What is left after the finish is a torn piece of the usage at most.
            for event in self._sse.flush():
                self._event(event.data, out)
        if not self._failed and not self._done:
            self._end(out)
        return out

    def _event(self, data: bytes, out: list[Event]) -> None:
        if self._failed or self._done or not data:
            return
        if data == b"[DONE]":
            self._end(out)
            return
        try:
            record = _decode(data)
        except _BROKEN:
            self._fail(unreadable(data, self._backend), out)
            return
        self._record(record, out, whole=False)

    def _body(self, body: bytes, out: list[Event]) -> None:
        try:
            record = _decode(body)
        except _BROKEN:
            self._fail(unreadable(body, self._backend), out)
            return
        self._record(record, out, whole=True)

    def _record(self, record: Any, out: list[Event], *, whole: bool) -> None:
        error = stream_error(record, backend=self._backend, model=self._model, param=self._param)
        if error is not None or not isinstance(record, dict):
            self._fail(error or unreadable(msgspec.json.encode(record), self._backend), out)
            return
        self._usage = read_usage(record) or self._usage
        choices = record.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            # n is 1, whatever the server makes of it.
            if isinstance(choice, dict) and not choice.get("index") and not self._failed:
                self._read(choice, out, whole=whole)

    def _read(self, choice: Mapping[str, Any], out: list[Event], *, whole: bool) -> None:
        if self._finished:
            return
        try:
            out.extend(self._choice.take(choice, whole=whole))
        except (OproxyError, TypeError, ValueError, AttributeError, KeyError) as exc:
            failed = unreadable(msgspec.json.encode(choice), self._backend)
            self._fail(exc if isinstance(exc, OproxyError) else failed, out)
            return
        reason = choice.get("finish_reason")
        if not reason and whole:
            reason = "stop"
        if reason == "error":
            text = f"The backend '{self._backend}' broke off its answer with an error it does not name."
            self._fail(UpstreamFailed(text, backend=self._backend), out)
        elif reason:
            self._finish(str(reason), choice, out)

    def _finish(self, reason: str, choice: Mapping[str, Any], out: list[Event]) -> None:
        self._finished = True
        known = REASONS.get(reason, "stop")
        if known in ("stop", "tool_calls"):
            # Servers say "stop" after calls, and "tool_calls" where no call came of it.
            known = "tool_calls" if self._choice.called else "stop"
        stop = choice.get("stop_reason")
        out.append(Finish(0, known, stop if isinstance(stop, str) else None))

    def _end(self, out: list[Event]) -> None:
        """The answer is over: it is complete if a finish has come."""
        self._done = True
        if not self._finished:
            text = f"The backend '{self._backend}' ended its answer before it was complete."
            self._fail(UpstreamDown(text, backend=self._backend), out)
        elif self._usage is not None:
            # Only the last one counts: some servers send a running total with every chunk.
            out.append(self._usage)

    def _fail(self, error: OproxyError, out: list[Event]) -> None:
        self._failed = True
        out.append(Fail(error))


# --- one choice -------------------------------------------------------------------------------------------------------


class _Called:
    """One tool call as far as it has come."""

    __slots__ = ("arguments", "id", "name", "number", "shown")

    def __init__(self, number: int, id: str) -> None:
        self.number, self.id, self.name = number, id, ""
        self.arguments: list[str] = []
        # The start goes out when the name is known.
        self.shown = False

    @property
    def complete(self) -> bool:
        """Return whether the arguments are a JSON document, so that nothing can follow."""
        try:
            _decode("".join(self.arguments))
        except _BROKEN:
            return False
        return True


class ChatChoice:
    """Reads a choice of a chat completion: `message`, or `delta` by `delta`."""

    def __init__(self, *, top_logprobs: int | None = None) -> None:
        self._top = top_logprobs
        self._calls: list[_Called] = []
        self._by_index: dict[int, _Called] = {}

    @property
    def called(self) -> bool:
        return bool(self._calls)

    def take(self, choice: Mapping[str, Any], *, whole: bool) -> Iterator[Event]:
        delta = choice.get("message") if whole else choice.get("delta")
        if whole and not isinstance(delta, dict):
            raise TypeError("a whole answer without a message")
        delta = delta or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield Thinking(0, thought)
        yield from self._content(delta.get("content"), choice)
        if refusal := delta.get("refusal"):
            yield Refusal(0, _string(refusal))
        for entry in delta.get("tool_calls") or ():
            yield from self._call(entry, whole=whole)
        if called := delta.get("function_call"):
            yield from self._call({"index": 0, "function": called}, whole=whole)

    def _content(self, content: Any, choice: Mapping[str, Any]) -> Iterator[Event]:
        logprobs = None
        if self._top is not None:
            logprobs = read_logprobs(choice.get("logprobs"), self._top) or None
        if isinstance(content, list):
            # Mistral's models that think answer in parts.
            content = "".join([part["text"] for part in content if part.get("type") == "text"])
        if content or logprobs:
            yield Text(0, _string(content), logprobs)

    def _call(self, entry: Mapping[str, Any], *, whole: bool) -> Iterator[Event]:
        custom = entry.get("type") == "custom" or "custom" in entry
        body = (entry.get("custom") if custom else entry.get("function")) or {}
        id, name = _string(entry.get("id")), _string(body.get("name"))
        call = self._find(entry.get("index"), id, name, whole=whole)
        call.name = call.name or name
        pieces = body.get("input") if custom else body.get("arguments")
        if pieces is not None and not isinstance(pieces, str):
            pieces = msgspec.json.encode(pieces).decode()
        if pieces:
            call.arguments.append(pieces)
        if not call.shown:
            if not call.name:
                return
            call.shown = True
            yield ToolStart(0, call.number, self._own(call), call.name, "custom" if custom else "function")
            pieces = "".join(call.arguments)
        if pieces:
            yield ToolDelta(0, call.number, pieces)

    def _own(self, call: _Called) -> str:
        """Return the call's id as OpenAI's look, "" if it is not this call's alone."""
        if not call.id or any(other.id == call.id for other in self._calls if other is not call):
            return ""
        return call.id if call.id.startswith("call_") else f"call_{call.id}"

    def _find(self, index: Any, id: str, name: str, *, whole: bool) -> _Called:
        """Return the call that an entry belongs to. Servers leave out the index, the id, or repeat the name."""
        found: _Called | None = None
        if not whole and isinstance(index, int):
            found = self._by_index.get(index)
            if found is not None and id and name and found.id and id != found.id:
                # All calls under index 0: another id with a name is another call.
                found = next((call for call in self._calls if call.id == id), None)
        elif not whole and id:
            found = next((call for call in self._calls if call.id == id), None)
        elif not whole and self._calls:
            last = self._calls[-1]
            if not name or (name == last.name and not last.complete):
                found = last
        if found is None:
            found = _Called(len(self._calls), id)
            self._calls.append(found)
        if isinstance(index, int):
            self._by_index[index] = found
        found.id = found.id or id
        return found


class TextChoice:
    """Reads a choice of a legacy completion."""

    called = False

    def __init__(self, *, top_logprobs: int | None = None) -> None:
        self._top = top_logprobs

    def take(self, choice: Mapping[str, Any], *, whole: bool) -> Iterator[Event]:
        logprobs = None
        if self._top is not None and (told := choice.get("logprobs")):
            # llama.cpp writes them as chat completions have them.
            read = read_logprobs if "content" in told else read_legacy_logprobs
            logprobs = read(told, self._top) or None
        if whole and choice.get("text") is None:
            raise TypeError("a whole answer without a text")
        text = _string(choice.get("text"))
        if text or logprobs:
            yield Text(0, text, logprobs)


# --- small values -----------------------------------------------------------------------------------------------------


def read_usage(record: Mapping[str, Any]) -> Usage | None:
    """Return the `usage` of a record, None where it has none. Groq has it in `x_groq`."""
    told = record.get("usage")
    if not told and isinstance(groq := record.get("x_groq"), dict):
        told = groq.get("usage")
    if not isinstance(told, dict):
        return None
    prompt = _count(told, "prompt_tokens")
    completion = _count(told, "completion_tokens") if "completion_tokens" in told else None
    if completion is None:
        completion = max(_count(told, "total_tokens") - prompt, 0)
    return Usage(
        prompt=prompt,
        completion=completion,
        cached=_count(told.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=_count(told.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _string(value: Any) -> str:
    """Return a text, "" where it is null. Raises TypeError."""
    if value is not None and not isinstance(value, str):
        raise TypeError(value)
    return value or ""


def _count(holder: Any, key: str) -> int:
    value = holder.get(key) if isinstance(holder, dict) else None
    return int(value) if isinstance(value, int | float) else 0


def read_logprobs(told: Any, top: int) -> tuple[Logprob, ...]:
    """Read `logprobs.content` of a chat choice; of the likeliest tokens, only `top` are kept."""
    tokens = told.get("content") if isinstance(told, dict) else None
    return tuple(_logprob(token, _tops(token, top)) for token in tokens or ())


def _tops(token: Mapping[str, Any], top: int) -> tuple[Logprob, ...]:
    return tuple(_logprob(other) for other in (token.get("top_logprobs") or ())[:top])


def _logprob(token: Mapping[str, Any], top: tuple[Logprob, ...] = ()) -> Logprob:
    data, text = token.get("bytes"), token["token"]
    spelled = tuple(data) if isinstance(data, list) else tuple(text.encode("utf-8", "surrogatepass"))
    value = token.get("logprob")
    return Logprob(text, float(value) if value is not None else -9999.0, spelled, top)


def read_legacy_logprobs(told: Mapping[str, Any], top: int) -> tuple[Logprob, ...]:
    """Read the parallel lists of a legacy completion."""
    tokens: Sequence[str] = told.get("tokens") or ()
    values = told.get("token_logprobs") or [None] * len(tokens)
    tops = told.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        Logprob(
            token,
            -9999.0 if value is None else float(value),
            tuple(token.encode("utf-8", "surrogatepass")),
            tuple(Logprob(other, float(p), tuple(other.encode())) for other, p in list((likely or {}).items())[:top]),
        )
        for token, value, likely in zip(tokens, values, tops, strict=False)
    )
