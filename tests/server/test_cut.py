"""Answers that do not finish within the grace time end in an error of their API, and are booked as cut by us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from ollama_proxy.server.app import build_app
from ollama_proxy.server.run import Ending, Site, serve_app
from ollama_proxy.settings import load
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import Answer, chunk, fake_openai, sse
from tests.server.conftest import HELLO

CONFIG = '[backends.one]\ntype = "{kind}"\nurl = "{url}"\n'


class Daemon:
    """A daemon with next to no grace time."""

    def __init__(self, config: str) -> None:
        self.lines: list[str] = []
        flags = {"store.ledger": False, "logs.requests": False}
        self.app = build_app(load(env={}, flags=flags, text=config), say=self.lines.append, env={})
        self.ending = Ending()
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        async def ready(urls: Sequence[str]) -> None:
            self.url.set_result(urls[0])

        await serve_app(
            self.app,
            sites=[Site("127.0.0.1", 0)],
            keepalive=5,
            grace=lambda: 0.05,
            ready=ready,
            leaving=lambda busy: None,
            reload=lambda: None,
            ending=self.ending,
        )

    def line(self, path: str) -> str:
        (line,) = [line for line in self.lines if path in line]
        return line


async def cut(
    config: str, path: str, body: dict[str, Any], arrived: asyncio.Event | None = None
) -> tuple[int, str, str]:
    """Ask, end the daemon in the middle of the answer, and return its status and body, and the request's line.
    `arrived` is set when the backend has the request; without it the answer has begun."""
    daemon = Daemon(config)
    serving = asyncio.ensure_future(daemon.serve())
    async with aiohttp.ClientSession(await daemon.url) as http:
        asked = asyncio.ensure_future(http.post(path, json=body))
        if arrived is not None:
            await asyncio.wait_for(arrived.wait(), 10)
        else:
            await (await asked).content.readany()
        daemon.ending.ask()
        response = await asked
        text = (await response.read()).decode()
        await asyncio.wait_for(serving, 20)
    return response.status, text, daemon.line(path)


def ollama_config(ollama: FakeOllama) -> str:
    return CONFIG.format(kind="ollama", url=ollama.url)


def last_data(text: str) -> Any:
    return json.loads(text.strip().rpartition("data: ")[2] or repr(text))


async def test_a_stream_passed_on_from_an_openai_backend_ends_in_an_error_event() -> None:
    async with fake_openai() as lab:
        lab.script("/chat/completions", Answer(pieces=[sse(chunk("m", {"content": "a"}), done=False)], hang=True))
        body = {"model": "small", "messages": HELLO, "stream": True}
        status, text, line = await cut(CONFIG.format(kind="openai", url=lab.url), "/v1/chat/completions", body)
    assert status == 200
    assert last_data(text)["error"]["code"] == "server_shutdown", text
    assert "server_shutdown" in line
    assert "499" not in line


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/chat/completions", {"messages": HELLO}, '"code":"server_shutdown"'),
        ("/v1/completions", {"prompt": "Hello"}, '"code":"server_shutdown"'),
        ("/v1/responses", {"input": "Hello", "store": False}, '"server_shutdown"'),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 9}, "event: error"),
        ("/api/chat", {"messages": HELLO}, '{"error":"The server is shutting down'),
        ("/api/generate", {"prompt": "Hello"}, '{"error":"The server is shutting down'),
    ],
)
async def test_a_stream_ends_in_the_error_of_its_api(path: str, body: dict[str, Any], last: str) -> None:
    async with FakeOllama() as ollama:
        for called in ("/api/chat", "/api/generate"):
            word = {
                "model": "smollm2",
                "message": {"role": "assistant", "content": "a"},
                "response": "a",
                "done": False,
            }
            ollama.play(called, [word, word, word], hold_after=1)
        status, text, line = await cut(ollama_config(ollama), path, {"model": "smollm2", "stream": True, **body})
    assert status == 200
    assert last in text.replace('": "', '":"'), text
    assert "shutting down" in text
    assert "server_shutdown" in line, line
    assert "499" not in line


FORWARDS = '[backends.one]\ntype = "openai"\nurl = "{url}"\nserves = ["audio", "images"]\n'


async def test_a_stream_that_is_forwarded_as_it_is_ends_in_an_error_event() -> None:
    async with fake_openai() as lab:
        event = b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
        lab.script("/audio/speech", Answer(pieces=[event], hang=True))
        body = {"model": "tts-1", "input": "Hello", "voice": "alloy", "stream_format": "sse", "stream": True}
        status, text, line = await cut(FORWARDS.format(url=lab.url), "/v1/audio/speech", body)
    assert status == 200
    assert last_data(text)["error"]["code"] == "server_shutdown", text
    assert "server_shutdown" in line
    assert "499" not in line


async def test_a_file_that_is_forwarded_is_not_taken_for_whole() -> None:
    async with fake_openai() as lab:
        lab.script("/audio/speech", Answer(content_type="audio/mpeg", pieces=[b"sound"], hang=True))
        with pytest.raises(aiohttp.ClientPayloadError):
            await cut(FORWARDS.format(url=lab.url), "/v1/audio/speech", {"model": "tts-1", "input": "a", "voice": "b"})


@pytest.mark.parametrize("late", [False, True], ids=["the asking one", "one that joined later"])
async def test_a_follower_of_a_response_in_the_background_gets_an_error_event(late: bool) -> None:
    async with FakeOllama() as ollama:
        word = {"model": "smollm2", "message": {"role": "assistant", "content": "a"}, "done": False}
        ollama.play("/api/chat", [word, word, word], hold_after=1)
        daemon = Daemon(ollama_config(ollama))
        serving = asyncio.ensure_future(daemon.serve())
        body = {"model": "smollm2", "input": "Hello", "background": True, "stream": True, "store": True}
        async with aiohttp.ClientSession(await daemon.url) as http, http.post("/v1/responses", json=body) as first:
            created = last_data((await first.content.readuntil(b"\n\n")).decode())
            followed = first
            if late:
                path = f"/v1/responses/{created['response']['id']}"
                followed = await http.get(path, params={"stream": "true", "starting_after": "0"})
                await followed.content.readuntil(b"\n\n")
            daemon.ending.ask()
            text = (await followed.read()).decode()
            await asyncio.wait_for(serving, 20)
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    last, before = events[-1], events[-2] if len(events) > 1 else None
    assert (last["type"], last["code"]) == ("error", "server_shutdown"), text
    assert "shutting down" in last["message"]
    assert before is None or last["sequence_number"] == before["sequence_number"] + 1
    assert not any(event["type"] == "response.failed" for event in events), "it is begun again after a restart"
    lines = [line for line in daemon.lines if "/v1/responses" in line]
    assert any("server_shutdown" in line for line in lines), lines


async def test_a_whole_answer_is_refused_as_503() -> None:
    async with FakeOllama() as ollama:
        ollama.play("/api/chat", [{"model": "smollm2", "done": True}], delay=30)
        body = {"model": "smollm2", "messages": HELLO}
        status, text, line = await cut(ollama_config(ollama), "/v1/chat/completions", body, ollama.arrived)
    assert (status, json.loads(text)["error"]["code"]) == (503, "server_shutdown")
    assert "503 server_shutdown" in line


async def test_a_turn_on_a_socket_ends_in_an_error_and_the_socket_is_closed() -> None:
    async with FakeOllama() as ollama:
        word = {"model": "smollm2", "message": {"role": "assistant", "content": "a"}, "done": False}
        ollama.play("/api/chat", [word, word, word], hold_after=1)
        daemon = Daemon(ollama_config(ollama))
        serving = asyncio.ensure_future(daemon.serve())
        async with aiohttp.ClientSession(await daemon.url) as http, http.ws_connect("/v1/responses") as socket:
            await socket.send_json({"type": "response.create", "model": "smollm2", "input": "Hello", "store": False})
            assert (await socket.receive_json())["type"] == "response.created"
            daemon.ending.ask()
            seen = [message.data async for message in socket if message.type is WSMsgType.TEXT]
            await asyncio.wait_for(serving, 20)
    assert "shutting down" in seen[-1]
    # The turn's; the connection's own line has no model.
    (line,) = [line for line in daemon.lines if "/v1/responses smollm2" in line]
    assert "server_shutdown" in line


async def test_a_client_that_leaves_while_the_daemon_ends_is_booked_as_gone() -> None:
    async with FakeOllama() as ollama:
        ollama.play("/api/chat", [{"model": "smollm2", "done": True}], delay=30)
        daemon = Daemon(ollama_config(ollama))
        serving = asyncio.ensure_future(daemon.serve())
        async with aiohttp.ClientSession(await daemon.url) as http:
            asked = asyncio.ensure_future(
                http.post("/v1/chat/completions", json={"model": "smollm2", "messages": HELLO})
            )
            await asyncio.wait_for(ollama.arrived.wait(), 10)
            asked.cancel()
            await asyncio.wait([asked])
            daemon.ending.ask()
            await asyncio.wait_for(serving, 20)
    assert "499" in daemon.line("/v1/chat/completions")
