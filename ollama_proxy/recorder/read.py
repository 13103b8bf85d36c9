"""Reading the logs back, the newest first, across rotated and compressed files, without holding a file in memory.

Lines that are broken (a crash) or not a request's are skipped. Never writes.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from ..account import Entry
from .record import Timing
from .rotating import rotated

__all__ = ["Found", "Head", "entries", "files", "find", "follow", "full", "head", "lines"]

BLOCK = 64 * 1024
# A compressed file is unpacked to read it from its end: so much of it in memory, the rest on disk.
IN_MEMORY = 8 * 1024 * 1024
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Head(msgspec.Struct):
    """What a line begins with; the bodies behind it are not decoded."""

    at: str
    entry: Entry


class Found(msgspec.Struct):
    """A line with all that is in it; a body that was not recorded is UNSET."""

    at: str
    entry: Entry
    method: str
    path: str
    headers: dict[str, str] = {}
    ignored: tuple[str, ...] = ()
    altered: dict[str, tuple[str, ...]] = {}
    timing: Timing | None = None
    request: Any = msgspec.UNSET
    answer: Any = msgspec.UNSET


heads = msgspec.json.Decoder(Head)
founds = msgspec.json.Decoder(Found)


def files(path: Path) -> list[Path]:
    """Return the files of a log, the newest first: its own and those that logrotate has made of it."""
    foreign = re.compile(re.escape(path.name) + r"[.-]\d[^/]*?(\.gz)?")
    others = []
    with suppress(OSError):
        found = [each for each in path.parent.iterdir() if foreign.fullmatch(each.name)]
        others = sorted(found, key=lambda each: -each.stat().st_mtime)
    return [*([path] if path.exists() else []), *others, *reversed(rotated(path))]


def lines(path: Path, *, newest: bool = False) -> Iterator[bytes]:
    """Yield the lines of a log, the newest first; with `newest` those of the newest file alone."""
    for each in files(path)[: 1 if newest else None]:
        try:
            with each.open("rb") as file:
                if each.suffix != ".gz":
                    yield from backwards(file)
                    continue
                with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as whole:
                    unpacked(file, whole)
                    yield from backwards(whole)
        except FileNotFoundError:
            # It was compressed, or removed, since we looked.
            packed = each.with_name(f"{each.name}.gz")
            if each.suffix != ".gz" and packed.exists():
                with packed.open("rb") as file, tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as whole:
                    unpacked(file, whole)
                    yield from backwards(whole)


def unpacked(file: IO[bytes], into: Any) -> None:
    with gzip.open(file) as packed, suppress(EOFError, OSError, zlib.error):
        # What can be read of a damaged file is read.
        while data := packed.read(BLOCK):
            into.write(data)


def backwards(file: Any) -> Iterator[bytes]:
    """Yield the lines of an open file from its end; a last line without its line feed is still being written."""
    file.seek(0, os.SEEK_END)
    position = file.tell()
    held: list[bytes] = []
    last = True
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        block = file.read(position - start)
        position = start
        head, feed, rest = block.partition(b"\n")
        if not feed:
            held.append(block)
            continue
        *middle, tail = rest.split(b"\n")
        line = tail + b"".join(reversed(held))
        if last:
            last = False
        elif line:
            yield line
        yield from (each for each in reversed(middle) if each)
        held = [head]
    if not last and (line := b"".join(reversed(held))):
        yield line


def head(line: bytes) -> Head | None:
    """Return what a line begins with; None if it is no request's."""
    try:
        return heads.decode(line)
    except UNREADABLE:
        return None


def full(line: bytes) -> Found | None:
    try:
        return founds.decode(line)
    except UNREADABLE:
        return None


def entries(path: Path) -> Iterator[tuple[Entry, bytes]]:
    """Yield requests, the newest first, each with its line."""
    for line in lines(path):
        if (found := head(line)) is not None:
            yield found.entry, line


def find(path: Path, id: str, *, newest: bool = False) -> Found | None:
    """Return the newest request with an id, or whose id begins so (with or without its `req_`); `last`: the newest.

    `newest` looks into the newest file only: for a request that has just ended.
    """
    wanted = id.encode()
    for line in lines(path, newest=newest):
        if id != "last" and wanted not in line:
            continue
        found = head(line)
        if found is not None and (id == "last" or found.entry.id.startswith(id) or bare(found.entry.id).startswith(id)):
            return full(line)
    return None


def bare(id: str) -> str:
    """Return an id without the word before it."""
    return id.rpartition("_")[2]


def follow(path: Path, wait: Callable[[], None]) -> Iterator[bytes]:
    """Return the lines that are written from now on, like `tail -F`: across rotation, and before the file exists.

    `wait` is called whenever nothing is new.
    """
    file: IO[bytes] | None = None
    with suppress(FileNotFoundError):
        file = path.open("rb")
        file.seek(0, os.SEEK_END)
    return following(file, path, wait)


def following(file: IO[bytes] | None, path: Path, wait: Callable[[], None]) -> Iterator[bytes]:
    held = b""
    try:
        while True:
            data = file.read(BLOCK) if file is not None else b""
            if data:
                *whole, held = (held + data).split(b"\n")
                yield from (line for line in whole if line)
                continue
            if file is None or moved(file, path):
                # What was written between our last read and the move.
                rest = file.read() if file is not None else b""
                yield from (line for line in (held + rest).split(b"\n")[:-1] if line)
                with suppress(FileNotFoundError):
                    fresh = path.open("rb")
                    if file is not None:
                        file.close()
                    file, held = fresh, b""
                    continue
            wait()
    finally:
        if file is not None:
            file.close()


def moved(file: IO[bytes], path: Path) -> bool:
    """Tell whether a path is no longer the file we read, or was emptied."""
    mine = os.fstat(file.fileno())
    if file.tell() > mine.st_size:
        file.seek(0)
        return False
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev)
