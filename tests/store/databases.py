"""A store on each kind of database: SQLite, and PostgreSQL where its binaries are found (said, where they are not).

The server is started once a session, in a folder of its own, reached by a socket file alone; each store gets a database
of its own on it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ollama_proxy.store import Store
from tests.store.rows import clear

__all__ = ["opened", "server", "store"]

NUMBERS = itertools.count()


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian does not put them in PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """A PostgreSQL server; the folder of its socket."""
    bin = binaries()
    if bin is None:
        pytest.skip("PostgreSQL is not installed (no initdb in PATH nor in /usr/lib/postgresql/*/bin)")
    # It refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    # A socket's path may have 107 bytes: not below pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="oproxy-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

        def call(*command: str) -> None:
            subprocess.run([bin / command[0], *command[1:]], user=user, cwd=folder, check=True, capture_output=True)

        data = str(folder / "data")
        call("initdb", "-D", data, "-U", "oproxy", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        # With its output in a file it does not hold the pipe that we wait for.
        call("pg_ctl", "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
        yield folder
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for the tests of a module."""
    url = ""
    if request.param == "postgresql":
        folder = request.getfixturevalue("server")
        name = f"usage{os.getpid()}_{next(NUMBERS)}"
        with psycopg.connect(f"host={folder} user=oproxy dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = f"postgresql://oproxy@/{name}?host={folder}"
    made = Store.open(url, folder=tmp_path_factory.mktemp("store"), on_change=print)
    yield made
    made.close()


@pytest.fixture
def store(opened: Store) -> Store:
    """The same, empty."""
    clear(opened)
    for key in opened.keys.all():
        opened.keys.remove(key.id)
    return opened
