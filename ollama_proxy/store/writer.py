"""One connection that inserts the ledger's rows: one statement a batch, and the statement is the transaction.

Below SQLAlchemy's statements on purpose: building one costs more than SQLite takes for the row. A whole batch is one
call of the driver, because after each call the thread waits until the event loop lets it on, up to 5 ms under load
(https://docs.python.org/3/library/sys.html#sys.setswitchinterval). Used by one thread at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Dialect

from ..account import Entry
from . import schema
from .fault import corrupt
from .store import Store

__all__ = ["Writer"]

# Milliseconds the writer waits for another one before it says that the database fails: a request waits as long.
BUSY = 1000
# Rows that are looked through for one that may be there: some milliseconds' work.
RECENT = 20_000
# Seconds between looks whether the file is still the one that was opened.
LOOK = 1.0

TEXTS = {field.name for field in msgspec.structs.fields(Entry) if field.type in (str, str | None)}
NUMBERS = {field.name for field in msgspec.structs.fields(Entry) if field.type in (int, int | None)}
TRUTHS = tuple(place for place, field in enumerate(msgspec.structs.fields(Entry)) if field.type is bool)
LARGEST = 2**63 - 1


class Writer:
    """A connection of its own, made when it is needed. `patient`: it waits for others that write, and moves the
    write-ahead log into the file now and then, which takes the disk's time; else it does neither."""

    def __init__(self, store: Store, *, patient: bool = True) -> None:
        self._store = store
        self._patient = patient
        # Set when a statement failed of which nobody knows whether it was committed: a server that went away may have
        # done so. The next rows are looked for before they are written.
        self.doubtful = False
        self._row: Callable[[Entry], Sequence[Any]] = (
            numbers if store.place.file is not None else msgspec.structs.astuple
        )
        self._statements: dict[int, str] = {}
        self._connection: Any = None
        self._cursor: Any = None
        self._inode = 0
        self._next_look = 0.0

    def insert(self, entries: Sequence[Entry]) -> int:
        """Commit rows, 64 at most. Returns how many the database can not hold. Raises whatever the driver does when the
        database fails; the same rows may then be given again, and are written once."""
        self._look()
        if self.doubtful:
            entries = self._missing(entries)
        # Until it is known how it ended.
        self.doubtful = True
        refused = 0
        try:
            if entries:
                self._execute([self._row(entry) for entry in entries])
        except self._values():
            refused = self._one_by_one(entries)
        self.doubtful = False
        return refused

    def recover(self, exc: Exception) -> None:
        """Begin anew after a failure: see that the database is whole, connect again. Raises StoreError and others."""
        self.close()
        # The pool's connections are of before: to a server that was restarted, to a file that was replaced.
        self._store.engine.dispose()
        self._store.mend(suspect=corrupt(exc))
        self._connect()

    def close(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.close()

    def _execute(self, rows: list[Sequence[Any]]) -> None:
        if self._cursor is None:
            self._connect()
        count = len(rows)
        if (statement := self._statements.get(count)) is None:
            statement = self._statements[count] = insert(self._store.engine.dialect, count)
        self._cursor.execute(statement, rows[0] if count == 1 else [*chain.from_iterable(rows)])

    def _missing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the rows that are not there. Only of the last ones: what is in doubt was written a moment ago."""
        if self._cursor is None:
            self._connect()
        mark = "?" if self._store.place.file is not None else "%s"
        marks = ", ".join([mark] * len(entries))
        self._cursor.execute(
            f"SELECT id FROM requests WHERE seq > (SELECT max(seq) FROM requests) - {RECENT} AND id IN ({marks})",
            tuple(entry.id for entry in entries),
        )
        there = {id for (id,) in self._cursor.fetchall()}
        return [entry for entry in entries if entry.id not in there]

    def _one_by_one(self, entries: Sequence[Entry]) -> int:
        """Insert what can be inserted: a value no database holds (half a character, a number of 70 bits) must not keep
        the others out. Values are made to fit before a row is given up."""
        refused = 0
        for entry in entries:
            try:
                self._execute([self._row(fitting(entry))])
            except self._values():
                refused += 1
        return refused

    def _values(self) -> tuple[type[Exception], ...]:
        """Return the errors that are about a row's values."""
        driver: Any = self._store.engine.dialect.dbapi
        return (driver.DataError, driver.IntegrityError, driver.InterfaceError, UnicodeError, OverflowError)

    def _connect(self) -> None:
        connection = self._store.engine.raw_connection()
        driver: Any = connection.driver_connection
        # Ours for good: the pool opens another in its place.
        connection.detach()
        self._connection = connection
        self._cursor = driver.cursor()
        if (file := self._store.place.file) is None:
            driver.autocommit = True
            self._cursor.execute(f"SET lock_timeout = {BUSY}")
            self._cursor.execute(f"SET statement_timeout = {5 * BUSY}")
        else:
            self._cursor.execute(f"PRAGMA busy_timeout={BUSY if self._patient else 0}")
            if not self._patient:
                self._cursor.execute("PRAGMA wal_autocheckpoint=0")
            self._inode = os.stat(file).st_ino
            self._next_look = time.monotonic() + LOOK

    def _look(self) -> None:
        """Raise FileNotFoundError when the file was taken away: SQLite would go on writing where nobody reads."""
        file = self._store.place.file
        if file is None or self._cursor is None or time.monotonic() < self._next_look:
            return
        if os.stat(file).st_ino != self._inode:
            raise FileNotFoundError(f"{file} is another file than before")
        self._next_look = time.monotonic() + LOOK


def numbers(entry: Entry) -> list[Any]:
    """Return a row for SQLite, which has no truth values: its driver would look for a way to write each of them, which
    costs more than all the other values together."""
    row = list(msgspec.structs.astuple(entry))
    for place in TRUTHS:
        row[place] = 1 if row[place] else 0
    return row


def insert(dialect: Dialect, rows: int) -> str:
    """Return the statement for so many rows."""
    names = ", ".join(dialect.identifier_preparer.quote(name) for name in schema.ENTRY_COLUMNS)
    mark = "%s" if dialect.paramstyle in ("format", "pyformat") else "?"
    row = "(" + ", ".join([mark] * len(schema.ENTRY_COLUMNS)) + ")"
    return f"INSERT INTO requests ({names}) VALUES {', '.join([row] * rows)}"


def fitting(entry: Entry) -> Entry:
    """Return a row with every value such that a database holds it: no NUL and no half of a surrogate pair in texts
    (both get through JSON), no number above 63 bits."""
    changed: dict[str, Any] = {}
    for name in TEXTS:
        if (value := getattr(entry, name)) is not None:
            changed[name] = value.encode("utf-8", "replace").decode().replace("\0", "")
    for name in NUMBERS:
        if (value := getattr(entry, name)) is not None:
            changed[name] = min(value, LARGEST)
    return msgspec.structs.replace(entry, **changed)
