"""Ollama's own API around models, with an Ollama behind it: what is listed, and what changes it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy.backends.base import Progress
from ollama_proxy.errors import OproxyError, UpstreamDown
from ollama_proxy.server.ollama_api_models import steps
from tests.conftest import Proxy, Start
from tests.fakes.ollama import PULL, FakeOllama, traces
from tests.fakes.openai import fake_openai
from tests.server.conftest import Setup, config

NAMES = [each["name"] for each in traces()["meta-tags"].json["models"]]
DATA = b"hello blob"
BLOB = f"/api/blobs/sha256:{hashlib.sha256(DATA).hexdigest()}"


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200
        return await response.json()


@pytest.fixture
async def two(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Setup]:
    """Ollama, with a server of OpenAI's wire beside it that has a model of the same name."""
    async with fake_openai() as lab:
        lab.models.append({**lab.models[0], "id": NAMES[0]})
        more = '[models.aliases]\nmine = "smollm2"\ntheirs = "lab/small"\n"my-*" = "smollm2"\nlost = "nowhere"\n'
        more += f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n'
        ours = config(ollama.url).strip() + "\n"
        proxy = await start_proxy(ours + more)
        async with aiohttp.ClientSession(proxy.url) as session:
            yield Setup(proxy, ollama, session)


async def test_the_list_is_ollamas_own_then_the_others_then_the_aliases(two: Setup) -> None:
    models = (await get(two.http, "/api/tags"))["models"]
    own = traces()["meta-tags"].json["models"]
    assert models[: len(own)] == own
    assert [each["name"] for each in models[len(own) :]] == [
        *("small:latest", "embed:latest", f"lab/{NAMES[0]}", "mine:latest", "theirs:latest")
    ]
    for each in models[len(own) :]:
        async with two.http.post("/api/show", json={"model": each["name"]}) as response:
            assert response.status == 200, each["name"]
    mine = next(each for each in own if each["name"] == "smollm2:latest")
    assert models[-2] == {**mine, "name": "mine:latest", "model": "mine:latest"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": "smollm7"}),
        ("POST", "/api/copy", {"source": "smollm7", "destination": "x"}),
        ("POST", "/api/push", {"model": "smollm7"}),
        ("DELETE", "/v1/models/smollm7", None),
        ("POST", "/oproxy/unload", {"model": "smollm7"}),
    ],
)
async def test_what_is_to_go_is_not_told_to_be_fetched(two: Setup, method: str, path: str, body: Any) -> None:
    async with two.http.request(method, path, json=body) as response:
        text = await response.text()
        assert response.status == 404
    assert "Did you mean" in text
    assert "pull" not in text


async def test_the_list_is_as_new_as_ollamas(setup: Setup) -> None:
    assert len((await get(setup.http, "/api/tags"))["models"]) == len(NAMES)
    setup.ollama.models = setup.ollama.models[:1]
    assert len((await get(setup.http, "/api/tags"))["models"]) == 1


async def test_what_is_in_memory_is_ollamas_own(two: Setup) -> None:
    assert await get(two.http, "/api/ps") == {"models": []}
    async with two.http.post("/api/generate", json={"model": "smollm2"}) as response:
        assert (await response.json())["done_reason"] == "load"
    assert await get(two.http, "/api/ps") == {"models": list(two.ollama.loaded.values())}


async def test_the_version_is_ollamas(setup: Setup) -> None:
    setup.ollama.play("/api/version", [{"version": "9.8.7"}])
    assert await get(setup.http, "/api/version") == {"version": "9.8.7"}


async def test_the_version_is_ours_while_ollama_is_away(setup: Setup) -> None:
    await setup.ollama.stop()
    assert await get(setup.http, "/api/version") == {"version": "0.34.4"}


async def test_the_state_of_the_cloud_is_ollamas(setup: Setup) -> None:
    setup.ollama.play("/api/status", "meta-status")
    assert await get(setup.http, "/api/status") == traces()["meta-status"].json


@pytest.mark.parametrize("body", [{"model": "mine"}, {"name": "mine"}, {"model": "smollm2", "verbose": True}])
async def test_a_description_is_ollamas_byte_by_byte(two: Setup, body: dict[str, Any]) -> None:
    two.ollama.play("/api/show", "meta-show")
    async with two.http.post("/api/show", json=body) as response:
        assert (response.status, await response.read()) == (200, traces()["meta-show"].body)
    (asked,) = two.ollama.asked("/api/show")
    assert asked == {**{key: value for key, value in body.items() if key == "verbose"}, "model": "smollm2:latest"}


async def test_a_pull_goes_through_and_the_model_is_there_at_once(setup: Setup) -> None:
    new = {**setup.ollama.models[0], "name": "new:latest", "model": "new:latest"}
    async with setup.http.post("/api/pull", json={"model": "new", "insecure": False}) as response:
        setup.ollama.models.append(new)
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
    assert lines == list(PULL)
    assert setup.ollama.asked("/api/pull") == [{"model": "new", "insecure": False}]
    async with setup.http.post("/api/chat", json={"model": "new", "messages": []}) as response:
        assert response.status == 200


async def test_ollamas_errors_of_a_pull_go_through(setup: Setup) -> None:
    for name in ("manage-pull-offline-stream", "manage-pull-offline-nonstream"):
        setup.ollama.play("/api/pull", name)
        async with setup.http.post("/api/pull", json={"name": "x"}) as response:
            assert (response.status, await response.read()) == (traces()[name].status, traces()[name].body)
    assert setup.ollama.asked("/api/pull")[0] == {"model": "x"}


async def test_a_pull_that_breaks_off_ends_in_an_error(setup: Setup) -> None:
    setup.ollama.play("/api/pull", PULL, cut_after=100, drop_connection=True)
    async with setup.http.post("/api/pull", json={"model": "x"}) as response:
        lines = (await response.read()).splitlines()
    assert list(json.loads(lines[-1])) == ["error"]


async def test_a_client_that_leaves_ends_the_pull(setup: Setup) -> None:
    setup.ollama.play("/api/pull", PULL, hold_after=2)
    async with setup.http.post("/api/pull", json={"model": "x"}) as response:
        await response.content.readline()
        response.close()
    async with asyncio.timeout(5):
        await setup.ollama.hangups.wait()


async def test_a_model_is_deleted_by_its_own_name_only(two: Setup) -> None:
    for body in ({"model": "mine"}, {"name": "my-anything"}, {"model": "gpt-4o"}):
        async with two.http.delete("/api/delete", json=body) as response:
            assert (response.status, "another name of" in (await response.json())["error"]) == (400, True)
    async with two.http.delete("/api/delete", json={"name": "smollm2"}) as response:
        assert (response.status, await response.read()) == (200, b"")
    assert two.ollama.asked("/api/delete") == [{"model": "smollm2:latest"}]
    async with two.http.delete("/api/delete", json={"model": "smollm2"}) as response:
        assert response.status == 404
    async with two.http.post("/api/chat", json={"model": "smollm2"}) as response:
        assert response.status == 404


async def test_a_copy_may_be_made_of_an_alias(two: Setup) -> None:
    two.ollama.play("/api/copy", [], type="application/json")
    async with two.http.post("/api/copy", json={"source": "mine", "destination": "x"}) as response:
        assert (response.status, await response.read()) == (200, b"")
    assert two.ollama.asked("/api/copy") == [{"source": "smollm2:latest", "destination": "x"}]
    async with two.http.post("/api/copy", json={"source": "theirs", "destination": "x"}) as response:
        assert (response.status, "no Ollama" in (await response.json())["error"]) == (400, True)
    async with two.http.post("/api/copy", json={"source": "nope", "destination": "x"}) as response:
        assert response.status == 404


async def test_a_model_is_made_of_any_name_we_know(two: Setup) -> None:
    for source, want in (("mine", "smollm2:latest"), ("unheard-of", "unheard-of"), (None, None)):
        two.ollama.play("/api/create", [{"status": "success"}])
        asked = {"model": "x", "files": {"a.gguf": "sha256:1"}} | ({"from": source} if source else {})
        async with two.http.post("/api/create", json=asked) as response:
            assert (response.status, await response.json(content_type=None)) == (200, {"status": "success"})
        assert two.ollama.asked("/api/create")[-1].get("from") == want


async def test_a_push_names_the_model_as_ollama_does(two: Setup) -> None:
    two.ollama.play("/api/push", [{"status": "success"}])
    async with two.http.post("/api/push", json={"model": "mine"}) as response:
        assert await response.read() == b'{"status":"success"}\n'
    assert two.ollama.asked("/api/push") == [{"model": "smollm2:latest"}]


async def test_ollamas_own_account_is_its_own(setup: Setup) -> None:
    setup.ollama.play("/api/me", "meta-me")
    async with setup.http.post("/api/me") as response:
        assert (response.status, await response.read()) == (503, traces()["meta-me"].body)


class Fetching:
    """A backend of another kind that fetches models: its steps, and the error it ends in."""

    def __init__(self, *steps: Progress, error: OproxyError | None = None) -> None:
        self.steps, self.error = steps, error

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        for step in self.steps:
            yield step
        if self.error is not None:
            raise self.error


async def pulled(backend: Any) -> list[Any]:
    return [json.loads(line) async for line in steps(backend, "m")]


async def test_other_backends_fetch_with_ollamas_progress_too() -> None:
    some = [Progress("pulling m", "sha256:1", 100), Progress("pulling m", "sha256:1", 100, 50)]
    assert await pulled(Fetching(*some)) == [
        {"status": "pulling m", "digest": "sha256:1", "total": 100},
        {"status": "pulling m", "digest": "sha256:1", "total": 100, "completed": 50},
        {"status": "success"},
    ]
    assert await pulled(Fetching(Progress("success"))) == [{"status": "success"}]


async def test_a_fetch_that_fails_has_its_status_or_a_last_line() -> None:
    error = UpstreamDown("no network")
    assert await pulled(Fetching(Progress("begun"), error=error)) == [{"status": "begun"}, {"error": "no network"}]
    with pytest.raises(UpstreamDown):
        await pulled(Fetching(error=error))


# --- files for `create` -----------------------------------------------------------------------------------------------


class Blobs:
    """A server that takes files as they come."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.broken = asyncio.Event()
        self.whole: dict[str, tuple[int, str]] = {}
        self.headers: dict[str, str] = {}

    async def take(self, request: web.Request) -> web.Response:
        found, digest = 0, hashlib.sha256()
        self.headers = dict(request.headers)
        try:
            async for piece in request.content.iter_any():
                found += len(piece)
                digest.update(piece)
                self.begun.set()
        except BaseException:
            self.broken.set()
            raise
        name = request.path.rpartition(":")[2]
        if digest.hexdigest() != name:
            return web.json_response({"error": f'digest mismatch, expected "sha256:{name}"'}, status=400)
        self.whole[name] = (found, digest.hexdigest())
        return web.Response(status=201)

    async def look(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path.rpartition(":")[2] in self.whole else 404)


@pytest.fixture
async def blobs(start_proxy: Start) -> AsyncIterator[tuple[Blobs, Proxy, aiohttp.ClientSession]]:
    made = Blobs()
    app = web.Application()
    app.router.add_post("/api/blobs/{digest}", made.take)
    app.router.add_head("/api/blobs/{digest}", made.look)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        proxy = await start_proxy(config(f"http://{host}:{port}", "[server]\nmax_body = 4096\n"))
        async with aiohttp.ClientSession(proxy.url) as session:
            yield made, proxy, session
    finally:
        await runner.cleanup()


async def test_a_file_is_sent_on_and_asked_for(blobs: tuple[Blobs, Proxy, aiohttp.ClientSession]) -> None:
    made, _, http = blobs
    async with http.head(BLOB) as response:
        assert response.status == 404
    async with http.post(BLOB, data=DATA) as response:
        assert (response.status, await response.read()) == (201, b"")
    async with http.head(BLOB) as response:
        assert response.status == 200
    assert made.headers["Content-Length"] == str(len(DATA))
    async with http.post(BLOB, data=b"other") as response:
        assert (response.status, "digest mismatch" in (await response.json())["error"]) == (400, True)


async def test_a_file_may_be_larger_than_any_body_and_is_never_held_whole(
    blobs: tuple[Blobs, Proxy, aiohttp.ClientSession],
) -> None:
    made, _, http = blobs
    piece, count = b"x" * 65536, 200

    async def pieces() -> AsyncIterator[bytes]:
        yield piece
        async with asyncio.timeout(5):
            # The first piece is at Ollama before the second is sent.
            await made.begun.wait()
        for _ in range(count - 1):
            yield piece

    name = hashlib.sha256(piece * count).hexdigest()
    for headers in ({}, {"content-length": str(len(piece) * count)}):
        made.begun.clear()
        async with http.post(f"/api/blobs/sha256:{name}", data=pieces(), headers=headers) as response:
            assert response.status == 201
        assert made.whole.pop(name)[0] == len(piece) * count


async def test_a_file_whose_client_leaves_is_left_too(blobs: tuple[Blobs, Proxy, aiohttp.ClientSession]) -> None:
    made, proxy, _ = blobs
    host, port = proxy.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {BLOB} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nsome".encode())
    async with asyncio.timeout(5):
        await made.begun.wait()
        writer.close()
        await made.broken.wait()


# --- the front page ---------------------------------------------------------------------------------------------------


async def test_ollamas_own_clients_find_the_words_they_look_for(setup: Setup) -> None:
    for agent in ("ollama/0.34.4 (amd64 linux) Go/go1.26", "ollama-python/0.6.3", "ollama-js/0.6.0"):
        async with setup.http.get("/", headers={"user-agent": agent}) as response:
            assert (response.status, await response.text()) == (200, "Ollama is running")
        async with setup.http.head("/", headers={"user-agent": agent}) as response:
            assert response.status == 200
    async with setup.http.get("/") as response:
        assert "OLLAMA_HOST=" in await response.text()
