"""A watch on the event loop: a timer that measures how late it fires, for `/v1/health`, `oproxy status` and the
daemon's log. It wakes up four times a second and never interrupts what blocks the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from ..policy.lag import LagMeter, Warner
from .keys import BODY, BOOKS

__all__ = ["INTERVAL", "LoopWatch", "describe_requests"]

log = logging.getLogger(__name__)

# Seconds between two measurements: a block shorter than this may be seen as shorter than it was.
INTERVAL = 0.25
# Less processor time than this share of a block, and it was not our work.
IDLE = 0.25
# Requests that are named in a warning.
NAMED = 3


class LoopWatch:
    """Measures the loop's lag. `running` holds the requests that are being answered, by their ids; the middleware fills
    it, and `ended` with those that took longer than an interval. `clock` only goes forward; `wall` gives epoch seconds,
    `cpu` the processor seconds that the process has used.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.running: dict[str, web.Request] = {}
        # A request that blocked the loop has mostly ended when the timer fires at last.
        self.ended: deque[web.Request] = deque(maxlen=8)
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._cpu = cpu
        self._used = cpu()
        self._meter = LagMeter()
        self._warner = Warner()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock() + INTERVAL
            await self._sleep(INTERVAL)
            self.measure(due)

    def measure(self, due: float) -> None:
        """Note that a timer which was due at `due` has fired now, and warn of a loop that was blocked."""
        now = self._clock()
        delay = now - due
        self._meter.add(now, delay)
        before, self._used = self._used, self._cpu()
        hidden = self._warner.see(now, delay)
        if hidden is not None:
            log.warning(
                "The event loop was blocked for %d ms%s; all requests waited. Requests at that time: %s.%s",
                round(delay * 1000),
                # A machine that sleeps, or is busy with something else, looks like a block from inside.
                ", because the machine was busy elsewhere" if self._used - before < delay * IDLE else "",
                describe_requests([*self.running.values(), *self.ended]) or "none",
                f" {hidden} more blocks since the last warning." if hidden else "",
            )
        self.ended.clear()

    def state(self) -> dict[str, Any]:
        """Return how the loop is, as `/v1/health` shows it: its tasks, the lag in milliseconds, and the epoch second of
        the worst."""
        now = self._clock()
        lag = self._meter.read(now)
        worst_at = None if lag.worst_at is None else int(self._wall() - (now - lag.worst_at))
        return {
            "tasks": len(asyncio.all_tasks()),
            "lag_ms": round(lag.high * 1000, 1),
            "max_ms": round(lag.most * 1000, 1),
            "worst_ms": round(lag.worst * 1000, 1),
            "worst_at": worst_at,
        }


def describe_requests(requests: Iterable[web.Request]) -> str:
    """Name requests, those with the largest bodies first: a large body is the likely cause of a block."""
    sized = [(len(request.get(BODY, b"")) or request.content_length or 0, request) for request in requests]
    sized.sort(key=lambda pair: -pair[0])
    named = [f"{each.method} {each.path[:100]!a} ({each[BOOKS].id}, {size:,} bytes)" for size, each in sized[:NAMED]]
    if len(sized) > NAMED:
        named.append(f"and {len(sized) - NAMED} more")
    return ", ".join(named)
