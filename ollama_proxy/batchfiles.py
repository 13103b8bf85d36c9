"""The files of a running batch: where its lines are in the input, and the answers that were written so far.

A line counts as answered when its whole answer is in one of the two parts, and its number is in the answer's id; so the
parts alone tell where to go on after the process was killed. Everything blocks. Never asks a model, never knows a
state.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .policy.batch import Counts, Fault, Usage
from .private import make_folder, open_private
from .store.lock import taken
from .translate import batches
from .translate.batches import Checker, Problem

__all__ = ["Index", "Lock", "Parts", "Scan", "Stopped", "Written", "clear", "publish", "scan"]

# What stands around a body in its line, at most.
AROUND = 64 * 1024
# Faults that are told of one file.
MOST_FAULTS = 100
# Lines between two looks at whether to stop; each look lets the event loop go first.
OFTEN = 50


class Stopped(Exception):
    """Nobody wants to know any more."""


class Lock:
    """A batch's folder, held by one process at a time; the system lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file = -1
        self._over = False
        # A thread may still be taking it when its waiter is cancelled and lets go.
        self._guard = threading.Lock()

    def take(self) -> bool:
        """Try to take it; False where another has it or the folder is gone."""
        with self._guard:
            try:
                file = open_private(self._path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                return False
            if self._over or not taken(file):
                os.close(file)
                return False
            self._file = file
            return True

    def release(self) -> None:
        """Let go of it, for good."""
        with self._guard:
            self._over = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


# --- the input ----------------------------------------------------------------------------------------------------


class Index:
    """Where the lines of the input are, and which model each wants. Some 20 bytes a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.models: list[str] = []
        self._starts = array("Q")
        self._sizes = array("L")
        self._model = array("L")
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, size: int, model: str) -> None:
        place = self._places.get(model)
        if place is None:
            place = self._places[model] = len(self.models)
            self.models.append(model)
        self._starts.append(start)
        self._sizes.append(size)
        self._model.append(place)

    def model(self, number: int) -> str:
        return self.models[self._model[number]]

    def read(self, number: int) -> bytes:
        """Return a line. FileNotFoundError once the input is deleted."""
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            return file.read(self._sizes[number])


class Scan(NamedTuple):
    """An input that was looked through. `wanted` tells by model the first lines (from 1) that want it."""

    lines: Index
    faults: list[Fault]
    wanted: dict[str, list[int]]


def scan(path: Path, endpoint: str, *, most: int, stop: Callable[[], bool]) -> Scan:
    """Look through an input, line by line; bodies have at most `most` bytes. Raises Stopped, and OSError."""
    found = Scan(Index(path), [], {})
    checker = Checker(endpoint)
    start = 0
    with path.open("rb") as file:
        for number, (line, size) in enumerate(lines_of(file, most + AROUND), 1):
            if number % OFTEN == 0:
                if stop():
                    raise Stopped
                time.sleep(0)
            if line is None:
                fault(found, number, [batches.too_large(most)])
            elif line.strip():
                if len(found.lines) >= batches.MOST_LINES:
                    fault(found, None, [batches.too_many()])
                    break
                checked = checker.check(line)
                fault(found, number, checked.problems)
                found.lines.add(start, size, checked.model)
                wanted = found.wanted.setdefault(checked.model, [])
                if len(wanted) < MOST_FAULTS:
                    wanted.append(number)
            if len(found.faults) >= MOST_FAULTS:
                break
            start += size
    if not len(found.lines) and not found.faults:
        fault(found, None, [batches.empty()])
    return found


def lines_of(file: BinaryIO, most: int) -> Iterator[tuple[bytes | None, int]]:
    """Yield lines and their sizes; None for one that is longer than `most`, of which never more is held."""
    read = file.readline
    while line := read(most):
        size = len(line)
        if size < most or line.endswith(b"\n"):
            yield line, size
            continue
        while (more := read(most)) and not more.endswith(b"\n"):
            size += len(more)
        yield None, size + len(more)


def fault(found: Scan, line: int | None, problems: list[Problem] | tuple[Problem, ...]) -> None:
    found.faults.extend(Fault(code=code, message=text, param=param, line=line) for code, text, param in problems)


# --- the answers --------------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """What was answered so far: the numbers of the lines, how many answers each part has, and what they took."""

    numbers: array[int]
    counts: Counts
    usage: Usage


class Parts:
    """The answers so far: those that succeeded, and the others. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = (folder / "output.jsonl", folder / "errors.jsonl")
        self._files: list[int] = []
        self._sizes = [0, 0]
        self._lock = threading.Lock()
        self._closed = False
        self._dirty = False

    def open(self) -> Written:
        """Open both parts, cut off what was not written whole, and return what they hold."""
        numbers, counts, usage = array("L"), [0, 0], Usage()
        with self._lock:
            for place, path in enumerate(self.paths):
                size = 0
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    for line in file:
                        number = batches.number_of(line)
                        if number is None:
                            break
                        numbers.append(number)
                        if len(numbers) % OFTEN == 0:
                            time.sleep(0)
                        counts[place] += 1
                        usage = usage.plus(*batches.tokens_in(line))
                        size += len(line)
                file_number = open_private(path, os.O_WRONLY | os.O_CREAT)
                self._files.append(file_number)
                os.ftruncate(file_number, size)
                self._sizes[place] = size
        return Written(numbers, Counts(total=len(numbers), completed=counts[0], failed=counts[1]), usage)

    def append(self, line: bytes, *, failed: bool) -> None:
        """Write an answer, all of it or nothing. OSError; after `close`, ValueError."""
        with self._lock:
            if self._closed:
                raise ValueError("the parts are closed")
            file, size = self._files[failed], self._sizes[failed]
            os.lseek(file, size, os.SEEK_SET)
            try:
                view = memoryview(line)
                while view:
                    view = view[os.write(file, view) :]
            except OSError:
                os.ftruncate(file, size)
                raise
            self._sizes[failed] = size + len(line)
            self._dirty = True

    def sync(self) -> None:
        """Have it on the disk, should the machine go down."""
        with self._lock:
            if self._dirty and not self._closed:
                self._dirty = False
                for file in self._files:
                    os.fsync(file)

    def close(self) -> None:
        """Let nobody write any more."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for file in self._files:
                    os.fsync(file)
                    os.close(file)


def publish(part: Path, place: Path) -> bool:
    """Bring a part to the place of a finished file; return whether that file is there, also if it was brought
    before."""
    if part.is_file() and part.stat().st_size:
        make_folder(place.parent)
        part.replace(place)
    return place.is_file()


def clear(folder: Path) -> None:
    """Remove a batch's folder."""
    shutil.rmtree(folder, ignore_errors=True)
