"""Events to OpenAI's chat answers: `ChunkWriter` for streams, `whole` for one body.

The hot path of the program: a token of text costs one JSON string and one join, because all that is the same in
every chunk is encoded once. The sequence of chunks is OpenAI's own. Never frames (SSE is the server's), never
invents an id or a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..events import Event, Fail, Finish, Logprob, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage

__all__ = ["FINGERPRINT", "ChunkWriter", "usage_body", "whole", "write_logprobs"]

# Names the program that answered; OpenAI's changes with its backend configuration.
FINGERPRINT = "fp_oproxy"
SERVICE_TIER = "default"
# What OpenAI writes for a token it gives no chance; JSON has no minus infinity.
LOWEST = -9999.0
# Sizes are padded to a multiple of this, so that they tell little of the text.
BLOCK = 16
_PADDING = "kXr7Qm2ZtB9fWc4Ns8HvJ1yLpD6gTaE3uRxKo5Mi0wGbYqVnSeCjAdFhUlPzIO" * 2

_encode = msgspec.json.Encoder().encode


class ChunkWriter:
    """Writes one streamed answer as JSON documents, in the order OpenAI sends them.

    `include_usage` adds the last chunk with the usage; `legacy_functions` writes calls as `function_call`;
    `include_obfuscation` pads the chunks. `id` and `model` are repeated in each; `created` is epoch seconds.
    """

    __slots__ = (
        "_calls",
        "_chunks",
        "_closed",
        "_end",
        "_head",
        "_include_usage",
        "_legacy",
        "_opened",
        "_padded",
        "_tail",
        "_text",
        "_usage",
    )

    def __init__(
        self,
        *,
        id: str,
        created: int,
        model: str,
        include_usage: bool = False,
        legacy_functions: bool = False,
        include_obfuscation: bool = False,
    ) -> None:
        head = {
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "service_tier": SERVICE_TIER,
            "system_fingerprint": FINGERPRINT,
        }
        self._head = _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if include_usage else b"]}"
        self._end = b'},"logprobs":null,"finish_reason":null}' + self._tail
        self._include_usage = include_usage
        self._legacy = legacy_functions
        self._padded = include_obfuscation
        self._opened: set[int] = set()
        # choice -> all that comes before its text in a chunk
        self._text: dict[int, bytes] = {}
        # (choice, call) -> its kind and whether arguments came
        self._calls: dict[tuple[int, int], tuple[str, bool]] = {}
        self._usage = Usage(0, 0)
        self._chunks = 0
        self._closed = False

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        """Return the chunks that `events` make, each one JSON document."""
        out: list[bytes] = []
        for event in events:
            if type(event) is Text and event.logprobs is None and event.index in self._text:
                if event.text:
                    out.append(self._text[event.index] + _encode(event.text) + self._end)
            elif not self._closed:
                self._write(event, out)
        return out

    def flush(self) -> list[bytes]:
        """Return the usage chunk, if it was asked for and the answer did not fail. Call after the last event."""
        if self._closed:
            return []
        self._close()
        if not self._include_usage:
            return []
        return [self._head + b'],"usage":' + _encode(usage_body(self._usage)) + b"}"]

    def _close(self) -> None:
        self._closed = True
        self._text.clear()

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Text(index, text, logprobs):
                self._open(index, out)
                if text or logprobs:
                    out.append(self._delta(index, {"content": text}, logprobs=logprobs))
            case Thinking(index, text):
                self._open(index, out)
                if text:
                    out.append(self._delta(index, {"reasoning_content": text, "reasoning": text}))
            case Refusal(index, text):
                self._open(index, out)
                out.append(self._delta(index, {"refusal": text}))
            case ToolStart():
                self._tool(event, out)
            case ToolDelta(index, call, arguments):
                if arguments:
                    self._arguments(index, call, arguments, out)
            case Finish(index, reason):
                self._finish(index, reason, out)
            case Usage():
                self._usage += event
            case Fail(error):
                out.append(_encode(error.body()))
                self._close()

    def _open(self, index: int, out: list[bytes]) -> None:
        """Send the chunk with the role, once for each choice."""
        if index not in self._opened:
            self._begin(index, {"role": "assistant", "content": "", "refusal": None}, out)

    def _begin(self, index: int, delta: dict[str, Any], out: list[bytes]) -> None:
        out.append(self._delta(index, delta))
        self._opened.add(index)
        if not self._padded:
            self._text[index] = self._head + b'{"index":%d,"delta":{"content":' % index

    def _tool(self, event: ToolStart, out: list[bytes]) -> None:
        if self._legacy:
            if event.call:
                return  # `function_call` has room for one
            delta: dict[str, Any] = {"function_call": {"name": event.name, "arguments": ""}}
        else:
            called = _called(event, "")
            delta = {"tool_calls": [{"index": event.call, "id": event.id, "type": event.kind, **called}]}
        self._calls[event.index, event.call] = (event.kind, False)
        if event.index in self._opened:
            out.append(self._delta(event.index, delta))
        else:
            self._begin(event.index, {"role": "assistant", "content": None, **delta, "refusal": None}, out)

    def _arguments(self, index: int, call: int, arguments: str, out: list[bytes]) -> None:
        if (index, call) not in self._calls:
            return
        kind, _ = self._calls[index, call]
        self._calls[index, call] = (kind, True)
        if self._legacy:
            delta: dict[str, Any] = {"function_call": {"arguments": arguments}}
        elif kind == "custom":
            delta = {"tool_calls": [{"index": call, "custom": {"input": arguments}}]}
        else:
            delta = {"tool_calls": [{"index": call, "function": {"arguments": arguments}}]}
        out.append(self._delta(index, delta))

    def _finish(self, index: int, reason: str, out: list[bytes]) -> None:
        self._open(index, out)
        for (choice, call), (kind, came) in list(self._calls.items()):
            # OpenAI's arguments are always JSON; clients load them without looking.
            if choice == index and kind == "function" and not came:
                self._arguments(index, call, "{}", out)
        out.append(self._delta(index, {}, reason=_reason(reason, self._legacy)))

    def _delta(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: Sequence[Logprob] | None = None,
        reason: str | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": write_logprobs(logprobs), "finish_reason": reason}
        body = _encode(choice)
        self._chunks += 1
        if not self._padded or reason is not None:
            return self._head + body + self._tail
        return self._head + body + self._tail[:-1] + b',"obfuscation":"' + self._padding(len(body)) + b'"}'

    def _padding(self, size: int) -> bytes:
        """Return letters that bring `size` to a full block. They say nothing, so they need not be random."""
        start = self._chunks * 7 % (len(_PADDING) // 2)
        return _PADDING[start : start + BLOCK - size % BLOCK].encode()


# --- one body -------------------------------------------------------------------------------------------------------


class _Choice:
    """One choice, gathered."""

    __slots__ = ("calls", "index", "logprobs", "reason", "refusal", "text", "thinking")

    def __init__(self, index: int) -> None:
        self.index = index
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.refusal: list[str] = []
        self.logprobs: list[Logprob] | None = None
        self.calls: dict[int, tuple[ToolStart, list[str]]] = {}
        self.reason = "stop"

    def take(self, event: Text | Thinking | Refusal | ToolStart | ToolDelta | Finish) -> None:
        match event:
            case Text(_, text, logprobs):
                self.text.append(text)
                if logprobs is not None:
                    self.logprobs = [*(self.logprobs or ()), *logprobs]
            case Thinking(_, text):
                self.thinking.append(text)
            case Refusal(_, text):
                self.refusal.append(text)
            case ToolStart(_, call):
                self.calls[call] = (event, [])
            case ToolDelta(_, call, arguments):
                self.calls[call][1].append(arguments)
            case Finish(_, reason):
                self.reason = reason

    def body(self, legacy: bool) -> dict[str, Any]:
        text = "".join(self.text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not (self.calls or self.refusal) else None,
            "refusal": "".join(self.refusal) or None,
            "annotations": [],
        }
        calls = [(start, "".join(pieces) or _nothing(start)) for _, (start, pieces) in sorted(self.calls.items())]
        if calls and legacy:
            message["function_call"] = _called(*calls[0])["function"]
        elif calls:
            message["tool_calls"] = [
                {"id": start.id, "type": start.kind, **_called(start, arguments)} for start, arguments in calls
            ]
        if self.thinking:
            message["reasoning_content"] = message["reasoning"] = "".join(self.thinking)
        return {
            "index": self.index,
            "message": message,
            "logprobs": write_logprobs(self.logprobs),
            "finish_reason": _reason(self.reason, legacy),
        }


def whole(events: Iterable[Event], *, id: str, created: int, model: str, legacy_functions: bool = False) -> bytes:
    """Return one chat completion as JSON. Raises the error of a Fail event."""
    choices: dict[int, _Choice] = {}
    usage = Usage(0, 0)
    for event in events:
        match event:
            case Fail(error):
                raise error
            case Usage():
                usage += event
            case Text() | Thinking() | Refusal() | ToolStart() | ToolDelta() | Finish():
                if event.index not in choices:
                    choices[event.index] = _Choice(event.index)
                choices[event.index].take(event)
    return _encode(
        {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice.body(legacy_functions) for _, choice in sorted(choices.items())],
            "usage": usage_body(usage),
            "service_tier": SERVICE_TIER,
            "system_fingerprint": FINGERPRINT,
        }
    )


# --- what both share ------------------------------------------------------------------------------------------------


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return `usage` with every key that OpenAI sends."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def write_logprobs(logprobs: Sequence[Logprob] | None) -> dict[str, Any] | None:
    """Return a choice's `logprobs`, None if none were asked for."""
    if logprobs is None:
        return None
    return {
        "content": [{**_token(item), "top_logprobs": [_token(other) for other in item.top]} for item in logprobs],
        "refusal": None,
    }


def _token(item: Logprob) -> dict[str, Any]:
    logprob = item.logprob if math.isfinite(item.logprob) else LOWEST
    return {"token": item.token, "logprob": logprob, "bytes": item.bytes}


def _called(start: ToolStart, arguments: str) -> dict[str, Any]:
    if start.kind == "custom":
        return {"custom": {"name": start.name, "input": arguments}}
    return {"function": {"name": start.name, "arguments": arguments}}


def _nothing(start: ToolStart) -> str:
    return "{}" if start.kind == "function" else ""


def _reason(reason: str, legacy: bool) -> str:
    return "function_call" if legacy and reason == "tool_calls" else reason
