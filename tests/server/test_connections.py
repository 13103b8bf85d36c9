"""Connections, requests and WebSockets are bounded, and clients that do not read are let go."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.server.keys import MEMORY, SOCKETS, TASKS
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.pairs import make_pair, trusting

from .conftest import HELLO
from .test_memory import Raw, given_back, start

ASKED = {"model": "smollm2", "messages": HELLO}
FIRST = {"message": {"content": "Hi"}, "done": False}


async def busy(http: aiohttp.ClientSession, ollama: FakeOllama) -> aiohttp.ClientResponse:
    """Begin an answer that does not end."""
    ollama.play("/api/chat", [FIRST], hold_after=1)
    response = await http.post("/v1/chat/completions", json={**ASKED, "stream": True})
    await response.content.readany()
    return response


async def test_where_there_are_too_many_connections_the_oldest_idle_one_gives_way(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, "max_connections = 2")
    async with Raw(proxy) as first, Raw(proxy) as second:
        await second.send("GET /health HTTP/1.1\nHost: localhost\n\n")
        assert (await second.answer())[0] == 200
        async with Raw(proxy) as third:
            assert await first.closed()
            for raw in (second, third):
                await raw.send("GET /health HTTP/1.1\nHost: localhost\n\n")
                assert (await raw.answer())[0] == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
async def test_where_all_connections_are_busy_a_new_one_is_told_so(
    start_proxy: Start, ollama: FakeOllama, path: str
) -> None:
    proxy = await start(start_proxy, ollama, "max_connections = 1")
    async with aiohttp.ClientSession(proxy.url) as http:
        response = await busy(http, ollama)
        async with aiohttp.ClientSession(proxy.url) as other, other.post(path, json=ASKED) as refused:
            body = await refused.json()
            assert refused.status in (503, 529)
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
            assert "max_connections under [server]" in json.dumps(body)
        response.close()
    assert await given_back(proxy)


async def test_requests_are_bounded_and_how_we_are_can_still_be_asked(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "max_requests = 1")
    async with aiohttp.ClientSession(proxy.url) as http:
        response = await busy(http, ollama)
        async with http.post("/v1/chat/completions", json=ASKED) as refused:
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert "max_requests under [server]" in (await refused.json())["error"]["message"]
        async with http.get("/v1/health") as health:
            assert health.status == 200
        response.close()
        await asyncio.wait_for(ollama.hangups.wait(), 5)
        async with http.post("/v1/chat/completions", json=ASKED) as served:
            assert served.status == 200


async def test_websockets_are_bounded(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "max_sockets = 1")
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.ws_connect("/v1/responses"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect("/v1/responses")
            assert caught.value.status == 503
        for _ in range(200):
            if not proxy.app[SOCKETS]:
                break
            await asyncio.sleep(0.01)
        async with http.ws_connect("/v1/responses") as ws:
            assert not ws.closed


async def test_a_websocket_message_on_its_way_is_counted(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "memory = 300000")
    async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/responses") as ws:
        # The beginning of a message that says it has a megabyte.
        transport = ws.get_extra_info("socket")
        assert transport is not None
        writer = ws._writer.transport
        writer.write(b"\x81\xff" + (1 << 20).to_bytes(8, "big") + bytes(4) + b"a" * 200_000)
        for _ in range(200):
            if proxy.app[MEMORY].held >= 200_000:
                break
            await asyncio.sleep(0.01)
        assert proxy.app[MEMORY].held >= 200_000
        writer.write(b"a" * 200_000)
        message = await ws.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == aiohttp.WSCloseCode.TRY_AGAIN_LATER
    assert await given_back(proxy)


async def test_a_turn_that_is_too_large_for_the_memory_is_told_in_an_event(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, "memory = 200000")
    async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/responses") as ws:
        asked = {"type": "response.create", "model": "smollm2", "store": False, "input": "a" * 60_000}
        await ws.send_json(asked)
        told = await ws.receive_json(timeout=5)
        assert (told["type"], told["status"]) == ("error", 413)
        assert "memory under [server]" in told["error"]["message"]
        await ws.send_json({**asked, "input": "Hi"})
        assert (await ws.receive_json(timeout=5))["type"] == "response.created"
    assert await given_back(proxy)


async def test_a_client_that_does_not_read_its_answer_is_let_go(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "send_timeout = 0.3")
    assert proxy.runner is not None
    proxy.app[TASKS].start(proxy.runner.watch(0.05), name="connections")
    ollama.play("/api/chat", [{"message": {"content": "a" * 100_000}, "done": False}] * 300, hold_after=300)
    async with Raw(proxy) as raw:
        body = json.dumps({**ASKED, "stream": True}).encode()
        await raw.send(f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}\n\n", body)
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(ollama.hangups.wait(), 10)
    assert await given_back(proxy)


@pytest.mark.parametrize("compress", [0, 15])
async def test_no_websocket_unpacks_frames(start_proxy: Start, ollama: FakeOllama, compress: int) -> None:
    """A small packed frame may be a large one, and is counted only when it is unpacked."""
    proxy = await start(start_proxy, ollama)
    async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/responses", compress=compress) as ws:
        assert not ws.compress
        await ws.send_json({"type": "response.create", "model": "smollm2", "store": False, "input": "Hi"})
        assert (await ws.receive_json(timeout=5))["type"] == "response.created"


async def test_connections_by_tls_count_with_all_others(start_proxy: Start, ollama: FakeOllama, tmp_path: Path) -> None:
    proxy = await start(start_proxy, ollama, "max_connections = 2")
    pair = make_pair(tmp_path, "first")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    assert proxy.runner is not None
    await web.TCPSite(proxy.runner, "127.0.0.1", 0, ssl_context=context).start()
    port = proxy.runner.addresses[-1][1]
    known = trusting(pair)
    async with (
        aiohttp.ClientSession(proxy.url) as plain,
        aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=aiohttp.TCPConnector(ssl=known)) as http,
    ):
        # An idle one gives way to one by TLS, and the other way round.
        async with Raw(proxy) as first:
            running = await busy(http, ollama)
            async with http.get("/health") as response:
                assert response.status == 200
            assert await first.closed()
        idle, writer = await asyncio.open_connection("127.0.0.1", port, ssl=known)
        async with plain.get("/health") as response:
            assert response.status == 200
        second = await busy(plain, ollama)
        async with asyncio.timeout(5):
            assert await idle.read() == b""
        writer.close()
        # Where all are busy, who comes by TLS is told so by TLS.
        async with (
            aiohttp.ClientSession(f"https://127.0.0.1:{port}") as other,
            other.post("/v1/chat/completions", json=ASKED, ssl=known) as refused,
        ):
            assert (refused.status, refused.headers["connection"]) == (503, "close")
            assert "max_connections under [server]" in json.dumps(await refused.json())
        running.close()
        second.close()
    assert await given_back(proxy)
