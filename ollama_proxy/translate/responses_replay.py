"""A response that is kept, as the events it would have been streamed as. Pure; the same response gives the same events
with the same numbers each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import Internal, OproxyError
from ..events import Event, Fail, Finish, FinishReason, Logprob, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from .responses_items import flat
from .responses_write import ResponseWriter

__all__ = ["ENDED", "documents", "replay"]

# Statuses after which nothing more comes.
ENDED = ("completed", "failed", "incomplete", "cancelled")


class Told(OproxyError):
    """An error as it was told when it happened."""


def replay(response: dict[str, Any]) -> list[bytes]:
    """Return the Server-Sent Events of a response that has ended."""
    base = {**response, "status": "in_progress", "output": [], "usage": None, "error": None, "completed_at": None}
    base |= {"service_tier": "auto", "incomplete_details": None}
    reasoning = [item for item in response["output"] if item.get("type") == "reasoning"]
    writer = ResponseWriter(
        base,
        clock=lambda: response["completed_at"] or 0,
        names={
            flat(item["namespace"], item["name"]): (item["namespace"], item["name"])
            for item in response["output"]
            if item.get("namespace")
        },
        summary=any(item.get("summary") for item in reasoning),
        sealed=any(item.get("encrypted_content") for item in reasoning),
        queued=bool(response.get("background")),
    )
    frames = writer.feed([*events(response)])
    return frames + (writer.cancel() if response["status"] == "cancelled" else writer.flush())


def events(response: dict[str, Any]) -> Iterator[Event]:
    """Yield what happened, one piece each."""
    for number, item in enumerate(response["output"]):
        match item:
            case {"type": "message", "content": content}:
                for part in content:
                    yield Refusal(0, part["refusal"]) if part["type"] == "refusal" else text_of(part)
            case {"type": "reasoning"}:
                parts = item.get("summary") or item.get("content") or ()
                yield Thinking(0, "".join(part["text"] for part in parts))
            case {"type": "function_call", "call_id": id, "name": name, "arguments": text}:
                yield ToolStart(0, number, id, flat(item.get("namespace"), name))
                yield ToolDelta(0, number, text)
            case {"type": "custom_tool_call", "call_id": id, "name": name, "input": text}:
                yield ToolStart(0, number, id, flat(item.get("namespace"), name), "custom")
                yield ToolDelta(0, number, text)
    if (usage := response.get("usage")) is not None:
        cached = usage["input_tokens_details"]["cached_tokens"]
        thought = usage["output_tokens_details"]["reasoning_tokens"]
        yield Usage(usage["input_tokens"], usage["output_tokens"], cached, thought)
    if response["status"] == "failed":
        error = response["error"] or {}
        yield Fail(Told(error.get("message") or Internal("").message, code=error.get("code")))
    else:
        yield Finish(0, reason_of(response))


def text_of(part: dict[str, Any]) -> Text:
    logprobs = tuple(logprob_of(token) for token in part.get("logprobs") or ())
    return Text(0, part["text"], logprobs or None)


def logprob_of(token: dict[str, Any]) -> Logprob:
    top = tuple(logprob_of(other) for other in token.get("top_logprobs") or ())
    return Logprob(token["token"], token["logprob"], tuple(token["bytes"] or ()), top)


def reason_of(response: dict[str, Any]) -> FinishReason:
    match (response.get("incomplete_details") or {}).get("reason"):
        case "max_output_tokens":
            return "length"
        case "content_filter":
            return "content_filter"
        case _:
            return "stop"


def documents(frames: list[bytes]) -> list[bytes]:
    """Return the JSON of Server-Sent Events, as a WebSocket sends it."""
    return [frame[frame.index(b"\ndata: ") + 7 : -2] for frame in frames]
