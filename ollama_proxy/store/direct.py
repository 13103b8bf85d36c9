"""A row that comes alone, committed at once on the event loop: in SQLite that takes a fourth of what it costs to wake
another thread and be woken by it, and the loop would have nothing else to do.

Only where it cannot take long: it waits for no other writer, leaves the log's way into the file to the thread, and
steps back for a while when the disk was slow. What it does not write, the thread writes. Never raises.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop

from ..account import Entry
from .store import Store
from .writer import Writer

__all__ = ["Direct"]

# One row in so many goes by the thread, whose commit moves the write-ahead log into the file when that has grown.
BY_THREAD = 250
# A commit that took longer (seconds) says that the disk is slow; then the thread does it for so long.
SLOW = 0.02
AGAIN = 2.0


class Direct:
    """Writes at most one row each time the loop comes round: of those that end together the others share a commit.
    `thread` writes what this does not."""

    def __init__(self, store: Store, loop: AbstractEventLoop, thread: Writer) -> None:
        self._writer = Writer(store, patient=False)
        self._thread = thread
        self._loop = loop
        self._free = True
        self._count = 0
        self._not_before = 0.0

    def write(self, entry: Entry) -> bool:
        """Commit a row; return False where the thread is to do it."""
        if not self._free:
            return False
        began = time.monotonic()
        self._count += 1
        if self._count % BY_THREAD == 0 or began < self._not_before:
            return False
        self._free = False
        self._loop.call_soon(self._come_round)
        try:
            refused = self._writer.insert([entry])
        except Exception:
            # Locked, full, gone: the thread knows what to do about each. It looks first whether the row is in.
            self._thread.doubtful = True
            self.close()
            self._not_before = began + 1.0
            return False
        if time.monotonic() - began > SLOW:
            self._not_before = began + AGAIN
        return not refused

    def close(self) -> None:
        self._writer.close()

    def _come_round(self) -> None:
        self._free = True
