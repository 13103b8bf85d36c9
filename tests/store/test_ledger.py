"""The ledger's writer: committed before the answer ends, once each, and never in an answer's way."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, select

from ollama_proxy.account import Entry
from ollama_proxy.store import Ledger, Store, schema
from ollama_proxy.store.writer import Writer
from tests.store import databases, fresh
from tests.store.fresh import Spot, locked_out, until, written
from tests.store.rows import entry, put
from tests.store.test_store import damage

server, spot, lone = databases.server, fresh.spot, fresh.lone

Begin = Callable[..., Ledger]


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    """Return what begins a ledger on a store; it is closed when the test ends."""
    ledgers: list[Ledger] = []

    def make(store: Store, **options: Any) -> Ledger:
        ledgers.append(Ledger(store, loop=asyncio.get_running_loop(), **options))
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        await ledger.aclose()


async def write_all(ledger: Ledger, rows: list[Entry]) -> None:
    await asyncio.gather(*(ledger.write(row) for row in rows))


FULL = entry(
    1_700_000_000.123456,
    status=502,
    key="key_1",
    caller="ann",
    tag="nightly “ü”",
    address="::1",
    client="openai-python/2.54",
    asked="gpt-5",
    served="qwen3:8b",
    backend="ollama",
    code="backend_error",
    stream=True,
    queued=0.1,
    first=1 / 3,
    total=math.pi,
    prompt=10**12,
    cached=5,
    completion=7,
    reasoning=3,
    exact=False,
    cost=123_456_789_012,
    listed=None,
    tries=3,
)


async def test_every_field_of_a_row_comes_back(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    await begin(store).write(FULL)

    with store.engine.connect() as connection:
        row = connection.execute(select(*(schema.requests.c[name] for name in schema.ENTRY_COLUMNS))).one()
    assert msgspec.convert(tuple(row), list[Any]) == list(msgspec.structs.astuple(FULL))


async def test_a_row_is_committed_when_write_returns(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store)
    for _ in range(3):
        row = entry()
        await ledger.write(row)
        assert written(store)[-1] == row.id
    assert ledger.state.ok
    assert ledger.state.waiting == 0


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 200])
async def test_rows_that_end_together_are_each_written_once(spot: Spot, begin: Begin, count: int) -> None:
    store = spot.open()
    rows = [entry() for _ in range(count)]
    await write_all(begin(store), rows)
    assert written(store) == [row.id for row in rows]


async def test_rows_that_end_together_share_a_commit(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    statements: list[str] = []
    event.listen(store.engine, "connect", lambda connection, _: connection.set_trace_callback(statements.append))
    store.engine.dispose()
    ledger = begin(store)

    await write_all(ledger, [entry() for _ in range(64)])
    inserts = [line for line in statements if line.startswith("INSERT INTO requests")]
    # The first row finds nobody to share with.
    assert len(inserts) == 2
    assert len(written(store)) == 64


async def test_rows_that_end_shortly_after_each_other_share_a_commit(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    statements: list[str] = []
    event.listen(store.engine, "connect", lambda connection, _: connection.set_trace_callback(statements.append))
    store.engine.dispose()
    ledger = begin(store)

    tasks = []
    for _ in range(6):
        tasks += [asyncio.ensure_future(ledger.write(entry())) for _ in range(2)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    inserts = [line for line in statements if line.startswith("INSERT INTO requests")]
    assert 2 <= len(inserts) <= 6
    assert len(written(store)) == 12
    # And one that comes alone is there at once again.
    for _ in range(5):
        await asyncio.sleep(0)
    alone = asyncio.ensure_future(ledger.write(entry()))
    await asyncio.sleep(0)
    assert alone.done()


async def test_rows_that_were_gathered_are_written_when_the_ledger_is_closed(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    ledger = begin(store)
    rows = [entry() for _ in range(5)]
    tasks = [asyncio.ensure_future(ledger.write(row)) for row in rows]
    # They give their rows, and the loop has not come round once more.
    await asyncio.sleep(0)
    assert ledger.state.waiting == 4
    await ledger.aclose()
    await asyncio.gather(*tasks)
    assert written(store) == [row.id for row in rows]
    assert ledger.state.waiting == 0


async def test_gathered_rows_whose_requests_are_cancelled_are_written(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    ledger = begin(store)
    rows = [entry() for _ in range(5)]
    tasks = [asyncio.ensure_future(ledger.write(row)) for row in rows]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.aclose()
    assert written(store) == [row.id for row in rows]


async def test_gathered_rows_that_find_the_database_locked_go_by_the_thread(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    ledger = begin(store)
    await ledger.write(entry())
    rows = [entry() for _ in range(70)]
    with locked_out(store):
        tasks = [asyncio.ensure_future(ledger.write(row)) for row in rows]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
    await asyncio.gather(*tasks)
    assert sorted(written(store)[1:]) == sorted(row.id for row in rows)


@pytest.mark.parametrize("there", [0, 1, 3])
def test_rows_of_which_a_failure_leaves_unknown_whether_they_are_in_are_written_once(spot: Spot, there: int) -> None:
    store = spot.open()
    rows = [entry() for _ in range(3)]
    put(store, rows[:there])
    with closing(Writer(store)) as writer:
        writer.doubtful = True
        writer.insert(rows)
        assert not writer.doubtful
    assert sorted(written(store)) == sorted(row.id for row in rows)


def test_a_failure_half_way_through_rows_that_do_not_fit_writes_none_twice(lone: Spot) -> None:
    store = lone.open()
    pages = fill(store)
    # A number of 70 bits makes the writer take the rows one by one; for the last there is no room.
    rows = [entry(prompt=2**70), entry(), entry(tag="x" * 100_000)]
    with closing(Writer(store)) as writer:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            writer.insert(rows)
        assert written(store) == [rows[0].id, rows[1].id]
        pages.clear()
        writer.close()
        store.engine.dispose()
        writer.insert(rows)
    assert written(store) == [row.id for row in rows]


async def test_a_row_is_written_even_if_its_request_is_cancelled(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store)
    row = entry()
    task = asyncio.ensure_future(ledger.write(row))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ledger.aclose()
    assert written(store) == [row.id]


async def test_a_relaxed_ledger_does_not_wait_and_forgets_nothing(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store, durability="relaxed")
    rows = [entry() for _ in range(100)]
    with locked_out(store):
        for row in rows:
            await ledger.write(row)
        assert ledger.state.waiting == 100
    await ledger.aclose()
    assert written(store) == [row.id for row in rows]


async def test_durability_may_be_changed_while_it_runs(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store, durability="relaxed")
    first, second = entry(), entry()
    await ledger.write(first)
    ledger.durability = "strict"
    await ledger.write(second)
    assert written(store) == [first.id, second.id]


async def test_write_later_never_waits(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store)
    ledger.write_later(row := entry())
    await until(lambda: ledger.state.waiting == 0)
    assert written(store) == [row.id]


async def test_values_no_database_holds_are_made_to_fit(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store)
    rows = [entry(), entry(tag="a\0b"), entry(caller="half \ud83d"), entry(prompt=2**70), entry()]
    await write_all(ledger, rows)

    assert written(store) == [row.id for row in rows]
    assert ledger.state.ok
    assert ledger.state.dropped == 0


async def test_a_row_no_database_takes_is_counted_and_harms_no_other(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store)
    bad: Any = None
    rows = [entry(), entry(endpoint=bad), entry()]
    await write_all(ledger, rows)

    assert written(store) == [rows[0].id, rows[2].id]
    assert ledger.state.dropped == 1
    assert ledger.state.waiting == 0
    assert "1 ledger row lost" in spot.said[0]


async def test_a_locked_database_holds_no_answer_up_for_long_and_gets_its_rows(spot: Spot, begin: Begin) -> None:
    store = spot.open()
    ledger = begin(store, clock=lambda: 77.0)
    rows = [entry() for _ in range(5)]
    with locked_out(store):
        await asyncio.wait_for(ledger.write(rows[0]), 10)
        assert ledger.failing
        for row in rows[1:]:
            await asyncio.wait_for(ledger.write(row), 0.2)
        state = ledger.state
        assert (state.ok, state.waiting, state.dropped, state.since) == (False, 5, 0, 77.0)
        assert "lock" in state.error
    await until(lambda: not ledger.failing)

    assert written(store) == [row.id for row in rows]
    await until(lambda: len(spot.said) == 2)
    assert "the database fails" in spot.said[0]
    assert "works again; 5 ledger rows that waited: written" in spot.said[1]
    assert ledger.state.error == ""


async def test_beyond_the_buffer_new_rows_are_dropped_and_counted(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    full = fill(store)
    ledger = begin(store, buffer=3)
    rows = [entry(tag="x" * 5000) for _ in range(5)]
    for row in rows:
        await ledger.write(row)
    assert (ledger.state.waiting, ledger.state.dropped) == (3, 2)

    full.clear()
    await until(lambda: not ledger.failing)
    assert written(store) == [row.id for row in rows[:3]]
    await until(lambda: any("2 ledger rows that found no place: lost" in line for line in lone.said))


def fill(store: Store) -> list[int]:
    """Let the file not grow any more, as on a full disk; until the list that is returned is cleared."""
    with store.engine.connect() as connection:
        pages = [int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())]

    def limit(connection: Any, record: object) -> None:
        # A new connection has the default again.
        for count in pages:
            connection.execute(f"PRAGMA max_page_count={count}")

    event.listen(store.engine, "connect", limit)
    store.engine.dispose()
    return pages


async def test_a_full_disk_holds_no_answer_up_and_rows_come_when_there_is_room(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    full = fill(store)
    ledger = begin(store)
    rows = [entry(tag="x" * 5000) for _ in range(20)]
    await asyncio.wait_for(write_all(ledger, rows), 10)
    assert "full" in ledger.state.error

    full.clear()
    await until(lambda: not ledger.failing)
    assert written(store) == [row.id for row in rows]


async def test_what_a_database_that_fails_to_the_end_does_not_take_is_said(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    fill(store)
    ledger = begin(store)
    await ledger.write(entry(tag="x" * 5000))
    await ledger.aclose()
    await until(lambda: any("1 ledger row lost" in line for line in lone.said))
    assert (ledger.state.waiting, ledger.state.dropped) == (0, 1)


async def test_a_server_that_goes_away_and_comes_back_gets_its_rows(spot: Spot, begin: Begin) -> None:
    if spot.server is None:
        pytest.skip("a file has no connection to lose")
    store = spot.open()
    ledger = begin(store)
    rows = [entry() for _ in range(3)]
    await ledger.write(rows[0])

    spot.admin(f"ALTER DATABASE {spot.name} ALLOW_CONNECTIONS false")
    spot.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{spot.name}'")
    await asyncio.wait_for(ledger.write(rows[1]), 10)
    assert ledger.failing
    await ledger.write(rows[2])
    spot.admin(f"ALTER DATABASE {spot.name} ALLOW_CONNECTIONS true")
    await until(lambda: not ledger.failing)

    assert written(store) == [row.id for row in rows]


async def test_a_file_damaged_under_way_is_put_aside_and_writing_goes_on(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    store.engine.dispose()
    damage(lone.file, table="requests")
    ledger = begin(store)
    row = entry()
    await ledger.write(row)
    await until(lambda: not ledger.failing)

    assert written(store) == [row.id]
    assert len(list(lone.folder.glob("oproxy.db.corrupt-????????-??????"))) == 1


async def test_a_file_that_was_taken_away_is_begun_anew(lone: Spot, begin: Begin) -> None:
    store = lone.open()
    ledger = begin(store)
    await ledger.write(entry())
    for path in list(lone.folder.iterdir()):
        path.unlink()

    # It looks once a second.
    kept: list[str] = []
    while not ledger.failing:
        row = entry()
        await ledger.write(row)
        kept.append(row.id)
        await asyncio.sleep(0.02)
    await until(lambda: not ledger.failing)
    assert written(store) == kept[-1:]


async def test_closing_twice_is_harmless(lone: Spot, begin: Begin) -> None:
    ledger = begin(lone.open())
    await ledger.aclose()
    await ledger.aclose()


WRITES = """
import asyncio, sys
from pathlib import Path
from ollama_proxy.account import Entry
from ollama_proxy.store import Ledger, Store

async def main():
    store = Store.open(sys.argv[1], folder=Path(sys.argv[2]), on_change=print)
    ledger = Ledger(store, loop=asyncio.get_running_loop())
    async def client(number):
        for turn in range(10**9):
            id = f"req_{number}_{turn}"
            await ledger.write(Entry(id=id, at=float(turn), endpoint="/v1/chat/completions", status=200))
            print(id, flush=True)
    await asyncio.gather(*(client(number) for number in range(16)))

asyncio.run(main())
"""


def test_a_killed_process_has_every_row_it_told_of_once(spot: Spot) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, spot.url, str(spot.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(500)]
        process.send_signal(signal.SIGKILL)
        # What it said before it died is in the pipe; a last line may be cut.
        told += [line.strip() for line in process.stdout if line.endswith("\n")]

    assert all(line.startswith("req_") for line in told)
    rows = Counter(written(spot.open()))
    assert set(told) <= rows.keys()
    assert set(rows.values()) == {1}
