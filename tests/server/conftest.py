"""A running application in front of a fake Ollama, and a plain client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


def config(url: str, more: str = "") -> str:
    """Return a config with one Ollama at `url`; streams wait shortly before their head."""
    return f'{more}\n[backends.ollama]\ntype = "ollama"\nurl = "{url}"\nread_timeout = 2\n'


class Setup(NamedTuple):
    """What a server test has: the proxy, the fake behind it, and a session whose URLs are relative to the proxy."""

    proxy: Proxy
    ollama: FakeOllama
    http: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **kwargs: Any) -> tuple[int, Any, aiohttp.typedefs.LooseHeaders]:
        async with self.http.post(path, json=body, **kwargs) as response:
            return response.status, await response.json(), dict(response.headers)

    async def chat(self, **body: Any) -> tuple[int, Any, Any]:
        return await self.post("/v1/chat/completions", {"model": "smollm2", "messages": HELLO, **body})

    async def stream(self, **body: Any) -> tuple[int, bytes]:
        asked = {"model": "smollm2", "messages": HELLO, "stream": True, **body}
        async with self.http.post("/v1/chat/completions", json=asked) as response:
            return response.status, await response.read()


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
async def setup(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Setup]:
    proxy = await start_proxy(config(ollama.url, "[server]\nheader_hold = 0.2\nheartbeat = 0.1\n"))
    async with aiohttp.ClientSession(proxy.url) as session:
        yield Setup(proxy, ollama, session)
