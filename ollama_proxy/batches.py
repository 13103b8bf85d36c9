"""Batches as they run: looked through, answered line by line when nobody else waits, finished; and taken up again where
a process left off.

Each batch has a folder while it runs, which says that it is this machine's, and a lock in it, which says which process
is at it. What was answered is in the folder's parts, what state it is in is in the store. `batchlines`
has the lines answered. Never speaks HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from .batchfiles import Index, Lock, Parts, Scan, Stopped, clear, publish, scan
from .batchlines import GONE, Dispatcher, Ending, Office, Run, with_batch
from .errors import OproxyError
from .policy.backoff import Backoff, Presence
from .policy.batch import OVER, Counts, Fault, Faults, Kept, Lines, Status, moved
from .private import make_folder
from .tasks import Tasks
from .translate import batches

__all__ = ["Runner"]

log = logging.getLogger(__name__)

# Seconds between writing down how far a batch is, and looking whether it was cancelled elsewhere.
PERIOD = 2.0
# Seconds between looks for batches whose process has died.
ROUND = 60.0
# Seconds after which a folder of no batch is nobody's.
ABANDONED = 3600.0
# Pauses between tries while the disk or the database fails.
BACKOFF = Backoff(0.2, 30.0)


class Runner:
    """Runs the batches of one folder. `wall` gives epoch seconds, `clock` seconds that only go forward, `new_id` 24 or
    more random hex digits. `first_wait`: seconds before a failed line is tried again."""

    def __init__(
        self,
        folder: Path,
        office: Office,
        tasks: Tasks,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float],
        new_id: Callable[[], str],
        say: Callable[[str], None],
        first_wait: float = 1.0,
    ) -> None:
        self.folder = folder
        self.lines = Dispatcher(office, tasks, clock=clock, new_id=new_id, first_wait=first_wait)
        self.office, self._tasks = office, tasks
        self._wall, self._new_id, self._say = wall, new_id, say
        # Those somebody is at, in this process.
        self.tended: set[str] = set()
        self._closing = False

    # --- from outside -----------------------------------------------------------------------------------------

    def prepare(self, id: str) -> None:
        """Make the folder of a batch, before it is kept. Blocks; OSError."""
        make_folder(self.folder / id)

    def start(self, id: str) -> None:
        """Tend a batch that is kept, unless that is done already."""
        if id not in self.tended:
            self.tended.add(id)
            self._tasks.start(self._tend(id), name=f"batch-{id}")

    def stir(self, id: str) -> None:
        """Look at once whether a batch was cancelled."""
        if (run := self.lines.runs.get(id)) is not None:
            run.stir.set()

    def live(self, id: str) -> Kept | None:
        """Return a batch that is in progress here, with its counts as they are now."""
        run = self.lines.runs.get(id)
        return run.now if run is not None else None

    async def watch(self) -> None:
        """Take up, now and then, what another process has left lying. Runs until cancelled."""
        while True:
            for id in await asyncio.to_thread(self._lying):
                self.start(id)
            await asyncio.sleep(ROUND)

    def _lying(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self.folder.iterdir() if entry.name.startswith("batch_"))
        except OSError:
            return []

    def _clear_old(self, id: str) -> None:
        if (self.folder / id).stat().st_mtime < self._wall() - ABANDONED:
            clear(self.folder / id)

    # --- one batch, from here to its end --------------------------------------------------------------------------

    async def _tend(self, id: str) -> None:
        lock, store = Lock(self.folder / id), Presence(BACKOFF)
        try:
            if not await asyncio.to_thread(lock.take):
                return
            while True:
                try:
                    await self._carry(id)
                    return
                except Stopped:
                    return
                except (OSError, OproxyError) as exc:
                    # All that matters is in the parts and in the store: it begins anew from there.
                    if store.lost(str(exc), self._wall()):
                        log.warning("batch %s has to wait: %s", id, exc)
                await asyncio.sleep(store.pause(self._wall()))
        finally:
            lock.release()
            self.tended.discard(id)

    async def _carry(self, id: str) -> None:
        """Carry a batch on from whatever state it is in."""
        kept = await self.office.load(id)
        if kept is None:
            # Just being made, or never kept because the process was killed.
            await asyncio.to_thread(self._clear_old, id)
        elif kept.batch.status in OVER:
            await asyncio.to_thread(clear, self.folder / id)
        elif kept.ending:
            await self._settle(kept)
        elif kept.batch.status == "cancelling" and kept.batch.in_progress_at is None:
            await self._settle(msgspec.structs.replace(kept, ending="cancelled"))
        else:
            await self._go_on(kept)

    async def _go_on(self, kept: Kept) -> None:
        if kept.fault is not None:
            await self._fail(kept, (kept.fault,))
            return
        try:
            found = await asyncio.to_thread(self._scan, kept)
        except FileNotFoundError:
            await self._fail(kept, (GONE,))
            return
        except asyncio.CancelledError:
            self._closing = True
            raise
        backends, unknown = await self._models(kept, found)
        if kept.batch.status == "validating":
            faults = sorted((*found.faults, *unknown), key=lambda fault: fault.line or 0)
            if faults:
                await self._fail(kept, tuple(faults[:100]))
                return
            counts = Counts(total=len(found.lines))
            model = found.lines.models[0] or None
            batch = moved(kept.batch, "in_progress", self._wall(), request_counts=counts, model=model)
            started = msgspec.structs.replace(kept, batch=batch)
            if not await self.office.save(started, only="validating"):
                await self._carry(batch.id)
                return
            kept = started
        run = await asyncio.to_thread(Run, kept, found.lines, backends, Parts(self.folder / kept.batch.id))
        await self._finish(await self._run(run))

    def _scan(self, kept: Kept) -> Scan:
        path = self.office.place(kept.batch.input_file_id)
        return scan(path, kept.batch.endpoint, most=self.office.most(), stop=lambda: self._closing)

    async def _models(self, kept: Kept, found: Scan) -> tuple[dict[str, str], list[Fault]]:
        """Return which backend has which model, and the lines whose model none has."""
        backends: dict[str, str] = {}
        faults: list[Fault] = []
        for model, numbers in found.wanted.items():
            if len(faults) >= 100:
                break
            backend = await self.office.find(kept, model) if model else ""
            if backend is None and kept.batch.status == "validating":
                problem = batches.unknown_model(model)
                faults += [Fault(**problem._asdict(), line=number) for number in numbers]
            backends[model] = backend or ""
        return backends, faults

    async def _fail(self, kept: Kept, faults: tuple[Fault, ...]) -> None:
        """End a batch none of whose lines can be answered (any more)."""
        kept = with_batch(kept, errors=Faults(data=faults))
        if kept.batch.status == "validating":
            batch = moved(kept.batch, "failed", self._wall())
            if not await self.office.save(msgspec.structs.replace(kept, batch=batch), only="validating"):
                await self._carry(batch.id)
                return
            await self._leave(msgspec.structs.replace(kept, batch=batch))
            return
        parts = Parts(self.folder / kept.batch.id)
        written = await asyncio.to_thread(parts.open)
        await asyncio.to_thread(parts.close)
        counts = msgspec.structs.replace(written.counts, total=kept.batch.request_counts.total)
        ending: Ending = "cancelled" if kept.batch.status == "cancelling" else "failed"
        await self._end(with_batch(kept, request_counts=counts, usage=written.usage), ending)

    async def _run(self, run: Run) -> Run:
        """Let the lines be answered until all are, or something ends it."""
        id = run.kept.batch.id
        if run.kept.batch.status == "cancelling":
            run.ending = "cancelled"
        if run.ending is None:
            # Before any line: it may have been cancelled, or have run out of time, while nobody was at it.
            await self._look_after(run)
        async with self.lines.enlisted(run):
            while run.ending is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._until(run)):
                        await run.stir.wait()
                run.stir.clear()
                if run.ending is None:
                    await self._look_after(run)
            log.debug("batch %s ends: %s", id, run.ending)
        return run

    def _until(self, run: Run) -> float:
        return max(0.0, min(PERIOD, run.kept.batch.expires_at - self._wall()))

    async def _look_after(self, run: Run) -> None:
        """Write down how far it is; find out whether its time is over or somebody has cancelled it."""
        if self._wall() >= run.kept.batch.expires_at:
            run.end("expired")
            return
        try:
            await asyncio.to_thread(run.parts.sync)
            before, run.kept = run.kept, run.now
            if run.kept != before and await self.office.save(run.kept, only="in_progress"):
                return
            kept = await self.office.load(run.kept.batch.id)
            if kept is None or kept.batch.status != "in_progress":
                run.kept = kept or run.kept
                run.end("cancelled" if kept is not None and kept.batch.status == "cancelling" else "forgotten")
            for model in [model for model, backend in run.backends.items() if model and not backend]:
                run.backends[model] = await self.office.find(run.kept, model) or ""
        except (OSError, OproxyError) as exc:
            log.warning("batch %s: how far it is cannot be written down: %s", run.kept.batch.id, exc)

    # --- its end ----------------------------------------------------------------------------------------------

    async def _finish(self, run: Run) -> None:
        kept, ending = run.now, run.ending
        if kept.batch.status == "cancelling" and ending != "forgotten":
            # Also when its last answer came in the very moment in which that was seen.
            ending = "cancelled"
        if ending is None or ending == "forgotten":
            await asyncio.to_thread(clear, self.folder / kept.batch.id)
            return
        if run.fault is not None:
            kept = with_batch(kept, errors=Faults(data=(run.fault,)))
        # What is on the disk counts: a line given up may have been written all the same.
        parts = Parts(self.folder / kept.batch.id)
        written = await asyncio.to_thread(parts.open)
        try:
            if ending in ("expired", "cancelled"):
                why = batches.EXPIRED if ending == "expired" else batches.CANCELLED
                left = Lines(run.lines.total, written.numbers)
                with contextlib.suppress(FileNotFoundError):
                    await asyncio.to_thread(self._give_up, run.index, parts, left, why)
        finally:
            await asyncio.to_thread(parts.close)
        parts = Parts(parts.folder)
        written = await asyncio.to_thread(parts.open)
        await asyncio.to_thread(parts.close)
        counts = msgspec.structs.replace(written.counts, total=run.lines.total)
        await self._end(with_batch(kept, request_counts=counts, usage=written.usage), ending)

    def _give_up(self, index: Index, parts: Parts, left: Lines, why: tuple[str, str]) -> None:
        for number in left.unanswered():
            custom_id, _ = batches.ask_of(index.read(number))
            parts.append(batches.write_unanswered(number, self._new_id(), custom_id, why), failed=True)

    async def _end(self, kept: Kept, ending: Ending) -> None:
        """Say for good what a batch ends as; from now on nothing is asked any more."""
        before = kept.batch.status
        if ending == "completed":
            kept = msgspec.structs.replace(kept, batch=moved(kept.batch, "finalizing", self._wall()))
        kept = msgspec.structs.replace(kept, ending=ending)
        if not await self.office.save(kept, only=before):
            # Cancelled in this very moment, or forgotten.
            await self._carry(kept.batch.id)
            return
        await self._settle(kept)

    async def _settle(self, kept: Kept) -> None:
        """Make files of the parts, and say that it is over. Can be done again from any point."""
        batch = kept.batch
        folder, ids = self.folder / batch.id, {}
        for word, name, id in (("output", "output", kept.output), ("error", "errors", kept.errors)):
            if await asyncio.to_thread(publish, folder / f"{name}.jsonl", self.office.place(id)):
                await self.office.keep(kept, id, f"{batch.id}_{word}.jsonl")
                ids[f"{word}_file_id"] = id
        status: Status = "cancelled" if batch.status == "cancelling" else kept.ending or "cancelled"
        over = msgspec.structs.replace(kept, batch=moved(batch, status, self._wall(), **ids))
        if await self.office.save(over, only=batch.status):
            await self._leave(over)
        else:
            await self._carry(batch.id)

    async def _leave(self, kept: Kept) -> None:
        await asyncio.to_thread(clear, self.folder / kept.batch.id)
        counts = kept.batch.request_counts
        self._say(
            f"{kept.batch.id} {kept.batch.status}: {counts.completed} of {counts.total} requests answered, "
            f"{counts.failed} failed"
        )
