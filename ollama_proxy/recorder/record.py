"""The flight recorder: one line for each request in `requests.jsonl`, written off the event loop.

`record` only hands over; a thread of its own assembles streams, takes out media and secrets, and writes. What does not
fit into the queue, or onto the disk, is dropped, counted and said, in the log itself too. Never raises.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from .. import framing
from ..account import Entry
from ..policy.printable import utf8_text
from ..policy.redact import may_hold_key, redact_json
from .assemble import assemble
from .body import Body, kept
from .patterns import BadPattern, Patterns
from .pump import Pump
from .rotating import Caps, Rotating
from .waiting import Waiting

__all__ = ["DAEMON_SHARE", "DETACHED_SHARE", "FILE", "Line", "Record", "Recorder", "State", "Timing", "iso"]

log = logging.getLogger(__name__)

FILE = "requests.jsonl"
# The part of max_total that is for what the daemon says: one in so many, half of it for `daemon.jsonl`, half for the
# output of a daemon in the background. Each log keeps to its own part, so that all together never pass the whole,
# though none knows of the others.
DAEMON_SHARE = 8
DETACHED_SHARE = 2 * DAEMON_SHARE
# How many of a stream's times are kept.
OFFSETS = 200
# About what a piece of a stream takes in memory (bytes); measuring each would cost the event loop.
PIECE = 400
# Seconds between two complaints.
QUIET = 60.0
# Epoch seconds of the year 3000: `time.gmtime` ends somewhere, and not everywhere at the same year.
LAST = 32_503_680_000
LARGEST = 2**63 - 1


class Record(msgspec.Struct):
    """What is known of an ended request. `answer` is the body as it was sent; of a stream, `chunks` are the seconds
    since the request began and the bytes sent then."""

    entry: Entry
    method: str
    path: str
    request: bytes
    answer: bytes | None = None
    chunks: list[tuple[float, bytes]] = []
    # Of a stream: how many pieces there were, what those that are here take in memory, whether some are missing.
    count: int = 0
    size: int = 0
    cut: bool = False
    ignored: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream was written: seconds since the request began, at most 200 of them; `done`: to its end."""

    first: float
    last: float
    count: int
    done: bool
    offsets: list[float]


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of the log. `altered` tells what was done to a body: media, redacted, cut, text, none."""

    at: str
    entry: Entry
    method: str
    path: str
    headers: dict[str, str] = {}
    ignored: tuple[str, ...] = ()
    altered: dict[str, tuple[str, ...]] = {}
    timing: Timing | None = None
    request: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    answer: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class State(NamedTuple):
    """Lines written and dropped since the start, those that wait, and what is wrong ("" if nothing)."""

    written: int
    dropped: int
    waiting: int
    error: str


class Recorder:
    """`max_age` is in seconds, sizes in bytes, `max_total` that of both logs together; `redact` are patterns."""

    def __init__(
        self,
        folder: Path,
        *,
        max_size: int,
        max_age: float,
        max_files: int,
        max_total: int,
        buffer: int,
        bodies: Literal["all", "none"],
        redact: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._second, self._shown = -1, ""
        self._failed = self._told = 0
        self._complained = 0.0
        self._moved = False
        self._reduced: Counter[str] = Counter()
        self._redact: tuple[str, ...] | None = None
        self._patterns = Patterns(())
        self._bad = ""
        caps = Caps(max_size=max_size, max_age=max_age, max_files=max_files, max_total=max_total)
        self._file = Rotating(Path(folder) / FILE, caps, clock)
        self._waiting = Waiting(self._file, buffer=buffer, say=log.warning, clock=clock)
        self._pump: Pump[Record] = Pump(
            self._write, buffer=buffer, name="recorder", chores=self._file.chores, pause=self._waiting.pause
        )
        self.configure(
            max_size=max_size, max_age=max_age, max_files=max_files, max_total=max_total,
            buffer=buffer, bodies=bodies, redact=redact,
        )  # fmt: skip

    def configure(
        self,
        *,
        max_size: int,
        max_age: float,
        max_files: int,
        max_total: int,
        buffer: int,
        bodies: Literal["all", "none"],
        redact: Sequence[str] = (),
    ) -> None:
        """Go by new settings from the next request on."""
        share = max_total - max_total // DAEMON_SHARE
        self._file.caps = Caps(
            max_size=min(max_size, share), max_age=max_age, max_files=max_files, max_total=share
        )  # fmt: skip
        self._pump.buffer = self._waiting.buffer = buffer
        self._bodies = bodies
        if tuple(redact) != self._redact:
            self._redact = tuple(redact)
            try:
                self._patterns, self._bad = Patterns(redact), ""
            except BadPattern as exc:
                self._bad = f"bodies are not recorded: {exc.message}"
                log.warning("%s", self._bad)

    def record(self, item: Record) -> None:
        """Hand over a request. Never waits, never raises."""
        answer = item.answer
        size = len(item.request) + (len(answer) if answer is not None else item.size or len(item.chunks) * PIECE)
        self._pump.put(item, size)

    @property
    def state(self) -> State:
        waiting = self._pump.waiting + self._waiting.count
        return State(self._waiting.written, self._dropped, waiting, self._file.error or self._bad)

    @property
    def _dropped(self) -> int:
        return self._pump.dropped + self._waiting.lost + self._failed

    @property
    def reduced(self) -> dict[str, int]:
        """How many lines had to be written without their bodies, by the error that made it so."""
        return dict(self._reduced)

    def reopen(self) -> None:
        """Write to the path anew: somebody has moved the file away (logrotate, then SIGHUP)."""
        self._moved = True

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was handed over is written; return whether it is."""
        return self._pump.flush(timeout) and not self._waiting.count

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._pump.close()
        self._waiting.write((), last=True)
        self._complain()
        self._file.close()

    # --- in the thread --------------------------------------------------------------------------------------------

    def _write(self, batch: Iterator[Record]) -> None:
        if self._moved:
            self._moved = False
            self._file.reopen()
        lines = [line for item in batch if (line := self._safely(item))]
        self._waiting.write(lines)
        dropped = self._dropped
        if dropped > self._told and not self._waiting.away:
            said = {"at": self._iso(self._clock()), "dropped": dropped - self._told}
            if self._file.write(framing.line(msgspec.json.encode(said))):
                self._told = dropped
        self._complain()

    def _safely(self, item: Record) -> bytes:
        """Return the line of a request. If it cannot be made, the line has no bodies and names the reason; whatever a
        client has sent, it does not keep its request out of the log."""
        try:
            return self._line(item)
        except Exception as exc:
            reason = type(exc).__name__
            self._reduced[reason] += 1
            if self._reduced[reason] == 1:
                log.warning("A request is recorded without its bodies (%s): %s", reason, item.entry.id)
        try:
            return self._reduced_line(item, reason)
        except Exception:
            self._failed += 1
            log.exception("a request could not be recorded")
            return b""

    def _reduced_line(self, item: Record, reason: str) -> bytes:
        entry = item.entry
        line = Line(
            at=self._iso(number_of(entry.at)),
            entry=Entry(**{name: writable(getattr(entry, name)) for name in Entry.__struct_fields__}),
            method=utf8_text(str(item.method)),
            path=utf8_text(str(item.path)),
            altered={"request": ("none", reason), "answer": ("none", reason)},
        )
        return redact_json(self._encode(line)) + b"\n"

    def _complain(self) -> None:
        """Say in the daemon's log that lines are lost, but not for each."""
        dropped = self._dropped
        now = time.monotonic()
        if dropped > self._told and (not self._complained or now - self._complained > QUIET):
            self._complained = now
            log.warning("%d requests were not recorded: %s", dropped - self._told, self._file.error or "too many")

    def _line(self, item: Record) -> bytes:
        # Nearly no line holds a key. Looked for once in all of it; only where something looks like one, each part is
        # looked through, so that it can be said which was changed.
        answer, timing = self._stream(item) if item.chunks else (item.answer, None)
        line = self._made(item, answer, timing, clean=True)
        if may_hold_key(line):
            # Once more over all of it: a key may be where a model's name or a tag belongs.
            line = redact_json(self._made(item, answer, timing, clean=False))
        return framing.line(line)

    def _made(self, item: Record, answer: bytes | None, timing: Timing | None, *, clean: bool) -> bytes:
        entry = item.entry
        line = Line(
            at=self._iso(entry.at),
            entry=entry,
            method=item.method,
            path=item.path,
            headers=item.headers,
            ignored=item.ignored,
            timing=timing,
        )
        if self._bodies == "all" and not self._bad:
            altered: dict[str, tuple[str, ...]] = {}
            for name, data in (("request", item.request), ("answer", answer)):
                if data:
                    body: Body = kept(data, self._patterns, clean=clean)
                    setattr(line, name, msgspec.Raw(body.json))
                    if body.done:
                        altered[name] = body.done
            if item.cut:
                altered["answer"] = tuple(dict.fromkeys((*altered.get("answer", ()), "cut")))
            line.altered = altered
        elif item.request:
            line.altered = {"request": ("none",)}
        return self._encode(line)

    def _stream(self, item: Record) -> tuple[bytes, Timing]:
        """Return a stream's whole answer and its times."""
        chunks = item.chunks
        step = -(-len(chunks) // OFFSETS)
        whole = assemble([data for _, data in chunks])
        timing = Timing(
            first=round(chunks[0][0], 4),
            last=round(chunks[-1][0], 4),
            count=item.count or len(chunks),
            done=whole.done,
            offsets=[round(at, 4) for at, _ in chunks[::step]],
        )
        return self._encode(whole.answer) if whole.answer is not None else b"", timing

    def _iso(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            # Under load many requests share a second.
            self._second, self._shown = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._shown}.{int((at - second) * 1000):03d}Z"


def writable(value: Any) -> Any:
    """Return a value of an entry as JSON can hold it."""
    match value:
        case None | bool():
            return value
        case int():
            return max(-LARGEST, min(value, LARGEST))
        case float():
            return number_of(value)
    return utf8_text(str(value))


def number_of(value: float) -> float:
    """Return a time that is one; 0 for what is none."""
    return value if 0 <= value < LAST else 0.0


def iso(at: float) -> str:
    """Return a time as the logs write it: UTC, with milliseconds."""
    second = int(at)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((at - second) * 1000):03d}Z"
