"""Time zones whose days are odd, with moments at which their clocks were changed (epoch seconds)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["ZONES", "clocks"]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


ZONES: Mapping[str, tuple[int, ...]] = {
    # Half hours and quarters, without changes.
    "Asia/Kolkata": (at("2026-11-30T18:37"), at("2026-06-01T00:00")),
    "Asia/Kathmandu": (at("2026-11-30T18:15"), at("1985-12-31T18:30")),
    "Australia/Eucla": (at("2026-11-30T15:15"),),
    # Summer time between half hours, of half an hour, at quarters.
    "America/St_Johns": (at("2010-11-07T02:31"), at("2026-03-08T05:30"), at("2026-11-01T04:30")),
    "Australia/Lord_Howe": (at("2026-04-04T15:00"), at("2026-10-03T15:30")),
    "Pacific/Chatham": (at("2026-04-04T14:00"), at("2026-09-26T14:00")),
    "Australia/Adelaide": (at("2026-04-04T16:30"),),
    # Midnight does not exist, or exists twice.
    "Africa/Cairo": (at("2026-04-23T22:00"), at("2026-10-29T21:00")),
    "America/Santiago": (at("2026-09-06T04:00"), at("2026-04-05T03:00")),
    "America/Havana": (at("2026-03-08T05:00"), at("2026-11-01T05:00")),
    "Asia/Beirut": (at("2026-03-28T22:00"), at("2026-10-24T21:00")),
    # Zones that changed for good: by half an hour, by a day, by seconds.
    "Asia/Pyongyang": (at("2015-08-14T15:00"), at("2018-05-04T15:00")),
    "America/Caracas": (at("2007-12-09T07:00"), at("2016-05-01T07:00")),
    "Pacific/Apia": (at("2011-12-30T10:00"),),
    "Pacific/Kwajalein": (at("1993-08-21T12:00"),),
    "Africa/Monrovia": (at("1972-01-07T00:44:30"),),
    # And the ordinary.
    "Europe/Berlin": (at("2026-03-29T01:00"), at("2026-10-25T01:00")),
    "America/New_York": (at("2026-03-08T07:00"), at("2026-11-01T06:00")),
    "Pacific/Kiritimati": (at("1994-12-31T10:00"), at("2026-11-30T10:00")),
    "UTC": (at("2026-11-30T00:00"),),
}


def clocks(name: str) -> tuple[Callable[[float], float], Callable[[float], int]]:
    """Return how far the clocks of a zone are ahead of UTC, and which day since 1970 their calendars show."""
    zone = ZoneInfo(name)

    def ahead(moment: float) -> float:
        offset = datetime.fromtimestamp(moment, zone).utcoffset()
        return (offset or timedelta()).total_seconds()

    def day(moment: float) -> int:
        return datetime.fromtimestamp(moment, zone).toordinal() - datetime(1970, 1, 1).toordinal()  # noqa: DTZ001

    return ahead, day
