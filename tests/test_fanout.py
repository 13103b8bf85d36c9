"""Several calls as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from ollama_proxy.errors import UpstreamBusy
from ollama_proxy.events import Finish, Text, Usage
from ollama_proxy.fanout import FANOUT, Batch, fan_out


async def test_choices_are_numbered_and_usage_is_not() -> None:
    async def one(index: int) -> AsyncGenerator[Batch]:
        yield [Text(0, str(index))]
        yield [Finish(0, "stop"), Usage(1, 1)]

    events = [event async for batch in fan_out(one, 3) for event in batch]
    assert sorted((e.index, e.text) for e in events if isinstance(e, Text)) == [(0, "0"), (1, "1"), (2, "2")]
    assert events.count(Usage(1, 1)) == 3


async def test_only_so_many_run_at_once() -> None:
    running, most = 0, 0

    async def one(index: int) -> AsyncGenerator[Batch]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        yield [Finish(0, "stop")]
        running -= 1

    assert len([batch async for batch in fan_out(one, 100)]) == 100
    assert most <= FANOUT


async def test_the_first_failure_ends_the_others() -> None:
    ended: list[int] = []

    async def one(index: int) -> AsyncGenerator[Batch]:
        try:
            if index == 1:
                raise UpstreamBusy("busy")
            yield [Text(0, "x")]
            await asyncio.Event().wait()
        finally:
            ended.append(index)

    with pytest.raises(UpstreamBusy):
        async for _ in fan_out(one, 3):
            pass
    assert sorted(ended) == [0, 1, 2]


async def test_whoever_stops_listening_ends_all_calls() -> None:
    ended: list[int] = []

    async def one(index: int) -> AsyncGenerator[Batch]:
        try:
            while True:
                yield [Text(0, "x")]
                await asyncio.sleep(0)
        finally:
            ended.append(index)

    source = fan_out(one, 4)
    await anext(source)
    await source.aclose()
    assert sorted(ended) == [0, 1, 2, 3]
