"""A database that cannot be used at the start: said, obeyed, tried again, and caught up with once it is there; exactly
as when it goes away later."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psycopg
import pytest

from ollama_proxy.account import Budget, Key
from ollama_proxy.policy import credentials
from ollama_proxy.server.keys import ACCOUNTS, CLERK, TASKS
from ollama_proxy.server.sweep import sweep
from ollama_proxy.store import Store, place, schema
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config
from tests.store.databases import server
from tests.store.rows import entry, put

__all__ = ["server"]

WORD = "the-daemons-own-word"
SECRET = credentials.new_secret(b"0123456789012345678901234")
NUMBERS = itertools.count()
# What the fake's answer takes.
TAKES = 29


class Away(NamedTuple):
    """A database that cannot be used until `repair` is called; `settings` name it, `error` is a word of the cause."""

    settings: str
    error: str
    repair: Callable[[], None]
    open: Callable[[], Store]


def folder() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "oproxy"


def at(url: str) -> Store:
    return Store.open(url, folder=folder(), on_change=print)


def own() -> Store:
    return at("")


def folder_is_a_file() -> Away:
    folder().parent.mkdir(parents=True, exist_ok=True)
    folder().write_text("in the way")
    return Away("", "irectory", folder().unlink, own)


def file_is_a_folder() -> Away:
    (folder() / "oproxy.db").mkdir(parents=True)
    return Away("", "", (folder() / "oproxy.db").rmdir, own)


def newer_schema() -> Away:
    own().close()
    file = folder() / "oproxy.db"

    def version(text: str) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as opened:
            opened.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = ?", (text,))

    version("9999_tomorrow")
    return Away("", "newer oproxy", lambda: version(schema.REVISIONS[-1]), own)


def foreign() -> Away:
    file = folder().parent / "theirs.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("CREATE TABLE theirs (x)")
        opened.commit()
    url = f"sqlite:///{file}"
    return Away(
        f'url = "{url}"', "another program", file.unlink, lambda: Store.open(url, folder=folder(), on_change=print)
    )


def garbage() -> Away:
    file = folder().parent / "named.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"no database at all" * 100)
    url = f"sqlite:///{file}"
    return Away(f'url = "{url}"', "is not a database", file.unlink, lambda: at(url))


FILES = [folder_is_a_file, file_is_a_folder, newer_schema, foreign, garbage]


def lets_in(where: str) -> bool:
    try:
        psycopg.connect(where).close()
    except psycopg.OperationalError as exc:
        return "password" not in str(exc)
    return True


def ask_password(server: Path, user: str) -> None:
    """Let the server ask this user for a password."""
    rules = server / "data" / "pg_hba.conf"
    rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(f"host={server} user=oproxy dbname=postgres", autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
    # Until the server has read its rules, it lets everybody in.
    for _ in range(1000):
        if not lets_in(f"host={server} user={user} password=wrong dbname=postgres"):
            return
    raise AssertionError("no password is asked for")


@pytest.fixture
def postgres(server: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Away]]:
    """Return what makes a PostgreSQL database that is away: its socket, its user or itself is missing."""
    links: list[Path] = []

    def call(statement: str) -> None:
        with psycopg.connect(f"host={server} user=oproxy dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)

    def make(missing: str) -> Away:
        name = f"away{os.getpid()}_{next(NUMBERS)}"
        where = Path("/tmp") / f"oproxy-{name}"
        where.mkdir(mode=0o700)
        links.append(where)
        user = name if missing in ("user", "password") else "oproxy"
        socket = where / ".s.PGSQL.5432"

        def start() -> None:
            socket.symlink_to(server / ".s.PGSQL.5432")

        steps: dict[str, Callable[[], None]] = {
            "server": start,
            "user": lambda: call(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'hunter3'"),
            "password": lambda: call(f"ALTER ROLE {name} PASSWORD 'hunter2'"),
            "database": lambda: call(f"CREATE DATABASE {name}"),
        }
        for step, do in steps.items():
            if step != missing and (step in ("server", "database") or (missing, step) == ("password", "user")):
                do()
        if missing == "password":
            ask_password(server, user)
        url = f"postgresql://{user}:hunter2@/{name}?host={where}"
        words = {"server": "No such file", "password": "password authentication failed"}
        return Away(
            f'url = "{url}"',
            words.get(missing, "does not exist"),
            steps[missing],
            lambda: at(url),
        )

    yield make
    for where in links:
        (where / ".s.PGSQL.5432").unlink(missing_ok=True)
        where.rmdir()


@pytest.fixture(params=[*[each.__name__ for each in FILES], "pg_server", "pg_user", "pg_database", "pg_password"])
def away(request: pytest.FixtureRequest) -> Away:
    kind: str = request.param
    if kind.startswith("pg_"):
        make: Callable[[str], Away] = request.getfixturevalue("postgres")
        return make(kind.removeprefix("pg_"))
    return next(each for each in FILES if each.__name__ == kind)()


class Daemon(NamedTuple):
    proxy: Proxy
    http: aiohttp.ClientSession

    async def chat(self, key: str = "", **body: Any) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        asked = {"model": "smollm2", "messages": HELLO, **body}
        async with self.http.post("/v1/chat/completions", json=asked, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str, key: str = WORD) -> tuple[int, dict[str, Any]]:
        async with self.http.get(path, headers={"authorization": f"Bearer {key}"}) as response:
            return response.status, await response.json()

    async def ledger(self) -> dict[str, Any]:
        _, health = await self.get("/v1/health")
        return {"status": health["status"], **health["ledger"]}

    async def lines(self, words: str, count: int) -> bool:
        """Return whether so many lines with these words have been said, which may take a moment."""
        for _ in range(200):
            if sum(words in line for line in self.proxy.said) == count:
                return True
            await asyncio.sleep(0.01)
        return False

    async def back(self) -> None:
        for _ in range(1500):
            ledger = self.proxy.app[CLERK].ledger
            if ledger is not None and not ledger.failing and self.proxy.app[ACCOUNTS].store is not None:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the database was not opened")


@pytest.fixture
async def daemon(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Callable[..., Any]]:
    sessions: list[aiohttp.ClientSession] = []

    async def start(away: Away, *, store: str = "", more: str = "", env: Mapping[str, str] = {}) -> Daemon:
        text = f"[logs]\nrequests = false\n[store]\n{away.settings}\n{store}\n{more}\n"
        proxy = await start_proxy(config(ollama.url, text), books=True, control=WORD, env=env)
        sessions.append(aiohttp.ClientSession(proxy.url))
        return Daemon(proxy, sessions[-1])

    yield start
    for session in sessions:
        await session.close()


def ids(store: Store) -> set[str]:
    with store.reading() as reader:
        return {row[0] for row in reader.rows("SELECT id FROM requests", {})}


async def test_what_was_answered_while_it_was_away_is_in_the_ledger_afterwards(
    away: Away, daemon: Callable[..., Any]
) -> None:
    running: Daemon = await daemon(away)
    seen = [await asyncio.wait_for(running.chat(), 20) for _ in range(3)]
    assert [status for status, _, _ in seen] == [200, 200, 200]
    ledger = await running.ledger()
    assert (ledger["status"], ledger["ok"], ledger["waiting"], ledger["dropped"]) == ("degraded", False, 3, 0)
    assert away.error in ledger["error"]
    assert ledger["since"] > 0
    assert await running.lines("the database fails", 1)

    away.repair()
    await running.back()

    assert (await running.ledger())["ok"]
    assert await running.lines("the database works again; 3 ledger rows", 1), running.proxy.said
    seen.append(await running.chat())
    store = away.open()
    assert ids(store) == {headers["x-request-id"] for _, _, headers in seen}
    store.close()


async def test_a_file_that_another_process_has_to_itself_is_waited_for_once_and_caught_up_with(
    daemon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own().close()
    monkeypatch.setattr(place, "BUSY", 0.1)
    with closing(sqlite3.connect(folder() / "oproxy.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        running: Daemon = await daemon(Away("", "", print, own))
        seen = [await asyncio.wait_for(running.chat(), 20) for _ in range(2)]
        ledger = await running.ledger()
    assert (ledger["ok"], ledger["waiting"], ledger["error"]) == (False, 2, "database is locked")
    await running.back()
    store = own()
    assert ids(store) == {headers["x-request-id"] for _, _, headers in seen}
    store.close()


def mount(*options: str) -> None:
    """Mount a small file system on the data folder, or change it."""
    done = subprocess.run(["mount", *options, str(folder())], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def mounted() -> Iterator[None]:
    if sys.platform != "linux":
        pytest.skip("tmpfs is Linux'")
    folder().mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=64k", "none")
    yield
    subprocess.run(["umount", "-l", str(folder())], check=True)


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize(("how", "error"), [("full", "full"), ("read-only", "Read-only file system")])
async def test_a_disk_that_takes_nothing_at_the_start_is_caught_up_with(
    how: str, error: str, daemon: Callable[..., Any]
) -> None:
    if how == "full":
        (folder() / "filler").write_bytes(b"x" * 60_000)
    else:
        mount("-o", "remount,ro")
    running: Daemon = await daemon(Away("", "", print, own))
    seen = [await asyncio.wait_for(running.chat(), 20) for _ in range(2)]
    assert [status for status, _, _ in seen] == [200, 200]
    ledger = await running.ledger()
    assert (ledger["status"], ledger["waiting"]) == ("degraded", 2)
    assert error in ledger["error"]
    mount("-o", "remount,rw,size=8m")
    await running.back()
    store = own()
    assert ids(store) == {headers["x-request-id"] for _, _, headers in seen}
    store.close()


async def test_rows_that_find_no_room_while_it_is_away_are_counted_and_said(daemon: Callable[..., Any]) -> None:
    away = folder_is_a_file()
    running: Daemon = await daemon(away, store="buffer = 2")
    seen = [await running.chat() for _ in range(5)]
    assert [status for status, _, _ in seen] == [200] * 5
    ledger = await running.ledger()
    assert (ledger["waiting"], ledger["dropped"]) == (2, 3)

    away.repair()
    await running.back()

    assert await running.lines("3 ledger rows that found no place: lost", 1)
    store = away.open()
    assert len(ids(store)) == 2
    store.close()


async def test_a_daemon_that_shall_refuse_refuses_from_the_first_request_on(
    away: Away, daemon: Callable[..., Any], ollama: FakeOllama
) -> None:
    running: Daemon = await daemon(away, store='on_error = "refuse"')
    status, body, headers = await running.chat()
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "ledger_unavailable", "5")
    assert not ollama.asked("/api/chat")

    away.repair()
    await running.back()

    assert (await running.chat())[0] == 200


async def test_keys_come_back_without_a_restart(away: Away, daemon: Callable[..., Any]) -> None:
    given = "sk-given-by-the-environment-1234"
    running: Daemon = await daemon(away, more='[auth]\nmode = "on"', env={"OPROXY_API_KEYS": f"ci={given}"})
    assert (await running.chat(given))[0] == 200, "the environment's keys need no database"
    assert (await running.get("/v1/models"))[0] == 200, "nor do this machine's own commands"
    status, body, headers = await running.chat(SECRET)
    assert (status, body["error"]["code"]) == (503, "store_unavailable"), "it may be one of the database's"
    assert "retry-after" in headers
    for word in ("hunter2", "postgres", "sqlite", "oproxy.db", "host=", "/tmp"):
        assert word not in str(body)
    assert (await running.chat())[0] == 401
    for path in ("/oproxy/keys", "/v1/organization/admin_api_keys"):
        assert (await running.get(path))[0] == 503

    away.repair()
    store = away.open()
    store.keys.add(Key(id="key_1", name="one", digest=credentials.digest(SECRET), shown="…", created=0.0))
    store.close()
    await running.back()
    await asyncio.sleep(1.0)

    assert (await running.chat(SECRET))[0] == 200
    assert (await running.chat(SECRET[:-1] + "x"))[0] == 401
    assert (await running.get("/oproxy/keys"))[0] == 200


async def test_keys_come_back_where_no_ledger_is_kept(daemon: Callable[..., Any]) -> None:
    away = folder_is_a_file()
    running: Daemon = await daemon(away, store="ledger = false\non_error = 'refuse'", more='[auth]\nmode = "on"')
    assert (await running.chat(SECRET))[0] == 503
    _, health = await running.get("/v1/health")
    assert (health["status"], health["store"]["ok"]) == ("degraded", False)
    assert health["store"]["since"] > 0

    away.repair()
    store = away.open()
    store.keys.add(Key(id="key_1", name="one", digest=credentials.digest(SECRET), shown="…", created=0.0))
    store.close()
    await asyncio.wait_for(running.proxy.app[ACCOUNTS].usable(), 15)

    assert (await running.chat(SECRET))[0] == 200
    _, health = await running.get("/v1/health")
    assert "store" not in health
    assert sum("the database can be used again" in line for line in running.proxy.said) == 1


async def test_a_budget_knows_again_what_was_spent(daemon: Callable[..., Any]) -> None:
    own_store = own()
    key = Key(
        id="key_1",
        name="one",
        digest=credentials.digest(SECRET),
        shown="…",
        created=0.0,
        budget=Budget(tokens_per_day=1000),
    )
    own_store.keys.add(key)
    put(own_store, [entry(time.time(), key="key_1", caller="one", prompt=1000, completion=500)])
    own_store.close()
    with closing(sqlite3.connect(folder() / "oproxy.db", isolation_level=None)) as opened:
        opened.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = 'tomorrow'")
    running: Daemon = await daemon(Away("", "", lambda: None, own), more="[budget]\ntokens_per_day = 1510")
    assert (await running.chat())[0] == 200, "nobody knows yet what was spent, and requests are to be answered"

    with closing(sqlite3.connect(folder() / "oproxy.db", isolation_level=None)) as opened:
        opened.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = ?", (schema.REVISIONS[-1],))
    await running.back()

    status, body, _ = await running.chat()
    assert (status, body["error"]["code"]) == (429, "insufficient_quota"), "1500 before, and 29 meanwhile"
    status, body, _ = await running.chat(SECRET)
    assert (status, body["error"]["code"]) == (429, "insufficient_quota")


async def test_what_is_kept_for_clients_works_again(away: Away, daemon: Callable[..., Any]) -> None:
    running: Daemon = await daemon(away)
    for method, path in (("POST", "/v1/conversations"), ("GET", "/v1/responses/resp_1"), ("GET", "/v1/batches")):
        async with running.http.request(method, path, json={}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "store_unavailable"), path
    assert await sweep(running.proxy.app) == 0

    away.repair()
    await running.back()

    async with running.http.post("/v1/conversations", json={}) as response:
        assert response.status == 200, await response.text()
    async with running.http.get("/v1/batches") as response:
        assert response.status == 200
    assert await sweep(running.proxy.app) == 0


async def test_a_daemon_that_ends_while_it_is_away_says_what_is_lost(daemon: Callable[..., Any]) -> None:
    running: Daemon = await daemon(folder_is_a_file())
    await running.chat()
    ledger = running.proxy.app[CLERK].ledger
    assert ledger is not None
    await ledger.aclose()
    await asyncio.sleep(0)
    assert any("1 ledger row lost" in line for line in running.proxy.said), running.proxy.said
    assert running.proxy.app[TASKS] is not None
