"""Lines of running batches: which is begun next, what becomes of its answer.

Batches of different owners take turns, and so do an owner's own. A line is begun only when nobody is waiting for its
backend, or when it has let others go first for long enough. Never says what state a batch is in, beyond that it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

from .batchfiles import Index, Parts
from .errors import Invalid, OproxyError
from .policy.backoff import Backoff, Presence
from .policy.batch import Counts, Fault, Kept, Lines, Retry, Status, again
from .sections_state import Batches
from .tasks import Tasks
from .translate import batches

__all__ = ["GONE", "Answer", "Dispatcher", "Ending", "Office", "Run", "with_batch"]

log = logging.getLogger(__name__)

# Seconds between two looks at whether a busy backend is free.
GLANCE = 0.02
# Pauses between tries while the disk fails.
BACKOFF = Backoff(0.2, 60.0)

GONE = Fault(
    code="input_file_not_found",
    message="The input file was deleted before all of its requests were answered.",
    param="input_file_id",
)
BROKEN = Fault(code="internal_error", message="The batch could not be run; the daemon's log says why.")

NOT_JSON = msgspec.json.encode(
    {
        "error": {
            "message": "The backend's answer is not JSON.",
            "type": "server_error",
            "param": None,
            "code": "backend_error",
        }
    }
)

Ending = Literal["completed", "expired", "cancelled", "failed", "forgotten"]


class Answer(NamedTuple):
    """What a line was answered: the status and body that a client would have got."""

    status: int
    request_id: str
    body: bytes


class Office(Protocol):
    """What a runner needs of the program around it."""

    def settings(self) -> Batches:
        """Return [batches] as it is now."""

    def most(self) -> int:
        """Return how many bytes a body may have."""

    def place(self, id: str) -> Path:
        """Return where the bytes of a file are, or will be."""

    async def load(self, id: str) -> Kept | None:
        """Return a batch as it is kept. Raises OproxyError where the store fails, as all the following do."""

    async def save(self, kept: Kept, *, only: Status) -> bool:
        """Keep a batch that is still in state `only`; return whether it was."""

    async def keep(self, kept: Kept, id: str, filename: str) -> None:
        """Make a client's file of the bytes at the place of `id`, if there is none yet."""

    async def find(self, kept: Kept, model: str) -> str | None:
        """Return the backend that has a model for this batch, "" where that cannot be told now, None if there is
        none."""

    def busy(self, backend: str) -> bool:
        """Return whether a backend answers somebody who waits."""

    async def answer(
        self, kept: Kept, body: bytes, *, behind: int, retry: Callable[[OproxyError], Retry | None]
    ) -> Answer | Retry:
        """Answer one request and book it; `retry` says of a refusal whether it is the last word."""


class Run:
    """A batch in progress: its lines, its answers so far, and what is under way."""

    def __init__(self, kept: Kept, index: Index, backends: dict[str, str], parts: Parts) -> None:
        self.kept = kept
        self.index = index
        self.backends = backends
        self.parts = parts
        written = parts.open()
        self.lines = Lines(len(index), written.numbers)
        self.completed, self.failed = written.counts.completed, written.counts.failed
        self.usage = written.usage
        self.tasks: set[asyncio.Task[None]] = set()
        # Since when its next line has let others go first.
        self.blocked: float | None = None
        self.ending: Ending | None = None
        self.fault: Fault | None = None
        # Something is to be looked at: it ends, or may have been cancelled.
        self.stir = asyncio.Event()
        if not self.lines.left:
            self.end("completed")

    @property
    def now(self) -> Kept:
        """The batch with its counts as they are now."""
        counts = Counts(total=self.lines.total, completed=self.completed, failed=self.failed)
        return with_batch(self.kept, request_counts=counts, usage=self.usage)

    def end(self, ending: Ending, fault: Fault | None = None) -> None:
        """Begin no more lines; what it ends as is said once."""
        if self.ending is None:
            self.ending, self.fault = ending, fault
        self.stir.set()


def with_batch(kept: Kept, **fields: object) -> Kept:
    return msgspec.structs.replace(kept, batch=msgspec.structs.replace(kept.batch, **fields))


class Dispatcher:
    """Begins the lines of all batches in progress, as many at once as the settings say. `clock` gives seconds, `new_id`
    24 or more random hex digits; `first_wait`: seconds before a failed line is tried again."""

    def __init__(
        self, office: Office, tasks: Tasks, *, clock: Callable[[], float], new_id: Callable[[], str], first_wait: float
    ) -> None:
        self.first_wait = first_wait
        self.runs: dict[str, Run] = {}
        self._office, self._tasks = office, tasks
        self._clock, self._new_id = clock, new_id
        # By owner, and of each by age: both take turns.
        self._ring: OrderedDict[str, OrderedDict[str, Run]] = OrderedDict()
        self._under_way = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def enlisted(self, run: Run) -> AsyncIterator[None]:
        """Let a batch's lines take their turns; what is under way at the end is given up."""
        id, owner = run.kept.batch.id, run.kept.owner
        self.runs[id] = run
        self._ring.setdefault(owner, OrderedDict())[id] = run
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._dispatch(), name="batches")
        self._wake.set()
        try:
            yield
        finally:
            mine = self._ring[owner]
            del mine[id]
            if not mine:
                del self._ring[owner]
            under_way = list(run.tasks)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await asyncio.to_thread(run.parts.close)
            del self.runs[id]

    async def _dispatch(self) -> None:
        """Begin lines as long as there are any: as many at once as the settings say."""
        while self._ring:
            self._wake.clear()
            wait = self._fill()
            # Not wait_for: up to Python 3.11 it swallows a cancellation that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _fill(self) -> float | None:
        """Begin what may be begun; return after how long there may be more (None: when a line ends)."""
        while self._under_way < self._office.settings().concurrency:
            wait = self._begin_one(self._clock())
            if wait != 0:
                return wait
        return None

    def _begin_one(self, now: float) -> float | None:
        """Begin the next line of the next batch and return 0; else return as `_fill` does."""
        waits: list[float] = []
        for owner, runs in self._ring.items():
            for id, run in runs.items():
                number = run.lines.look(now) if run.ending is None else None
                if number is None:
                    if run.ending is None and (due := run.lines.due()) is not None:
                        waits.append(max(due - now, 0.001))
                elif not (behind := self._rank(run, number, now)):
                    waits.append(GLANCE)
                else:
                    self._ring.move_to_end(owner)
                    runs.move_to_end(id)
                    self._begin(run, now, behind)
                    return 0
        return min(waits, default=None)

    def _rank(self, run: Run, number: int, now: float) -> int:
        """Return how a line may be asked (`policy.books.Books.behind`); 0: not yet, others go first."""
        if not self._office.busy(run.backends[run.index.model(number)]):
            run.blocked = None
            return 2
        if run.blocked is None:
            run.blocked = now
        if now - run.blocked < self._office.settings().patience:
            return 0
        run.blocked = None
        return 1

    def _begin(self, run: Run, now: float, behind: int) -> None:
        taken = run.lines.take(now)
        assert taken is not None
        self._under_way += 1
        task = self._tasks.start(self._line(run, *taken, behind), name=f"{run.kept.batch.id}-{taken[0]}")
        run.tasks.add(task)
        task.add_done_callback(partial(self._line_done, run))

    def _line_done(self, run: Run, task: asyncio.Task[None]) -> None:
        self._under_way -= 1
        run.tasks.discard(task)
        self._wake.set()

    async def _line(self, run: Run, number: int, tries: int, behind: int) -> None:
        try:
            custom_id, body = batches.ask_of(await asyncio.to_thread(run.index.read, number))
            retry = partial(again, tries=tries, most=self._office.settings().tries, first=self.first_wait)
            got = await self._office.answer(run.kept, body, behind=behind, retry=retry)
            if isinstance(got, Retry):
                run.lines.park(number, got, self._clock())
            else:
                await self._note(run, number, custom_id, got)
        except FileNotFoundError:
            run.end("failed", GONE)
        except Invalid as exc:
            run.end("failed", Fault(code=exc.code or "invalid_file", message=exc.message, param="input_file_id"))
        except Exception:
            log.exception("batch %s failed at request %d", run.kept.batch.id, number)
            run.end("failed", BROKEN)

    async def _note(self, run: Run, number: int, custom_id: str, got: Answer) -> None:
        """Write an answer down, as soon as that is possible."""
        compacted = batches.compact(got.body)
        body, took = compacted if compacted is not None else (NOT_JSON, batches.Tokens())
        status = got.status if compacted is not None else 502
        line = batches.write_line(
            number, self._new_id(), custom_id, status=status, request_id=got.request_id, body=body
        )
        failed, disk = status >= 300, Presence(BACKOFF)
        while True:
            try:
                await asyncio.to_thread(run.parts.append, line, failed=failed)
                break
            except OSError as exc:
                # A full disk: nothing new is begun as long as this line waits.
                if disk.lost(str(exc), self._clock()):
                    log.warning("batch %s: an answer cannot be written: %s", run.kept.batch.id, exc)
            await asyncio.sleep(disk.pause(self._clock()))
        run.lines.finish(number)
        if failed:
            run.failed += 1
        else:
            run.completed += 1
            run.usage = run.usage.plus(*took)
        if not run.lines.left:
            run.end("completed")
