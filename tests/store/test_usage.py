"""The ledger, summed: by anything, over any time, the same from roll-ups and from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.account import Entry, Key
from ollama_proxy.policy.when import changes, day_start
from ollama_proxy.store import Store
from ollama_proxy.store.reader import Unreadable, reading, reading_file
from ollama_proxy.store.rollup import roll_up
from ollama_proxy.store.usage import DIMENSIONS, Row, query
from tests.store import databases
from tests.store.rows import BASE, clear, entries, entry, put, summed
from tests.zones import ZONES, clocks

server, opened, store = databases.server, databases.opened, databases.store

same_store = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

HOUR = 3600
EVER = (BASE - 86400.0, BASE + 40 * 86400.0)

# What a dimension is, over rows.
VALUES: dict[str, Callable[[Entry], Any]] = {
    "model": lambda row: row.asked,
    "key": lambda row: row.caller if not row.key else row.key,
    "key_id": lambda row: row.key,
    "stream": lambda row: int(row.stream),
    "minute": lambda row: int(row.at // 60) * 60,
    "hour": lambda row: int(row.at // HOUR) * HOUR,
    "day": lambda row: int(row.at // 86400),
    **{
        name: attrgetter(name)
        for name in ("caller", "tag", "backend", "endpoint", "client", "asked", "served", "status")
    },
}


def ask(store: Store, since: float, until: float, by: Sequence[str] = (), **more: Any) -> list[Row]:
    with reading(store.engine) as reader:
        return query(reader, since, until, by, **more)


def counted(rows: Sequence[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return sums by what they are of."""
    names = (
        "requests",
        "errors",
        "prompt",
        "cached",
        "completion",
        "reasoning",
        "inexact",
        "cost",
        "listed",
        "unpriced",
    )
    return {row.by: (*(getattr(row, name) for name in names), row.first, row.total) for row in rows}


def expected(rows: Sequence[Entry], by: Sequence[str] = ()) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    found = {}
    for name, sums in summed(rows, lambda row: tuple(VALUES[each](row) for each in by)).items():
        first_sum, first_n, total = sums.pop("first_sum"), sums.pop("first_n"), sums.pop("total_sum")
        found[name] = (*sums.values(), first_sum / first_n if first_n else None, total / sums["requests"])
    return found


@same_store
@given(
    old=entries(),
    new=entries(),
    bounds=st.tuples(st.floats(-1, 6 * HOUR), st.floats(-1, 6 * HOUR))
    | st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda b: (b[0] * HOUR, b[1] * HOUR)),
    by=st.lists(st.sampled_from(sorted(set(DIMENSIONS) - {"key"})), max_size=3, unique=True),
)
def test_roll_ups_and_the_rows_beyond_are_the_rows(
    store: Store, old: list[Entry], new: list[Entry], bounds: tuple[float, float], by: list[str]
) -> None:
    clear(store)
    put(store, old)
    roll_up(store)
    put(store, new)
    since, until = BASE + min(bounds), BASE + max(bounds)
    meant = [row for row in [*old, *new] if since <= row.at < until]

    assert counted(ask(store, since, until, by)) == expected(meant, by)


@same_store
@given(
    old=entries(), new=entries(), pruned=st.floats(0, 6 * HOUR), hours=st.tuples(st.integers(0, 6), st.integers(0, 6))
)
def test_whole_hours_count_the_same_after_their_rows_are_gone(
    store: Store, old: list[Entry], new: list[Entry], pruned: float, hours: tuple[int, int]
) -> None:
    clear(store)
    put(store, old)
    roll_up(store)
    store.prune(BASE + pruned)
    put(store, new)
    since, until = BASE + min(hours) * HOUR, BASE + max(hours) * HOUR
    meant = [row for row in [*old, *new] if since <= row.at < until]

    assert counted(ask(store, since, until, ["hour", "asked"])) == expected(meant, ["hour", "asked"])


def test_a_part_of_an_hour_whose_rows_are_gone_counts_as_the_whole_hour(store: Store) -> None:
    put(store, [entry(BASE + 60), entry(BASE + 1800)])
    roll_up(store)
    assert ask(store, BASE + 600, BASE + 7200)[0].requests == 1
    store.prune(BASE + 300)

    assert ask(store, BASE + 600, BASE + 7200)[0].requests == 2
    put(store, [entry(BASE + 120), entry(BASE + 900)])
    assert ask(store, BASE + 600, BASE + 7200)[0].requests == 3


def test_nothing_is_no_row(store: Store) -> None:
    assert ask(store, *EVER) == []
    assert ask(store, BASE, BASE) == []
    assert ask(store, BASE + 1, BASE) == []


def test_a_day_is_the_local_one_through_a_change_of_clocks(store: Store) -> None:
    # Ahead by two hours until noon UTC of the first day, by one until noon of the second, then by two again.
    zone = ((BASE - 24 * HOUR, 7200), (BASE + 12 * HOUR, 3600), (BASE + 36 * HOUR, 7200))
    put(store, [entry(BASE + hour * HOUR) for hour in (-3, -2, 11, 22, 23, 46)])
    roll_up(store)
    put(store, [entry(BASE + 23 * HOUR)])
    day = BASE // 86400

    days = {row.by[0]: row.requests for row in ask(store, *EVER, ["day"], zone=zone)}
    assert days == {day - 1: 1, day: 3, day + 1: 2, day + 2: 1}


def test_a_day_west_of_greenwich_begins_later(store: Store) -> None:
    put(store, [entry(BASE + hour * HOUR) for hour in (4, 5)])
    roll_up(store)

    days = [row.by[0] for row in ask(store, *EVER, ["day"], zone=((0, -5 * HOUR),))]
    assert sorted(days) == [BASE // 86400 - 1, BASE // 86400]


# --- keys ---------------------------------------------------------------------------------------------------------


def key(id: str, name: str) -> Key:
    return Key(id=id, name=name, digest=id, shown="sk-oproxy-…abcd", created=0.0)


def test_a_key_goes_by_the_name_it_has_now(store: Store) -> None:
    store.keys.add(key("key_a", "laptop"))
    put(store, [entry(key="key_a", caller="old name"), entry(key="key_a", caller="laptop")])
    put(store, [entry(key="key_gone", caller="phone"), entry(caller="sk-a***z"), entry()])
    roll_up(store)

    assert {row.by[0]: row.requests for row in ask(store, *EVER, ["key"])} == {
        "laptop": 2, "phone": 1, "sk-a***z": 1, "": 1,
    }  # fmt: skip


@pytest.mark.parametrize("said", ["laptop", "key_a", "old name", "lap*"])
def test_a_key_is_meant_by_id_or_any_of_its_names(store: Store, said: str) -> None:
    store.keys.add(key("key_a", "laptop"))
    put(store, [entry(key="key_a", caller="old name"), entry(key="key_b", caller="other")])

    assert [row.by for row in ask(store, *EVER, ["key_id"], only={"key": [said]})] == [("key_a",)]


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "requests"),
    [
        ({"model": ["gpt-5"]}, 2),
        ({"model": ["qwen3:8b"]}, 2),
        ({"model": ["gpt-*"]}, 3),
        ({"model": ["GPT-*"]}, 3),
        ({"model": ["gpt-5", "llama3.2"]}, 3),
        ({"model": ["gpt-?"]}, 2),
        ({"model": ["gpt_5"]}, 0),
        ({"model": ["%"]}, 0),
        ({"tag": ["100%"]}, 1),
        ({"tag": ["1*%"]}, 1),
        ({"tag": [""]}, 3),
        ({"status": ["ok"]}, 2),
        ({"status": ["error"]}, 2),
        ({"status": ["429"]}, 1),
        ({"status": ["4xx", "5XX"]}, 2),
        ({"model": ["gpt-*"], "status": ["ok"]}, 1),
        ({"model": ["x' OR 1=1 --"]}, 0),
        ({"model": []}, 0),
    ],
)
@pytest.mark.parametrize("rolled", [True, False])
def test_only_what_is_meant_counts(store: Store, rolled: bool, only: dict[str, list[str]], requests: int) -> None:
    put(
        store,
        [
            entry(asked="gpt-5", served="qwen3:8b", status=200, tag="100%"),
            entry(asked="gpt-5", served="qwen3:8b", status=429),
            entry(asked="gpt-4o", served="smollm2", status=502),
            entry(asked="llama3.2", served="llama3.2:3b", status=200),
        ],
    )
    if rolled:
        roll_up(store)

    assert sum(row.requests for row in ask(store, *EVER, only=only)) == requests


# --- the file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger of one request, in a file that nobody has open."""
    store = Store.open("", folder=tmp_path, on_change=print)
    put(store, [entry(prompt=7)])
    store.close()
    assert store.place.file is not None
    return store.place.file


def test_the_file_tells_the_same_as_the_engine(store: Store) -> None:
    if store.place.file is None:
        pytest.skip("this store is no file")
    put(store, [entry(prompt=3, key="key_a", first=0.5), entry(tag="x")])
    roll_up(store)
    with reading_file(store.place.file) as reader:
        told = query(reader, *EVER, ["key", "day"], {"status": ["ok"]})

    assert told == ask(store, *EVER, ["key", "day"], only={"status": ["ok"]})


def test_a_file_that_nobody_has_open_is_read(file: Path) -> None:
    with reading_file(file) as reader:
        assert query(reader, *EVER)[0].prompt == 7


def test_reading_a_file_never_writes_to_it(file: Path) -> None:
    with pytest.raises(Unreadable, match="readonly"), reading_file(file) as reader:
        reader.rows("DELETE FROM requests", {})


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_a_file_that_is_no_ledger_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "oproxy.db"
    path.write_bytes(content)

    with pytest.raises(Unreadable, match=r"oproxy\.db cannot be read"), reading_file(path) as reader:
        query(reader, *EVER)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Unreadable), reading_file(tmp_path / "none.db"):
        pass
    assert not (tmp_path / "none.db").exists()


# --- days of the user's own clocks ------------------------------------------------------------------------------------

# To the millisecond: a calendar's own arithmetic rounds to less.
TIMES = st.integers(-3 * 86_400_000, 3 * 86_400_000).map(lambda each: each / 1000)
CHANGES = tuple((name, at) for name, instants in ZONES.items() for at in instants)


@same_store
@given(
    place=st.sampled_from(CHANGES),
    old=st.lists(TIMES, max_size=12),
    near=st.lists(st.integers(-7200, 7200), max_size=8),
    new=st.lists(TIMES, max_size=4),
    cut=st.tuples(st.floats(-3 * 86400, 0), st.floats(0, 3 * 86400)),
)
def test_days_are_those_of_local_clocks_in_every_zone(
    store: Store, place: tuple[str, int], old: list[float], near: list[int], new: list[float], cut: tuple[float, float]
) -> None:
    name, at = place
    ahead, local_day = clocks(name)
    # Around the midnights of that day and of the days beside it, too.
    midnights = [day_start(local_day(at) + each, ahead) - at for each in (-1, 0, 1)]
    moments = [*old, *near, *(each + shift for each in midnights for shift in (-0.5, 0.0, 0.5))]
    clear(store)
    put(store, [entry(at + each) for each in moments])
    roll_up(store)
    put(store, [entry(at + each) for each in new])

    for since, until in ((at - 4 * 86400.0, at + 4 * 86400.0), (at + cut[0], at + cut[1])):
        meant = [local_day(at + each) for each in (*moments, *new) if since <= at + each < until]
        found = ask(store, since, until, ["day"], zone=changes(since, until, ahead))
        assert {row.by[0]: row.requests for row in found} == Counter(meant)


def test_an_hour_that_midnight_cuts_counts_for_the_day_it_began_in_once_its_rows_are_gone(store: Store) -> None:
    # India: the local day of BASE ends at 18:30 UTC.
    zone, day = ((0, 19800),), BASE // 86400
    put(store, [entry(BASE + 18 * HOUR + 60), entry(BASE + 18 * HOUR + 2000), entry(BASE + 42 * HOUR + 2000)])
    roll_up(store)
    assert {row.by[0]: row.requests for row in ask(store, *EVER, ["day"], zone=zone)} == {
        day: 1,
        day + 1: 1,
        day + 2: 1,
    }

    store.prune(BASE + 19 * HOUR)
    assert {row.by[0]: row.requests for row in ask(store, *EVER, ["day"], zone=zone)} == {day: 2, day + 2: 1}
    since = BASE + 18.5 * HOUR
    assert {row.by[0] for row in ask(store, since, EVER[1], ["day"], zone=zone)} == {day + 1, day + 2}
