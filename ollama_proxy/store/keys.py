"""The table of keys: what each may, and a number that grows with every change, so that others notice cheaply.

Never sees a key itself, only its digest. Blocks: an event loop calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, Engine, Row, Text, cast, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..account import Key
from . import schema
from .fault import Missing, StoreError, gate

__all__ = ["Keys"]

# Columns that hold JSON.
JSON = ("models", "endpoints", "rates", "budget", "tags")

VERSION = select(schema.meta.c.value).where(schema.meta.c.name == schema.KEYS_VERSION)
ALL = select(schema.keys).order_by(schema.keys.c.created, schema.keys.c.id)


class Keys:
    """All keys. Every method raises StoreError when the database fails."""

    def __init__(self, engine: Engine, writing: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._engine = engine
        self._writing = writing

    def all(self) -> list[Key]:
        """Return every key, revoked and expired ones too, oldest first."""
        with gate(), self._engine.connect() as connection:
            return [read(row) for row in connection.execute(ALL)]

    def by_digest(self, digest: str) -> Key | None:
        """Return the key with this SHA-256 (hex)."""
        with gate(), self._engine.connect() as connection:
            row = connection.execute(ALL.where(schema.keys.c.digest == digest)).first()
        return read(row) if row is not None else None

    def version(self) -> int:
        """Return the number that grows with every change of keys, by whichever process."""
        with gate(), self._engine.connect() as connection:
            return int(connection.scalar(VERSION) or 0)

    def add(self, key: Key) -> None:
        """Keep a new key. StoreError if its id or digest is there already."""
        try:
            with self._writing() as connection:
                connection.execute(insert(schema.keys).values(write(msgspec.structs.asdict(key))))
                bump(connection)
        except StoreError as exc:
            if isinstance(exc.__cause__, IntegrityError):
                raise StoreError(f"There is a key with the id {key.id} or the same secret already.") from exc
            raise

    def change(self, id: str, **fields: Any) -> Key:
        """Change fields of `account.Key` by name; returns the key as it is now. Raises Missing."""
        with self._writing() as connection:
            if fields:
                connection.execute(update(schema.keys).where(schema.keys.c.id == id).values(write(fields)))
            row = connection.execute(ALL.where(schema.keys.c.id == id)).first()
            if row is None:
                raise Missing(f"There is no key {id}.")
            bump(connection)
        return read(row)

    def remove(self, id: str) -> None:
        """Forget a key; its rows in the ledger stay. Raises Missing."""
        with self._writing() as connection:
            if connection.execute(delete(schema.keys).where(schema.keys.c.id == id)).rowcount == 0:
                raise Missing(f"There is no key {id}.")
            bump(connection)

    def changed(self) -> None:
        """Say that keys changed by another way than these methods."""
        with self._writing() as connection:
            bump(connection)


def bump(connection: Connection) -> None:
    """Let `version` grow. On PostgreSQL the row's lock puts the changes of several processes in a row."""
    value = schema.meta.c.value
    grown = cast(cast(value, BigInteger) + 1, Text)
    connection.execute(update(schema.meta).where(schema.meta.c.name == schema.KEYS_VERSION).values(value=grown))


def write(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a key's fields as columns."""
    return {name: msgspec.json.encode(value).decode() if name in JSON else value for name, value in fields.items()}


def read(row: Row[Any]) -> Key:
    """Return a row as a key."""
    # SQLAlchemy's names are a kind of text of its own, which msgspec does not take for text.
    fields = {
        "".join(name): msgspec.json.decode(value) if name in JSON else value for name, value in row._mapping.items()
    }
    return msgspec.convert(fields, Key)
