"""What is sent on to a backend as it is: both ways, in the books, and by nobody who may not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.server.keys import BOOKS
from tests.conftest import Proxy, Start
from tests.fakes.openai import Answer, FakeOpenAI, Recorded, fake_openai, sse

SPEECH = {"model": "small-tts", "input": "Hello", "voice": "alloy"}
IMAGE = {
    "created": 1,
    "data": [{"b64_json": "aGk="}],
    "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
}


def config(url: str, more: str = "") -> str:
    return f"""
{more}
[backends.lab]
type = "openai"
url = "{url}"
api_key = "sk-of-the-backend"
read_timeout = 2
serves = ["audio", "images", "realtime", "videos", "assistants"]
"""


class Setup(NamedTuple):
    """The proxy, the server behind it, and a session whose URLs are relative to the proxy."""

    proxy: Proxy
    lab: FakeOpenAI
    http: aiohttp.ClientSession

    @property
    def last(self) -> Recorded:
        return self.lab.calls[-1]

    def entry(self) -> Any:
        return self.proxy.said[-1]


@pytest.fixture
async def setup(start_proxy: Start) -> AsyncIterator[Setup]:
    async with fake_openai() as lab:
        proxy = await start_proxy(config(lab.url))
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Setup(proxy, lab, http)


async def test_sound_comes_back_as_it_is_with_headers_of_ours(setup: Setup) -> None:
    sound = bytes(range(256)) * 1000
    setup.lab.script("/audio/speech", Answer(body=sound, content_type="audio/mpeg", headers={"x-other": "kept"}))
    async with setup.http.post("/v1/audio/speech", json=SPEECH) as response:
        assert (response.status, await response.read()) == (200, sound)
        assert response.headers["content-type"] == "audio/mpeg"
        assert response.headers["content-length"] == str(len(sound))
        assert response.headers["x-other"] == "kept"
        assert response.headers["x-oproxy-backend"] == "lab"
        assert response.headers["x-oproxy-model"] == "small-tts"
        assert response.headers["server"] == "oproxy"
    assert (setup.last.method, setup.last.path, setup.last.body) == ("POST", "/audio/speech", SPEECH)


async def test_a_route_nobody_serves_says_what_to_configure(setup: Setup) -> None:
    async with setup.http.post("/v1/fine_tuning/jobs/", json={"model": "x"}) as response:
        body = await response.json()
    assert response.status == 404
    assert body["error"]["code"] == "not_served_here"
    assert body["error"]["type"] == "invalid_request_error"
    assert 'serves = ["fine_tuning"] to [backends.lab]' in body["error"]["message"]
    assert setup.lab.calls == []
