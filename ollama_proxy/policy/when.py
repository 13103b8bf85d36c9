"""Times as people write them on the command line: `7d`, `1h30m`, `yesterday`, `2026-11-01`, `2026-11-01T10:00`.

Pure: the present comes in as epoch seconds, the time zone as a function from epoch seconds to the seconds that local
clocks are ahead of UTC (`lambda at: time.localtime(at).tm_gmtoff`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

__all__ = ["NotATime", "changes", "civil", "day_start", "parse_when"]

DAY = 86400.0
WHOLE_DAY = 86400
UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])\s*")
DATE = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2})"
    r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:\.\d+)?))?"
    r"\s*(?P<zone>Z|z|[+-]\d{2}:?\d{2})?)?)?"
)
CLOCK = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?")
# Epoch seconds from 2001 on; smaller numbers are more likely a forgotten unit.
EPOCH = re.compile(r"\d{10}(?:\.\d+)?")

EXPECTED = "a span back from now (30m, 12h, 7d, 2w), a date (2026-11-01), a time (2026-11-01T10:00), today or yesterday"


class NotATime(ValueError):
    """The text is no time. `message` is for the person; a command ends with status 2 for it."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        self.message = f"{text!r} is no time. Expected {EXPECTED}."
        super().__init__(self.message)


def utc(at: float) -> float:
    return 0.0


def parse_when(text: str, now: float, *, zone: Callable[[float], float] = utc, end: bool = False) -> float:
    """Return the epoch seconds that `text` means.

    A day or a month without a time means its first moment, or with `end` the moment after its last, so that
    `--until 2026-11-01` takes in that day. Raises NotATime.
    """
    said = text.strip()
    word = said.lower()
    match word:
        case "now":
            return now
        case "today" | "yesterday":
            return day_start(int((now + zone(now)) // DAY) - (word == "yesterday") + end, zone)
    if EPOCH.fullmatch(word):
        return float(word)
    if word and (ago := span(word.removesuffix("ago").rstrip())) is not None:
        return now - ago
    if found := CLOCK.fullmatch(word):
        today = (now + zone(now)) // DAY * DAY
        return local(today + clock(found.groupdict(), text), zone)
    if found := DATE.fullmatch(said):
        return dated(found.groupdict(), text, zone, end=end)
    raise NotATime(text)


def changes(since: float, until: float, zone: Callable[[float], float]) -> tuple[tuple[int, int], ...]:
    """Return from which second on local clocks are how many seconds ahead of UTC, for all changes in a time."""
    first, last = math.floor(since), math.ceil(until)
    found = [(first, int(zone(first)))]
    # Clocks are not changed twice in a day.
    for at in range(first + WHOLE_DAY, last + WHOLE_DAY, WHOLE_DAY):
        before, after = at - WHOLE_DAY, min(at, last)
        ahead = int(zone(after))
        if ahead == found[-1][1]:
            continue
        while after - before > 1:
            middle = (before + after) // 2
            if int(zone(middle)) == found[-1][1]:
                before = middle
            else:
                after = middle
        found.append((after, int(zone(after))))
    return tuple(found)


def day_start(day: int, zone: Callable[[float], float]) -> float:
    """Return when a local day (since 1970-01-01) begins, or the next one where a place skipped it.

    Not every day begins at midnight: clocks may be put forward then.
    """
    wall = day * WHOLE_DAY
    pieces = changes(wall - 2 * WHOLE_DAY, wall + 2 * WHOLE_DAY, zone)
    for place, (begin, ahead) in enumerate(pieces):
        at = max(begin, wall - ahead)
        if place + 1 == len(pieces) or at < pieces[place + 1][0]:
            return float(at)
    raise AssertionError(day)  # the last piece has no end


def span(word: str) -> float | None:
    """Return the seconds of `1h30m`; None if it is no span."""
    total, position = 0.0, 0
    while position < len(word):
        found = SPAN.match(word, position)
        if found is None:
            return None
        total += float(found[1]) * UNITS[found[2]]
        position = found.end()
    return total if position else None


def dated(parts: dict[str, str | None], text: str, zone: Callable[[float], float], *, end: bool) -> float:
    year, month = int(parts["year"] or 0), int(parts["month"] or 0)
    if not 1970 <= year <= 9998 or not 1 <= month <= 12:
        raise NotATime(text)
    following = civil(year + month // 12, month % 12 + 1, 1)
    if parts["day"] is None:
        return day_start(following if end else civil(year, month, 1), zone)
    day = civil(year, month, 1) + int(parts["day"]) - 1
    if int(parts["day"]) < 1 or day >= following:
        raise NotATime(text)
    if parts["hour"] is None:
        return day_start(day + end, zone)
    wall = day * DAY + clock(parts, text)
    if (said := parts["zone"]) is None:
        return local(wall, zone)
    if said in "Zz":
        return wall
    ahead = int(said[1:3]) * 3600 + int(said[-2:]) * 60
    return wall - ahead if said[0] == "+" else wall + ahead


def clock(parts: dict[str, str | None], text: str) -> float:
    """Return the seconds since midnight."""
    hour, minute, second = int(parts["hour"] or 0), int(parts["minute"] or 0), float(parts["second"] or 0)
    if hour > 23 or minute > 59 or second >= 60:
        raise NotATime(text)
    return hour * 3600 + minute * 60 + second


def local(wall: float, zone: Callable[[float], float]) -> float:
    """Return the epoch seconds at which local clocks show `wall` (seconds since 1970 by those clocks)."""
    # The first guess may lie on the other side of a change to or from summer time; the second does not.
    return wall - zone(wall - zone(wall))


def civil(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of the Gregorian calendar.

    https://howardhinnant.github.io/date_algorithms.html#days_from_civil
    """
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
