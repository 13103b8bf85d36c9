"""Opening the database: made, migrated, refused, put aside, and pruned."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from ollama_proxy.store import Store, StoreError, migrate, place, schema
from ollama_proxy.store.file import Look, begin, look
from ollama_proxy.store.fold import GROUPS, SUMS, hour_of
from ollama_proxy.store.rollup import roll_up
from ollama_proxy.store.usage import query
from tests.store import databases, fresh
from tests.store.fresh import Spot, written
from tests.store.rows import BASE, entry, put
from tests.store.test_keys import key

server, spot, lone = databases.server, fresh.spot, fresh.lone

NEWER = f"""
import sqlalchemy as sa
from alembic import op
revision = "9001"
down_revision = "{schema.REVISIONS[-1]}"
def upgrade() -> None:
    op.add_column("meta", sa.Column("note", sa.Text))
"""


@pytest.mark.parametrize("start", [None, *schema.REVISIONS[:-1]])
def test_the_migrations_arrive_at_the_declared_tables(spot: Spot, tmp_path: Path, start: str | None) -> None:
    store = spot.open()
    with store.writing() as connection:
        schema.metadata.drop_all(connection)
        schema.version.drop(connection)
        if start is not None:
            migrate.upgrade(connection, folder=older_scripts(tmp_path, start))
        migrate.upgrade(connection)

    assert differences(store) == []
    with store.engine.connect() as connection:
        assert {row.name: row.value for row in connection.execute(schema.meta.select())} == schema.BEGINNING


def test_a_new_database_has_the_declared_tables(spot: Spot) -> None:
    store = spot.open()

    assert differences(store) == []
    with store.engine.connect() as connection:
        assert connection.scalar(schema.version.select()) == schema.REVISIONS[-1]


def differences(store: Store) -> list[object]:
    """Return what Alembic would change to arrive at the declared tables."""
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True}
        )
        return list(compare_metadata(context, schema.metadata))


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(migrate.FOLDER))
    found = [script.revision for script in scripts.walk_revisions()]

    assert tuple(reversed(found)) == schema.REVISIONS


def test_a_database_of_an_older_version_migrates_up_and_keeps_its_rows(spot: Spot, tmp_path: Path) -> None:
    store = spot.open()
    put(store, [entry()])
    versions = newer_scripts(tmp_path, NEWER)

    with store.writing() as connection:
        migrate.upgrade(connection, folder=versions)

    with store.engine.connect() as connection:
        assert "note" in {column["name"] for column in inspect(connection).get_columns("meta")}
        assert connection.scalar(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == "9001"
    assert len(written(store)) == 1


def test_responses_of_before_name_the_one_that_they_go_on_from(spot: Spot, tmp_path: Path) -> None:
    store = spot.open()
    with store.writing() as connection:
        schema.metadata.drop_all(connection)
        schema.version.drop(connection)
        migrate.upgrade(connection, folder=older_scripts(tmp_path, "0003"))
        plain = {"owner": "", "created": 1.0, "expires": None, "status": "completed", "parent": ""}
        rows = [
            ("resp_1", "response", '{"after":null}'),
            ("resp_2", "response", '{"after":"resp_1","response":{"output":"\\u00e4"}}'),
            ("resp_3", "response", "{}"),
            ("file_1", "file", '{"after":"resp_1"}'),
        ]
        connection.execute(
            schema.objects.insert(), [{**plain, "id": id, "kind": kind, "data": data} for id, kind, data in rows]
        )
        migrate.upgrade(connection)

    with store.engine.connect() as connection:
        found = {row.id: row.parent for row in connection.execute(schema.objects.select())}
    assert found == {"resp_1": "", "resp_2": "resp_1", "resp_3": "", "file_1": ""}


def test_rows_of_before_the_roll_ups_knew_their_places_are_found_by_the_minute(spot: Spot, tmp_path: Path) -> None:
    store = spot.open()
    rows = [entry(BASE + number * 60, prompt=number) for number in range(180)]
    with store.writing() as connection:
        schema.metadata.drop_all(connection)
        schema.version.drop(connection)
        migrate.upgrade(connection, folder=older_scripts(tmp_path, "0002"))
        connection.execute(schema.requests.insert(), [msgspec.structs.asdict(row) for row in rows])
        groups = ", ".join(f'"{name}"' for name in GROUPS)
        sums = ", ".join(f'"{name}"' for name in SUMS)
        hour = hour_of(server=store.place.file is None)
        values = ", ".join(SUMS.values())
        connection.execute(
            text(
                f"INSERT INTO rollups (hour, {groups}, {sums}) SELECT {hour}, {groups}, {values} "
                f"FROM requests WHERE seq <= 150 GROUP BY {hour}, {groups}"
            )
        )
        connection.execute(text("UPDATE meta SET value = '150' WHERE name = 'rolled'"))
        migrate.upgrade(connection)

    assert written(store) == [row.id for row in rows]
    with store.reading() as reader:
        (found,) = query(reader, BASE + 3600 + 60, BASE + 2 * 3600 + 50 * 60)
    assert (found.requests, found.prompt) == (109, sum(range(61, 170)))


def test_a_migration_that_fails_leaves_everything_as_it_was(spot: Spot, tmp_path: Path) -> None:
    store = spot.open()
    versions = newer_scripts(tmp_path, NEWER + '    raise ValueError("half-way")\n')

    with pytest.raises(ValueError, match="half-way"), store.writing() as connection:
        migrate.upgrade(connection, folder=versions)

    with store.engine.connect() as connection:
        assert "note" not in {column["name"] for column in inspect(connection).get_columns("meta")}
    assert spot.open().settled() == 0


def older_scripts(tmp_path: Path, last: str) -> Path:
    """Return a folder of our migrations up to one of them."""
    folder = tmp_path / "older"
    (folder / "versions").mkdir(parents=True)
    for path in (migrate.FOLDER / "versions").glob("v*.py"):
        if path.name[1:5] <= last:
            (folder / "versions" / path.name).write_text(path.read_text())
    return folder


def newer_scripts(tmp_path: Path, script: str) -> Path:
    """Return a folder of our migrations and one more."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for path in (migrate.FOLDER / "versions").glob("*.py"):
        (folder / "versions" / path.name).write_text(path.read_text())
    (folder / "versions" / "v9001.py").write_text(script)
    return folder


def test_opening_again_finds_everything(spot: Spot) -> None:
    store = spot.open()
    put(store, [row := entry()])
    store.keys.add(key())
    store.close()

    again = spot.open()
    assert written(again) == [row.id]
    assert again.keys.all() == [key()]
    assert spot.said == []


def test_many_may_open_a_new_database_at_once(spot: Spot) -> None:
    problems: list[str] = []

    def opener() -> None:
        try:
            spot.open()
        except StoreError as exc:
            problems.append(exc.message)

    threads = [threading.Thread(target=opener) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert len(spot.stores) == 4
    assert spot.said == []


def test_a_newer_database_is_refused(spot: Spot) -> None:
    store = spot.open()
    with store.writing() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    store.close()
    before = spot.file.read_bytes() if spot.server is None else b""

    with pytest.raises(StoreError, match=r"newer oproxy.*9999.*not touched.*Update oproxy"):
        spot.open()
    if spot.server is None:
        assert spot.file.read_bytes() == before


def test_the_file_and_its_folder_are_for_their_owner_only(lone: Spot) -> None:
    lone.folder.mkdir(mode=0o755)
    put(lone.open(), [entry()])

    assert stat.S_IMODE(lone.folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in lone.folder.iterdir()}
    assert {"oproxy.db", "oproxy.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_the_file_has_a_write_ahead_log_and_is_synchronised_at_checkpoints(lone: Spot) -> None:
    with lone.open().engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA synchronous")) == 1


def test_another_programs_database_is_refused_untouched(lone: Spot) -> None:
    lone.folder.mkdir()
    with closing(sqlite3.connect(lone.file)) as connection:
        connection.execute("CREATE TABLE songs (name)")
        connection.commit()
    before = lone.file.read_bytes()

    with pytest.raises(StoreError, match="another program's database; it was not touched"):
        lone.open()
    assert lone.file.read_bytes() == before
    assert {path.name for path in lone.folder.iterdir()} <= {"oproxy.db", "oproxy.db.lock"}


def test_another_programs_tables_on_a_server_are_refused(spot: Spot) -> None:
    if spot.server is None:
        pytest.skip("a file is known by its header")
    with psycopg_to(spot) as connection:
        connection.execute("CREATE TABLE songs (name text)")
        connection.commit()

    with pytest.raises(StoreError, match="another program's tables"):
        spot.open()
    with psycopg_to(spot) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert found == [("songs",)]


def psycopg_to(spot: Spot) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"host={spot.server} user=oproxy dbname={spot.name}")


def test_a_file_named_by_the_user_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir or Madam, " * 20)

    with pytest.raises(StoreError, match="not a database"):
        Store.open(f"sqlite:///{file}", folder=tmp_path, on_change=print)
    assert file.read_text().startswith("Dear Sir")


def test_our_own_file_full_of_rubbish_is_kept_aside(lone: Spot) -> None:
    lone.folder.mkdir()
    lone.file.write_bytes(b"rubbish" * 1000)

    put(lone.open(), [entry()])

    (aside,) = lone.folder.glob("oproxy.db.corrupt-????????-??????")
    assert aside.read_bytes() == b"rubbish" * 1000
    assert len(lone.said) == 1
    assert aside.name in lone.said[0]


def damage(file: Path, *, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)


def test_a_file_damaged_at_its_heart_is_kept_aside_and_a_new_one_begun(lone: Spot) -> None:
    lone.open().close()
    damage(lone.file, table=schema.VERSION_TABLE)

    again = lone.open()
    assert written(again) == []
    assert len(list(lone.folder.glob("oproxy.db.corrupt-*"))) == 1


def test_a_damaged_file_gives_its_keys_to_the_new_one(lone: Spot) -> None:
    store = lone.open()
    put(store, [entry() for _ in range(100)])
    store.keys.add(key())
    version = store.keys.version()
    store.engine.dispose()
    damage(lone.file, table="requests")

    store.mend(suspect=True)

    assert store.keys.all() == [key()]
    assert store.keys.version() >= version
    assert written(store) == []
    assert "the keys of the old one: 1" in lone.said[0]


def test_a_sound_file_under_suspicion_stays(lone: Spot) -> None:
    store = lone.open()
    put(store, [entry()])

    store.mend(suspect=True)
    assert len(written(store)) == 1
    assert lone.said == []


def test_two_damaged_files_of_one_second_are_both_kept(lone: Spot) -> None:
    lone.folder.mkdir()
    for _ in range(2):
        lone.file.write_bytes(b"x" * 200)
        lone.open().close()
    assert len(list(lone.folder.glob("oproxy.db.corrupt-*"))) == 2


def test_a_creation_that_was_interrupted_is_finished(lone: Spot) -> None:
    lone.folder.mkdir()
    begin(lone.file)
    assert look(lone.file) is Look.OURS

    put(lone.open(), [entry()])
    assert lone.said == []


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("mysql://root@localhost/x", "not supported"),
        ("sqlite://", "names no file"),
        ("what is this", "not a database URL"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "cannot be used.*Is it running"),
    ],
)
def test_a_url_that_does_not_work_is_told_without_its_password(url: str, want: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=want) as caught:
        Store.open(url, folder=tmp_path, on_change=print)
    assert "hunter2" not in caught.value.message


def test_a_relative_file_lies_in_the_folder(tmp_path: Path) -> None:
    Store.open("sqlite:///team.db", folder=tmp_path, on_change=print).close()
    assert look(tmp_path / "team.db") is Look.OURS


def test_only_old_rows_that_are_in_the_roll_ups_are_pruned(spot: Spot) -> None:
    store = spot.open()
    rows = [entry(BASE + number) for number in range(10)]
    put(store, rows[:6])

    assert store.prune(BASE + 100) == 0
    roll_up(store)
    put(store, rows[6:])
    assert store.prune(BASE + 4) == 4
    assert store.prune(BASE + 100) == 2
    assert written(store) == [row.id for row in rows[6:]]


def test_pruning_goes_on_until_only_the_last_row_is_left(spot: Spot) -> None:
    store = spot.open()
    put(store, [entry() for _ in range(4500)])
    roll_up(store)
    assert store.prune(BASE + 1) == 4499


def test_a_number_is_never_given_twice(spot: Spot) -> None:
    store = spot.open()
    put(store, [entry() for _ in range(3)])
    roll_up(store)
    store.prune(BASE + 1)
    put(store, [entry()])
    assert store.settled() == 4


def test_a_connection_that_is_in_use_while_the_pool_is_disposed_of_is_closed_afterwards(spot: Spot) -> None:
    """As by a thread that reads while the ledger's writer begins anew after a failure."""
    store = spot.open()
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        store.engine.dispose()
        assert not closed(driver)
        assert connection.scalar(text("SELECT 1")) == 1
    assert closed(driver)
    with store.engine.connect() as connection:
        again = connection.connection.driver_connection
    assert not closed(again), "the next ones are pooled as ever"


def test_a_thread_that_outlives_the_store_leaves_no_connection_open(spot: Spot) -> None:
    store = spot.open()
    with store.engine.connect() as early:
        before = early.connection.driver_connection
        store.close()
        with store.engine.connect() as late:
            after = late.connection.driver_connection
            assert late.scalar(text("SELECT 1")) == 1
    assert closed(before)
    assert closed(after)


def test_a_file_that_another_process_has_to_itself_is_waited_for_once(
    lone: Spot, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone.open().close()
    monkeypatch.setattr(place, "BUSY", 0.05)
    tried = []
    monkeypatch.setattr(Store, "_check", lambda *args, **kwargs: tried.append(1))
    with closing(sqlite3.connect(lone.file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            lone.open()
    assert not tried


def test_the_pool_logs_where_the_daemon_quiets_it(lone: Spot) -> None:
    pool: Any = lone.open().engine.pool
    assert pool.logger.name.startswith("sqlalchemy.pool.")


def closed(driver: Any) -> bool:
    if isinstance(driver, sqlite3.Connection):
        try:
            driver.total_changes  # noqa: B018
        except sqlite3.ProgrammingError:
            return True
        return False
    return bool(driver.closed)


def test_sqlites_caches_and_its_log_are_bounded_on_every_connection(lone: Spot) -> None:
    store = lone.open()
    for _ in range(2):
        with store.engine.connect() as connection:
            assert connection.scalar(text("PRAGMA cache_size")) == -2000
            assert connection.scalar(text("PRAGMA journal_size_limit")) == 4 * 1024 * 1024
