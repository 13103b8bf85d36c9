"""A file of JSON lines that rotates itself: by size and age, older ones compressed, capped in number and total size.

Made for one writing thread. Survives what others do to its files (logrotate, `rm`), a full disk and its own crash, and
never raises because of them: `write` tells how it went, `error` why. Never looks into the lines.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..private import make_folder, open_private, opener

__all__ = ["Caps", "Rotating", "rotated"]

# Bytes that are compressed in one go, so that lines that come meanwhile need not wait.
PIECE = 256 * 1024
# The fastest level makes a seventh of JSON lines; the best a tenth, in five times the time.
LEVEL = 1
# What deflate adds at worst, and gzip's head and tail (bytes).
OVERHEAD = 4096
# A folder with nothing but these is ours alone.
OURS = re.compile(r"(requests|daemon)\b.*|\.last\.json")


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """When a file is rotated, and what is kept. Sizes in bytes, `max_age` in seconds; `max_total` of all its files."""

    max_size: int
    max_age: float
    max_files: int
    max_total: int


def rotated(path: Path) -> list[Path]:
    """Return the rotated files of a log, the oldest first. Those that are just being compressed are there once."""
    found: dict[str, Path] = {}
    pattern = re.compile(re.escape(path.stem) + r"-\d{8}T\d{6}Z-\d{4}\.jsonl(\.gz)?")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if pattern.fullmatch(name):
                plain = name.removesuffix(".gz")
                # The plain one is removed last, so it is whole for as long as it is there.
                if plain not in found or name == plain:
                    found[plain] = path.parent / name
    return [found[name] for name in sorted(found)]


class Rotating:
    """`path` ends in .jsonl. Rotated files are NAME-20261101T100000Z-0001.jsonl.gz, the time being that of rotation."""

    def __init__(self, path: Path, caps: Caps, clock: Callable[[], float] = time.time) -> None:
        self.path, self.caps = path, caps
        self.error = ""
        self._clock = clock
        self._fd = -1
        self._size = 0
        self._born = 0.0
        self._others = 0
        # What is being compressed takes room twice.
        self._reserved = 0
        self._untidy = True

    def write(self, data: bytes) -> bool:
        """Append whole lines; return whether they are in the file."""
        try:
            self._ready(len(data))
            self._append(data)
        except OSError as exc:
            self.error = f"{self.path}: {exc.strerror or exc}"
            self.close()
            return False
        self.error = ""
        return True

    def reopen(self) -> None:
        """Take the path anew with the next line: somebody has moved the file."""
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def chores(self) -> Iterator[None]:
        """Compress what is not yet, piece by piece; let yourself be called again between them."""
        if not self._untidy:
            return
        self._untidy = False
        for path in rotated(self.path):
            if path.suffix != ".gz":
                try:
                    yield from self._compress(path)
                except OSError as exc:
                    self.error = f"{path}: {exc.strerror or exc}"
        for draft in self.path.parent.glob(f"{self.path.stem}-*.jsonl.gz.part"):
            draft.unlink(missing_ok=True)

    # --- the file in use ------------------------------------------------------------------------------------------

    def _ready(self, more: int) -> None:
        """Have a file open that takes `more` bytes, and room for them under the caps."""
        if more > self.caps.max_total:
            raise OSError(0, "a line is larger than all logs together may be")
        if self._fd >= 0 and self._lost():
            self.close()
        if self._fd < 0:
            self._open()
        old = self._clock() - self._born >= self.caps.max_age
        if self._size and (self._size + more > self.caps.max_size or old):
            self._rotate()
            self._open()
        if self._others + self._size + more > self.caps.max_total:
            self.make_room(self._size + more)
            if self._size and self._others + self._size + more > self.caps.max_total:
                self._rotate()
                self.make_room(more)
                self._open()

    def _lost(self) -> bool:
        """Tell whether the path is no longer the file we have open; also learn of a file that was cut by others."""
        mine = os.fstat(self._fd)
        self._size = mine.st_size
        try:
            there = os.lstat(self.path)
        except FileNotFoundError:
            return True
        return (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev)

    def _open(self) -> None:
        own_folder(self.path.parent)
        self._fd = open_private(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        status = os.fstat(self._fd)
        self._size = status.st_size
        self._born = self._clock()
        if self._size:
            # By the file that is open: the name may lead elsewhere by now.
            with open(os.dup(self._fd), "rb") as file:
                file.seek(0)
                head = file.read(64)
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            self._born = first_time(head, status.st_mtime)
            if torn:
                # A crash left half a line; ours begin on lines of their own, and readers skip that one.
                os.write(self._fd, b"\n")
                self._size += 1
        self._count()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                count = os.write(self._fd, view)
                view = view[count:]
                self._size += count
        except OSError:
            # Half a line would be taken for a whole one's beginning.
            with suppress(OSError):
                written = len(data) - len(view)
                if written and os.fstat(self._fd).st_size == self._size:
                    os.ftruncate(self._fd, self._size - written)
            raise

    # --- the others -----------------------------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Give the file in use its name for good."""
        self.close()
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while any(self._named(stamp, number, gz).exists() for gz in ("", ".gz")):
            number += 1
        os.replace(self.path, self._named(stamp, number, ""))
        self._size = 0
        while len(files := rotated(self.path)) > self.caps.max_files:
            remove(files[0])
        self._count()
        self._untidy = True

    def _count(self) -> None:
        self._others = self._reserved + sum(sizes(rotated(self.path)))

    def _named(self, stamp: str, number: int, gz: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{stamp}-{number:04d}.jsonl{gz}")

    def make_room(self, need: int, keep: Path | None = None) -> bool:
        """Remove the oldest until `need` bytes fit beside the rest; return whether they do. `keep` is not removed."""
        files = rotated(self.path)
        total = self._reserved + sum(sizes(files))
        for path in files:
            if total + need <= self.caps.max_total:
                break
            if path != keep:
                total -= sum(sizes([path]))
                remove(path)
        self._others = total
        return total + need <= self.caps.max_total

    def _compress(self, path: Path) -> Iterator[None]:
        target = path.with_name(f"{path.name}.gz")
        draft = target.with_name(f"{target.name}.part")
        status = path.stat()
        # Both are there for a while, and what is written meanwhile must fit too.
        reserve = max(self._size, min(self.caps.max_size, self.caps.max_total // 4))
        if not self.make_room(reserve + status.st_size + OVERHEAD, keep=path):
            return
        self._reserved = status.st_size + OVERHEAD
        self._count()
        packer = zlib.compressobj(LEVEL, wbits=31)
        try:
            with path.open("rb") as source, open(draft, "wb", opener=opener) as out:
                while data := source.read(PIECE):
                    out.write(packer.compress(data))
                    yield
                out.write(packer.flush())
            os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.replace(draft, target)
            path.unlink(missing_ok=True)
        finally:
            draft.unlink(missing_ok=True)
            self._reserved = 0
            self._count()


def sizes(paths: list[Path]) -> Iterator[int]:
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.stat().st_size


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.suffix != ".gz":
        path.with_name(f"{path.name}.gz").unlink(missing_ok=True)


def own_folder(folder: Path) -> None:
    """Make the folder; it is ours alone, unless others keep their things there too (/var/log)."""
    make_folder(folder)
    if not os.stat(folder).st_mode & 0o077:
        return
    names = os.listdir(folder)
    # A file with a second name may be somebody's trap. It is refused only as long as the folder is open to others.
    if all(OURS.fullmatch(name) and os.lstat(folder / name).st_nlink == 1 for name in names):
        with suppress(PermissionError):
            folder.chmod(0o700)


def first_time(head: bytes, otherwise: float) -> float:
    """Return the time of a line that begins with `{"at":"2026-11-01T10:00:00.000Z"`."""
    try:
        return datetime.fromisoformat(head.split(b'"', 4)[3].decode()).timestamp()
    except (IndexError, ValueError):
        return otherwise
