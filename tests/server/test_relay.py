"""Where client and backend speak the same wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import Proxy, Start
from tests.fakes.openai import CHAT, Answer, FakeOpenAI, chunk, fake_openai, sse

from .conftest import HELLO


@pytest.fixture
async def lab() -> AsyncIterator[FakeOpenAI]:
    async with fake_openai() as fake:
        yield fake


@pytest.fixture
async def proxy(start_proxy: Start, lab: FakeOpenAI) -> Proxy:
    return await start_proxy(
        f'[models.aliases]\nmine = "small"\n[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n'
        'api_key = "sk-backend"\n'
    )


async def ask(proxy: Proxy, **body: Any) -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession() as session:
        headers = {"authorization": "Bearer sk-client"}
        asked = {"model": "mine", "messages": HELLO, **body}
        async with session.post(f"{proxy.url}/v1/chat/completions", json=asked, headers=headers) as response:
            data = await response.read()
            return response.status, data, response.headers


async def test_unknown_fields_go_through_and_the_name_is_the_clients(proxy: Proxy, lab: FakeOpenAI) -> None:
    status, data, headers = await ask(proxy, made_up={"x": 1.50})
    body = json.loads(data)
    sent = next(call for call in lab.calls if call.path.endswith(CHAT))
    assert status == 200
    assert body["model"] == "mine"
    assert sent.body["model"] != "mine"
    assert sent.body["made_up"] == {"x": 1.50}
    assert headers["x-oproxy-backend"] == "lab"


async def test_the_clients_key_never_leaves(proxy: Proxy, lab: FakeOpenAI) -> None:
    await ask(proxy)
    for call in lab.calls:
        values = " ".join(call.headers.values())
        assert "sk-client" not in values
        assert "sk-backend" in values


async def test_the_usage_of_a_stream_is_in_the_line_though_the_client_did_not_ask(proxy: Proxy) -> None:
    status, data, _ = await ask(proxy, stream=True)
    assert status == 200
    assert b'"usage"' not in data
    assert data.rstrip().endswith(b"data: [DONE]")
    assert any("9+4 tokens" in line for line in proxy.said)


async def test_a_foreign_error_is_kept(proxy: Proxy, lab: FakeOpenAI) -> None:
    error = {"message": "Slow down.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    lab.script(CHAT, Answer(status=429, body={"error": error}, headers={"retry-after": "7"}))
    status, data, headers = await ask(proxy)
    assert status == 429
    assert json.loads(data)["error"] == error
    assert headers["retry-after"] == "7"


async def test_a_stream_that_breaks_off_ends_in_an_error(proxy: Proxy, lab: FakeOpenAI) -> None:
    lab.script(
        CHAT, Answer(pieces=[sse(chunk("small", {"content": "Hi"}), done=False)], content_type="text/event-stream")
    )
    status, data, _ = await ask(proxy, stream=True)
    assert status == 200
    assert b'"error"' in data
    assert b"[DONE]" not in data
