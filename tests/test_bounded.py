"""What grows with the names that clients choose (models, tags, users, addresses, keys) is bounded."""

from __future__ import annotations

from collections.abc import Sized

import pytest

from ollama_proxy import engine
from ollama_proxy.account import Caller
from ollama_proxy.events import Usage
from ollama_proxy.keyring import Keyring
from ollama_proxy.limits import MemoryLimiter
from ollama_proxy.policy import books
from ollama_proxy.policy.limit import Charge
from ollama_proxy.policy.rates import Planner, Rules
from ollama_proxy.pricing import Prices
from ollama_proxy.server import middleware
from ollama_proxy.server.keys import ENGINE
from tests.conftest import Clock, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import config

MANY = 100_000


def sizes(thing: object) -> dict[str, int]:
    """Return the sizes of what an object holds."""
    return {name: len(value) for name, value in vars(thing).items() if isinstance(value, Sized)}


def test_failures_by_address_are_bounded(clock: Clock) -> None:
    limiter = MemoryLimiter(clock, most=5_000)
    for number in range(MANY):
        limiter.admit_now([Charge(f"failures:10.{number}", "rpm", 10, 60.0, 1.0)])
    assert len(limiter) <= 5_000
    clock.forward(3600)
    for number in range(2 * 5_000):
        limiter.admit_now([Charge(f"again:{number % 10}", "rpm", 10**9, 60.0, 1.0)])
    for number in range(5_000):
        limiter.admit_now([Charge(f"more:{number}", "rpm", 10, 60.0, 1.0)])
    assert len(limiter) <= 5_010, "what has leaked out is forgotten"


def test_plans_by_caller_and_model_are_bounded() -> None:
    planner = Planner(Rules(), dict)
    for number in range(MANY):
        planner.plan(Caller(name=f"user-{number}", address=f"10.{number}"), f"model-{number}", "smollm2")
    assert max(sizes(planner).values()) <= 4096


def test_callers_by_key_and_address_are_bounded() -> None:
    keyring = Keyring(wall=lambda: 0.0, given={"mine": "sk-mine"})
    for number in range(MANY // 10):
        assert keyring.caller("sk-mine", f"10.{number}") is not None
        assert keyring.caller(f"sk-{number}", "10.0") is None
    assert max(sizes(keyring).values()) <= 4097


def test_prices_by_model_are_bounded() -> None:
    prices = Prices(wall=lambda: 0.0)
    for number in range(5_000):
        prices.cost("ollama", "http://127.0.0.1", f"model-{number}", Usage(prompt=1, completion=1), 1.0)
    assert max(sizes(prices).values()) <= 4096


@pytest.mark.parametrize("cache", [books.program, middleware.known_host])
def test_caches_by_header_are_bounded(cache: object) -> None:
    assert cache.cache_info().maxsize <= 512  # type: ignore[attr-defined]


async def test_routes_by_name_are_bounded_in_number_and_length(start_proxy: Start) -> None:
    async with FakeOllama() as ollama:
        proxy = await start_proxy(config(ollama.url, '[models.aliases]\n"*" = "smollm2"\n'))
        await fill(proxy.app[ENGINE])
    made = proxy.app[ENGINE]
    for held in (made._routes, made._given):
        assert 0 < len(held) <= engine.KEPT
        assert not any(len(key[0] if isinstance(key, tuple) else key) > 200 for key in held)


async def fill(made: engine.Engine) -> None:
    """Ask for thousands of names, and for a very long one."""
    for number in range(3_000):
        target = await made.route(f"name-{number}", "chat", books.Books(0.0))
        made._options(target, await made.describe(target))
    long = "x" * 100_000
    target = await made.route(long, "chat", books.Books(0.0))
    made._options(target, await made.describe(target))
    assert target.info.id.startswith("smollm2")
