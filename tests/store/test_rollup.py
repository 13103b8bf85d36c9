"""The roll-ups: whatever comes in between, every row is in them once, or still beyond the watermark."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select

from ollama_proxy.account import Entry
from ollama_proxy.store import Store, schema
from ollama_proxy.store.fold import GROUPS, SUMS
from ollama_proxy.store.rollup import roll_up
from tests.store import databases
from tests.store.rows import BASE, clear, entries, entry, put, summed

server, opened, store = databases.server, databases.opened, databases.store

same_store = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def rolled(store: Store) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return the roll-ups by hour and groups."""
    with store.engine.connect() as connection:
        rows = connection.execute(select(schema.rollups)).mappings().all()
    return {tuple(row[name] for name in ("hour", *GROUPS)): {name: row[name] for name in SUMS} for row in rows}


def place(row: Entry) -> tuple[Any, ...]:
    return (int(row.at // 3600), *(getattr(row, name) for name in GROUPS))


def beyond(store: Store) -> int:
    """Return how many rows are not in the roll-ups."""
    with store.engine.connect() as connection:
        mark = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.name == schema.ROLLED))
        wanted = select(func.count()).select_from(schema.requests).where(schema.requests.c.seq > int(mark or 0))
        return connection.scalar(wanted) or 0


@same_store
@given(parts=st.lists(entries(), min_size=1, max_size=4), batch=st.integers(1, 40))
def test_the_roll_ups_are_the_rows_summed(store: Store, parts: list[list[Entry]], batch: int) -> None:
    clear(store)
    for part in parts:
        put(store, part)
        assert roll_up(store, batch=batch) == len(part)
    rows = [row for part in parts for row in part]

    assert rolled(store) == summed(rows, place)
    assert beyond(store) == 0


def test_rolling_up_again_changes_nothing(store: Store) -> None:
    put(store, [entry(), entry(BASE + 10)])
    roll_up(store)
    before = rolled(store)

    assert roll_up(store) == 0
    assert rolled(store) == before


def test_roll_ups_outlive_their_rows(store: Store) -> None:
    rows = [entry(BASE + hour * 3600) for hour in range(3)]
    put(store, rows)
    roll_up(store)

    assert store.prune(BASE + 2 * 3600) == 2
    assert rolled(store) == summed(rows, place)
    put(store, [late := entry(BASE + 60)])
    assert roll_up(store) == 1
    assert rolled(store) == summed([*rows, late], place)


def test_rows_that_are_in_no_roll_up_are_not_pruned(store: Store) -> None:
    put(store, [entry()])

    assert store.prune(BASE + 86400) == 0
    assert beyond(store) == 1


def test_a_row_without_tokens_or_price_counts_as_a_request(store: Store) -> None:
    put(store, [entry(status=429, first=None, cost=None, listed=None)])
    roll_up(store)
    (sums,) = rolled(store).values()

    assert (sums["requests"], sums["errors"], sums["unpriced"], sums["first_n"], sums["cost"]) == (1, 1, 1, 0, 0)


def test_several_at_once_count_every_row_once(store: Store) -> None:
    rows = [entry(BASE + second * 40) for second in range(300)]
    put(store, rows)
    counts: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        counts.append(roll_up(store, batch=7))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 300
    assert rolled(store) == summed(rows, place)


def test_a_row_that_is_committed_late_is_not_skipped(store: Store) -> None:
    if store.place.file is not None:
        pytest.skip("SQLite has one writer at a time: no lower number is committed after a higher one")
    first, second = entry(), entry(BASE + 1)
    with store.engine.connect() as slow:
        slow.execute(insert(schema.requests), [{name: getattr(first, name) for name in schema.ENTRY_COLUMNS}])
        put(store, [second])
        done: list[int] = []
        roller = threading.Thread(target=lambda: done.append(roll_up(store)))
        roller.start()
        roller.join(0.2)
        slow.commit()
    roller.join()

    assert done == [2]
    assert sum(sums["requests"] for sums in rolled(store).values()) == 2


def test_a_big_ledger_is_rolled_up_in_pieces(tmp_path: Path) -> None:
    store = Store.open("", folder=tmp_path, on_change=print)
    put(store, [entry(BASE + number) for number in range(5000)])

    assert roll_up(store) == 5000
    assert beyond(store) == 0
    store.close()
