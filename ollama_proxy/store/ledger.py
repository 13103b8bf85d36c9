"""The ledger's one writer: a thread that commits what waits, all of it at once, and an asyncio face in front of it. In
a file that is well, rows are committed without the thread (`direct`).

`await write(entry)` returns when the row is committed, so that an answer may end after it. A database that fails never
holds an answer up: rows wait in a bounded buffer until it works again, and the state says so. Never decides whether
requests go on meanwhile; that is the server's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeAlias

import msgspec

from ..account import Entry
from ..policy.backoff import Backoff, Presence
from .direct import Direct, Waiting, release
from .fault import StoreError, why
from .store import Store
from .writer import Writer

__all__ = ["Ledger", "LedgerState"]

# Rows in one statement, and so in one commit.
BATCH = 64
# Seconds that "relaxed" gathers rows.
GATHER = 0.1
# Pauses between tries of a database that fails.
BACKOFF = Backoff(0.2, 5.0)

Item: TypeAlias = tuple[Entry, "Future[None] | None"]


class LedgerState(msgspec.Struct, frozen=True, kw_only=True):
    """How the books are: `waiting` rows are not yet committed, `dropped` ones are lost. When not `ok`, `error` is the
    cause in one line and `since` the time it began."""

    ok: bool
    waiting: int
    dropped: int
    error: str = ""
    since: float | None = None


class Ledger:
    """The face of the writer; its methods are called on `loop`. `durability` and `buffer` may be set at any time.

    `away` is why the store could not be opened: then the writer begins as if the database had failed a moment ago, and
    opens it as soon as it can. `on_back` is called in the writer's thread each time the database works again, before
    the rows that waited are written; a StoreError it raises means that it does not work yet.
    """

    def __init__(
        self,
        store: Store,
        *,
        loop: AbstractEventLoop,
        durability: Literal["strict", "relaxed"] = "strict",
        buffer: int = 10_000,
        clock: Callable[[], float] = time.time,
        away: StoreError | None = None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.durability = durability
        self.buffer = buffer
        self._loop, self._clock = loop, clock
        self._on_change, self._on_back = store.on_change, on_back
        self._writer = Writer(store)
        self._direct = Direct(store, loop, self._writer, self._leave) if store.place.file is not None else None
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        # Each of these has one thread that writes it: the loop's the first two, the writer's the others.
        self._taken, self._dropped = 0, 0
        self._written, self._lost = 0, 0
        self._presence = Presence(BACKOFF)
        # Beside it, for it is looked at by every request.
        self._error = ""
        if away is not None:
            # Before anybody can ask: nobody may wait for a row that cannot be written.
            self._fail(away)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(away,), name="ledger", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether the database fails now, and rows wait."""
        return bool(self._error)

    @property
    def state(self) -> LedgerState:
        error = self._error
        return LedgerState(
            ok=not error,
            waiting=self._taken - self._written - self._lost + (self._direct.waiting if self._direct else 0),
            dropped=self._dropped + self._lost,
            error=error,
            since=self._presence.since if error else None,
        )

    async def write(self, entry: Entry) -> None:
        """Write a row; returns when it is committed ("strict"), or at once when it is to wait: "relaxed", or a
        database that fails. A row is written even if the caller is cancelled. Never raises."""
        if self.durability == "relaxed" or self._error:
            self.write_later(entry)
            return
        if self._direct is not None and self._taken == self._written + self._lost:
            done = self._direct.write(entry)
            if done is True:
                return
            if done:
                await done
                return
        if self._full():
            return
        waiter: Future[None] = self._loop.create_future()
        self._queue.put((entry, waiter))
        # Looked at again after the row is in the queue: who begins to fail empties the queue after saying so.
        if not self._error:
            await waiter

    def write_later(self, entry: Entry) -> None:
        """Write a row without waiting for it."""
        if not self._full():
            self._queue.put((entry, None))

    async def aclose(self) -> None:
        """Write what waits, and end. What a failing database does not take at a last try is lost, and it is said."""
        if self._ending.is_set():
            return
        self._ending.set()
        if self._direct is not None:
            self._direct.flush()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._direct is not None:
            self._direct.close()

    def _leave(self, items: Sequence[Waiting]) -> None:
        """Let the thread write rows for which somebody waits."""
        kept = [item for item in items if not self._full()]
        for item in kept:
            self._queue.put(item)
        # As in `write`: nobody waits for a database that fails, nor for rows that found no place.
        if self._error or len(kept) < len(items):
            release(items)

    def _full(self) -> bool:
        """Take a place in the buffer. The new row is dropped when there is none: what waits is older and complete."""
        if self._taken - self._written - self._lost >= self.buffer:
            self._dropped += 1
            return True
        self._taken += 1
        return False

    # From here on: the writer's thread.

    def _run(self, away: StoreError | None) -> None:
        try:
            if away is not None:
                self._endure([], away)
            while (items := self._take()) is not None:
                if (exc := self._commit(items)) is not None:
                    self._endure(items, exc)
        finally:
            self._writer.close()

    def _take(self) -> list[Item] | None:
        """Wait for rows and return all there are; None when it is over."""
        first = self._queue.get()
        if first is None:
            return None
        if first[1] is None and self.durability == "relaxed":
            self._ending.wait(GATHER)
        return [first, *self._drain()]

    def _drain(self) -> list[Item]:
        items: list[Item] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return items
            if item is None:
                # The end comes after these.
                self._queue.put(None)
                return items
            items.append(item)

    def _commit(self, items: list[Item]) -> Exception | None:
        """Commit rows from the front of the list, taking away what is in; returns why it came to a halt."""
        while items:
            batch = items[:BATCH]
            try:
                refused = self._writer.insert([entry for entry, _ in batch])
            # Whatever it is, it must not end the only writer: the rows wait, the state says why.
            except Exception as exc:
                return exc
            del items[:BATCH]
            self._written += len(batch) - refused
            if refused:
                self._lost += refused
                self._say(f"{lines(refused)} lost: the database does not take the values")
            self._release(batch)
        return None

    def _endure(self, items: list[Item], exc: Exception) -> None:
        """Keep rows until the database takes them."""
        written, dropped = self._written, self._dropped
        self._fail(exc)
        self._say(f"the database fails ({self._error}); ledger rows wait in memory, at most {self.buffer}")
        last = False
        while True:
            items += self._drain()
            self._release(items)
            items[:] = [(entry, None) for entry, _ in items]
            if last:
                self._lost += len(items)
                self._say(f"{lines(len(items))} lost: the database fails to the end ({self._error})")
                return
            last = self._ending.wait(self._presence.pause(self._clock()))
            if (again := self._catch_up(items, exc)) is None:
                break
            exc = again
            self._fail(exc)
        self._error = ""
        self._presence.back()
        dropped = self._dropped - dropped
        self._say(
            f"the database works again; {lines(self._written - written)} that waited: written"
            + (f"; {lines(dropped)} that found no place: lost" if dropped else "")
        )

    def _catch_up(self, items: list[Item], exc: Exception) -> Exception | None:
        """Begin anew with the database; commit what waits and what comes meanwhile. Returns why not."""
        try:
            self._writer.recover(exc)
            self._on_back()
        except Exception as again:
            return again
        items += self._drain()
        while items:
            if (failure := self._commit(items)) is not None:
                return failure
            items += self._drain()
        return None

    def _fail(self, exc: Exception) -> None:
        cause = why(exc)
        self._presence.lost(cause, self._clock())
        self._error = cause

    def _release(self, items: Sequence[Item]) -> None:
        waiters = [waiter for _, waiter in items if waiter is not None]
        if waiters:
            self._call(done, waiters)

    def _say(self, line: str) -> None:
        self._call(self._on_change, line)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        # A loop that was closed without `aclose` has nobody who waits or listens.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)


def lines(count: int) -> str:
    return f"{count} ledger row{'' if count == 1 else 's'}"


def done(waiters: list[Future[None]]) -> None:
    for waiter in waiters:
        # One whose request was cancelled is done already.
        if not waiter.done():
            waiter.set_result(None)
