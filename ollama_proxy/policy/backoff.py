"""When to try again, and what is known of a thing that may be away: a database, a Redis, a folder for logs.

Pure: whoever uses it brings the clock, tries, and says to people what came of it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Backoff", "Presence"]

# 2 to a higher power is longer than any pause, and soon no float any more.
DOUBLINGS = 60


class Backoff(NamedTuple):
    """Pauses between tries (seconds): `first` after the first failure, doubled after each further one, never more than
    `longest`."""

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row, of which there has been one at least."""
        return float(min(self.first * 2 ** min(max(failures, 1) - 1, DOUBLINGS), self.longest))


class Presence:
    """Whether a thing is there. While it is away: `error` says why, `since` when that was noticed (None: it is there),
    `failures` how many tries have failed since, and `next_try` when the next one is due. All times come from the
    caller's clock."""

    __slots__ = ("backoff", "error", "failures", "next_try", "since")

    def __init__(self, backoff: Backoff) -> None:
        self.backoff = backoff
        self.error = ""
        self.since: float | None = None
        self.failures = 0
        self.next_try = 0.0

    @property
    def away(self) -> bool:
        return self.since is not None

    def lost(self, error: str, now: float) -> bool:
        """Note a failure; return whether the thing was there until now, which is worth a line to people."""
        first = self.since is None
        if first:
            self.since = now
        self.failures += 1
        self.error = error
        self.next_try = now + self.backoff.pause(self.failures)
        return first

    def pause(self, now: float) -> float:
        """Return the seconds until the next try; never more than the longest pause, whatever the clock does."""
        if not self.away:
            return 0.0
        return min(max(0.0, self.next_try - now), self.backoff.longest)

    def back(self) -> bool:
        """Note that the thing is there; return whether it was away, which is worth a line to people."""
        was_away = self.away
        self.error, self.since, self.failures, self.next_try = "", None, 0, 0.0
        return was_away
