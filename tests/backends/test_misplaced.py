"""URLs that lead to a server, but to the wrong place on it: what is said, and that the right one is named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.backends import table
from ollama_proxy.backends.base import Backend, remaining_hint
from ollama_proxy.errors import BackendError, UpstreamDown, UpstreamFailed
from ollama_proxy.model import Call
from ollama_proxy.policy.bases import likely_bases
from tests.conftest import Clock, Start
from tests.server.conftest import HELLO

MODELS = {"data": [{"id": "lab-model"}]}
TAGS = {"models": [{"name": "smollm2:latest"}]}
# What servers answer on paths that they do not know.
VLLM = (404, {"detail": "Not Found"})
LM_STUDIO = (200, {"error": "Unexpected endpoint or method. (GET /models)"})
UNKNOWN_MODEL = (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}})
PAGE = (200, "<html>Sign in</html>")
NULL = (200, None)
METHOD = (405, {"error": "method not allowed"})


@asynccontextmanager
async def server(lists: dict[str, Any], otherwise: tuple[int, Any]) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve these documents, and one answer on every other path; yields its root and the paths asked for."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        status, body = (200, lists[request.path]) if request.path in lists else otherwise
        kind = "text/html" if isinstance(body, str) else "application/json"
        return web.Response(
            status=status, body=body.encode() if isinstance(body, str) else json.dumps(body).encode(), content_type=kind
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


@pytest.fixture
async def build(clock: Clock, tmp_path: Path) -> AsyncIterator[Callable[[str, str], Backend]]:
    made: list[Backend] = []

    def one(kind: str, url: str) -> Backend:
        made.append(table.build("lab", type=kind, url=url, env={}, clock=clock, data_dir=tmp_path, api_key="sk-1"))
        return made[-1]

    yield one
    for backend in made:
        await backend.aclose()


@pytest.mark.parametrize("otherwise", [VLLM, LM_STUDIO, UNKNOWN_MODEL, PAGE, NULL, METHOD])
@pytest.mark.parametrize(("path", "right"), [("", "/v1"), ("/v1/v1", "/v1"), ("/api/v0", "/v1"), ("/x", "/x/v1")])
async def test_the_url_that_works_is_named(
    build: Callable[[str, str], Backend], otherwise: tuple[int, Any], path: str, right: str
) -> None:
    async with server({f"{right}/models": MODELS}, otherwise) as (root, asked):
        backend = build("openai", root + path)
        with pytest.raises(UpstreamFailed) as caught:
            await backend.models()
        assert caught.value.status == 502
        assert caught.value.message == (
            f"The backend 'lab' answers GET {root}{path}/models with status {otherwise[0]} and no list of models. "
            f'Set url = "{root}{right}" under [backends.lab].'
        )
        health = await backend.check()
        assert (health.state, health.detail) == ("down", caught.value.message)
        assert asked.count(f"{right}/models") == 1, "it is sought once in a while, not at each try"
        fixed = build("openai", root + right)
        assert [info.id for info in await fixed.models()] == ["lab-model"]


@pytest.mark.parametrize("otherwise", [VLLM, LM_STUDIO, PAGE])
async def test_where_no_url_works_the_hint_is_about_the_url(
    build: Callable[[str, str], Backend], otherwise: tuple[int, Any]
) -> None:
    async with server({}, otherwise) as (root, _):
        with pytest.raises(UpstreamFailed, match=r"must be the one below which /chat/completions is.*ending in /v1"):
            await build("openai", root).models()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_server_in_trouble_is_not_told_to_be_elsewhere(
    build: Callable[[str, str], Backend], status: int
) -> None:
    async with server({}, (status, {"error": {"message": "no"}})) as (root, asked):
        with pytest.raises(BackendError) as caught:
            await build("openai", root).models()
        assert "url" not in str(caught.value)
        assert asked == ["/models"]


@pytest.mark.parametrize("path", ["/v1", "/api", "/elsewhere"])
@pytest.mark.parametrize("otherwise", [(404, "404 page not found"), VLLM, PAGE, NULL, (200, {}), (404, {"error": "x"})])
async def test_an_ollama_is_named_by_its_address(
    build: Callable[[str, str], Backend], path: str, otherwise: tuple[int, Any]
) -> None:
    async with server({"/api/tags": TAGS, "/api/version": {"version": "1"}}, otherwise) as (root, _):
        with pytest.raises(UpstreamFailed) as caught:
            await build("ollama", root + path).models()
        assert caught.value.status == 502
        assert caught.value.message == (
            f"The backend 'lab' at {root}{path} does not answer like Ollama. Set url = \"{root}\" under [backends.lab]."
        )


async def test_a_server_that_is_no_ollama_is_told_apart(build: Callable[[str, str], Backend]) -> None:
    async with server({"/v1/models": MODELS}, VLLM) as (root, _):
        with pytest.raises(UpstreamFailed, match='a server that speaks OpenAI\'s API is of type = "openai"'):
            await build("ollama", root).models()


async def test_https_in_front_of_plain_http_is_told(build: Callable[[str, str], Backend]) -> None:
    async with server({"/v1/models": MODELS}, VLLM) as (root, _):
        backend = build("openai", f"{root.replace('http', 'https')}/v1")
        with pytest.raises(
            UpstreamDown, match=r"does not speak HTTPS at 127.0.0.1:\d+. If it serves plain HTTP, write"
        ):
            await backend.models()
        detail = (await backend.check()).detail
        assert "Start that server" not in detail
        assert remaining_hint(detail, backend.hint) == "", "what is said last is the way out"
    down = build("openai", "http://127.0.0.1:9/v1")
    assert remaining_hint((await down.check()).detail, down.hint) == down.hint


async def test_a_client_gets_a_502_and_no_404(start_proxy: Start) -> None:
    async with server({}, UNKNOWN_MODEL) as (root, _):
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{root}"\n')
        async with aiohttp.ClientSession(proxy.url) as http:
            body = {"model": "lab-model", "messages": HELLO}
            async with http.post("/v1/chat/completions", json=body) as response:
                told = await response.json()
                assert response.status == 502
                assert "no list of models" in told["error"]["message"]
            async with http.get("/v1/models") as response:
                assert (response.status, (await response.json())["data"]) == (200, [])
            async with http.post("/api/chat", json=body) as response:
                assert response.status == 502


def test_no_candidate_is_on_another_server() -> None:
    for url in ("http://h:1", "http://h:1/v1/chat/completions", "http://h:1/v1/v1", "https://h/x/"):
        bases = list(likely_bases(url))
        assert all(base.startswith(url[: url.index("h", 8 if url[4] == "s" else 7) + 1]) for base in bases)
        assert len(bases) == len(set(bases))
        assert url.rstrip("/") not in bases


async def test_what_is_asked_below_a_wrong_url_is_still_passed_on(build: Callable[[str, str], Backend]) -> None:
    async with (
        server({"/chat/completions": {"ok": True}}, VLLM) as (root, _),
        build("openai", root).open(Call("POST", "/chat/completions", b"{}")) as reply,
    ):
        assert reply.status == 200
