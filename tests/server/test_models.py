"""Models listed, deleted, fetched and loaded; a config taken over while requests run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import ENGINE, RELOADER
from ollama_proxy.settings import load
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, Setup, config


async def test_the_list_is_openais_and_never_null(setup: Setup) -> None:
    setup.ollama.models.clear()
    async with setup.http.get("/v1/models") as response:
        assert await response.json() == {"object": "list", "data": []}


async def test_a_model_is_deleted_by_its_own_name_only(setup: Setup) -> None:
    async with setup.http.delete("/v1/models/smollm2") as response:
        assert await response.json() == {"id": "smollm2", "object": "model", "deleted": True}
    assert setup.ollama.asked("/api/delete") == [{"model": "smollm2:latest"}]
    async with setup.http.delete("/v1/models/gpt-4o") as response:
        assert response.status == 400
        assert "another name" in (await response.json())["error"]["message"]


async def test_a_pull_tells_its_steps(setup: Setup) -> None:
    async with setup.http.post("/oproxy/pull", json={"model": "all-minilm"}) as response:
        steps = [json.loads(line) for line in (await response.read()).splitlines()]
    assert steps[0]["status"] == "pulling manifest"
    assert any(step["completed"] for step in steps)
    assert steps[-1]["status"] == "success"


async def test_a_pull_that_fails_on_its_way_ends_in_an_error(setup: Setup) -> None:
    setup.ollama.play("/api/pull", [{"status": "pulling manifest"}, {"error": "no such host"}])
    async with setup.http.post("/oproxy/pull", json={"model": "nope"}) as response:
        last = json.loads((await response.read()).splitlines()[-1])
    assert "no such host" in last["error"]["message"]


async def test_a_model_is_loaded_with_the_window_its_requests_will_have(setup: Setup) -> None:
    status, body, _ = await setup.post("/oproxy/load", {"model": "smollm2", "keep_alive": "10m"})
    assert (status, body["loaded"]) == (200, True)
    (sent,) = setup.ollama.asked("/api/generate")
    assert sent["options"] == {"num_ctx": 8192}
    assert sent["keep_alive"] == "10m"
    async with setup.http.get("/oproxy/running") as response:
        assert [run["id"] for run in (await response.json())["running"]] == ["smollm2:latest"]


async def test_all_that_is_known_of_a_model_is_told(setup: Setup) -> None:
    async with setup.http.get("/oproxy/models/smollm2-jinja-think") as response:
        row = await response.json()
    assert (row["backend"], row["type"], row["template"]) == ("ollama", "ollama", "native")
    assert "thinking" in row["capabilities"]


def record(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": False, **more}


async def test_a_changed_config_is_taken_over_and_a_running_stream_is_not_touched(
    tmp_path: Path, ollama: FakeOllama
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config(ollama.url))
    said: list[str] = []

    def read() -> Any:
        return load(path=path, env={}, flags={})

    app = build_app(read(), say=said.append, reload=read, env={})
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with FakeOllama() as other, aiohttp.ClientSession(f"http://{host}:{port}") as session:
            done = record("", done=True, done_reason="stop")
            ollama.play("/api/chat", [record("a"), record("b"), record("c"), done], pauses=0.1)
            body = {"model": "smollm2", "messages": HELLO, "stream": True}
            async with session.post("/v1/chat/completions", json=body) as response:
                await response.content.readany()
                path.write_text(config(other.url, '[models.aliases]\nnew = "smollm2"\n'))
                app[RELOADER].reload_now()
                rest = await response.content.read()
            assert rest.rstrip().endswith(b"data: [DONE]")
            async with session.post("/v1/chat/completions", json={"model": "new", "messages": HELLO}) as response:
                assert response.status == 200
            assert other.asked("/api/chat")
            assert any("models.aliases.new" in line for line in said)
            path.write_text("[server]\nport = 'x'\n")
            before = app[ENGINE].snapshot
            app[RELOADER].reload_now()
            assert app[ENGINE].snapshot is before
            assert "expected an integer" in said[-1]
            await asyncio.sleep(0)
    finally:
        await runner.cleanup()


async def test_the_state_of_every_backend_is_told(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url) + '[backends.gone]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/v1/health") as response:
        body = await response.json()
    states = {backend["name"]: backend["state"] for backend in body["backends"]}
    assert (response.status, body["status"], states) == (200, "ok", {"ollama": "up", "gone": "down"})
