"""What goes through to a server of OpenAI's own wire without being understood: which headers, under which model's name,
and the usage that the answer tells. Pure; knows no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct

from ..errors import OproxyError
from ..events import Usage
from ..framing import BOM, LIMIT, Overlong, SseDecoder
from .ollama_pass import has_error, is_record
from .openai_errors import stream_error

__all__ = [
    "SECRET_PROTOCOLS",
    "AnswerObserver",
    "EventGuard",
    "answer_headers",
    "answered_error",
    "asks_stream",
    "climbs",
    "free_form",
    "named_model",
    "renamed",
    "request_headers",
    "usage_of",
]

_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)
_fields = msgspec.json.Decoder(dict[str, Raw]).decode

_EVENT_END = re.compile(rb"\n\r?\n")
_FIELDS = (b"data", b"event", b"id", b"retry")

# Of one connection, not of the message. https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    }
)
# What is between the client and us: its key and account, where it stands, how the body was packed.
OWN_REQUEST = HOP | {
    *("accept-encoding", "api-key", "authorization", "content-encoding", "content-length", "cookie", "expect"),
    *("forwarded", "host", "openai-organization", "openai-project", "origin", "referer", "via", "x-api-key"),
    *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-oproxy-tag"),
}
# What is between the backend and us; the limits it tells are those of our account there, not of the caller's.
OWN_ANSWER = HOP | {
    *("alt-svc", "content-encoding", "content-length", "date", "openai-organization", "openai-processing-ms"),
    *("openai-project", "openai-version", "server", "set-cookie", "strict-transport-security", "x-request-id"),
}
OWN_PREFIXES = ("access-control-", "sec-websocket-", "x-ratelimit-", "x-oproxy-")
# Browsers cannot send headers with a WebSocket, so their key and account stand among its protocols.
SECRET_PROTOCOLS = ("openai-insecure-api-key.", "openai-organization.", "openai-project.")

# More of a whole answer is not read to find its usage (bytes): pictures in JSON take megabytes.
OBSERVED = 8 * 1024 * 1024


def request_headers(headers: Iterable[tuple[str, str]], own: Collection[str]) -> dict[str, str]:
    """Return the headers of a request that go on to the backend; `own` are those that the config sends it."""
    taken = OWN_REQUEST | {name.lower() for name in own} | named(headers)
    return {
        name.lower(): value
        for name, value in headers
        if name.lower() not in taken and not name.lower().startswith(OWN_PREFIXES) and sendable(value)
    }


def answer_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of an answer that go on to the client."""
    taken = OWN_ANSWER | named(headers)
    return [
        (name.lower(), value)
        for name, value in headers
        if name.lower() not in taken and not name.lower().startswith(OWN_PREFIXES) and sendable(value)
    ]


def sendable(value: str) -> bool:
    """Return whether a header's value can be written again: one that is no UTF-8 cannot."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def named(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Return the headers that `Connection` says are only for the next hop."""
    return {
        part.strip().lower() for name, value in headers if name.lower() == "connection" for part in value.split(",")
    }


def climbs(raw_path: str) -> bool:
    """Return whether a path, however often it is encoded, holds a step up or an empty one: it would lead elsewhere at
    the backend than where it was let in here."""
    seen = raw_path
    for _ in range(4):
        steps = seen.replace("\\", "/").strip("/").split("/")
        if any(step in ("", ".", "..") for step in steps):
            return True
        if (plain := unquote(seen)) == seen:
            return False
        seen = plain
    return True


def named_model(body: bytes) -> str:
    """Return the model that a JSON body names, "" for none. What is no JSON is the backend's to refuse."""
    try:
        model = msgspec.json.decode(_fields(body).get("model", b"null"))
    except _BROKEN:
        return ""
    return model if isinstance(model, str) else ""


def renamed(body: bytes, model: str) -> bytes:
    """Return a JSON object with another model; everything else keeps its bytes."""
    fields = {**_fields(body), "model": Raw(msgspec.json.encode(model))}
    return b"{%b}" % b",".join(msgspec.json.encode(key) + b":" + bytes(value) for key, value in fields.items())


def usage_of(document: Any) -> Usage | None:
    """Return the usage that a document tells, at its top or in the response it holds; None where it counts no tokens
    (transcriptions may be counted in seconds)."""
    if not isinstance(document, dict):
        return None
    told = document.get("usage")
    if not isinstance(told, dict) and isinstance(inner := document.get("response"), dict):
        told = inner.get("usage")
    if not isinstance(told, dict):
        return None
    prompt = _count(told, "input_tokens", "prompt_tokens")
    completion = _count(told, "output_tokens", "completion_tokens")
    if prompt is None and completion is None:
        return None
    return Usage(
        prompt=prompt or 0,
        completion=completion or 0,
        cached=_detail(told, ("input_tokens_details", "input_token_details", "prompt_tokens_details"), "cached_tokens"),
        reasoning=_detail(told, ("output_tokens_details", "completion_tokens_details"), "reasoning_tokens"),
    )


def _count(told: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def _detail(told: Mapping[str, Any], groups: Iterable[str], name: str) -> int:
    for group in groups:
        if isinstance(held := told.get(group), dict) and (value := _count(held, name)) is not None:
            return value
    return 0


def asks_stream(body: bytes | None) -> bool | None:
    """Return whether a JSON body asks for a stream; None where there is none to ask in."""
    try:
        return bytes(_fields(body).get("stream", b"")) == b"true" if body else None
    except _BROKEN:
        return None


def free_form(path: str) -> bool:
    """Return whether a path (below /v1) may answer with something else than JSON: sound, subtitles, files."""
    path = path.partition("?")[0].rstrip("/")
    return path.startswith(("/audio/", "/realtime/")) or path.endswith("/content")


class _Named(Struct):
    id: Any = None
    object: Any = None
    data: Any = None
    status: Any = None


def answered_error(body: bytes, *, asked: str, backend: str) -> OproxyError | None:
    """Return the error that a whole answer is, None if it is none. Objects that tell of an error of their own (a job,
    a video) are answers."""
    if b'"error"' not in body:
        return None
    try:
        named = msgspec.json.decode(body, type=_Named)
        if named != _Named():
            return None
        return stream_error(msgspec.json.decode(body), backend=backend, model=asked)
    except _BROKEN:
        return None


class Ends:
    """The first and the last byte of a document that passes by, white space left out: what is looked at of one that is
    too large to be read."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first = self._last = b""

    def feed(self, data: bytes) -> None:
        if not self._first:
            self._first = data.removeprefix(BOM).lstrip()[:1]
        # Of a large piece only the end is copied.
        self._last = data[-64:].rstrip()[-1:] or data.rstrip()[-1:] or self._last

    @property
    def opens(self) -> bool:
        """Return whether it begins like a JSON object."""
        return self._first == b"{"

    @property
    def sound(self) -> bool:
        """Return whether it begins and ends like one."""
        return self.opens and self._last == b"}"


class EventGuard:
    """Passes whole events on, so that what is said after one is an event of its own. `broken`: what was no event that
    an SDK can read, it and all that follows is not passed on. `seen`: an event with data has come; `failed`: the first
    that is an error."""

    def __init__(self) -> None:
        # An event that has begun, in pieces: joined at each piece, a long one would take quadratic time.
        self._held: list[bytes] = []
        self.held = 0
        self.broken: bytes | None = None
        self.seen = False
        self.failed: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the events that `data` completes. Raises framing.Overlong for an endless one."""
        if self.broken is not None:
            return b""
        if not self.seen and not self._held:
            data = data.removeprefix(BOM)
        if self._held:
            if _EVENT_END.search(self._held[-1][-2:] + data) is None:
                self._hold(data)
                return b""
            data = b"".join([*self._held, data])
            self._held.clear()
            self.held = 0
        out: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(data):
            event = data[start : end.end()]
            if not self._sound(event):
                self.broken = event
                return b"".join(out)
            out.append(event)
            start = end.end()
        self._hold(data[start:])
        return b"".join(out)

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        self.held += len(data)
        if self.held > LIMIT:
            raise Overlong(f"one event is longer than {LIMIT} bytes")
        if self._held and len(self._held[-1]) < 2:
            # The end of an event is looked for across two pieces.
            data = self._held.pop() + data
        self._held.append(data)

    def flush(self) -> bytes:
        """Return the last event, if only the empty line after it is missing."""
        rest = b"".join(self._held)
        self._held.clear()
        self.held = 0
        return self.feed(rest.rstrip(b"\r\n") + b"\n\n") if rest.strip() else b""

    def _sound(self, event: bytes) -> bool:
        decoder = SseDecoder()
        for found in decoder.feed(event):
            # An end without a beginning is none.
            if not (self.seen if found.data.strip() == b"[DONE]" else is_record(found.data)):
                return False
            self.seen = True
            if self.failed is None and b'"error"' in found.data and has_error(found.data):
                self.failed = found.data
        # A line that is no field is no event: HTML, JSON, plain text.
        return all(line[:1] in b":" or line.startswith(_FIELDS) for line in event.split(b"\n") if line.strip())


class AnswerObserver:
    """Looks at an answer that passes by, for its usage: whole JSON, or Server-Sent Events. What it does not understand
    it does not mind. `done`: the stream has said that it is at its end."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self.streams = kind == "text/event-stream"
        self.json = kind == "application/json"
        self.usage: Usage | None = None
        self.done = False
        self._decoder: SseDecoder | None = SseDecoder(limit=OBSERVED) if self.streams else None
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        if self._decoder is not None:
            try:
                events = self._decoder.feed(data)
            except ValueError:
                # An endless event is the client's to bear, not ours to keep.
                self._decoder = None
                return
            for event in events:
                self._event(event.data)
        elif self.json and self._size <= OBSERVED:
            self._size += len(data)
            self._held.append(data)

    def whole(self) -> bytes:
        """Return what was seen of a whole JSON answer, and find its usage; b"" where it was too large to be kept."""
        if not self.json or self._size > OBSERVED:
            return b""
        body = b"".join(self._held)
        self._event(body)
        return body

    def _event(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            self.done = True
        elif b'"usage"' in data:
            try:
                found = usage_of(msgspec.json.decode(data))
            except _BROKEN:
                return
            self.usage = found or self.usage
            self.done = self.done or found is not None
