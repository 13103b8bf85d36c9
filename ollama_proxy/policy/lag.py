"""Statistics of how late a timer fires, which is how long an event loop was blocked, and when to warn of it. Pure:
times come in as numbers of seconds.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

__all__ = ["BLOCKED", "Lag", "LagMeter", "Warner"]

# A loop that was blocked for longer than this is worth a warning: people notice it (seconds).
BLOCKED = 0.25
# Warnings come at most this often (seconds).
QUIET = 60.0
# The timer's delays are kept for this long (seconds), and never more than so many of them.
WINDOW, MOST = 60.0, 1024
# The share of the delays that `Lag.high` is not below.
HIGH = 0.99


class Lag(NamedTuple):
    """Delays in seconds: `high` is the 99th percentile of the last minute, `most` its maximum, `worst` the maximum
    since the start, at the time `worst_at` (None: there was no measurement yet)."""

    high: float = 0.0
    most: float = 0.0
    worst: float = 0.0
    worst_at: float | None = None


class LagMeter:
    """Collects delays. The times given to it never go back."""

    def __init__(self, *, window: float = WINDOW, most: int = MOST) -> None:
        self._window = window
        self._delays: deque[tuple[float, float]] = deque(maxlen=most)
        self._worst = 0.0
        self._worst_at: float | None = None

    def add(self, now: float, delay: float) -> None:
        """Note that the timer which was due `delay` seconds ago has fired. A timer that is early has no delay."""
        delay = max(0.0, delay)
        self._delays.append((now, delay))
        self._expire(now)
        if self._worst_at is None or delay > self._worst:
            self._worst, self._worst_at = delay, now

    def read(self, now: float) -> Lag:
        """Return the statistics as of now."""
        self._expire(now)
        if not self._delays:
            return Lag(worst=self._worst, worst_at=self._worst_at)
        delays = sorted(delay for _, delay in self._delays)
        high = delays[min(len(delays) - 1, int(len(delays) * HIGH))]
        return Lag(high, delays[-1], self._worst, self._worst_at)

    def _expire(self, now: float) -> None:
        while self._delays and self._delays[0][0] < now - self._window:
            self._delays.popleft()


class Warner:
    """Decides which delays are worth a warning: those above `above`, at most one in `quiet` seconds."""

    def __init__(self, *, above: float = BLOCKED, quiet: float = QUIET) -> None:
        self._above = above
        self._quiet = quiet
        self._last: float | None = None
        self._hidden = 0

    def see(self, now: float, delay: float) -> int | None:
        """Return None where no warning is due, else the number of delays since the last warning that had none."""
        if delay <= self._above:
            return None
        if self._last is not None and now - self._last < self._quiet:
            self._hidden += 1
            return None
        self._last, hidden, self._hidden = now, self._hidden, 0
        return hidden
