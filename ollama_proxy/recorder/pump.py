"""A bounded queue to one background thread: what is put never waits, and what does not fit is counted.

The thread takes what has gathered for a moment in one go, so that a busy daemon wakes it twenty times a second and not
for each request. It knows nothing of what it carries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Pump"]

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds in which items gather after the first.
GATHER = 0.05
# While this thread computes, the event loop waits; so it steps aside after so many seconds of it, for so many.
STRETCH = 0.0005
ASIDE = 0.0001
# Items that are worked on in one go.
MOST = 64
# Bytes that wait at most, whatever their number.
HEAVIEST = 64 * 1024 * 1024


class Pump(Generic[T]):
    """`work` gets what has gathered, as an iterator it must exhaust; `chores` is what to do when there is time. `pause`
    returns the seconds after which `work` is called even if nothing has come; None if it need not be.

    `put` is for one thread at a time. The thread starts with the first item.
    """

    def __init__(
        self,
        work: Callable[[Iterator[T]], None],
        *,
        buffer: int,
        name: str,
        chores: Callable[[], Iterator[None]] = lambda: iter(()),
        pause: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.buffer = buffer
        self.dropped = 0
        self._work, self._chores, self._name, self._pause = work, chores, name, pause
        self._queue: deque[tuple[T, int]] = deque()
        self._heavy_in = self._heavy_out = 0
        self._taken = self._put = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._done = threading.Condition()
        self._idle = True
        self._ending = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many items are not written yet."""
        return self._put - self._taken

    def put(self, item: T, size: int = 0) -> bool:
        """Hand an item over; return False when there is no room. `size` is about what it takes in memory (bytes)."""
        if self._put - self._taken >= self.buffer or self._heavy_in - self._heavy_out + size > HEAVIEST or self._ending:
            self.dropped += 1
            return False
        self._put += 1
        self._heavy_in += size
        self._queue.append((item, size))
        if self._idle:
            self._idle = False
            if self._thread is None:
                self._start()
            self._wake.set()
        return True

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until what was put so far has been worked on; return whether it was in time."""
        goal = self._put
        if self._thread is None:
            return True
        self._hurry.set()
        self._wake.set()
        with self._done:
            return self._done.wait_for(lambda: self._taken >= goal or not self._alive(), timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Work on what waits, and end the thread."""
        self._ending = True
        self._hurry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chores: Iterator[None] | None = None
        while True:
            self._idle = True
            if not self._queue and not self._ending:
                chores = self._step(chores)
                if chores is not None:
                    continue
                if not self._wake.wait(self._pause()):
                    self._one(0)
                    continue
            self._wake.clear()
            self._idle = False
            if self._queue:
                if len(self._queue) < MOST and not self._ending:
                    self._hurry.wait(GATHER)
                self._one(min(len(self._queue), MOST))
                if not self._ending:
                    chores = self._step(chores)
            elif self._ending:
                return
            self._hurry.clear()
            with self._done:
                self._done.notify_all()

    def _step(self, chores: Iterator[None] | None) -> Iterator[None] | None:
        """Go on with the chores; return None when there are no more."""
        try:
            chores = self._chores() if chores is None else chores
            return chores if next(chores, self) is None else None
        except Exception:
            log.exception("a log could not be looked after")
            return None

    def _one(self, count: int) -> None:
        """Work on so many items."""
        batch = self._batch(count)
        try:
            self._work(batch)
        except Exception:
            # The thread must outlive its work's mistakes.
            log.exception("what was to be logged could not be written")
        for _ in batch:
            # Only left over when the work failed half-way.
            self.dropped += 1
        self._taken += count

    def _batch(self, count: int) -> Iterator[T]:
        began = time.perf_counter()
        for _ in range(count):
            item, size = self._queue.popleft()
            yield item
            self._heavy_out += size
            if time.perf_counter() - began > STRETCH:
                time.sleep(ASIDE)
                began = time.perf_counter()
