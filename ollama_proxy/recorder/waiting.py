"""Lines that wait for a log which cannot be written: its folder is missing, its disk is full, it is read-only.

Used by the one thread that writes the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..policy.backoff import Backoff, Presence
from .rotating import Rotating

__all__ = ["Waiting"]

# Pauses between tries of a log that cannot be written.
BACKOFF = Backoff(0.5, 5.0)
# Bytes that are written in one go, and that wait at most.
GROUP = 1024 * 1024
HEAVIEST = 16 * 1024 * 1024


class Waiting:
    """Writes lines to a file, the oldest first, and keeps at most `buffer` of them while it cannot be written. `lost`
    counts those that found no room. `say` takes a line for people when the file is lost and when it is back."""

    def __init__(
        self, file: Rotating, *, buffer: int, say: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.buffer = buffer
        self.written = self.lost = 0
        self._file, self._say, self._clock = file, say, clock
        self._presence = Presence(BACKOFF)
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def count(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    @property
    def away(self) -> bool:
        """Whether the file could not be written at the last try."""
        return self._presence.away

    def pause(self) -> float | None:
        """Return the seconds until the next try; None when nothing waits."""
        return self._presence.pause(self._clock()) if self._lines else None

    def write(self, lines: Iterable[bytes], *, last: bool = False) -> None:
        """Write lines, after those that wait. `last`: what cannot be written now is lost."""
        for line in lines:
            self._add(line)
        if self._lines and (last or not self._presence.pause(self._clock())):
            self._try()
        if last:
            self.lost += len(self._lines)
            self._lines, self._size = [], 0

    def _add(self, line: bytes) -> None:
        if len(line) > self._file.caps.max_total:
            # No try will ever write it; the file says why.
            self._file.write(line)
            self.lost += 1
        elif self.away and (len(self._lines) >= self.buffer or self._size + len(line) > HEAVIEST):
            self.lost += 1
        else:
            self._lines.append(line)
            self._size += len(line)

    def _try(self) -> None:
        while self._lines:
            count, data = self._group()
            if not self._file.write(data):
                self._fail()
                return
            del self._lines[:count]
            self._size -= len(data)
            self.written += count
        if self._presence.back():
            self._say(f"{self._file.path} is written again")

    def _group(self) -> tuple[int, bytes]:
        """Return how many lines are written in one go, and their bytes."""
        caps = self._file.caps
        most, size = min(caps.max_size, caps.max_total, GROUP), 0
        for count, line in enumerate(self._lines):
            if count and size + len(line) > most:
                return count, b"".join(self._lines[:count])
            size += len(line)
        return len(self._lines), b"".join(self._lines)

    def _fail(self) -> None:
        if self._presence.lost(self._file.error, self._clock()):
            self._say(f"A log cannot be written, at most {self.buffer} lines wait in memory: {self._file.error}")
        for line in self._lines[self.buffer :]:
            self._size -= len(line)
            self.lost += 1
        del self._lines[self.buffer :]
