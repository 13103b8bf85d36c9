"""Reading the database without writing to it: one snapshot, through the store's engine, or straight from the SQLite
file where nothing else of the store is needed (a command that shows numbers does not wait for SQLAlchemy's import).

Never makes, migrates or changes a database.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .error import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Reader", "Unreadable", "Value", "reading", "reading_file"]

# What a column may hold; `Any` for what a driver gives back.
Value = Any

# A name after a colon, not a cast.
NAMED = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
# Seconds to wait for who holds the file alone.
BUSY = 5.0


class Unreadable(StoreError):
    """The database cannot be read."""


class Reader(NamedTuple):
    """A snapshot: `rows` runs a query with `:name` parameters; `server` says that it is PostgreSQL."""

    rows: Callable[[str, Mapping[str, Value]], Sequence[Sequence[Value]]]
    server: bool = False


@contextmanager
def reading(engine: Engine) -> Iterator[Reader]:
    """Read through an engine; what the driver raises is the caller's to map (`fault.gate`)."""
    server = engine.dialect.name == "postgresql"
    level = {"isolation_level": "REPEATABLE READ"} if server else {}
    with engine.connect().execution_options(**level) as connection:

        def rows(sql: str, params: Mapping[str, Value]) -> Sequence[Sequence[Value]]:
            written = NAMED.sub(r"%(\1)s", sql) if server else sql
            return connection.exec_driver_sql(written, dict(params)).all()

        yield Reader(rows, server)


@contextmanager
def reading_file(file: Path) -> Iterator[Reader]:
    """Read an SQLite file. Raises Unreadable."""
    try:
        # Not mode=ro: that cannot make the index of the write-ahead log where no other process has it open.
        # https://www.sqlite.org/wal.html#read_only_databases
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY)) as connection:
            connection.isolation_level = None
            connection.execute("PRAGMA query_only=1")
            connection.execute("BEGIN")
            yield Reader(lambda sql, params: connection.execute(sql, params).fetchall())
    except sqlite3.Error as exc:
        raise Unreadable(f"The ledger {file} cannot be read: {exc}.") from exc
