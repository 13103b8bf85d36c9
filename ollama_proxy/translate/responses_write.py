"""Events to the Responses API's stream of named events, and to the response object at its end.

One `ResponseWriter` writes one response: `feed` and `flush` return whole Server-Sent Events in OpenAI's order, and
`response` is the object as far as it has come. A piece of text costs one JSON string and one join, because the rest of
its event is encoded once. Ids of items are derived from the response's; never invents a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .. import framing
from ..errors import OproxyError
from ..events import Event, Fail, Finish, Logprob, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from .responses_parts import error_of, text_part, token_of, usage_of
from .sealed import seal

__all__ = ["ResponseWriter", "error_event"]

# Pieces are padded to a multiple of this, so that their sizes tell little of the text.
BLOCK = 16
_PADDING = "wT4nB8sYq1KzR6mVf3XjH9cLpD2gUaE7oWxNi5MvQkCbGhZyStJdAeFrOlPuI0" * 2

_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def error_event(error: OproxyError, number: int) -> bytes:
    """Return the event of an error in a stream of responses, as event `number` of it."""
    told = error.body()["error"]
    # The document says flat, the live API nests it; both kinds of clients are served by one object.
    flat = {"code": told["code"], "message": told["message"], "param": told["param"], "error": told}
    return framing.sse(_encode({"type": "error", "sequence_number": number, **flat}), "error")


class ResponseWriter:
    """Writes one response. `base` is the object as the request made it (`responses.echo`), `names` leads flat names of
    tools back into their namespaces, `summary` shows thoughts as a summary instead of as they are, `sealed` adds them
    as `encrypted_content`, `padded` adds `obfuscation`. `clock` gives epoch seconds, for `completed_at`."""

    def __init__(
        self,
        base: Json,
        *,
        clock: Callable[[], float],
        names: Mapping[str, tuple[str, str]] = {},
        summary: bool = False,
        sealed: bool = False,
        padded: bool = False,
        queued: bool = False,
    ) -> None:
        self.response = base
        self._clock = clock
        self._names = names
        self._summary = summary
        self._sealed = sealed
        self._padded = padded
        self._queued = queued
        self._seed = base["id"].partition("_")[2]
        self._next = 0
        self._begun = False
        self._closed = False
        self._output: list[Json] = base["output"]
        # What is being written: the item, how its events end, and the pieces of what is in it so far.
        self._item: Json | None = None
        self._pieces: list[str] = []
        self._logprobs: list[Json] = []
        self._kind = ""
        self._call: tuple[int, str] | None = None
        # What came while the call that is open was not whole: items are written one after the other.
        self._late: list[Event] = []
        # All that comes before the number, and between it and the text, in an event with a piece of text.
        self._delta: tuple[bytes, bytes, bytes] | None = None
        self._usage: Usage | None = None
        self._reason = "stop"

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._next

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events that `events` make, each ready to be sent."""
        out: list[bytes] = []
        if not self._begun:
            self.begin(out)
        for event in events:
            if type(event) is Text and self._delta is not None and event.logprobs is None and not self._padded:
                if event.text:
                    self._pieces.append(event.text)
                    head, middle, tail = self._delta
                    out.append(b"%b%d%b%b%b" % (head, self._next, middle, _encode(event.text), tail))
                    self._next += 1
            elif not self._closed:
                self._write(event, out)
        return out

    def flush(self) -> list[bytes]:
        """Return the last event, with the whole response. Call after the last events."""
        out: list[bytes] = []
        if self._closed:
            return out
        if not self._begun:
            self.begin(out)
        while self._late:
            self._catch_up(out)
        self._close(out)
        status = {"length": "incomplete", "content_filter": "incomplete"}.get(self._reason, "completed")
        if status == "incomplete":
            reason = "max_output_tokens" if self._reason == "length" else "content_filter"
            self.response["incomplete_details"] = {"reason": reason}
        self._end(status)
        out.append(self._event(f"response.{status}", {"response": self.response}))
        return out

    def begin(self, out: list[bytes]) -> None:
        """Write the first events, before anything is known of the answer."""
        self._begun = True
        if self._queued:
            self.response["status"] = "queued"
        out.append(self._event("response.created", {"response": self.response}))
        if self._queued:
            out.append(self._event("response.queued", {"response": self.response}))
            self.response["status"] = "in_progress"
        out.append(self._event("response.in_progress", {"response": self.response}))

    def cancel(self) -> list[bytes]:
        """End a response that was cancelled; there is no event that says so."""
        out: list[bytes] = []
        while self._late:
            self._catch_up(out)
        self._close(out, "incomplete")
        self._end("cancelled")
        return out

    # --- what happens -----------------------------------------------------------------------------------------------

    def _write(self, event: Event, out: list[bytes]) -> None:
        if self._call is not None and self._waits(event):
            self._late.append(event)
            return
        match event:
            case Text(_, text, logprobs):
                if text or logprobs:
                    self._message("output_text", out)
                    self._text(text, logprobs, out)
            case Refusal(_, text):
                self._message("refusal", out)
                self._piece("response.refusal.delta", text, {"content_index": self._part}, out)
            case Thinking(_, text):
                if text:
                    self._thinking(text, out)
            case ToolStart():
                self._tool(event, out)
            case ToolDelta(_, call, arguments):
                if arguments and self._call is not None and self._call[0] == call:
                    self._piece(f"{self._call[1]}.delta", arguments, {}, out)
                    if self._late and self._whole():
                        self._catch_up(out)
            case Finish(_, reason):
                self._reason = reason
            case Usage():
                self._usage = event if self._usage is None else self._usage + event
            case Fail(error):
                self._fail(error, out)

    def _waits(self, event: Event) -> bool:
        """Return whether an event belongs to an item that comes after the call that is open, and is not whole."""
        match event:
            case ToolDelta(_, call):
                return self._call is not None and call != self._call[0]
            case Text() | Refusal() | Thinking() | ToolStart():
                return not self._whole()
        return False

    def _whole(self) -> bool:
        """Return whether nothing more can come of the call that is open. Servers may send the pieces of calls that are
        made at once in any order."""
        if self._item is None or self._item["type"] != "function_call":
            return True
        try:
            msgspec.json.decode("".join(self._pieces))
        except msgspec.MsgspecError:
            return False
        return True

    def _catch_up(self, out: list[bytes]) -> None:
        """Go on with what waited for the call that is open."""
        late, self._late = self._late, []
        self._close(out)
        for event in late:
            self._write(event, out)

    def _fail(self, error: OproxyError, out: list[bytes]) -> None:
        while self._late:
            self._catch_up(out)
        self._close(out, "incomplete")
        out.append(error_event(error, self._next))
        self._next += 1
        self.response["error"] = error_of(error)
        self._end("failed")
        out.append(self._event("response.failed", {"response": self.response}))

    def _end(self, status: str) -> None:
        self._closed = True
        self.response["status"] = status
        self.response["service_tier"] = "default"
        self.response["completed_at"] = int(self._clock()) if status == "completed" else None
        if self._usage is not None:
            self.response["usage"] = usage_of(self._usage)

    # --- items ------------------------------------------------------------------------------------------------------

    def _open(self, prefix: str, item: Json, out: list[bytes]) -> None:
        self._close(out)
        # As OpenAI's, an item's id begins like its response's.
        item = {"id": f"{prefix}{self._seed[:44]}{len(self._output):04x}", **item}
        self._item = item
        self._pieces = []
        self._output.append(item)
        place = {"output_index": len(self._output) - 1}
        out.append(self._event("response.output_item.added", {**place, "item": item}))

    def _close(self, out: list[bytes], status: str | None = None) -> None:
        """End the item that is open."""
        item = self._item
        if item is None:
            return
        cut = self._reason in ("length", "content_filter")
        cut = cut and (item["type"] == "message" or not self._whole())
        item["status"] = status or ("incomplete" if cut else "completed")
        text = "".join(self._pieces)
        match item["type"]:
            case "message":
                self._close_part(text, out)
            case "reasoning":
                self._close_thinking(item, text, out)
            case _:
                self._close_call(item, text, out)
        out.append(self._event("response.output_item.done", {"output_index": len(self._output) - 1, "item": item}))
        self._item = self._delta = self._call = None

    @property
    def _part(self) -> int:
        return len(self._item["content"]) if self._item is not None else 0

    def _message(self, kind: str, out: list[bytes]) -> None:
        """See that a message is open, and in it a part of this kind."""
        if self._item is None or self._item["type"] != "message":
            self._open(
                "msg_", {"type": "message", "status": "in_progress", "content": [], "role": "assistant"}, out
            )  # fmt: skip
            self._kind = ""
        if self._kind == kind:
            return
        if self._kind:
            self._close_part("".join(self._pieces), out)
        self._kind, self._pieces, self._logprobs = kind, [], []
        part = text_part("") if kind == "output_text" else {"type": "refusal", "refusal": ""}
        out.append(self._placed("response.content_part.added", {"content_index": self._part, "part": part}))
        if kind == "output_text":
            self._delta = self._prepared("response.output_text.delta", {"content_index": self._part}, b',"logprobs":[]')

    def _close_part(self, text: str, out: list[bytes]) -> None:
        assert self._item is not None
        place = {"content_index": self._part}
        if self._kind == "refusal":
            part: Json = {"type": "refusal", "refusal": text}
            out.append(self._placed("response.refusal.done", {**place, "refusal": text}))
        else:
            part = text_part(text, self._logprobs)
            shown = {**place, "text": text, "logprobs": self._logprobs}
            out.append(self._placed("response.output_text.done", shown))
        out.append(self._placed("response.content_part.done", {**place, "part": part}))
        self._item["content"].append(part)
        self._delta = None

    def _text(self, text: str, logprobs: Sequence[Logprob] | None, out: list[bytes]) -> None:
        written = [token_of(each) for each in logprobs or ()]
        self._logprobs += written
        place = {"content_index": self._part}
        self._piece("response.output_text.delta", text, place, out, {"logprobs": written})

    def _thinking(self, text: str, out: list[bytes]) -> None:
        if self._item is None or self._item["type"] != "reasoning":
            content: Json = {} if self._summary else {"content": []}
            self._open("rs_", {"type": "reasoning", "summary": [], **content}, out)
            if self._summary:
                part = {"type": "summary_text", "text": ""}
                out.append(self._placed("response.reasoning_summary_part.added", {"summary_index": 0, "part": part}))
            else:
                part = {"type": "reasoning_text", "text": ""}
                out.append(self._placed("response.content_part.added", {"content_index": 0, "part": part}))
        if self._summary:
            self._piece("response.reasoning_summary_text.delta", text, {"summary_index": 0}, out)
        else:
            self._piece("response.reasoning_text.delta", text, {"content_index": 0}, out)

    def _close_thinking(self, item: Json, text: str, out: list[bytes]) -> None:
        if self._summary:
            part = {"type": "summary_text", "text": text}
            place = {"summary_index": 0}
            out.append(self._placed("response.reasoning_summary_text.done", {**place, "text": text}))
            out.append(self._placed("response.reasoning_summary_part.done", {**place, "part": part}))
            item["summary"] = [part]
        else:
            part = {"type": "reasoning_text", "text": text}
            place = {"content_index": 0}
            out.append(self._placed("response.reasoning_text.done", {**place, "text": text}))
            out.append(self._placed("response.content_part.done", {**place, "part": part}))
            item["content"] = [part]
        # OpenAI's have no status in the end.
        del item["status"]
        if self._sealed:
            item["encrypted_content"] = seal(text)

    def _tool(self, start: ToolStart, out: list[bytes]) -> None:
        namespace, name = self._names.get(start.name, (None, start.name))
        named = {"name": name, **({"namespace": namespace} if namespace is not None else {})}
        if start.kind == "custom":
            item = {"type": "custom_tool_call", "status": "in_progress", "call_id": start.id, "input": "", **named}
            self._open("ctc_", item, out)
            self._call = (start.call, "response.custom_tool_call_input")
        else:
            item = {"type": "function_call", "status": "in_progress", "arguments": "", "call_id": start.id, **named}
            self._open("fc_", item, out)
            self._call = (start.call, "response.function_call_arguments")

    def _close_call(self, item: Json, text: str, out: list[bytes]) -> None:
        if item["type"] == "custom_tool_call":
            item["input"] = text
            out.append(self._placed("response.custom_tool_call_input.done", {"input": text}))
            return
        if not text:
            # OpenAI's arguments are always JSON; clients load them without looking.
            text = "{}"
            self._piece("response.function_call_arguments.delta", text, {}, out)
        item["arguments"] = text
        # The document demands the name, the live API leaves it away; it does no harm.
        out.append(self._placed("response.function_call_arguments.done", {"arguments": text, "name": item["name"]}))

    # --- events -----------------------------------------------------------------------------------------------------

    def _piece(self, name: str, text: str, place: Json, out: list[bytes], more: Mapping[str, Any] = {}) -> None:
        self._pieces.append(text)
        padded = {"obfuscation": _PADDING[: BLOCK - len(text) % BLOCK]} if self._padded else {}
        out.append(self._placed(name, {**place, "delta": text, **more, **padded}))

    def _placed(self, name: str, fields: Json) -> bytes:
        """Write an event of the item that is open."""
        assert self._item is not None
        return self._event(name, {"item_id": self._item["id"], "output_index": len(self._output) - 1, **fields})

    def _event(self, name: str, fields: Json) -> bytes:
        document = _encode({"type": name, "sequence_number": self._next, **fields})
        self._next += 1
        return framing.sse(document, name)

    def _prepared(self, name: str, place: Json, rest: bytes) -> tuple[bytes, bytes, bytes]:
        """Encode all of an event but its number and its piece."""
        assert self._item is not None
        fields = {"item_id": self._item["id"], "output_index": len(self._output) - 1, **place}
        head = b"event: %b\ndata: " % name.encode() + _encode({"type": name})[:-1] + b',"sequence_number":'
        return head, b"," + _encode(fields)[1:-1] + b',"delta":', rest + b"}\n\n"
