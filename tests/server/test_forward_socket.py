"""WebSockets that are sent on: both ways, closed as they were closed, in the books, the caller's key kept here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.conftest import Proxy, Start
from tests.fakes.openai import FakeOpenAI, fake_openai
from tests.server.test_forward import rows

DONE = {"type": "response.done", "response": {"usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}}


def config(url: str) -> str:
    return f"""
[models.aliases]
"gpt-realtime" = "lab/small-voice"
[backends.lab]
type = "openai"
url = "{url}"
api_key = "sk-of-the-backend"
serves = ["realtime", "live"]
"""


async def echo(socket: web.WebSocketResponse) -> None:
    """Send back what comes; the word `done` as the end of an answer, `bye` as a close with a reason."""
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.data == "bye":
            await socket.close(code=4000, message=b"as you wish")
        else:
            await socket.send_str(json.dumps(DONE) if message.data == "done" else message.data)


class Setup(NamedTuple):
    proxy: Proxy
    lab: FakeOpenAI
    http: aiohttp.ClientSession


@pytest.fixture
async def setup(start_proxy: Start) -> AsyncIterator[Setup]:
    async with fake_openai() as lab:
        lab.socket = echo
        proxy = await start_proxy(config(lab.url), books=True)
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Setup(proxy, lab, http)


async def booked(count: int = 1) -> list[object]:
    """Wait until the ledger has so many rows: a connection that is over is written down a moment later."""
    found: list[object] = []
    for _ in range(500):
        if len(found := rows()) >= count:
            break
        await asyncio.sleep(0.01)
    return found


async def test_messages_pass_both_ways_and_their_usage_is_added_up(setup: Setup) -> None:
    async with setup.http.ws_connect("/v1/realtime?model=gpt-realtime&x=1", protocols=("realtime",)) as socket:
        assert socket.protocol == "realtime"
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.send_bytes(b"\x00\xff" * 100_000)
        assert await socket.receive_bytes() == b"\x00\xff" * 100_000
        for _ in range(2):
            await socket.send_str("done")
            assert await socket.receive_json() == DONE
    (call,) = setup.lab.calls
    assert call.target == "/v1/realtime?model=small-voice&x=1"
    assert call.headers["authorization"] == "Bearer sk-of-the-backend"
    (row,) = await booked()
    assert row == ("/v1/realtime", 101, "gpt-realtime", "small-voice", "lab", 6, 8, 1, None)


async def test_a_close_keeps_its_code_and_its_reason(setup: Setup) -> None:
    async with setup.http.ws_connect("/v1/live/sessions/s1/fork") as socket:
        await socket.send_str("bye")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4000, "as you wish")
    assert (await booked())[0][0] == "/v1/live/sessions/{session_id}/fork"  # type: ignore[index]


async def test_a_client_that_leaves_closes_the_other_side(setup: Setup) -> None:
    socket = await setup.http.ws_connect("/v1/realtime")
    await socket.send_str("hello")
    assert await socket.receive_str() == "hello"
    await socket.close()
    await asyncio.wait_for(setup.lab.gone.wait(), 5)


async def test_a_client_that_is_cut_off_closes_the_other_side(setup: Setup) -> None:
    socket = await setup.http.ws_connect("/v1/realtime")
    await socket.send_str("hello")
    transport = socket._response.connection.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.abort()
    await asyncio.wait_for(setup.lab.gone.wait(), 5)
    assert (await booked())[0][:2] == ("/v1/realtime", 499)  # type: ignore[index]
    await socket.close()


async def test_a_browsers_key_is_taken_out_of_the_protocols(setup: Setup) -> None:
    offered = ("realtime", "openai-insecure-api-key.sk-of-the-caller", "openai-organization.org-x")
    async with setup.http.ws_connect("/v1/realtime", protocols=offered) as socket:
        assert socket.protocol == "realtime"
    (call,) = setup.lab.calls
    assert call.headers["sec-websocket-protocol"] == "realtime"
    assert "sk-of-the-caller" not in str(call.headers)
    assert not any("sk-of-the-caller" in line for line in setup.proxy.said)


async def test_a_refused_socket_is_an_answer_in_openais_form(setup: Setup) -> None:
    setup.lab.socket = None
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await setup.http.ws_connect("/v1/realtime")
    assert caught.value.status == 404
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    async with setup.http.get("/v1/realtime", headers=headers) as response:
        assert "'lab'" in (await response.json())["error"]["message"]


async def test_a_foreign_page_opens_no_socket(setup: Setup) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await setup.http.ws_connect("/v1/realtime", headers={"origin": "https://evil.example"})
    assert caught.value.status == 403
    assert setup.lab.calls == []


async def test_a_backend_that_is_away_is_told_before_the_socket_opens(start_proxy: Start) -> None:
    proxy = await start_proxy(config("http://127.0.0.1:9/v1"))
    async with aiohttp.ClientSession(proxy.url) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect("/v1/realtime")
    assert caught.value.status == 502


async def test_a_key_opens_the_socket_by_header_or_protocol_and_only_for_its_models(
    start_proxy: Start,
) -> None:
    async with fake_openai() as lab:
        lab.socket = echo
        proxy = await start_proxy(config(lab.url) + '[auth]\nmode = "on"\n', books=True, control="the-control-token")
        async with aiohttp.ClientSession(proxy.url) as http:
            boss = {"authorization": "Bearer the-control-token"}
            asked = {"name": "ann", "models": ["gpt-realtime"]}
            async with http.post("/oproxy/keys", json=asked, headers=boss) as made:
                key = (await made.json())["key"]
            where = "/v1/realtime?model=gpt-realtime"
            for opened in (
                http.ws_connect(where, headers={"authorization": f"Bearer {key}"}),
                http.ws_connect(where, protocols=("realtime", f"openai-insecure-api-key.{key}")),
            ):
                async with opened as socket:
                    await socket.send_str("hello")
                    assert await socket.receive_str() == "hello"
            for refused, status in (
                (http.ws_connect(where), 401),
                (http.ws_connect(where, protocols=("realtime", "openai-insecure-api-key.sk-oproxy-wrong")), 401),
                (http.ws_connect("/v1/realtime?model=x", headers={"authorization": f"Bearer {key}"}), 404),
            ):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await refused
                assert caught.value.status == status
    assert len(lab.calls) == 2
