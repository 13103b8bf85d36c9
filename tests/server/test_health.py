"""How we are, asked over HTTP."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ollama_proxy import __version__

from .conftest import Setup, config


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_a_daemon_that_is_well_tells_of_itself_and_its_backends(setup: Setup, path: str) -> None:
    async with setup.http.get(path) as response:
        body = await response.json()
        assert response.status == 200
    assert (body["status"], body["version"], body["pid"]) == ("ok", __version__, os.getpid())
    assert body["uptime"] >= 0
    (backend,) = body["backends"]
    assert backend["latency_ms"] >= 0
    assert {key: backend[key] for key in ("name", "type", "state", "version", "models", "running")} == {
        "name": "ollama", "type": "ollama", "state": "up", "version": "0.34.4",
        "models": len(setup.ollama.models), "running": 0,
    }  # fmt: skip


async def test_backends_that_are_away_are_told_and_we_serve_all_the_same(start_proxy: Any, setup: Setup) -> None:
    away = '[backends.lab]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n'
    for text, want in ((away, "degraded"), (config(setup.ollama.url) + away, "ok")):
        proxy = await start_proxy(text)
        async with setup.http.get(f"{proxy.url}/health") as response:
            body = await response.json()
            assert (response.status, body["status"]) == (200, want)
        states = {backend["name"]: backend for backend in body["backends"]}
        assert states["lab"]["state"] == "down"
        assert states["lab"]["detail"]
        assert states["lab"]["models"] == 0


async def test_what_runs_is_counted(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [{"message": {"content": "Hi"}, "done": False}], hold_after=1)
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with setup.http.post("/v1/chat/completions", json=asked) as response:
        await response.content.readany()
        async with setup.http.get("/health") as health:
            assert (await health.json())["backends"][0]["running"] == 1
        response.close()
