"""The one gate of the database's errors: what a person is told about them. Nothing of a driver gets out of the store.

Never shows a password or a value of a row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..policy.redact import redact_foreign
from .error import Missing, StoreError

__all__ = ["Missing", "StoreError", "busy", "corrupt", "gate", "why"]

# The words of SQLite for a file that is damaged; its codes 11 (SQLITE_CORRUPT) and 26 (SQLITE_NOTADB),
# https://www.sqlite.org/rescode.html.
CODES = (11, 26)
# SQLITE_BUSY and SQLITE_LOCKED: another process has the file to itself.
LOCKED = (5, 6)


@contextmanager
def gate() -> Iterator[None]:
    """Turn the errors of the drivers into ours."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
        raise StoreError(f"The database failed: {why(exc)}.") from exc


def origin(exc: BaseException) -> BaseException:
    """Return the driver's own error."""
    return exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc


def why(exc: BaseException) -> str:
    """Return the cause in one line: the first line of the driver's words. Later ones hold details, and with them
    values."""
    if isinstance(exc, StoreError) and exc.__cause__ is not None:
        # Ours says what failed, which whoever asks for the cause says too.
        return why(exc.__cause__)
    lines = str(origin(exc)).strip().splitlines()
    return redact_foreign(lines[0].rstrip(".")) if lines else type(exc).__name__


def corrupt(exc: BaseException) -> bool:
    """Return whether this says that the file itself is damaged."""
    cause = origin(exc)
    # The extended code holds the primary one in its last byte.
    return isinstance(cause, sqlite3.DatabaseError) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in CODES


def busy(exc: BaseException) -> bool:
    """Return whether this says that another process has the file to itself."""
    cause = origin(exc)
    return isinstance(cause, sqlite3.DatabaseError) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in LOCKED
