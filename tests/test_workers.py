"""Threads for large inputs: what is small stays on the loop, what is large leaves it free and queues among its like."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator

import pytest

from ollama_proxy.workers import Workers
from tests.loop import Heartbeat, Threads

WORD = contextvars.ContextVar("word", default="")


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(threads=2, large=100)
    yield made
    made.close()


async def test_the_size_decides_where_the_work_runs(workers: Workers) -> None:
    threads = Threads()
    for size in (0, 99, 100, 10**9):
        assert await workers.run(size, threads.watch(pow, str(size)), 2, 3) == 8
    assert (threads.on_loop, threads.elsewhere) == (["0", "99"], ["100", "1000000000"])


async def test_the_loop_goes_on_while_a_thread_works(workers: Workers) -> None:
    release = threading.Event()
    async with Heartbeat() as beat:
        work = asyncio.ensure_future(workers.run(100, release.wait, 60))
        await beat.turns(3)
        assert not work.done()
        release.set()
        assert await work


async def test_an_error_is_raised_to_the_caller_and_the_context_is_the_callers(workers: Workers) -> None:
    WORD.set("mine")
    assert await workers.run(100, WORD.get) == "mine"
    with pytest.raises(ZeroDivisionError):
        await workers.run(100, divmod, 1, 0)


async def test_no_more_run_at_once_than_there_are_threads_and_a_cancelled_one_leaves_the_queue(
    workers: Workers,
) -> None:
    release, started, ran = threading.Event(), threading.Semaphore(0), []

    def work(name: str) -> None:
        ran.append(name)
        started.release()
        release.wait(60)

    first = [asyncio.ensure_future(workers.run(100, work, name)) for name in "ab"]
    for _ in first:
        await asyncio.to_thread(started.acquire)
    waiting = [asyncio.ensure_future(workers.run(100, work, name)) for name in "cd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    assert sorted(ran) == ["a", "b"]
    release.set()
    await asyncio.gather(*first, waiting[1])
    assert (sorted(ran), waiting[0].cancelled()) == (["a", "b", "d"], True)


async def test_closing_twice_or_unused_is_harmless(workers: Workers) -> None:
    workers.close()
    await workers.run(100, int)
    workers.close()
    workers.close()
