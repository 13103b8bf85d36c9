"""The watch on the event loop: what it measures, what it says in the log, and what health and status show of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from ollama_proxy.cli.findings_daemon import loop_finding
from ollama_proxy.cli.status import blocked_text
from ollama_proxy.server.keys import LOOP_WATCH
from ollama_proxy.server.loop_watch import LoopWatch
from tests.conftest import Clock

from .conftest import Setup


def watch(clock: Clock, cpu: Callable[[], float] | None = None) -> LoopWatch:
    """Return a watch; by default all the time that passes is ours."""
    used = iter(range(1000))
    return LoopWatch(clock, lambda: 1_700_000_000.0 + clock.now, cpu=cpu or (lambda: float(next(used))))


async def test_it_measures_how_late_its_timer_fires(clock: Clock) -> None:
    delays = iter([0.0, 0.002, 0.5])
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        try:
            clock.forward(seconds + next(delays))
        except StopIteration:
            done.set()
            await asyncio.Event().wait()

    made = LoopWatch(clock, lambda: 1_700_000_000.0 + clock.now, sleep=sleep)
    task = asyncio.ensure_future(made.run())
    await done.wait()
    task.cancel()
    state = made.state()
    assert (state["max_ms"], state["worst_ms"], state["worst_at"]) == (500.0, 500.0, 1_700_000_000 + int(clock.now))
    clock.forward(61)
    state = made.state()
    assert (state["lag_ms"], state["max_ms"], state["worst_ms"]) == (0.0, 0.0, 500.0)
    assert state["worst_at"] == 1_700_000_000 + int(clock.now - 61)


def test_a_block_is_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    made = watch(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            made.measure(clock.now - 0.3)
        clock.forward(61)
        made.measure(clock.now - 0.4)
        made.measure(clock.now - 0.1)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "The event loop was blocked for 300 ms; all requests waited. Requests at that time: none."
    assert second.endswith("blocked for 400 ms; all requests waited. Requests at that time: none."
                           " 2 more blocks since the last warning.")  # fmt: skip


def test_a_machine_that_is_busy_elsewhere_is_not_blamed_on_a_request(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    made = watch(clock, lambda: 7.0)
    with caplog.at_level(logging.WARNING):
        made.measure(clock.now - 0.3)
    assert "blocked for 300 ms, because the machine was busy elsewhere; all" in caplog.records[0].getMessage()


async def test_health_shows_the_lag_and_a_block_names_its_request(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    made = setup.proxy.app[LOOP_WATCH]
    async with setup.http.get("/v1/health") as response:
        loop = (await response.json())["loop"]
    assert set(loop) == {"tasks", "lag_ms", "max_ms", "worst_ms", "worst_at"}
    with caplog.at_level(logging.WARNING):
        setup.ollama.play("/api/chat", [{"message": {"content": "Hi"}, "done": False}], hold_after=1)
        asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi" * 500}], "stream": True}
        async with setup.http.post("/v1/chat/completions", json=asked) as response:
            await response.content.readany()
            made.measure(time.monotonic() - 1.0)
            response.close()
    (record,) = caplog.records
    assert "POST '/v1/chat/completions' (req_" in record.getMessage()
    assert "1,0" in record.getMessage(), "the size of the body"


async def test_no_ended_request_is_held(setup: Setup) -> None:
    for _ in range(20):
        assert (await setup.chat())[0] == 200
    made = setup.proxy.app[LOOP_WATCH]
    assert not made.running
    assert len(made.ended) <= 8


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        (None, False),
        ({"lag_ms": 1.0, "max_ms": 250.0, "worst_ms": 9000.0, "worst_at": 1}, False),
        ({"lag_ms": 1.0, "max_ms": 300.4, "worst_ms": 9000.0, "worst_at": 1}, True),
    ],
)
def test_status_and_doctor_tell_of_a_loop_that_is_blocked(loop: dict[str, Any] | None, said: bool) -> None:
    assert bool(blocked_text(loop)) is said
    findings = loop_finding(loop, "/var/log/oproxy.log")
    assert [(each.state, "300 ms" in each.what) for each in findings] == ([("warning", True)] if said else [])
