"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.when import NotATime, changes, civil, day_start, parse_when
from tests.zones import ZONES, clocks

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC).timestamp()


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("now", NOW),
        ("90s", NOW - 90),
        ("30m", NOW - 1800),
        ("12h", NOW - 43200),
        ("7d", NOW - 7 * 86400),
        ("2w", NOW - 14 * 86400),
        ("1h30m", NOW - 5400),
        ("1.5 h ago", NOW - 5400),
        ("today", at(2026, 11, 21)),
        ("Yesterday", at(2026, 11, 20)),
        ("08:15", at(2026, 11, 21, 8, 15)),
        ("2026-11-01", at(2026, 11, 1)),
        ("2026-12", at(2026, 12, 1)),
        ("2026-11-01T10:00", at(2026, 11, 1, 10)),
        ("2026-11-01 10:00:30", at(2026, 11, 1, 10, 0, 30)),
        ("2026-11-01T10:00Z", at(2026, 11, 1, 10)),
        ("2026-11-01T10:00:00+02:00", at(2026, 11, 1, 8)),
        ("2026-11-01T10:00-0330", at(2026, 11, 1, 13, 30)),
        ("1763717400", 1763717400.0),
    ],
)
def test_what_people_write_is_understood(text: str, want: float) -> None:
    assert parse_when(text, NOW) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2026-11-01", at(2026, 11, 2)),
        ("2026-12", at(2027, 1, 1)),
        ("today", at(2026, 11, 22)),
        ("yesterday", at(2026, 11, 21)),
        ("2026-11-01T10:00", at(2026, 11, 1, 10)),
        ("7d", NOW - 7 * 86400),
    ],
)
def test_an_end_takes_the_named_day_in(text: str, want: float) -> None:
    assert parse_when(text, NOW, end=True) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "7",
        "7x",
        "d7",
        "ago",
        "2026-02-29",
        "2026-13-01",
        "2026-11-00",
        "2026-11-01T24:00",
        "25:00",
        "10:60",
        "é",
    ],
)
def test_what_is_no_time_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(NotATime) as caught:
        parse_when(text, NOW)
    assert "12h" in caught.value.message
    assert caught.value.exit_code == 2


def test_local_clocks_decide_what_a_day_is() -> None:
    # Berlin left summer time at 2026-10-25 01:00 UTC.
    def berlin(moment: float) -> float:
        return 7200.0 if moment < at(2026, 10, 25, 1) else 3600.0

    assert parse_when("2026-10-25", NOW, zone=berlin) == at(2026, 10, 24, 22)
    assert parse_when("2026-10-25", NOW, zone=berlin, end=True) == at(2026, 10, 25, 23)
    assert parse_when("2026-10-25T04:00", NOW, zone=berlin) == at(2026, 10, 25, 3)
    assert parse_when("today", at(2026, 11, 20, 23, 30), zone=berlin) == at(2026, 11, 20, 23)


@given(st.dates(min_value=date(1970, 1, 1)))
def test_days_are_counted_as_the_calendar_counts_them(day: date) -> None:
    assert civil(day.year, day.month, day.day) == (day - date(1970, 1, 1)).days


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        parse_when(text, NOW)
    except NotATime:
        return


CHANGES = tuple((name, at) for name, instants in ZONES.items() for at in instants)


@given(st.sampled_from(CHANGES), st.integers(-5, 5))
def test_a_day_begins_with_the_first_second_that_calendars_show_it(place: tuple[str, int], shift: int) -> None:
    ahead, local_day = clocks(place[0])
    day = local_day(place[1]) + shift
    began = day_start(day, ahead)
    assert began == int(began)
    # A place may skip a day; then it is the next.
    assert local_day(began) >= day
    assert local_day(began - 1) < day


@given(st.sampled_from(CHANGES), st.floats(-400 * 86400, 0), st.floats(1, 400 * 86400), st.floats(0, 1))
def test_changes_of_clocks_are_found_to_the_second(
    place: tuple[str, int], since: float, until: float, at: float
) -> None:
    ahead, _ = clocks(place[0])
    pieces = changes(place[1] + since, place[1] + until, ahead)
    moment = place[1] + since + at * (until - since)
    assert [seconds for begin, seconds in pieces if begin <= moment or begin == pieces[0][0]][-1] == ahead(moment)
    for begin, seconds in pieces[1:]:
        assert (ahead(begin), ahead(begin - 1) != seconds) == (seconds, True)


@pytest.mark.parametrize(("name", "at"), CHANGES)
def test_today_and_yesterday_are_days_of_local_calendars(name: str, at: int) -> None:
    ahead, local_day = clocks(name)
    today = parse_when("today", at, zone=ahead)
    assert local_day(today) == local_day(at) > local_day(today - 1)
    assert parse_when("yesterday", at, zone=ahead, end=True) == today
    # Where yesterday was skipped, it has no time at all.
    assert parse_when("yesterday", at, zone=ahead) < today or local_day(today - 1) < local_day(at) - 1
