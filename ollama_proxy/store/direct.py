"""Rows committed on the event loop: in SQLite that takes a fourth of what it costs to wake another thread and be woken
by it, and the loop would have nothing else to do.

Only where it cannot take long: it waits for no other writer, leaves the log's way into the file to the thread, and
steps back for a while when the disk was slow. What it does not write, the thread writes. Never raises.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence

from ..account import Entry
from .store import Store
from .writer import Writer

__all__ = ["Direct"]

# One row in so many goes by the thread, whose commit moves the write-ahead log into the file when that has grown.
BY_THREAD = 250
# A commit that took longer (seconds) says that the disk is slow; then the thread does it for so long.
SLOW = 0.02
AGAIN = 2.0
# Rows in one commit.
MOST = 64
# Rounds of the loop in which rows gather. With 8 requests at a time they rarely end in the same one, and a commit costs
# as much as ten rounds; a round waits for nothing while we want another.
ROUNDS = 3

Waiting = tuple[Entry, "Future[None]"]


class Direct:
    """A row that comes alone is committed at once; those that come in the next rounds of the loop share a commit, and
    so on while it goes on like that. `thread` writes what this does not, `leave` gives it to it."""

    def __init__(
        self, store: Store, loop: AbstractEventLoop, thread: Writer, leave: Callable[[Sequence[Waiting]], None]
    ) -> None:
        self._writer = Writer(store, patient=False)
        self._loop = loop
        self._thread = thread
        self._leave = leave
        self._busy = False
        self._rounds = 0
        self._gathered: list[Waiting] = []
        self._left = BY_THREAD
        self._not_before = 0.0

    @property
    def waiting(self) -> int:
        """How many rows are to be committed in one of the next rounds."""
        return len(self._gathered)

    def write(self, entry: Entry) -> Future[None] | bool:
        """Commit a row and return True; or return what is done when it is committed, False where the thread is to do
        it."""
        if self._busy:
            waiter: Future[None] = self._loop.create_future()
            self._gathered.append((entry, waiter))
            return waiter
        self._busy = True
        self._loop.call_soon(self._come_round)
        return self._commit((entry,))

    def flush(self) -> None:
        """Write what was gathered, or leave it to the thread."""
        gathered, self._gathered = self._gathered, []
        self._rounds = 0
        for start in range(0, len(gathered), MOST):
            items = gathered[start : start + MOST]
            if self._commit([entry for entry, _ in items]):
                release(items)
            else:
                self._leave(items)

    def close(self) -> None:
        self._writer.close()

    def _commit(self, entries: Sequence[Entry]) -> bool:
        began = time.monotonic()
        self._left -= len(entries)
        if self._left <= 0 or began < self._not_before:
            self._left = BY_THREAD
            return False
        try:
            refused = self._writer.insert(entries)
        except Exception:
            # Locked, full, gone: the thread knows what to do about each. It looks first which rows are in.
            self._thread.doubtful = True
            self.close()
            self._not_before = began + 1.0
            return False
        if time.monotonic() - began > SLOW:
            self._not_before = began + AGAIN
        if refused:
            # What no database holds is counted where all that is lost is counted.
            self._thread.doubtful = True
        return not refused

    def _come_round(self) -> None:
        if not self._gathered:
            # Each round that nobody needs costs one that comes alone some microseconds.
            self._busy = False
            return
        self._loop.call_soon(self._come_round)
        self._rounds += 1
        if self._rounds >= ROUNDS or len(self._gathered) >= MOST:
            self.flush()


def release(items: Sequence[Waiting]) -> None:
    for _, waiter in items:
        # One whose request was cancelled is done already.
        if not waiter.done():
            waiter.set_result(None)
