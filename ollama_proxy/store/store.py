"""The database, opened: found or made, recognised as ours, migrated, and mended when its file breaks.

A database that is not ours, or newer than we know, is refused untouched; a damaged one is put aside, never deleted.
Blocks: an event loop calls all of this in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..private import check_link, make_folder
from . import schema
from .fault import StoreError, busy, corrupt, gate, why
from .file import Look, begin, look, put_aside
from .fold import HOUR
from .keys import Keys
from .lock import locked
from .objects import Objects
from .place import Place, find, make_engine
from .reader import Reader, reading

__all__ = ["Store"]

# Rows deleted in one transaction, and seconds left to the other writers after each.
BATCH = 2000
PAUSE = 0.02
# The number of our advisory lock on PostgreSQL: the same mark as in a file.
ADVISORY = schema.APPLICATION_ID


class Store:
    """An open database. `engine` is for readers; whoever writes uses `writing()`. Used from any thread."""

    schema = schema

    def __init__(
        self, place: Place, *, on_change: Callable[[str], None], wall: Callable[[], float] = time.time
    ) -> None:
        self.place = place
        self.engine: Engine = make_engine(place)
        self.keys = Keys(self.engine, self.writing)
        self.objects = Objects(self.engine, self.writing, wall)
        self.on_change = on_change

    @classmethod
    def at(
        cls, url: str, *, folder: Path, on_change: Callable[[str], None], wall: Callable[[], float] = time.time
    ) -> Store:
        """Return the store that `[store] url` names (empty: a file in `folder`), not yet opened: it need not be there
        before `mend`. `on_change` gets one line for the log when something remarkable happens, from any thread. Raises
        StoreError for a URL that names none."""
        return cls(find(url, folder), on_change=on_change, wall=wall)

    @classmethod
    def open(
        cls, url: str, *, folder: Path, on_change: Callable[[str], None], wall: Callable[[], float] = time.time
    ) -> Store:
        """Open the store that `at` returns, with its tables up to date. Raises StoreError."""
        store = cls.at(url, folder=folder, on_change=on_change, wall=wall)
        try:
            store.mend()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections. A thread that is still at work may finish; what it opens is closed when it is done."""
        self.engine.dispose()
        # The pool that takes the place of the first one.
        self.engine.pool.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes, committed when the context ends well. Raises StoreError."""
        with gate(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """One snapshot to read from. Raises StoreError."""
        with gate(), reading(self.engine) as reader:
            yield reader

    def mend(self, *, suspect: bool = False) -> None:
        """See to it that the database is there, ours, whole and up to date; make it so where that is possible.
        `suspect`: it was said to be damaged, look closely. Raises StoreError."""
        with gate():
            if self.place.file is None:
                self._mend_server()
            else:
                self._mend_file(self.place.file, suspect=suspect)

    def settled(self) -> int:
        """Return the highest `seq` up to which every row is there to be read (0: there are none).

        Several daemons on PostgreSQL commit in another order than they get their numbers; a lock that waits for all who
        are inserting settles it. SQLite has one writer at a time.
        """
        with self.writing() as connection:
            if self.place.file is None:
                connection.execute(text("LOCK TABLE requests IN SHARE MODE"))
            return int(connection.scalar(select(func.max(schema.requests.c.seq))) or 0)

    def prune(self, before: float) -> int:
        """Delete the ledger's rows of before a time that are in the roll-ups, but never the last one; returns how many.
        Raises StoreError."""
        requests, meta = schema.requests.c, schema.meta.c
        deleted = 0
        while True:
            with self.writing() as connection:
                rolled = int(connection.scalar(select(meta.value).where(meta.name == schema.ROLLED)) or 0)
                last = select(func.max(requests.seq)).scalar_subquery()
                old = select(requests.seq).where(requests.at < before, requests.seq <= rolled, requests.seq < last)
                # Beyond the hours that are old nobody needs to look.
                ends = select(func.max(schema.rollups.c.high)).where(schema.rollups.c.hour <= int(before // HOUR))
                old = old.where(requests.seq <= ends.scalar_subquery()).limit(BATCH)
                count = connection.execute(delete(schema.requests).where(requests.seq.in_(old))).rowcount
            deleted += count
            if count < BATCH:
                return deleted
            time.sleep(PAUSE)

    def _version(self, connection: Connection) -> str:
        """Return the schema's version, "" if there is none. Raises StoreError if it is not ours or too new."""
        # Asked for once: another daemon may be making them between two questions.
        tables = inspect(connection).get_table_names()
        if schema.VERSION_TABLE not in tables:
            if self.place.file is None and tables:
                raise StoreError(
                    f"The database {self.place} holds another program's tables; it was not touched. "
                    "Give oproxy an empty database of its own in [store] url."
                )
            return ""
        version = str(connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) or "")
        if version and version not in schema.REVISIONS:
            raise StoreError(
                f"The database {self.place} was written by a newer oproxy (its schema is {version}, this one knows up "
                f"to {schema.REVISIONS[-1]}); it was not touched. Update oproxy, or name another database in "
                "[store] url."
            )
        return version

    def _current(self) -> bool:
        """Return whether the tables are as they should be."""
        with self.engine.connect() as connection:
            return self._version(connection) == schema.REVISIONS[-1]

    def _upgrade(self) -> None:
        with self.writing() as connection:
            if self.place.file is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": ADVISORY})
            version = self._version(connection)
            if not version:
                schema.begin(connection)
            elif version != schema.REVISIONS[-1]:
                # By name, so that only who needs Alembic waits for it.
                import_module(".migrate", __package__).upgrade(connection)

    def _mend_server(self) -> None:
        try:
            current = self._current()
        except SQLAlchemyError as exc:
            message = f"The database {self.place} cannot be used: {why(exc)}. Is it running, and may you use it?"
            raise StoreError(message) from exc
        if not current:
            self._upgrade()

    def _mend_file(self, file: Path, *, suspect: bool) -> None:
        if not suspect and look(file) is Look.OURS:
            try:
                if self._current():
                    return
            except DBAPIError as exc:
                if busy(exc):
                    # It has been waited for already.
                    raise
        make_folder(file.parent)
        check_link(file)
        if self.place.own:
            file.parent.chmod(0o700)
        # Connections of before may be to a file that is no longer there.
        self.engine.dispose()
        with locked(file.with_name(file.name + ".lock")):
            kept = self._check(file, suspect=suspect)
            if look(file) is Look.NEW:
                begin(file)
            file.chmod(0o600)
            self._upgrade()
            if kept:
                self._keep(kept)

    def _check(self, file: Path, *, suspect: bool) -> Sequence[Row[Any]]:
        """Refuse a file that is not ours; put aside one that is damaged, and return what keys could be read from it."""
        match look(file):
            case Look.FOREIGN:
                raise StoreError(
                    f"{file} is another program's database; it was not touched. Move it away, or name another file in "
                    "[store] url."
                )
            case Look.GARBAGE if not self.place.own:
                raise StoreError(
                    f"{file} is not a database; it was not touched. Move it away, or name another file in [store] url."
                )
            case Look.GARBAGE:
                return self._aside(file)
            case Look.OURS if self._damaged(suspect=suspect):
                return self._aside(file)
            case _:
                return ()

    def _damaged(self, *, suspect: bool) -> bool:
        try:
            with self.engine.connect() as connection:
                self._version(connection)
                return suspect and connection.scalar(text("PRAGMA quick_check(1)")) != "ok"
        except DBAPIError as exc:
            if corrupt(exc):
                return True
            raise

    def _aside(self, file: Path) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = ()
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            rows = connection.execute(select(schema.keys)).all()
        self.engine.dispose()
        aside = put_aside(file)
        self.on_change(
            f"the database {file} is damaged; it is kept as {aside.name} and a new one is begun"
            + (f", with the keys of the old one: {len(rows)}" if rows else ", without keys")
        )
        return rows

    def _keep(self, rows: Sequence[Row[Any]]) -> None:
        with self.writing() as connection:
            connection.execute(insert(schema.keys), [dict(row._mapping) for row in rows])
        self.keys.changed()
