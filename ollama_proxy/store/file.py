"""The SQLite file itself: whose it is, making a new one, putting a damaged one aside. Never deletes a database.

Whose a file is is read from its header, so that one that is not ours is not even opened.
"""

from __future__ import annotations

import enum
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from ..private import open_private
from .schema import APPLICATION_ID

__all__ = ["Look", "begin", "look", "put_aside"]

# https://www.sqlite.org/fileformat.html#the_database_header
MAGIC = b"SQLite format 3\0"
HEADER = 100
ID_AT = 68


class Look(enum.Enum):
    """What a file is."""

    NEW = "missing or empty"
    OURS = "ours"
    FOREIGN = "another program's database"
    GARBAGE = "no database at all"


def look(path: Path) -> Look:
    """Tell whose a file is, without touching it."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
    except FileNotFoundError:
        return Look.NEW
    if not header:
        return Look.NEW
    if len(header) < HEADER or not header.startswith(MAGIC):
        return Look.GARBAGE
    ours = int.from_bytes(header[ID_AT : ID_AT + 4], "big") == APPLICATION_ID
    return Look.OURS if ours else Look.FOREIGN


def begin(path: Path) -> None:
    """Make an empty database with our mark, readable by its owner only (-wal and -shm get the same rights)."""
    os.close(open_private(path, os.O_RDWR | os.O_CREAT))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Before the write-ahead log is on: so the mark is in the file itself, whatever happens next.
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode=WAL")


def put_aside(path: Path) -> Path:
    """Rename a file and what belongs to it; returns its new name."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    for end in ("-wal", "-shm", ""):
        part = path.with_name(path.name + end)
        if part.exists():
            part.replace(aside.with_name(aside.name + end))
    return aside
