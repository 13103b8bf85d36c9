"""A new database for each test, on SQLite and on PostgreSQL, and ways to make it fail."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text

from ollama_proxy.store import Store, schema

__all__ = ["Spot", "locked_out", "lone", "spot", "until", "written"]

NUMBERS = itertools.count()


class Spot:
    """Where a database is or will be. `said` are the lines of `on_change`."""

    def __init__(self, url: str, folder: Path, server: Path | None = None, name: str = "") -> None:
        self.url, self.folder, self.server, self.name = url, folder, server, name
        self.said: list[str] = []
        self.stores: list[Store] = []

    def open(self) -> Store:
        store = Store.open(self.url, folder=self.folder, on_change=self.said.append)
        self.stores.append(store)
        return store

    @property
    def file(self) -> Path:
        return self.folder / "oproxy.db"

    def admin(self, statement: str) -> None:
        """Run a statement as the server's owner."""
        with psycopg.connect(f"host={self.server} user=oproxy dbname=postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def spot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spot]:
    """Room for a database on each kind."""
    made = Spot("", tmp_path / "data")
    if request.param == "postgresql":
        server = request.getfixturevalue("server")
        name = f"fresh{os.getpid()}_{next(NUMBERS)}"
        made = Spot(f"postgresql://oproxy@/{name}?host={server}", tmp_path / "data", server, name)
        made.admin(f"CREATE DATABASE {name}")
    yield made
    made.close()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Spot]:
    """Room for a database in a file."""
    made = Spot("", tmp_path / "data")
    yield made
    made.close()


@contextmanager
def locked_out(store: Store) -> Iterator[None]:
    """Let no one else write."""
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        if store.place.file is None:
            connection.execute(text("LOCK TABLE requests IN EXCLUSIVE MODE"))
        yield


def written(store: Store) -> list[str]:
    """Return the ids in the ledger, in the order they came in."""
    with store.engine.connect() as connection:
        return list(connection.scalars(select(schema.requests.c.id).order_by(schema.requests.c.seq)))


async def until(check: Callable[[], bool]) -> None:
    """Wait for something that will be."""
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that in 20 s")
