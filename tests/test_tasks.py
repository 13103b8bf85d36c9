"""Background work has an owner: it is named, watched, and ended at shutdown."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ollama_proxy.tasks import Tasks


async def test_closing_cancels_what_runs_and_waits_for_its_last_words() -> None:
    tasks, words = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            words.append("done")

    task = tasks.start(work(), name="work")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert (task.get_name(), task.cancelled(), words) == ("work", True, ["done"])


async def test_a_failure_is_logged_with_its_name_and_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def bad() -> None:
        raise RuntimeError("no luck")

    async def good() -> None:
        done.set()

    with caplog.at_level(logging.ERROR):
        tasks.start(bad(), name="bad work")
        tasks.start(good(), name="good")
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.sleep(0)
    assert "bad work" in caplog.text
    assert "no luck" in caplog.text
    await tasks.aclose()


async def test_what_has_ended_is_not_kept() -> None:
    tasks = Tasks()

    async def work() -> int:
        return 5

    assert await tasks.start(work(), name="work") == 5
    await asyncio.sleep(0)
    await tasks.aclose()
    await tasks.aclose()


async def test_a_failure_while_closing_is_swallowed_by_the_closing() -> None:
    tasks = Tasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("at the end")

    tasks.start(work(), name="work")
    await asyncio.sleep(0)
    await tasks.aclose()
