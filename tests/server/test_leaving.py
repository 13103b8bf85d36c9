"""Connections that would stay open for ever do not hold up the end of the daemon."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import WSMsgType

from ollama_proxy.server.keys import LEAVING
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import fake_openai
from tests.server import test_forward_socket
from tests.server.conftest import config
from tests.server.test_run import Stage


async def test_all_that_want_to_know_are_told_when_the_end_begins() -> None:
    stage = Stage()
    told: list[str] = []
    stage.app[LEAVING] = {lambda: told.append("one"), lambda: told.append("two")}
    serving = asyncio.ensure_future(stage.serve())
    await stage.url
    assert told == []
    stage.ending.ask()
    await serving
    assert sorted(told) == ["one", "two"]


async def test_a_forwarded_socket_is_closed_on_both_sides(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        lab.socket = test_forward_socket.echo
        proxy = await start_proxy(test_forward_socket.config(lab.url))
        async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/realtime") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            (leave,) = proxy.app[LEAVING]
            leave()
            message = await asyncio.wait_for(socket.receive(), 5)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await asyncio.wait_for(lab.gone.wait(), 5)
    assert proxy.app[LEAVING] == set()


async def test_a_socket_of_responses_is_closed_when_no_turn_runs(start_proxy: Start) -> None:
    async with FakeOllama() as ollama:
        proxy = await start_proxy(config(ollama.url))
        async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/responses") as socket:
            await socket.send_json({"type": "response.create", "model": "smollm2", "input": "Hello", "store": False})
            assert (await socket.receive_json())["type"] == "response.created"
            (leave,) = proxy.app[LEAVING]
            leave()
            last = None
            async with asyncio.timeout(10):
                async for message in socket:
                    last = message.json()["type"]
            # The turn that ran was ended first.
            assert last == "response.completed"
            assert socket.close_code == 1001
