"""Bytes to records and back: NDJSON and Server-Sent Events, pushed through, never pulled.

A decoder has `feed(data) -> list of records` and `flush() -> list of records`; records are bytes, still undecoded.
They split on bytes only: `str.splitlines` would break JSON that holds U+2028. Many clients do split so, and httpx with
them; what is written here escapes the three characters (`escape_breaks`). A record larger than `limit` is an error, so
that a broken backend cannot fill the memory.
"""

from __future__ import annotations

__all__ = [
    "BOM",
    "DONE",
    "LineDecoder",
    "Overlong",
    "SseDecoder",
    "SseEvent",
    "comment",
    "escape_breaks",
    "line",
    "sse",
]

from typing import NamedTuple

# 64 MiB: a batch of 2048 embeddings of 4096 dimensions at 8 bytes of text each is the longest line we expect.
LIMIT = 64 * 1024 * 1024

DONE = b"data: [DONE]\n\n"
# Some servers begin with it; in JSON it has no place.
BOM = b"\xef\xbb\xbf"


class Overlong(ValueError):
    """One record is larger than the limit."""


class LineDecoder:
    """Split a byte stream into the lines of NDJSON; empty lines are skipped."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._limit = limit

    @property
    def held(self) -> int:
        """The bytes of the line that has begun."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        if b"\n" not in data:
            if data:
                self._hold(data)
            return []
        head, *rest = data.split(b"\n")
        if self._held:
            self._held.append(head)
            head = b"".join(self._held)
            self._held.clear()
        tail = rest.pop()
        self._size = 0
        if tail:
            self._hold(tail)
        lines = [head, *rest]
        return [line for line in lines if line and not line.isspace()]

    def flush(self) -> list[bytes]:
        """Return the last line if it had no newline (Ollama ends some errors so)."""
        line = b"".join(self._held)
        self._held.clear()
        self._size = 0
        return [line] if line and not line.isspace() else []

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise Overlong(f"one line is longer than {self._limit} bytes")
        self._held.append(data)


class SseEvent(NamedTuple):
    """One Server-Sent Event; `event` is "" for unnamed ones."""

    event: str
    data: bytes


class SseDecoder:
    """Split a byte stream into Server-Sent Events. Lines may end in CR, LF or CRLF; comments and ids are dropped.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    __slots__ = ("_data", "_event", "_held", "_kept", "_limit", "_size", "_skip_lf")

    def __init__(self, *, limit: int = LIMIT) -> None:
        # The beginning of a line, in pieces: joined at each piece, a long line would take quadratic time.
        self._held: list[bytes] = []
        # Bytes of that, and of the event's lines before it.
        self._size = 0
        self._kept = 0
        self._data: list[bytes] = []
        self._event = ""
        self._skip_lf = False
        self._limit = limit

    @property
    def held(self) -> int:
        """The bytes of the event that has begun."""
        return self._size + self._kept

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that `data` completes."""
        if self._skip_lf and data:
            if data[:1] == b"\n":
                data = data[1:]
            self._skip_lf = False
        if data[-1:] == b"\r":
            # Whether a LF belongs to this CR is not known yet; it ends the line either way.
            self._skip_lf = True
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            if data:
                self._hold(data)
            return []
        lines = data.split(b"\n")
        if self._held:
            self._held.append(lines[0])
            lines[0] = b"".join(self._held)
            self._held.clear()
            self._size = 0
        tail = lines.pop()
        events = [event for line in lines if (event := self._line(line)) is not None]
        if tail:
            self._hold(tail)
        return events

    def flush(self) -> list[SseEvent]:
        """Return the last event if the stream ended without the empty line after it."""
        out: list[SseEvent] = []
        if self._held:
            line = b"".join(self._held)
            self._held.clear()
            if (event := self._line(line)) is not None:
                out.append(event)
        if (event := self._line(b"")) is not None:
            out.append(event)
        return out

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        if self._size + self._kept > self._limit:
            raise Overlong(f"one event is longer than {self._limit} bytes")
        self._held.append(data)

    def _line(self, line: bytes) -> SseEvent | None:
        if not line:
            if not self._data:
                self._event = ""
                return None
            event = SseEvent(self._event, b"\n".join(self._data))
            self._data.clear()
            self._kept = 0
            self._event = ""
            return event
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._kept += len(value)
            if self._kept > self._limit:
                raise Overlong(f"one event is longer than {self._limit} bytes")
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        return None


# NEL, LINE SEPARATOR and PARAGRAPH SEPARATOR in UTF-8: str.splitlines ends lines at them. In JSON they can only stand
# in strings, where `\\uXXXX` means the same. https://docs.python.org/3/library/stdtypes.html#str.splitlines
_NEL, _LINE, _PARAGRAPH = b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9"


def escape_breaks(data: bytes) -> bytes:
    """Return JSON, or lines of it, without characters that some clients take for the end of a line."""
    if data.isascii():
        return data
    # Three searches for plain bytes take a tenth of the time of one for a pattern.
    return data.replace(_NEL, b"\\u0085").replace(_LINE, b"\\u2028").replace(_PARAGRAPH, b"\\u2029")


def line(document: bytes) -> bytes:
    """Return one line of NDJSON, ready to send."""
    return escape_breaks(document) + b"\n"


def sse(data: bytes, event: str = "") -> bytes:
    """Return one event, ready to send. `data` must hold no newline (JSON without indentation holds none)."""
    if event:
        return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"


def comment(text: str = "") -> bytes:
    """Return a comment line: a heartbeat that no client shows."""
    return b": " + text.encode() + b"\n\n"
