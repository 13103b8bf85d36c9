from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.account import NANO, Budget
from ollama_proxy.policy.budget import Kind, Limit, Used, Window, check, crossed, limits_of, span

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC).timestamp()


def windows() -> tuple[Window, Window]:
    return Window("day", NOON), Window("month", NOON)


@given(st.integers(0, 13_569_465_599).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_days_and_months_are_the_calendars_in_utc(now: datetime) -> None:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    following = (month + timedelta(days=31)).replace(day=1)

    assert span("day", now.timestamp()) == (day.timestamp(), (day + timedelta(days=1)).timestamp())
    assert span("month", now.timestamp()) == (month.timestamp(), following.timestamp())


@pytest.mark.parametrize("kind", ["day", "month"])
def test_the_end_of_a_window_is_the_start_of_the_next(kind: Kind) -> None:
    start, end = span(kind, NOON)

    assert span(kind, start) == span(kind, end - 0.001) == (start, end)
    assert span(kind, end)[0] == end
    assert span(kind, start - 0.001)[1] == start


def test_a_budget_is_a_limit_for_each_line_of_it() -> None:
    budget = Budget(money_per_day=0.1, money_per_month=2, tokens_per_day=0, tokens_per_month=7)

    assert limits_of(budget) == (
        Limit("day", "usd", NANO // 10),
        Limit("month", "usd", 2 * NANO),
        Limit("day", "tokens", 0),
        Limit("month", "tokens", 7),
    )
    assert limits_of(Budget()) == ()


@pytest.mark.parametrize(
    ("spent", "held", "want"),
    [
        (0, 0, None),
        (99, 0, None),
        (100, 0, True),
        (150, 0, True),
        (0, 99, None),
        (0, 100, False),
        (60, 39, None),
        (60, 40, False),
        (100, 100, True),
    ],
)
def test_who_comes_is_let_in_while_spent_and_reserved_leave_room(spent: int, held: int, want: bool | None) -> None:
    day, month = windows()
    day.tokens, day.held_tokens = spent, held
    limit = Limit("day", "tokens", 100)

    assert check([limit], day, month, by_list=False) == (None if want is None else (limit, want))


def test_what_is_spent_is_told_before_what_is_only_reserved() -> None:
    day, month = windows()
    day.held_tokens, month.tokens = 10, 10
    limits = (Limit("day", "tokens", 5), Limit("month", "tokens", 10))

    assert check(limits, day, month, by_list=False) == (limits[1], True)


def test_a_budget_of_nothing_lets_nobody_in() -> None:
    limit = Limit("month", "usd", 0)

    assert check([limit], *windows(), by_list=False) == (limit, True)


def test_money_is_the_cost_or_the_list_price() -> None:
    day, month = windows()
    day.before, day.cost, day.listed = Used(cost=1, listed=50), 2, 50
    limit = Limit("day", "usd", 100)

    assert check([limit], day, month, by_list=False) is None
    assert check([limit], day, month, by_list=True) == (limit, True)


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        (0, 49, ()),
        (0, 50, (0.5,)),
        (50, 51, ()),
        (49, 100, (0.5, 0.8, 1.0)),
        (100, 900, ()),
    ],
)
def test_a_share_is_crossed_by_who_reaches_it(before: int, after: int, want: tuple[float, ...]) -> None:
    assert crossed((1.0, 0.5, 0.8), 100, before, after) == want


@given(st.lists(st.integers(0, 60)), st.integers(0, 150), st.integers(1, 200))
def test_each_share_falls_due_once_and_never_for_what_was_used_before(
    used: list[int], before: int, amount: int
) -> None:
    window, shares = Window("day", NOON), (0.5, 0.8, 1.0)
    window.before = Used(tokens=before)
    limit, due = Limit("day", "tokens", amount), list[float]()
    for tokens in used:
        window.tokens += tokens
        due += window.due(limit, shares, False)

    assert due == [share for share in shares if before < share * amount <= before + sum(used)]
