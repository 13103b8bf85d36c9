"""Streams on the wire: the head that waits, the comments that keep a line alive, failures, clients that leave.

The handlers are made here; the application around them is the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import pytest
from aiohttp import ClientSession, web

from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.events import Event, Fail, Text
from ollama_proxy.server.app import build_app
from ollama_proxy.server.reply import framed_documents, stream
from ollama_proxy.settings import load

Batches = AsyncGenerator[list[Event]]


class Writer:
    """Writes a text as JSON, a failure as an error."""

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        out = []
        for event in events:
            match event:
                case Text(text=text):
                    out.append(json.dumps(text).encode())
                case Fail(error=error):
                    out.append(json.dumps(error.body()).encode())
                case _:
                    pass
        return out

    def flush(self) -> list[bytes]:
        return [b'"end"']


class Stage:
    """An application with one more route, whose answer each test gives."""

    def __init__(self) -> None:
        self.play: Callable[[], Batches] = nothing
        self.said: list[str] = []
        self.url = ""
        text = (
            '[backends.none]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n[server]\nheader_hold = 0.1\nheartbeat = 0.1'
        )
        flags = {"store.ledger": False, "logs.requests": False}
        self.app = build_app(load(env={}, flags=flags, text=text), say=self.said.append, env={})
        self.app.router.add_post("/v1/play", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, self.play(), Writer())


async def nothing() -> Batches:
    for batch in list[list[Event]]():
        yield batch


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    runner = web.AppRunner(made.app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/v1/play"
    yield made
    await runner.cleanup()


async def played(stage: Stage) -> tuple[int, bytes]:
    async with ClientSession() as http, http.post(stage.url) as response:
        return response.status, await response.read()


def test_events_that_come_together_are_framed_together() -> None:
    assert framed_documents([b"1"]) == b"data: 1\n\n"
    assert framed_documents([b"1", b"2"]) == b"data: 1\n\ndata: 2\n\n"
    assert framed_documents([]) == b""


async def test_batches_come_in_their_order_and_done_ends_them(stage: Stage) -> None:
    async def play() -> Batches:
        yield [Text(0, "a"), Text(0, "b")]
        yield [Text(0, "c")]

    stage.play = play
    assert await played(stage) == (
        200, b'data: "a"\n\ndata: "b"\n\ndata: "c"\n\ndata: "end"\n\ndata: [DONE]\n\n',
    )  # fmt: skip


async def test_the_head_says_that_it_is_a_stream_and_is_not_to_be_held_back(stage: Stage) -> None:
    async with ClientSession() as http, http.post(stage.url) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"].startswith("req_")
        assert await response.read() == b'data: "end"\n\ndata: [DONE]\n\n'


async def test_a_failure_before_the_head_has_its_own_status(stage: Stage) -> None:
    async def play() -> Batches:
        if stage.url:
            raise UpstreamFailed("no luck", status=418)
        yield []

    stage.play = play
    status, body = await played(stage)
    assert (status, json.loads(body)["error"]["message"]) == (418, "no luck")


async def test_an_accident_before_the_head_is_500_without_its_words(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> Batches:
        if stage.url:
            raise RuntimeError("a secret")
        yield []

    stage.play = play
    status, body = await played(stage)
    assert status == 500
    assert b"secret" not in body
    assert "a secret" in caplog.text


async def test_the_head_is_sent_when_it_waited_long_enough_and_comments_follow(stage: Stage) -> None:
    async def play() -> Batches:
        await asyncio.sleep(0.3)
        yield [Text(0, "a")]

    stage.play = play
    status, body = await played(stage)
    assert status == 200
    assert body.startswith(b": waiting for the model\n\n")
    assert b": still waiting\n\n" in body
    assert body.endswith(b'data: "a"\n\ndata: "end"\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize("how", ["raised", "told"])
async def test_a_failure_in_mid_stream_is_told_in_the_stream_and_nothing_follows(stage: Stage, how: str) -> None:
    async def play() -> Batches:
        yield [Text(0, "a")]
        if how == "raised":
            raise UpstreamFailed("no luck")
        yield [Text(0, "b"), Fail(UpstreamFailed("no luck"))]

    stage.play = play
    status, body = await played(stage)
    last = json.loads(body.rstrip().rpartition(b"data: ")[2])
    assert status == 200
    assert last["error"]["message"] == "no luck"
    assert b"[DONE]" not in body
    assert (b'"b"' in body) == (how == "told")
    assert any(" 200 backend_error " in line for line in stage.said)


async def test_an_accident_in_mid_stream_is_told_without_its_words(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> Batches:
        yield [Text(0, "a")]
        raise RuntimeError("a secret")

    stage.play = play
    status, body = await played(stage)
    assert status == 200
    assert b'"server_error"' in body
    assert b"secret" not in body
    assert b"[DONE]" not in body
    assert "a secret" in caplog.text


@pytest.mark.parametrize("when", ["before the head", "in the middle", "between comments"])
async def test_a_client_that_leaves_ends_the_work_at_once(stage: Stage, when: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def play() -> Batches:
        try:
            if when == "in the middle":
                yield [Text(0, "a")]
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    stage.play = play
    host, _, port = stage.url.removeprefix("http://").removesuffix("/v1/play").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/play HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    await asyncio.wait_for(begun.wait(), 5)
    if when != "before the head":
        await asyncio.wait_for(reader.readuntil(b"waiting" if when == "between comments" else b'data: "a"'), 5)
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)
    for _ in range(100):
        if any(" 499 client_closed_request" in line for line in stage.said):
            break
        await asyncio.sleep(0.02)
    assert any(" 499 client_closed_request" in line for line in stage.said)
