"""What clients keep outlives a daemon that is killed in the very moment in which they have their answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.ollama import FakeOllama

from .conftest import free_port
from .test_kill import daemon

HELLO = [{"role": "user", "content": "Hello"}]


async def chat(http: aiohttp.ClientSession, *, stream: bool) -> str:
    """Ask for an answer that is kept, and return its id as soon as all of it is here."""
    asked = {"model": "smollm2", "messages": HELLO, "store": True, "stream": stream}
    async with http.post("/v1/chat/completions", json=asked) as response:
        assert response.status == 200
        text = b""
        async for data in response.content.iter_any():
            text += data
            if stream and text.endswith(b"data: [DONE]\n\n"):
                break
    first = text.split(b"\n\n")[0].removeprefix(b"data: ")
    return str(json.loads(first)["id"])


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_what_is_kept_is_there_after_a_kill(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "config.toml"
    async with FakeOllama() as ollama:
        config.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
        async with daemon(config, port) as child, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            items = [{"role": "user", "content": "Hello", "id": "msg_a"}]
            async with http.post("/v1/conversations", json={"items": items}) as response:
                id = (await response.json())["id"]
            # The stream last, and not one byte more is waited for.
            ids = [await chat(http, stream=False), await chat(http, stream=True)]
            child.kill()
        async with daemon(config, port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            assert (await get(http, f"/v1/conversations/{id}/items"))["last_id"] == "msg_a"
            assert [each["id"] for each in (await get(http, "/v1/chat/completions"))["data"]] == ids
            for each in ids:
                assert (await get(http, f"/v1/chat/completions/{each}/messages"))["data"][0]["content"] == "Hello"
