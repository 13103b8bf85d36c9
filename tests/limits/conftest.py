"""The keepers of buckets that the same tests run over, and how time passes for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest

from ollama_proxy.limits import Limiter, MemoryLimiter
from ollama_proxy.limits.shared import RedisLimiter
from ollama_proxy.policy.limit import Charge, Kind, Verdict
from tests.conftest import Clock
from tests.fakes.redis import RedisServer

# So slow a leak that none of it is seen.
AGES = 1e9


def requests(capacity: int, *, name: str = "b", period: float = AGES) -> Charge:
    return Charge(name, "rpm", capacity, period, 1)


def tokens(capacity: int, amount: float, *, name: str = "b", period: float = AGES, kind: Kind = "tpm") -> Charge:
    return Charge(name, kind, capacity, period, amount)


def slots(capacity: int, *, name: str = "c") -> Charge:
    return Charge(name, "concurrent", capacity, 0.0, 1)


class Keeper(NamedTuple):
    """A limiter; `wait` lets seconds pass on its clock, `settled` waits for what was settled."""

    limiter: Limiter
    wait: Callable[[float], Awaitable[None]]
    settled: Callable[[], Awaitable[None]]

    async def admit(self, *charges: Charge) -> Verdict:
        return self.limiter.admit_now(charges) or await self.limiter.admit(charges)

    async def settle(self, verdict: Verdict, tokens: float | None, *, refund: bool = True) -> None:
        self.limiter.settle(verdict, tokens, refund=refund)
        await self.settled()

    async def level(self, charge: Charge) -> float:
        """Return a bucket's level: that of a request for nothing."""
        verdict = await self.admit(Charge(charge.bucket, charge.kind, charge.capacity, charge.period, 0))
        return verdict.levels[0]


@pytest.fixture(scope="session")
def running_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis(running_redis: RedisServer) -> RedisServer:
    """An empty server that tests share; who stops it starts it again."""
    running_redis.command("FLUSHALL")
    return running_redis


Open = Callable[..., RedisLimiter]


@pytest.fixture
async def open_redis(redis: RedisServer) -> AsyncIterator[Open]:
    """Return what opens a limiter on the server, closed when the test ends."""
    opened: list[RedisLimiter] = []

    def open(**options: object) -> RedisLimiter:
        defaults = {"clock": time.monotonic, "say": lambda line: None, "again": 0.02}
        opened.append(RedisLimiter(redis.url, **(defaults | options)))  # type: ignore[arg-type]
        return opened[-1]

    yield open
    for limiter in opened:
        await limiter.aclose()


@pytest.fixture(params=["memory", "redis"])
def keeper(request: pytest.FixtureRequest, clock: Clock) -> Keeper:
    if request.param == "redis":
        open: Open = request.getfixturevalue("open_redis")
        limiter = open()
        return Keeper(limiter, asyncio.sleep, limiter.settled)

    async def forward(seconds: float) -> None:
        clock.forward(seconds)

    async def nothing() -> None:
        pass

    return Keeper(MemoryLimiter(clock), forward, nothing)
