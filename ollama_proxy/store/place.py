"""Where the database is, from `[store] url`, and how connections to it are made.

Never opens one itself.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from ..policy.redact import redact_url
from .fault import StoreError

__all__ = ["FILE", "Place", "find", "make_engine"]

FILE = "oproxy.db"
# Seconds a connection waits for another one that writes.
BUSY = 5.0
# A server that is gone must be noticed while a request waits for its row: seconds, and milliseconds for TCP and SQL
# (https://www.postgresql.org/docs/current/libpq-connect.html).
CONNECT = {
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "15",
    "application_name": "oproxy",
}


class Place(NamedTuple):
    """A database: `file` is None for a server, `own` says that we chose the file's name."""

    url: URL
    file: Path | None
    own: bool = False

    def __str__(self) -> str:
        return str(self.file) if self.file is not None else redact_url(self.url.render_as_string(hide_password=False))


def find(url: str, folder: Path) -> Place:
    """Read `[store] url`; empty: a file of ours in `folder`. A relative file lies in `folder`."""
    if not url:
        file = folder / FILE
        return Place(URL.create("sqlite", database=str(file)), file, own=True)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise StoreError(
            "[store] url is not a database URL; write postgresql://user@host/name or leave it empty."
        ) from exc
    match parsed.get_backend_name():
        case "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise StoreError("[store] url names no file; write sqlite:////path/to/file.db or leave it empty.")
            file = folder / Path(str(parsed.database)).expanduser()
            return Place(URL.create("sqlite", database=str(file)), file)
        case "postgresql" | "postgres" if "@" in (parsed.host or ""):
            raise StoreError("[store] url: an @ in the user's name or password is written %40.")
        case "postgresql" | "postgres":
            return Place(parsed.set(drivername="postgresql+psycopg"), None)
        case other:
            raise StoreError(f"[store] url: {other[:20]} is not supported; use sqlite or postgresql.")


# What a connection keeps of the file in memory (KiB), which is SQLite's own default, made explicit; and what is left of
# the write-ahead log's file after a checkpoint (bytes), which is the size at which it is checkpointed.
CACHE = 2000
LOG = 4 * 1024 * 1024


class Pool(QueuePool):
    """Closes a connection that another thread returns after the pool was disposed of. SQLAlchemy would leave it, open,
    to the garbage collector (https://docs.sqlalchemy.org/en/20/core/connections.html#engine-disposal)."""

    # The name of its logger, which SQLAlchemy would make from this module's.
    _sqla_logger_namespace = "sqlalchemy.pool.impl.QueuePool"
    _disposed = False

    def dispose(self) -> None:
        # Set first: a connection that is returned meanwhile is then closed by one thread or the other.
        self._disposed = True
        super().dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        if self._disposed:
            super().dispose()


def make_engine(place: Place) -> Engine:
    """Return the pool of connections to a place."""
    if place.file is None:
        return make_server_engine(place)
    engine = create_engine(place.url, poolclass=Pool, connect_args={"timeout": BUSY, "cached_statements": 64})
    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def make_server_engine(place: Place) -> Engine:
    args: dict[str, Any] = {name: value for name, value in CONNECT.items() if name not in place.url.query}
    try:
        return create_engine(place.url, poolclass=Pool, connect_args=args, pool_pre_ping=True, pool_timeout=BUSY)
    except ImportError as exc:
        message = "PostgreSQL needs its driver: pip install 'ollama-proxy[postgres]' (or leave [store] url empty)."
        raise StoreError(message) from exc


def connected(connection: sqlite3.Connection, record: object) -> None:
    """Prepare a new SQLite connection."""
    # The driver begins transactions by itself otherwise, and not before DDL:
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#serializable-isolation-savepoints-transactional-ddl
    connection.isolation_level = None
    # With the write-ahead log NORMAL loses nothing when the process is killed; a power cut may cost the last commits.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Each connection's page cache grows to its limit (KiB), and the log's file is not made smaller by itself (bytes).
    # https://www.sqlite.org/pragma.html#pragma_journal_size_limit
    connection.execute(f"PRAGMA cache_size={-CACHE}")
    connection.execute(f"PRAGMA journal_size_limit={LOG}")


def begun(connection: Connection) -> None:
    """Begin a transaction of SQLite. One that will write says so at once: a reader that becomes a writer is refused
    without waiting when another has written since (https://www.sqlite.org/isolation.html)."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
