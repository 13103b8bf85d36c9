"""Budgets as arithmetic: which windows of time they hold for, when one is spent, which alerts fall due. Pure: the time
comes in as epoch seconds.

Days and months are the calendar's, in UTC as OpenAI's are. Money is whole nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ..account import NANO, Budget

__all__ = ["Kind", "Limit", "Unit", "Used", "Window", "check", "crossed", "limits_of", "span"]

Kind = Literal["day", "month"]
Unit = Literal["usd", "tokens"]

DAY = 86400


class Limit(msgspec.Struct, frozen=True):
    """One line of a budget: `amount` is nano-dollars or tokens."""

    kind: Kind
    unit: Unit
    amount: int


class Used(msgspec.Struct, frozen=True):
    """What was used: real cost and list cost in nano-dollars, and tokens."""

    cost: int = 0
    listed: int = 0
    tokens: int = 0


NOTHING = Used()


class Window:
    """One day or month of one account: what was used in it, and what running requests have reserved.

    `before` is what was used before we began to count. A window never changes its time: when it is over, a new one
    takes its place, and a request that began in the old one is still booked there.
    """

    __slots__ = ("before", "cost", "end", "held_money", "held_tokens", "listed", "start", "tokens", "told")

    def __init__(self, kind: Kind, now: float) -> None:
        self.start, self.end = span(kind, now)
        self.before = NOTHING
        self.cost = self.listed = self.tokens = 0
        self.held_money = self.held_tokens = 0
        # How far alerts have been told, by limit; by default as far as `before`.
        self.told: dict[Limit, int] = {}

    def used(self, unit: Unit, by_list: bool) -> int:
        """Return what was used: tokens, or nano-dollars by cost or by list price."""
        if unit == "tokens":
            return self.before.tokens + self.tokens
        return self.before.listed + self.listed if by_list else self.before.cost + self.cost

    def held(self, unit: Unit) -> int:
        """Return what is reserved."""
        return self.held_tokens if unit == "tokens" else self.held_money

    def due(self, limit: Limit, shares: Iterable[float], by_list: bool) -> tuple[float, ...]:
        """Return the shares of the limit that were passed since this was asked last."""
        used = self.used(limit.unit, by_list)
        told = self.told.get(limit)
        if told is None:
            told = _part(self.before, limit.unit, by_list)
        if used <= told:
            return ()
        self.told[limit] = used
        return crossed(shares, limit.amount, told, used)


def limits_of(budget: Budget) -> tuple[Limit, ...]:
    """Return a budget's lines."""
    found = []
    kinds: tuple[Kind, Kind] = ("day", "month")
    for kind, money in zip(kinds, (budget.money_per_day, budget.money_per_month), strict=True):
        if money is not None:
            found.append(Limit(kind, "usd", round(money * NANO)))
    for kind, tokens in zip(kinds, (budget.tokens_per_day, budget.tokens_per_month), strict=True):
        if tokens is not None:
            found.append(Limit(kind, "tokens", tokens))
    return tuple(found)


def check(limits: Iterable[Limit], day: Window, month: Window, *, by_list: bool) -> tuple[Limit, bool] | None:
    """Return the limit that lets nobody in now and whether it is spent: if not, the rest of it is reserved by those
    that are running, who may give some of it back. None: all of them let in. What is spent comes first.

    Who is let in may use more than the rest, if it is the last one: a budget is passed by one request at most, as far
    as the estimates hold, and else by those that were already running.
    """
    reserved = None
    for limit in limits:
        window = day if limit.kind == "day" else month
        used = window.used(limit.unit, by_list)
        if used >= limit.amount:
            return limit, True
        if used + window.held(limit.unit) >= limit.amount:
            reserved = limit
    return (reserved, False) if reserved is not None else None


def crossed(shares: Iterable[float], amount: int, before: int, after: int) -> tuple[float, ...]:
    """Return which shares of `amount` lie above `before` and not above `after`, the smallest first."""
    found = [share for share in shares if before < share * amount <= after]
    return tuple(sorted(found))


def span(kind: Kind, now: float) -> tuple[int, int]:
    """Return the start and the end of the day or month that epoch seconds are in."""
    days = int(now // DAY)
    if kind == "day":
        return days * DAY, (days + 1) * DAY
    year, month = _month_of(days)
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return _first_of(year, month) * DAY, _first_of(*following) * DAY


def _part(used: Used, unit: Unit, by_list: bool) -> int:
    if unit == "tokens":
        return used.tokens
    return used.listed if by_list else used.cost


# The calendar in whole numbers, years beginning in March so that the odd day is the last:
# https://howardhinnant.github.io/date_algorithms.html
def _month_of(days: int) -> tuple[int, int]:
    """Return (year, month) of a day counted from 1970-01-01."""
    era, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    rest = day - (365 * year + year // 4 - year // 100)
    month = (5 * rest + 2) // 153 + 3
    year += era * 400
    return (year + 1, month - 12) if month > 12 else (year, month)


def _first_of(year: int, month: int) -> int:
    """Return the first day of a month, counted from 1970-01-01."""
    if month <= 2:
        year, month = year - 1, month + 12
    era, year = divmod(year, 400)
    return era * 146097 + 365 * year + year // 4 - year // 100 + (153 * (month - 3) + 2) // 5 - 719468
