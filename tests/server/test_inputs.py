"""Files that a conversation names by id, as the model gets them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import CHAT, fake_openai

from .conftest import Setup, config
from .filing import TOKEN, form


async def upload(url: str, data: bytes = b"The sky is green.", name: str = "sky.txt", key: str = "") -> str:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(url, headers=headers) as http,
        http.post("/v1/files", data=form(data, name=name, purpose="user_data")) as response,
    ):
        made = await response.json()
        assert response.status == 200, made
        id: str = made["id"]
        return id


def about(id: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What?"}, {"type": "file", "file": {"file_id": id, **more}}],
        }
    ]


def asked(ollama: FakeOllama) -> str:
    """Return the last message that the model got."""
    (call,) = [call for call in ollama.calls if call.path == "/api/chat"][-1:]
    text: str = call.json["messages"][-1]["content"]
    return text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_file_that_is_named_by_its_id_is_read_by_the_model(setup: Setup, stream: bool) -> None:
    id = await upload(setup.proxy.url)
    if stream:
        status, _ = await setup.stream(messages=about(id))
    else:
        status, _, _ = await setup.chat(messages=about(id))

    assert status == 200
    assert "File: sky.txt\n\nThe sky is green." in asked(setup.ollama)


async def test_the_name_that_the_message_gives_is_the_one_told(setup: Setup) -> None:
    id = await upload(setup.proxy.url)
    status, _, _ = await setup.chat(messages=about(id, filename="weather.txt"))

    assert status == 200
    assert "File: weather.txt\n\n" in asked(setup.ollama)


async def test_a_file_that_is_not_there_is_told_in_openais_words(setup: Setup) -> None:
    status, got, _ = await setup.chat(messages=about("file-none"))

    assert (status, got["error"]["message"]) == (404, "No such File object: file-none")


async def test_a_file_that_is_no_text_is_refused_by_name(setup: Setup) -> None:
    id = await upload(setup.proxy.url, b"%PDF-1.7 \xff", "paper.pdf")
    status, got, _ = await setup.chat(messages=about(id))

    assert (status, got["error"]["code"]) == (400, "unsupported_file")
    assert "paper.pdf" in got["error"]["message"]


async def test_another_keys_file_is_not_read(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=TOKEN)
    keys = []
    for name in ("one", "two"):
        async with (
            aiohttp.ClientSession(proxy.url, headers={"authorization": f"Bearer {TOKEN}"}) as http,
            http.post("/oproxy/keys", json={"name": name}) as response,
        ):
            keys.append((await response.json())["key"])
    id = await upload(proxy.url, key=keys[0])
    statuses = {}
    for key in (*keys, TOKEN):
        async with (
            aiohttp.ClientSession(proxy.url, headers={"authorization": f"Bearer {key}"}) as http,
            http.post("/v1/chat/completions", json={"model": "smollm2", "messages": about(id)}) as response,
        ):
            statuses[key] = response.status

    assert statuses == {keys[0]: 200, keys[1]: 404, TOKEN: 200}


@pytest.fixture
async def passing(start_proxy: Start) -> AsyncIterator[tuple[str, Any]]:
    async with fake_openai() as lab:
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n')
        yield proxy.url, lab


@pytest.mark.parametrize("stream", [False, True])
async def test_where_a_request_is_passed_on_the_content_goes_with_it(passing: tuple[str, Any], stream: bool) -> None:
    url, lab = passing
    id = await upload(url)
    messages = [*about(id), *about("file-theirs"), *about(id, file_data="data:text/plain;base64,eA==")]
    async with (
        aiohttp.ClientSession(url) as http,
        http.post(
            "/v1/chat/completions", json={"model": "small", "messages": messages, "stream": stream, "x": 1}
        ) as response,
    ):
        assert response.status == 200, await response.text()
        await response.read()
    sent = next(call for call in lab.calls if call.path.endswith(CHAT)).body["messages"]

    data = base64.b64encode(b"The sky is green.").decode()
    assert sent[0]["content"][1]["file"] == {"filename": "sky.txt", "file_data": f"data:text/plain;base64,{data}"}
    assert sent[1:] == messages[1:]
