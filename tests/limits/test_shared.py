"""Buckets in a real Redis or Valkey: shared, atomic, gone and back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from ollama_proxy.errors import Overloaded
from ollama_proxy.limits import LimitsError, MemoryLimiter, open_limiter
from ollama_proxy.limits.shared import RedisLimiter
from tests.conftest import Clock
from tests.fakes.redis import RedisServer
from tests.limits.conftest import Open, requests, slots, tokens


async def until(true: Callable[[], bool]) -> None:
    """Wait until something holds; fail where it does not come to that."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_64_at_once_of_two_daemons_never_pass_a_limit(open_redis: Open) -> None:
    one, other = open_redis(), open_redis()
    charges = [requests(100, name="r"), tokens(1000, 40, name="t")]
    verdicts = await asyncio.gather(*[(one, other)[n % 2].admit(charges) for n in range(64)])
    assert sum(verdict.refused is None for verdict in verdicts) == 25


async def test_a_slot_taken_by_one_daemon_is_taken_for_the_other(open_redis: Open) -> None:
    one, other = open_redis(), open_redis()
    held = await one.admit([slots(1)])
    assert (await other.admit([slots(1)])).refused is not None
    one.settle(held, None)
    await one.settled()
    assert (await other.admit([slots(1)])).refused is None


async def test_the_slots_of_a_killed_daemon_become_free_by_themselves(open_redis: Open) -> None:
    killed, other = open_redis(lease=0.15), open_redis()
    assert (await killed.admit([slots(1)])).refused is None
    # Its tasks end without a word to the server, as a killed daemon's do.
    await killed.aclose()
    end = time.monotonic() + 10
    while (await other.admit([slots(1)])).refused is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_the_slot_of_a_long_request_is_held_as_long_as_it_runs(open_redis: Open, redis: RedisServer) -> None:
    limiter = open_redis(lease=0.9)
    verdict = await limiter.admit([slots(1)])
    first = redis.command("ZRANGE", "{oproxy}:c", "0", "-1", "WITHSCORES")
    await until(lambda: redis.command("ZRANGE", "{oproxy}:c", "0", "-1", "WITHSCORES") != first)
    assert redis.command("ZCARD", "{oproxy}:c") == b":1\r\n"
    limiter.settle(verdict, None)
    await limiter.settled()
    assert redis.command("ZCARD", "{oproxy}:c") == b":0\r\n"


async def test_a_client_that_leaves_while_it_is_let_in_leaves_no_slot_taken(
    open_redis: Open, redis: RedisServer
) -> None:
    limiter = open_redis()
    limiter.settle(await limiter.admit([slots(1)]), None)
    await limiter.settled()
    for steps in range(6):
        task = asyncio.ensure_future(limiter.admit([slots(1)]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(results[0], BaseException):
            limiter.settle(results[0], None)
        await limiter.settled()
        assert redis.command("ZCARD", "{oproxy}:c") == b":0\r\n"


async def test_keys_live_no_longer_than_something_is_in_them(open_redis: Open, redis: RedisServer) -> None:
    limiter = open_redis()
    await limiter.admit([tokens(60, 30, period=60.0), slots(1)])
    lives = int(redis.command("PTTL", "{oproxy}:b")[1:])
    assert 0 < lives <= 31_000
    assert 0 < int(redis.command("PTTL", "{oproxy}:c")[1:]) <= 30_000


async def test_a_refused_request_leaves_no_key(open_redis: Open, redis: RedisServer) -> None:
    await open_redis().admit([tokens(60, 61, period=60.0)])
    assert redis.command("DBSIZE") == b":0\r\n"


async def test_nothing_is_given_back_of_a_charge_whose_bucket_was_empty_since(
    open_redis: Open, redis: RedisServer
) -> None:
    limiter = open_redis()
    first = await limiter.admit([tokens(100, 100)])
    # As when it runs out: it had been empty for a while.
    redis.command("DEL", "{oproxy}:b")
    assert (await limiter.admit([tokens(100, 100)])).refused is None
    limiter.settle(first, 0)
    await limiter.settled()
    assert (await limiter.admit([tokens(100, 1)])).refused is not None


async def test_a_server_that_forgot_the_scripts_is_told_them_again(open_redis: Open, redis: RedisServer) -> None:
    limiter = open_redis()
    await limiter.admit([requests(5)])
    redis.command("SCRIPT", "FLUSH")
    assert (await limiter.admit([requests(5)])).levels[0] == pytest.approx(2, abs=0.01)


async def test_while_redis_is_gone_limits_are_counted_in_memory_and_it_is_said(
    open_redis: Open, redis: RedisServer
) -> None:
    said: list[str] = []
    limiter = open_redis(say=said.append)
    before = await limiter.admit([requests(2), tokens(10, 5, name="t"), slots(9)])
    redis.stop()
    try:
        verdicts = [await limiter.admit([requests(2)]) for _ in range(3)]
        assert [verdict.refused is None for verdict in verdicts] == [True, True, False]
        assert limiter.gone
        # Known to be gone, it keeps nobody waiting.
        assert limiter.admit_now([requests(2)]) is not None
        limiter.settle(before, 3)
        limiter.settle(verdicts[0], None)
        await limiter.settled()
        assert len(said) == 1
        assert said[0].startswith(f"limits: {redis.url} does not answer (")
        assert said[0].endswith("); limits are counted in memory until it does")
    finally:
        redis.start()
    await until(lambda: not limiter.gone)
    assert said[1:] == [f"limits: {redis.url} answers again"]
    # The new server knows nothing of what was before it.
    assert (await limiter.admit([requests(2)])).levels[0] == pytest.approx(1, abs=0.01)
    assert redis.command("EXISTS", "{oproxy}:b") == b":1\r\n"
    limiter.settle(verdicts[1], None)


async def test_where_nobody_may_pass_uncounted_requests_are_refused_while_redis_is_gone(
    open_redis: Open, redis: RedisServer
) -> None:
    said: list[str] = []
    limiter = open_redis(say=said.append, on_error="refuse")
    redis.stop()
    try:
        with pytest.raises(Overloaded) as caught:
            await limiter.admit([requests(2)])
        with pytest.raises(Overloaded):
            limiter.admit_now([requests(2)])
        # Who is not limited needs no counting.
        assert limiter.admit_now([]) is not None
    finally:
        redis.start()
    assert caught.value.status == 503
    assert caught.value.body()["error"] == {
        "message": "The rate limits cannot be checked at the moment. Please try again.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "server_is_overloaded",
    }
    assert caught.value.headers["retry-after"] == "1"
    assert said[0].endswith("requests are refused until it does")
    await until(lambda: not limiter.gone)
    assert (await limiter.admit([requests(2)])).refused is None
    assert len(said) == 2


async def test_a_silent_server_counts_as_gone_and_keeps_nobody_waiting_twice(
    open_redis: Open, redis: RedisServer
) -> None:
    said: list[str] = []
    limiter = open_redis(say=said.append, patience=0.1)
    await limiter.admit([requests(2)])
    redis.pause()
    try:
        verdicts = await asyncio.gather(*[limiter.admit([requests(2, name="other")]) for _ in range(50)])
        assert sum(verdict.refused is None for verdict in verdicts) == 2
        assert limiter.admit_now([requests(2)]) is not None
        assert len(said) == 1
    finally:
        redis.resume()
    await until(lambda: not limiter.gone)
    assert len(said) == 2


async def test_a_server_that_refuses_to_write_counts_as_gone(open_redis: Open, redis: RedisServer) -> None:
    said: list[str] = []
    limiter = open_redis(say=said.append)
    redis.command("SET", "{oproxy}:b", "not a bucket")
    assert (await limiter.admit([requests(2)])).refused is None
    assert len(said) == 1
    await until(lambda: not limiter.gone)


async def test_the_password_in_the_url_is_never_said(clock: Clock) -> None:
    said: list[str] = []
    limiter = RedisLimiter("redis://ann:secret@127.0.0.1:1/0", clock=clock, say=said.append)
    assert (await limiter.admit([requests(2)])).refused is None
    await limiter.aclose()
    assert said[0].startswith("limits: redis://(hidden)@127.0.0.1:1/0 does not answer (")
    assert "secret" not in said[0]
    assert "ann" not in said[0]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "valkey://127.0.0.1:1", "unix:///no/s"])
async def test_each_form_of_url_is_understood(url: str, clock: Clock) -> None:
    said: list[str] = []
    limiter = open_limiter(url, clock=clock, on_error="allow", say=said.append)
    assert isinstance(limiter, RedisLimiter)
    assert (await limiter.admit([requests(1)])).refused is None
    await limiter.aclose()
    assert said[0].startswith(f"limits: {url} does not answer")


def test_without_a_url_limits_are_in_memory(clock: Clock) -> None:
    assert isinstance(open_limiter("", clock=clock, on_error="allow", say=print), MemoryLimiter)


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port"])
def test_a_url_that_is_none_is_refused(url: str, clock: Clock) -> None:
    with pytest.raises(LimitsError) as caught:
        open_limiter(url, clock=clock, on_error="allow", say=print)
    assert caught.value.message.startswith("[limits] url is not a URL of Redis or Valkey: ")


def test_without_the_client_installed_it_is_said_how_to_get_it_and_it_is_loaded_only_when_needed() -> None:
    script = (
        "import sys\n"
        "from ollama_proxy.limits import LimitsError, open_limiter\n"
        "open_limiter('', clock=float, on_error='allow', say=print)\n"
        "assert 'redis' not in sys.modules and 'tomllib' not in sys.modules\n"
        "sys.modules['redis'] = None\n"
        "try:\n    open_limiter('redis://localhost', clock=float, on_error='allow', say=print)\n"
        "except LimitsError as exc:\n    print(exc.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "[limits] url needs the Redis client, which is not installed: pip install 'ollama-proxy[redis]'\n"
    )
