"""A lock file between processes: one at a time makes, migrates or puts aside an SQLite file.

The operating system lets go of it when the process ends, however it ends. Never says who holds it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

from ..private import open_private

__all__ = ["locked"]

PAUSE = 0.02


@contextmanager
def locked(path: Path, *, patience: float = 30.0) -> Iterator[None]:
    """Hold the lock file at `path`; waits up to `patience` seconds, then TimeoutError."""
    file = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        end = time.monotonic() + patience
        while not taken(file):
            if time.monotonic() > end:
                raise TimeoutError(f"another process has held {path} for {patience:.0f} seconds")
            time.sleep(PAUSE)
        yield
    finally:
        os.close(file)


def taken(file: int) -> bool:
    """Try to take the lock, without waiting."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
