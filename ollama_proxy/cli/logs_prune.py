"""Removing lines from the logs, also under a running daemon: the file in use is moved aside first, as logrotate does,
and the daemon begins a new one with its next line.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ..private import open_private
from ..recorder.read import files
from .output import size

__all__ = ["prune_logs"]

# Seconds after which the daemon has surely seen that its file was moved: it looks before each write, and a write
# that had begun is over.
MOMENT = 0.2
# `{"at":"2026-11-01T10:00:00.000Z"`: where the time stands in a line of either log.
HEAD, TIME = b'{"at":"', 23


def prune_logs(logs: Iterable[Path], limit: float) -> tuple[int, str]:
    """Remove all lines from before `limit` (epoch seconds); return how many, and the room that was made."""
    mark = b"~" if limit == float("inf") else time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(limit)).encode()
    # A file of which nothing goes is left where it is.
    found = [each for log in logs for each in files(log) if concerned(each, mark)]
    before = sum(each.stat().st_size for each in found)
    names = []
    for path in found:
        if path.suffix == ".jsonl" and path.stem in ("requests", "daemon"):
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            moved = free_name(path, stamp)
            os.replace(path, moved)
            names.append(moved)
        else:
            names.append(path)
    if names != found:
        time.sleep(MOMENT)
    gone = sum(pruned(path, mark) for path in names)
    after = sum(each.stat().st_size for each in names if each.exists())
    return gone, size(max(0, before - after))


def concerned(path: Path, mark: bytes) -> bool:
    """Return whether a file holds lines older than `mark`, or nothing at all. One that cannot be read is left alone."""
    empty = True
    try:
        with reader(path) as source:
            for line in source:
                if old(line, mark):
                    return True
                empty = empty and line.isspace()
    except (OSError, EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return empty


def old(line: bytes, mark: bytes) -> bool:
    return line.startswith(HEAD) and line[len(HEAD) : len(HEAD) + TIME] < mark


def free_name(path: Path, stamp: str) -> Path:
    """Return a name as rotation gives it."""
    number = 1
    while True:
        name = path.with_name(f"{path.stem}-{stamp}-{number:04d}.jsonl")
        if not name.exists() and not name.with_name(f"{name.name}.gz").exists():
            return name
        number += 1


def pruned(path: Path, mark: bytes) -> int:
    """Keep the lines of a file that are not older than `mark`; return how many went. An empty file goes too."""
    draft = path.with_name(f"{path.name}.draft")
    kept = gone = 0
    packed = path.suffix == ".gz"
    try:
        with reader(path) as source, writer(draft, packed=packed) as out:
            for line in source:
                if old(line, mark):
                    gone += 1
                else:
                    kept += not line.isspace()
                    out.write(line)
        status = path.stat()
        os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
        if not kept:
            path.unlink()
        elif gone:
            os.replace(draft, path)
    except (EOFError, gzip.BadGzipFile):
        # Damaged: what can be read of it is not worth more than the rest.
        return 0
    finally:
        draft.unlink(missing_ok=True)
    return gone


def reader(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def writer(path: Path, *, packed: bool) -> IO[bytes]:
    file = os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")
    return Packed(file) if packed else file  # type: ignore[return-value]


class Packed(gzip.GzipFile):
    """A compressed file that closes the one below it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="wb", compresslevel=1, mtime=0)
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()
