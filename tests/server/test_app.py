"""The parts put together, exchanged by a new config, and given back at the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from ollama_proxy.server.app import build_app, ids
from ollama_proxy.server.keys import ENGINE, RELOADER
from ollama_proxy.settings import Loaded, load
from tests.conftest import Clock
from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, config

QUIET = {"store.ledger": False, "logs.requests": False}


class Running:
    """An application whose config is a file."""

    def __init__(self, path: Path) -> None:
        self._path, self.said = path, list[str]()
        self.app = build_app(self.load(), say=self.said.append, reload=self.load, env={}, wall=Clock(1_700_000_000.0))
        self.runner = web.AppRunner(self.app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        self.url = ""

    def load(self) -> Loaded:
        return load(path=self._path, env={}, flags=QUIET)

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        host, port = self.runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    def change(self, text: str) -> None:
        """Write another config and have it read, as SIGHUP does."""
        self._path.write_text(text)
        self.app[RELOADER].reload_now()


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
async def running(ollama: FakeOllama, tmp_path: Path) -> AsyncIterator[Running]:
    path = tmp_path / "config.toml"
    path.write_text(config(ollama.url))
    made = Running(path)
    await made.start()
    yield made
    await made.runner.cleanup()


async def ask(http: ClientSession, url: str, model: str = "smollm2") -> tuple[int, Any]:
    async with http.post(f"{url}/v1/chat/completions", json={"model": model, "messages": HELLO}) as response:
        return response.status, await response.json()


def test_ids_are_32_hex_digits_and_never_the_same() -> None:
    made, other = ids(), ids()
    seen = {made() for _ in range(1000)} | {other() for _ in range(1000)}
    assert len(seen) == 2000
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in seen)


async def test_an_answer_has_our_id_and_the_time_of_day(running: Running) -> None:
    async with ClientSession() as http:
        status, body = await ask(http, running.url)
    assert status == 200
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{29}", body["id"])
    assert body["created"] == 1_700_000_000


async def test_a_new_config_holds_for_the_next_request(running: Running, ollama: FakeOllama) -> None:
    async with ClientSession() as http:
        assert (await ask(http, running.url, "mine"))[0] == 404
        running.change(f'[models.aliases]\nmine = "smollm2"\n{config(ollama.url)}')
        assert (await ask(http, running.url, "mine"))[0] == 200


async def test_a_config_that_is_wrong_changes_nothing(running: Running) -> None:
    engine = running.app[ENGINE]
    before = engine.snapshot
    running.change("[server]\nport = 'x'\n")
    assert engine.snapshot is before
    async with ClientSession() as http:
        assert (await ask(http, running.url))[0] == 200


async def test_a_backend_whose_settings_did_not_change_is_kept_with_its_connections(
    running: Running, ollama: FakeOllama
) -> None:
    engine = running.app[ENGINE]
    kept = engine.fleet["ollama"]
    running.change(f'{config(ollama.url)}\n[backends.more]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    assert engine.fleet["ollama"] is kept
    assert list(engine.fleet.members) == ["ollama", "more"]
    running.change(config(ollama.url).replace("read_timeout = 2", "read_timeout = 3"))
    assert engine.fleet["ollama"] is not kept
    assert list(engine.fleet.members) == ["ollama"]


async def test_a_running_stream_is_not_cut_by_a_new_config(running: Running, ollama: FakeOllama) -> None:
    records = [{"message": {"role": "assistant", "content": word}, "done": False} for word in ("a", "b", "c")]
    ollama.play("/api/chat", [*records, {"done": True, "done_reason": "stop"}], pauses=0.1)
    body = {"model": "smollm2", "messages": HELLO, "stream": True}
    async with FakeOllama() as other, ClientSession() as http:
        async with http.post(f"{running.url}/v1/chat/completions", json=body) as response:
            first = await response.content.readany()
            running.change(config(other.url))
            rest = await response.read()
        assert b"[DONE]" not in first
        assert rest.endswith(b"data: [DONE]\n\n")
        assert (await ask(http, running.url))[0] == 200
        assert len(other.asked("/api/chat")) == 1
