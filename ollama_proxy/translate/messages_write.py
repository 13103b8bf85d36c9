"""Events to Anthropic's answers: `MessageWriter` for streams, `whole` for one message.

A stream is a row of blocks, one open at a time, in the order in which they begin; the writer gives whole frames, for
every event has its name on the wire. The usage is known at the end only: `message_start` has an estimate of
the prompt's (`MessageWriter.prompt`), `message_delta` all that the backend counted. Never invents an id or a time.
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ..events import Event, Fail, Finish, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ..framing import sse
from . import messages_errors
from .messages_blocks import signed
from .sealed import seal

__all__ = ["PING", "MessageWriter", "Thoughts", "whole"]

Json = dict[str, Any]
# Whether the client is shown what the model thinks, gets only a signature of it, or nothing at all.
Thoughts = Literal["shown", "omitted", "none"]

_encode = msgspec.json.Encoder().encode
PING = sse(b'{"type": "ping"}', "ping")
# How a piece of each kind of block is told: the delta's type and the name of its text.
DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class _Block:
    """One block of the answer: what it began with, and the pieces that came."""

    __slots__ = ("call", "head", "kind", "pieces", "sent", "signature")

    def __init__(self, kind: str, head: Json, call: int = -1) -> None:
        self.kind = kind
        self.head = {"type": kind, **head}
        self.call = call
        self.pieces: list[str] = []
        self.sent = 0
        self.signature: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def complete(self) -> bool:
        """Return whether nothing more can come: arguments come in pieces, and calls may take turns."""
        return self.kind != "tool_use" or _is_json(self.text)

    def signed(self, thoughts: Thoughts) -> str:
        if self.signature is not None:
            return self.signature
        return signed(self.text) if thoughts == "shown" else seal(self.text)

    def body(self, thoughts: Thoughts) -> Json:
        """Return the block, complete."""
        match self.kind:
            case "text":
                return {**self.head, "text": self.text}
            case "thinking":
                text = self.text if thoughts == "shown" else ""
                return {**self.head, "thinking": text, "signature": self.signed(thoughts)}
        return {**self.head, "input": _input(self.text)}


class _Answer:
    """One answer, gathered: its blocks in order, why it ended, and what it took."""

    def __init__(self, thoughts: Thoughts, stops: Sequence[str]) -> None:
        self.thoughts = thoughts
        self.blocks: list[_Block] = []
        self.usage = Usage(0, 0)
        self.reason = "end_turn"
        self.stop: str | None = None
        self._stops = frozenset(stops)
        self._refused = False

    def take(self, event: Event) -> None:
        match event:
            case Text(_, text):
                if text:
                    self._last("text", {"text": ""}).pieces.append(text)
            case Refusal(_, text):
                self._refused = True
                self._last("text", {"text": ""}).pieces.append(text)
            case Thinking(_, text, signature):
                if self.thoughts != "none" and (text or signature):
                    block = self._last("thinking", {"thinking": "", "signature": ""})
                    if text:
                        block.pieces.append(text)
                    block.signature = signature or block.signature
            case ToolStart(_, call, id, name):
                self.blocks.append(_Block("tool_use", {"id": _tool_id(id), "name": name, "input": {}}, call))
            case ToolDelta(_, call, arguments):
                for block in reversed(self.blocks):
                    if block.call == call:
                        block.pieces.append(arguments)
                        break
            case Finish(_, reason, stop):
                self._finish(reason, stop)
            case Usage():
                self.usage += event

    def _last(self, kind: str, head: Json) -> _Block:
        """Return the last block if it goes on, else a new one."""
        last = self.blocks[-1] if self.blocks else None
        if last is None or last.kind != kind or last.signature is not None:
            last = _Block(kind, head)
            self.blocks.append(last)
        return last

    def _finish(self, reason: str, stop: str | None) -> None:
        self.reason = "refusal" if self._refused else REASONS[reason]
        if self.reason == "end_turn" and stop in self._stops:
            self.reason, self.stop = "stop_sequence", stop


class MessageWriter:
    """Writes one streamed answer as frames, in the order Anthropic sends them.

    `stops` are the client's stop sequences; `request_id` is told with an error. `prompt` is how many tokens the prompt
    is thought to have, if that is known before the first event.
    """

    def __init__(
        self, *, id: str, model: str, thoughts: Thoughts = "none", stops: Sequence[str] = (), request_id: str = ""
    ) -> None:
        self._id = id
        self._model = model
        self._request_id = request_id
        self._answer = _Answer(thoughts, stops)
        self.prompt = 0
        # The first block that is not closed, whether it has begun, and what comes before and after its text.
        self._at = 0
        self._begun = False
        self._text: bytes | None = None
        self._started = False
        self._closed = False

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        """Return the frames that `events` make."""
        out: list[bytes] = []
        for event in events:
            if type(event) is Text and self._text is not None:
                if event.text:
                    out.append(self._text + _encode(event.text) + b"}}\n\n")
            elif not self._closed:
                self._write(event, out)
        return out

    def flush(self) -> list[bytes]:
        """Return the end of an answer that did not fail. Call after the last event."""
        if self._closed:
            return []
        out: list[bytes] = []
        self._start(out)
        self._drain(out, final=True)
        answer = self._answer
        delta = {"stop_reason": answer.reason, "stop_sequence": answer.stop, "stop_details": None}
        out.append(_frame("message_delta", delta=delta, usage=_counts(answer.usage)))
        out.append(_frame("message_stop"))
        self._close()
        return out

    def _close(self) -> None:
        self._closed = True
        self._text = None

    def _write(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, Fail):
            out.append(sse(_encode(messages_errors.body(event.error, self._request_id)), "error"))
            self._close()
            return
        self._answer.take(event)
        if isinstance(event, Text | Thinking | Refusal | ToolStart | ToolDelta | Finish):
            self._start(out)
            self._drain(out, final=isinstance(event, Finish))

    def _start(self, out: list[bytes]) -> None:
        if not self._started:
            self._started = True
            usage = self._answer.usage if self._answer.usage.prompt else Usage(self.prompt, 0)
            message = _message(self._id, self._model, [], None, None, usage)
            out += (_frame("message_start", message=message), PING)

    def _drain(self, out: list[bytes], *, final: bool) -> None:
        """Send what can be sent: all of the open block, and the next as soon as it is closed."""
        blocks = self._answer.blocks
        self._text = None
        while self._at < len(blocks):
            block, last = blocks[self._at], self._at + 1 == len(blocks)
            if not self._begun:
                self._begun = True
                out.append(_frame("content_block_start", index=self._at, content_block=block.head))
                if block.kind == "tool_use":
                    out.append(self._delta("input_json_delta", "partial_json", ""))
            self._pieces(block, out)
            if not final and (last or not block.complete()):
                if last and block.kind == "text":
                    head = {"type": "content_block_delta", "index": self._at, "delta": {"type": "text_delta"}}
                    self._text = b"event: content_block_delta\ndata: " + _encode(head)[:-2] + b',"text":'
                return
            self._stop(block, out)

    def _pieces(self, block: _Block, out: list[bytes]) -> None:
        pieces, block.sent = block.pieces[block.sent :], len(block.pieces)
        if block.kind == "thinking" and self._answer.thoughts == "omitted":
            return
        out += [self._delta(*DELTAS[block.kind], piece) for piece in pieces if piece]
        if block.kind == "text":
            # Nobody asks for it again.
            block.pieces, block.sent = [], 0

    def _stop(self, block: _Block, out: list[bytes]) -> None:
        if block.kind == "tool_use" and not block.text:
            # A call without arguments is an object too.
            out.append(self._delta("input_json_delta", "partial_json", "{}"))
        if block.kind == "thinking":
            out.append(self._delta("signature_delta", "signature", block.signed(self._answer.thoughts)))
        out.append(_frame("content_block_stop", index=self._at))
        self._at += 1
        self._begun = False

    def _delta(self, kind: str, field: str, text: str) -> bytes:
        return _frame("content_block_delta", index=self._at, delta={"type": kind, field: text})


def whole(
    events: Iterable[Event], *, id: str, model: str, thoughts: Thoughts = "none", stops: Sequence[str] = ()
) -> bytes:
    """Return one message as JSON. Raises the error of a Fail event."""
    answer = _Answer(thoughts, stops)
    for event in events:
        if isinstance(event, Fail):
            raise event.error
        answer.take(event)
    content = [block.body(thoughts) for block in answer.blocks]
    return _encode(_message(id, model, content, answer.reason, answer.stop, answer.usage))


def _frame(kind: str, **more: Any) -> bytes:
    return sse(_encode({"type": kind, **more}), kind)


def _message(id: str, model: str, content: list[Json], reason: str | None, stop: str | None, usage: Usage) -> Json:
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
        "stop_details": None,
        "usage": {
            **_counts(usage),
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "server_tool_use": None,
            "service_tier": "standard",
        },
    }


def _counts(usage: Usage) -> Json:
    """Return the tokens as Anthropic counts them: what was read from the cache is not part of the input."""
    return {
        "input_tokens": max(0, usage.prompt - usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _tool_id(id: str) -> str:
    """Return a call's id as Anthropic's are: `toolu_` and letters, digits, underscores and dashes."""
    id = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-") else "_" for sign in id)
    return id if id.startswith("toolu_") else f"toolu_{id.removeprefix('call_')}"


def _input(arguments: str) -> Any:
    """Return a call's arguments, which are an object here; what a model wrote instead is kept under one key."""
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": value}


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return True
