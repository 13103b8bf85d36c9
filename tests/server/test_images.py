"""The images of one request are bounded together: their number, their bytes, and the time to fetch them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.server.keys import MEMORY
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama

from .conftest import config
from .test_inputs import upload
from .test_memory import given_back

GIF = b"GIF89a" + bytes(1000)
LIMITS = "[server]\nimage_allow_private = true\nimages_max = 4\nimages_max_bytes = 3000\nimages_timeout = 0.5\n"
SEES = {"capabilities": ["completion", "vision"], "details": {"family": "llama"}}


class Gallery:
    """A server of pictures; it knows how many were asked for, and how many at once."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.now = self.most = 0

    async def picture(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(float(request.rel_url.query.get("wait", "0")))
            return web.Response(body=GIF, content_type="image/gif")
        finally:
            self.now -= 1


@pytest.fixture
async def gallery() -> AsyncIterator[Gallery]:
    found = Gallery()
    runner = web.ServerRunner(web.Server(found.picture), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/"
    yield found
    await runner.cleanup()


@pytest.fixture
async def proxy(start_proxy: Start, ollama: FakeOllama) -> Proxy:
    for _ in range(3):
        ollama.play("/api/show", [SEES])
    return await start_proxy(config(ollama.url, LIMITS))


async def post(proxy: Proxy, path: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession(proxy.url) as http, http.post(path, json=body) as response:
        return response.status, await response.json()


def chat(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "smollm2", "messages": [{"role": "user", "content": parts}]}


def inline(size: int = 1006) -> str:
    return base64.b64encode(GIF[:size]).decode()


async def test_images_are_fetched_a_few_at_once_and_each_url_once(
    start_proxy: Start, ollama: FakeOllama, gallery: Gallery
) -> None:
    ollama.play("/api/show", [SEES])
    proxy = await start_proxy(config(ollama.url, "[server]\nimage_allow_private = true\n"))
    urls = [f"{gallery.url}{number}?wait=0.05" for number in range(10)]
    status, _ = await post(proxy, "/v1/chat/completions", chat(*urls, urls[0]))
    assert status == 200
    assert sorted(gallery.asked) == sorted(f"/{number}?wait=0.05" for number in range(10))
    assert gallery.most == 4
    assert len(ollama.asked("/api/chat")[0]["messages"][0]["images"]) == 11
    assert await given_back(proxy)


async def test_too_many_images_are_refused_before_one_is_fetched(proxy: Proxy, gallery: Gallery) -> None:
    status, body = await post(proxy, "/v1/chat/completions", chat(*(f"{gallery.url}{n}" for n in range(5))))
    assert status == 400
    assert body["error"]["code"] == "too_many_images"
    assert "images_max under [server]" in body["error"]["message"]
    assert body["error"]["param"] == "messages[0].content[4].image_url.url"
    assert gallery.asked == []


async def test_images_that_are_too_large_together_are_refused(proxy: Proxy, gallery: Gallery) -> None:
    status, body = await post(proxy, "/v1/chat/completions", chat(*(f"{gallery.url}{n}" for n in range(3))))
    assert status == 400
    assert body["error"]["code"] == "images_too_large"
    assert "images_max_bytes under [server]" in body["error"]["message"]
    assert await given_back(proxy)


async def test_one_image_in_many_places_counts_as_often_as_it_is_sent(proxy: Proxy, gallery: Gallery) -> None:
    status, body = await post(proxy, "/v1/chat/completions", chat(*[gallery.url] * 3))
    assert (status, body["error"]["code"]) == (400, "images_too_large")


async def test_inline_and_fetched_images_count_together(proxy: Proxy, gallery: Gallery) -> None:
    here = f"data:image/gif;base64,{inline()}"
    assert (await post(proxy, "/v1/chat/completions", chat(here, gallery.url)))[0] == 200
    status, body = await post(proxy, "/v1/chat/completions", chat(here, here, gallery.url))
    assert (status, body["error"]["code"]) == (400, "images_too_large")


async def test_all_images_of_a_request_have_one_time(proxy: Proxy, gallery: Gallery) -> None:
    status, body = await post(proxy, "/v1/chat/completions", chat(gallery.url, f"{gallery.url}b?wait=5"))
    assert status == 400
    assert body["error"]["code"] == "invalid_image_url"
    assert "images_timeout under [server]" in body["error"]["message"]
    assert body["error"]["param"] == "messages[0].content[1].image_url.url"
    assert await given_back(proxy)


def anthropic(count: int, size: int) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": inline(size)}}
    return {"model": "smollm2", "max_tokens": 5, "messages": [{"role": "user", "content": [image] * count}]}


def responses(count: int, size: int) -> dict[str, Any]:
    image = {"type": "input_image", "image_url": f"data:image/gif;base64,{inline(size)}"}
    return {"model": "smollm2", "store": False, "input": [{"role": "user", "content": [image] * count}]}


@pytest.mark.parametrize(("path", "made"), [("/v1/messages", anthropic), ("/v1/responses", responses)])
async def test_the_limits_hold_whatever_the_client_speaks(proxy: Proxy, path: str, made: Any) -> None:
    status, body = await post(proxy, path, made(5, 100))
    assert status == 400
    assert "images_max under [server]" in body["error"]["message"]
    status, body = await post(proxy, path, made(3, 1006))
    assert status == 400
    assert "images_max_bytes under [server]" in body["error"]["message"]


async def test_what_is_fetched_is_counted_against_the_memory(
    start_proxy: Start, ollama: FakeOllama, gallery: Gallery
) -> None:
    ollama.play("/api/show", [SEES])
    proxy = await start_proxy(config(ollama.url, "[server]\nimage_allow_private = true\nmemory = 30000\n"))
    status, body = await post(proxy, "/v1/chat/completions", chat(*(f"{gallery.url}{n}" for n in range(6))))
    assert status == 413
    assert "memory under [server]" in body["error"]["message"]
    assert await given_back(proxy)


async def test_files_named_by_id_are_bounded_together(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, "[server]\nmax_body = 3000\n"))
    id = await upload(proxy.url, b"x" * 1100)
    for path, body in (
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": id}}] * 3}]},
        ),
        (
            "/v1/responses",
            {"store": False, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": id}] * 3}]},
        ),
    ):
        status, told = await post(proxy, path, {"model": "smollm2", **body})
        assert (status, told["error"]["code"]) == (400, "file_too_large")
        assert "max_body under [server]" in told["error"]["message"]
    assert proxy.app[MEMORY].held == 0 or await given_back(proxy)
