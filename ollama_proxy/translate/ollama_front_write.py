"""The front of Ollama's own API: the hub's events out as its records (NDJSON), and its lists of models.

`ChatLines` and `GenerateLines` write streams, `whole` a whole answer. What is only known outside comes in as functions:
the time of a record, and how long everything took. Counts of 0 are left out, as Ollama leaves them out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from .. import framing
from ..errors import ModelNotFound, OproxyError
from ..events import Event, Fail, Finish, Logprob, Note, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ..model import ModelInfo
from .wire import Vectors

__all__ = [
    "ChatLines",
    "GenerateLines",
    "Lines",
    "Times",
    "embedded",
    "error_body",
    "error_line",
    "loaded",
    "show",
    "tag",
    "whole",
]

Json = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class Times(Struct, frozen=True):
    """How long an answer took, in nanoseconds: all in all, until its first token, and from there on."""

    total: int
    prompt: int
    answer: int


class Lines:
    """Writes one answer record by record. `stamp` returns the time as Ollama writes it, `times` what it took so far."""

    def __init__(self, *, model: str, stamp: Callable[[], str], times: Callable[[], Times]) -> None:
        self._model, self._stamp, self._times = model, stamp, times
        self._open_calls: dict[int, tuple[ToolStart, list[str]]] = {}
        self._calls = 0
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._failed = False

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        """Return the lines of these events; a failure is the last one."""
        return [framing.line(_encode(record)) for record in self.records(events)]

    def flush(self) -> list[bytes]:
        """Return the last line, with the counts."""
        return [] if self._failed else [framing.line(_encode({**self._record(), **self.end()}))]

    def records(self, events: Iterable[Event]) -> list[Json]:
        out: list[Json] = []
        for event in events:
            match event:
                case Text(text=text, logprobs=logprobs):
                    out += self._called()
                    out.append(self._open(self._record(text), logprobs))
                case Refusal(text=text):
                    out += self._called()
                    out.append(self._open(self._record(text)))
                case Thinking(text=text):
                    out += self._called()
                    if text:
                        out.append(self._open(self._record("", thinking=text)))
                case ToolStart(call=call):
                    self._open_calls[call] = (event, [])
                case ToolDelta(call=call, arguments=piece) if call in self._open_calls:
                    self._open_calls[call][1].append(piece)
                case Finish(reason=reason):
                    out += self._called()
                    self._reason = "length" if reason == "length" else "stop"
                case Usage():
                    self._usage = event
                case Fail(error=error):
                    self._failed = True
                    out.append(error_body(error))
                case _:
                    continue
        return out

    def end(self) -> Json:
        """Return what only the last record has."""
        times, usage = self._times(), self._usage or Usage(0, 0)
        counts = {
            "total_duration": times.total,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_cached_count": usage.cached,
            "prompt_eval_duration": times.prompt,
            "eval_count": usage.completion,
            "eval_duration": times.answer,
        }
        known = {name: value for name, value in counts.items() if value}
        return {"done": True, "done_reason": self._reason or "stop", **known}

    def head(self) -> Json:
        return {"model": self._model, "created_at": self._stamp()}

    def said(self, text: str, thinking: str = "", calls: Sequence[Json] = ()) -> Json:
        """Return the part of a record that holds the answer."""
        raise AssertionError("each form says where its text is")

    def _record(self, text: str = "", thinking: str = "", calls: Sequence[Json] = ()) -> Json:
        return {**self.head(), **self.said(text, thinking, calls)}

    def _open(self, record: Json, logprobs: Sequence[Logprob] | None = None) -> Json:
        record["done"] = False
        if logprobs:
            record["logprobs"] = [_logprob(each) for each in logprobs]
        return record

    def _called(self) -> list[Json]:
        """Return the calls, which are complete now: Ollama tells each in one piece, but theirs may have come mixed."""
        out: list[Json] = []
        for start, pieces in self._open_calls.values():
            function = {"index": self._calls, "name": start.name, "arguments": _arguments("".join(pieces))}
            self._calls += 1
            out.append(self._open(self._record(calls=[{"id": start.id, "function": function}])))
        self._open_calls.clear()
        return out


class ChatLines(Lines):
    """Writes /api/chat."""

    def said(self, text: str, thinking: str = "", calls: Sequence[Json] = ()) -> Json:
        message: Json = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = list(calls)
        return {"message": message}


class GenerateLines(Lines):
    """Writes /api/generate."""

    def said(self, text: str, thinking: str = "", calls: Sequence[Json] = ()) -> Json:
        said: Json = {"response": text}
        if thinking:
            said["thinking"] = thinking
        if calls:
            said["tool_calls"] = list(calls)
        return said


def whole(events: Sequence[Event], lines: Lines) -> bytes:
    """Write a whole answer in the form of `lines`. Raises the error that ended it."""
    texts: list[str] = []
    thoughts: list[str] = []
    logprobs: list[Json] = []
    for event in events:
        match event:
            case Fail(error=error):
                raise error
            case Text(text=text, logprobs=found):
                texts.append(text)
                logprobs += [_logprob(each) for each in found or ()]
            case Refusal(text=text):
                texts.append(text)
            case Thinking(text=text):
                thoughts.append(text)
            case Note():
                continue
    told = (record.get("message", record) for record in lines.records(events))
    calls = [call for said in told for call in said.get("tool_calls", ())]
    body = {**lines.head(), **lines.said("".join(texts), "".join(thoughts), calls), **lines.end()}
    if logprobs:
        body["logprobs"] = logprobs
    return _encode(body)


def loaded(lines: Lines, *, unload: bool) -> bytes:
    """Write the answer to a request without a prompt, which only loads or unloads."""
    reason = "unload" if unload else "load"
    return _encode({**lines.head(), **lines.said(""), "done": True, "done_reason": reason})


def embedded(vectors: Vectors, *, model: str, dimensions: int | None, times: Times) -> bytes:
    """Write the answer of /api/embed. Vectors longer than asked for are cut, and of length 1 again, as Ollama does."""
    rows = [_cut(row, dimensions) for row in vectors.rows]
    body: Json = {"model": model, "embeddings": rows, "total_duration": times.total}
    if vectors.tokens:
        body["prompt_eval_count"] = vectors.tokens
    return _encode(body)


# --- errors -----------------------------------------------------------------------------------------------------------


def error_body(error: OproxyError) -> Json:
    """Return a refusal in Ollama's form. Its clients read "model 'x' not found" out of it, and then pull."""
    if isinstance(error, ModelNotFound):
        return {"error": f"model '{error.model[:200]}' not found" + (f". {error.hint}" if error.hint else "")}
    return {"error": error.message}


def error_line(error: OproxyError) -> bytes:
    """Return the line that ends a stream that broke off."""
    return framing.line(_encode(error_body(error)))


# --- models -----------------------------------------------------------------------------------------------------------


def tag(name: str, info: ModelInfo, *, modified: str) -> Json:
    """Return an entry of /api/tags for a model that no Ollama lists."""
    return {
        "name": name,
        "model": name,
        "modified_at": modified,
        "size": info.size or 0,
        "digest": digest(info),
        "details": {**_details(info), **_sizes(info)},
        "capabilities": _capabilities(info),
    }


def show(info: ModelInfo, *, modified: str) -> Json:
    """Return what /api/show tells of a model that no Ollama serves."""
    family = info.family or "unknown"
    facts: Json = {"general.architecture": family, "general.basename": info.id}
    if info.context is not None:
        facts[f"{family}.context_length"] = info.context
    if info.embedding_length is not None:
        facts[f"{family}.embedding_length"] = info.embedding_length
    return {
        "modelfile": f"# Served by the backend '{info.backend}'.\nFROM {info.id}\n",
        "template": "{{ .Prompt }}",
        "details": _details(info),
        "model_info": facts,
        "capabilities": _capabilities(info),
        "modified_at": modified,
    }


def digest(info: ModelInfo) -> str:
    """Return 64 hex digits, which Ollama's command cuts to 12 without looking: the model's own, or made of its name."""
    own = (info.digest or "").removeprefix("sha256:")
    return own if len(own) == 64 else hashlib.sha256(f"{info.backend}/{info.id}".encode()).hexdigest()


def _details(info: ModelInfo) -> Json:
    family = info.family or ""
    return {
        "parent_model": "",
        "format": "gguf" if info.quantization else "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": info.parameters or "",
        "quantization_level": info.quantization or "",
    }


def _sizes(info: ModelInfo) -> Json:
    sizes = {"context_length": info.context, "embedding_length": info.embedding_length}
    return {name: value for name, value in sizes.items() if value is not None}


def _capabilities(info: ModelInfo) -> list[str]:
    """Return what the model can do here: whoever answers a chat calls tools too, by constrained output if need be."""
    if info.capabilities is None:
        return ["completion", "tools"]
    tools = {"tools"} if "completion" in info.capabilities else set()
    return sorted(info.capabilities | tools)


# --- values -----------------------------------------------------------------------------------------------------------


def _arguments(text: str) -> Any:
    """Return a call's arguments as the object that Ollama has. What is none is kept whole under one key."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": text}
    return value if isinstance(value, dict) else {"arguments": value}


def _logprob(each: Logprob) -> Json:
    found: Json = {"token": each.token, "logprob": each.logprob}
    if each.bytes is not None:
        found["bytes"] = list(each.bytes)
    if each.top:
        found["top_logprobs"] = [_logprob(other) for other in each.top]
    return found


def _cut(row: Sequence[float], dimensions: int | None) -> Sequence[float]:
    if dimensions is None or dimensions >= len(row):
        return row
    short = row[:dimensions]
    norm = math.hypot(*short)
    return [number / norm for number in short] if norm else short
