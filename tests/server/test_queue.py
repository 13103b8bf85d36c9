"""The queue in front of a backend as clients meet it: who waits, for how long, and who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest

from ollama_proxy.server.keys import ENGINE
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config


class Line(NamedTuple):
    """A proxy that lets one request through at a time, and a session to it."""

    proxy: Proxy
    ollama: FakeOllama
    http: aiohttp.ClientSession
    tasks: list[asyncio.Task[Any]]

    async def chat(self, text: str = "Hello", key: str = "", **body: Any) -> tuple[int, Any, Any]:
        asked = {"model": "smollm2", "messages": [{"role": "user", "content": text}], **body}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self.http.post("/v1/chat/completions", json=asked, headers=headers) as response:
            got = await response.text() if asked.get("stream") else await response.json()
            return response.status, got, response.headers

    def begin(self, text: str = "Hello", key: str = "", **body: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(self.chat(text, key, **body))
        self.tasks.append(task)
        return task

    async def hold(self) -> asyncio.Task[Any]:
        """Let one in that does not end by itself."""
        self.ollama.play("/api/chat", "chat-stream", hold_after=3)
        task = self.begin("held", stream=True)
        await until(lambda: self.order() == ["held"])
        return task

    async def wait(self, text: str, key: str = "", **body: Any) -> asyncio.Task[Any]:
        """Ask, and return when the request has its place in the queue."""
        before = self.waiting()
        task = self.begin(text, key, **body)
        await until(lambda: self.waiting() == before + 1)
        return task

    def waiting(self) -> int:
        return sum(waiting for _, waiting in self.proxy.app[ENGINE].turns.state().values())

    def order(self) -> list[str]:
        """Return what was asked of the backend, in its order."""
        return [call["messages"][-1]["content"] for call in self.ollama.asked("/api/chat")]


async def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


class Open(NamedTuple):
    start: Start
    ollama: FakeOllama
    made: list[Line]

    async def __call__(self, more: str = "", *, backend: int = 1) -> Line:
        text = config(self.ollama.url, f"[queue]\nmax_concurrent = {backend}\n{more}\n")
        proxy = await self.start(text)
        # As many connections as there are requests: nobody may wait in the client.
        http = aiohttp.ClientSession(proxy.url, connector=aiohttp.TCPConnector(limit=0))
        line = Line(proxy, self.ollama, http, [])
        self.made.append(line)
        return line


@pytest.fixture
async def queue(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Open]:
    opened = Open(start_proxy, ollama, [])
    yield opened
    for line in opened.made:
        for task in line.tasks:
            task.cancel()
        await asyncio.gather(*line.tasks, return_exceptions=True)
        await line.http.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_waits_and_is_told_how_long(queue: Open, stream: bool) -> None:
    line = await queue()
    first = await line.hold()
    second = await line.wait("second", stream=stream)
    # What is told is whole milliseconds.
    await asyncio.sleep(0.05)
    assert line.order() == ["held"]

    first.cancel()
    status, _, headers = await second

    assert status == 200
    assert int(headers["x-oproxy-queue-ms"]) >= 40
    assert line.order() == ["held", "second"]


async def test_who_need_not_wait_is_told_0(queue: Open) -> None:
    line = await queue()

    assert (await line.chat())[2]["x-oproxy-queue-ms"] == "0"


async def test_the_queue_is_fair_between_keys(queue: Open) -> None:
    line = await queue()
    first = await line.hold()
    many = [await line.wait(f"many {number}", "sk-the-one-with-many-requests") for number in range(4)]
    few = [await line.wait(f"few {number}", "sk-another-one-with-few") for number in range(2)]

    first.cancel()
    assert [(await task)[0] for task in (*many, *few)] == [200] * 6

    order = line.order()[1:]
    assert [text for text in order if text.startswith("many")] == [f"many {number}" for number in range(4)]
    # Turn by turn: whoever came with few does not wait for all of the other's.
    assert max(order.index("few 0"), order.index("few 1")) <= 3


async def test_who_finds_the_queue_full_is_sent_away_with_a_time(queue: Open) -> None:
    line = await queue("max_waiting = 1")
    first = await line.hold()
    second = await line.wait("second")

    status, body, headers = await line.chat("third")

    assert status == 503
    assert body["error"] == {
        "message": "Our servers are currently overloaded. Please try again later. "
        "The backend 'ollama' has 1 requests waiting already.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "server_is_overloaded",
    }
    assert int(headers["retry-after"]) >= 1
    assert int(headers["retry-after-ms"]) >= 1000
    assert headers["x-should-retry"] == "true"
    first.cancel()
    assert (await second)[0] == 200
    assert line.order() == ["held", "second"]


async def test_who_has_waited_too_long_is_sent_away(queue: Open) -> None:
    line = await queue("max_wait = 0.1")
    await line.hold()

    status, body, headers = await line.chat("second")

    assert (status, body["error"]["code"]) == (503, "server_is_overloaded")
    assert body["error"]["message"].endswith("The request waited for the backend 'ollama' for 0.1 seconds.")
    assert int(headers["retry-after"]) >= 1
    assert line.order() == ["held"]


async def test_a_waiting_client_that_leaves_loses_its_place(queue: Open) -> None:
    line = await queue("max_waiting = 2")
    first = await line.hold()
    leaver = await line.wait("leaver")
    stayer = await line.wait("stayer")

    leaver.cancel()
    await until(lambda: line.waiting() == 1)
    # Its place in the waiting room is another's.
    other = await line.wait("other")
    first.cancel()

    assert [(await task)[0] for task in (stayer, other)] == [200, 200]
    assert line.order() == ["held", "stayer", "other"]


async def test_a_model_may_have_a_queue_of_its_own(queue: Open) -> None:
    line = await queue("[queue.models.smollm2]\nmax_concurrent = 1", backend=0)
    first = await line.hold()
    second = await line.wait("second")

    assert (await line.chat("another", model="smollm2-tools"))[0] == 200
    assert not second.done()
    first.cancel()
    assert (await second)[0] == 200


async def test_refused_by_limits_nobody_takes_a_place(queue: Open) -> None:
    line = await queue("max_waiting = 1\n[limits]\nrequests_per_minute = 1")
    await line.hold()

    assert (await line.chat("second"))[0] == 429
    assert line.waiting() == 0


async def test_several_answers_of_one_request_wait_for_each_other_and_not_for_ever(queue: Open) -> None:
    line = await queue()

    status, body, _ = await asyncio.wait_for(line.chat(n=3), 10)

    assert status == 200
    assert len(body["choices"]) == 3
    assert line.proxy.app[ENGINE].turns.state() == {}
    assert HELLO[0]["content"] in line.order()
