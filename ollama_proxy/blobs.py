"""Bytes on disk, by id: what clients upload, and the results of batches.

A file is written under another name and has its own only when it is whole, so a half one is never read and a killed
process leaves nothing that is taken for one. Knows nothing of what is in a file or whose it is; that is in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from .errors import InsufficientStorage, Overloaded
from .private import make_folder

if sys.platform != "win32":
    import fcntl

__all__ = ["GATHERED", "Blobs", "Sink"]

UNFINISHED = ".part"
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Gathered before a thread is asked to write them: a hop to it costs as much as writing 100 KiB.
GATHERED = 1 << 20
# Read and written at a time where one file is appended to another.
STEP = 4 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


class Blobs:
    """The files of one folder, which is made when the first is written; readable for this user alone. `used` is about
    how many bytes they take: exact after `size()`, then followed. Its methods block, but for those of a Sink."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used = 0
        self._counting = threading.Lock()

    def path(self, id: str) -> Path:
        """Return where the file of an id lies, or would lie. ValueError for what cannot be an id of ours."""
        if not ID.fullmatch(id):
            raise ValueError(f"no id of a file: {id[:100]!r}")
        return self.folder / id

    def open_new(self, id: str, *, total: int | None = None, digest: bool = False) -> Sink:
        """Return what a new file is written to: `async with blobs.open_new(id) as sink`, with `await sink.close()` at
        its end, or there is none. `total`: how many bytes all files may take; `digest`: find out its MD5 sum too."""
        return Sink(self, self.path(id), total=total, digest=digest)

    def remove(self, id: str) -> None:
        """Remove a file; nothing if there is none."""
        path = self.path(id)
        with gate(), contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self.count(-size)

    def size(self) -> int:
        """Count how many bytes the files take, unfinished ones included."""
        found = 0
        with gate(), contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found += entry.stat(follow_symlinks=False).st_size
        self.used = found
        return found

    def sweep(self) -> int:
        """Remove what was never finished, because its process was killed; returns how many there were. What another
        process is writing just now stays."""
        removed = 0
        with gate(), contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(UNFINISHED) and entry.is_file(follow_symlinks=False):
                    removed += swept(Path(entry.path))
        return removed

    def count(self, size: int) -> None:
        """Note that so many bytes more (or less) are in use."""
        with self._counting:
            self.used = max(0, self.used + size)


class Sink:
    """A file in the making. `size` is what was written so far. Raises InsufficientStorage when there is no room for
    more, Overloaded when the folder cannot be used."""

    def __init__(self, blobs: Blobs, path: Path, *, total: int | None, digest: bool) -> None:
        self.size = 0
        self._blobs = blobs
        self._path = path
        self._total = total
        self._md5 = hashlib.md5(usedforsecurity=False) if digest else None
        self._waiting: list[bytes] = []
        self._held = 0
        self._file: BinaryIO | None = None
        self._name = path
        self._put_by = 0
        self._over = False
        # A thread may still be writing when its waiter is cancelled and aborts.
        self._lock = threading.Lock()

    @property
    def md5(self) -> str:
        """The MD5 sum of what is on disk, in hex digits."""
        return self._md5.hexdigest() if self._md5 is not None else ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.abort()

    async def write(self, data: bytes) -> None:
        """Append bytes; they are on disk after `close`."""
        self._waiting.append(data)
        self._held += len(data)
        self.size += len(data)
        if self._held >= GATHERED:
            await asyncio.to_thread(self._put, self._taken())

    async def append(self, path: Path) -> None:
        """Append another file's bytes, never many of them in memory."""
        await asyncio.to_thread(self._put, self._taken())
        at = 0
        while copied := await asyncio.to_thread(self._copy, path, at):
            at += copied
            self.size += copied

    async def flush(self) -> None:
        """Have everything written that was given, so that `md5` is of all of it."""
        await asyncio.to_thread(self._put, self._taken())

    async def close(self) -> None:
        """Finish the file: it is on disk, whole and under its own name, when this returns."""
        await asyncio.to_thread(self._finish, self._taken())

    async def abort(self) -> None:
        """Drop the file, unless it is finished."""
        if not self._over:
            await asyncio.to_thread(self._drop)

    # --- in a thread ----------------------------------------------------------------------------------------------

    def _taken(self) -> list[bytes]:
        taken, self._waiting, self._held = self._waiting, [], 0
        return taken

    def _put(self, pieces: list[bytes]) -> None:
        with gate(), self._lock:
            if not self._over:
                self._write(self._opened(), b"".join(pieces))

    def _copy(self, path: Path, at: int) -> int:
        with gate(), self._lock, path.open("rb") as source:
            if self._over:
                return 0
            source.seek(at)
            data = source.read(STEP)
            self._write(self._opened(), data)
            return len(data)

    def _write(self, file: BinaryIO, data: bytes) -> None:
        if self._total is not None and self._blobs.used + len(data) > self._total:
            raise InsufficientStorage(
                f"There is no room for this file: all files together may take {self._total} bytes "
                "(max_total under [files]). Delete some, or raise it.",
                code="storage_limit_exceeded",
            )
        # Counted first, and taken back as a whole when the file is dropped.
        self._blobs.count(len(data))
        self._put_by += len(data)
        file.write(data)
        if self._md5 is not None:
            self._md5.update(data)

    def _finish(self, pieces: list[bytes]) -> None:
        with gate(), self._lock:
            if self._over:
                raise ValueError("the file was dropped or finished before")
            file = self._opened()
            self._write(file, b"".join(pieces))
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                # An open file cannot be renamed there.
                file.close()
            self._name.replace(self._path)
            file.close()
            self._over = True

    def _drop(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            self._blobs.count(-self._put_by)
            if self._file is not None:
                # On a full disk even closing fails; the name goes nevertheless.
                with contextlib.suppress(OSError):
                    self._file.close()
                with contextlib.suppress(OSError):
                    self._name.unlink()

    def _opened(self) -> BinaryIO:
        while self._file is None:
            folder = self._path.parent
            make_folder(folder)
            number, name = tempfile.mkstemp(prefix=f"{self._path.name}.", suffix=UNFINISHED, dir=folder)
            file = os.fdopen(number, "wb")
            if sys.platform != "win32":
                # Says to a sweeper in any process that somebody is at it. It may have been there in between.
                fcntl.flock(number, fcntl.LOCK_EX)
                if os.fstat(number).st_nlink == 0:
                    file.close()
                    continue
            self._file, self._name = file, Path(name)
        return self._file


def swept(path: Path) -> bool:
    """Remove an unfinished file, if nobody is writing it; returns whether it was."""
    try:
        with path.open("rb+") as file:
            if sys.platform != "win32":
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        if sys.platform == "win32":
            # Fails while another process has it open.
            path.unlink()
    except OSError:
        return False
    return True


@contextmanager
def gate() -> Iterator[None]:
    """Let no error of the file system out as such."""
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL:
            raise InsufficientStorage("The disk is full: the file could not be kept. Nothing of it was.") from exc
        reason = exc.strerror or type(exc).__name__
        raise Overloaded(f"Files cannot be kept or read: {reason}.", wait=30.0, code="store_unavailable") from exc
