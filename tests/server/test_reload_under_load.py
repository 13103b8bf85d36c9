"""A config that is written again and again while streams run: none is cut, and what it says holds from then on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import RELOADER
from ollama_proxy.settings import Loaded, load
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO

STREAMS = 20
WORDS = 60
WHOLE = "".join(f"{number} " for number in range(WORDS))
# Seconds between two words: a stream lasts for longer than all the rewriting takes.
PAUSE = 0.05


def written(url: str, number: int) -> str:
    """Return the config of one rewriting: other limits, another backend object, now and then one backend more."""
    spare = f'[backends.spare]\ntype = "ollama"\nurl = "{url}"\n' if number % 2 else ""
    return (
        f"[store]\nledger = false\n[logs]\nrequests = false\n[queue]\nmax_concurrent = {STREAMS + 5 + number}\n"
        f"[limits]\nrequests_per_minute = {1000 + number}\ntokens_per_minute = {1_000_000 + number}\n"
        f'[backends.ollama]\ntype = "ollama"\nurl = "{url}"\nread_timeout = {10 + number}\n{spare}'
    )


def answer() -> list[Any]:
    """Return a long stream in Ollama's words."""
    said = [{"role": "assistant", "content": f"{number} "} for number in range(WORDS)]
    words = [{"model": "smollm2", "message": message, "done": False} for message in said]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 21, "eval_count": WORDS}
    return [*words, {"model": "smollm2", "message": {"role": "assistant", "content": ""}, **end}]


async def read_stream(http: aiohttp.ClientSession) -> str:
    """Ask for a stream and return its text; it must be whole."""
    body = {"model": "smollm2", "messages": HELLO, "stream": True}
    async with http.post("/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        text = await response.text()
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert not any("error" in chunk for chunk in chunks)
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def limit_now(http: aiohttp.ClientSession) -> int:
    """Return the limit by which a new request is let in."""
    async with http.post("/v1/chat/completions", json={"model": "smollm2", "messages": HELLO}) as response:
        assert response.status == 200, await response.text()
        return int(response.headers["x-ratelimit-limit-requests"])


async def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


def save(file: Path, text: str) -> None:
    """Save as editors do: a new file in the place of the old one."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


class Serving(NamedTuple):
    """An application whose config is a file, a session to it, and the lines it has said."""

    app: web.Application
    http: aiohttp.ClientSession
    said: list[str]


@asynccontextmanager
async def serving(file: Path) -> AsyncIterator[Serving]:
    said: list[str] = []

    def read() -> Loaded:
        return load(path=file, env={}, flags={})

    app = build_app(read(), say=said.append, reload=read, env={})
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://{}:{}".format(*runner.addresses[0][:2])
        # As many connections as there are requests: nobody may wait in the client.
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
            yield Serving(app, http, said)
    finally:
        await runner.cleanup()


async def test_a_config_rewritten_ten_times_under_load_cuts_no_stream_and_holds_at_once(
    tmp_path: Path, ollama: FakeOllama
) -> None:
    file = tmp_path / "config.toml"
    save(file, written(ollama.url, 0))
    for _ in range(STREAMS):
        ollama.play("/api/chat", answer(), pauses=PAUSE)
    async with serving(file) as (app, http, said), asyncio.TaskGroup() as group:
        streams = [group.create_task(read_stream(http)) for _ in range(STREAMS)]
        await until(lambda: len(ollama.asked("/api/chat")) == STREAMS)
        for number in range(1, 11):
            save(file, written(ollama.url, number))
            app[RELOADER].reload_now()
            assert await limit_now(http) == 1000 + number
        # One that is broken changes nothing.
        save(file, "[limits]\nrequests_per_minute = -1\n")
        app[RELOADER].reload_now()
        assert await limit_now(http) == 1010
        assert any("is refused" in line for line in said)
        assert not any(stream.done() for stream in streams)

        assert [await stream for stream in streams] == [WHOLE] * STREAMS


async def test_a_rewritten_config_is_noticed_under_load(tmp_path: Path, ollama: FakeOllama) -> None:
    file = tmp_path / "config.toml"
    save(file, written(ollama.url, 0))
    ollama.play("/api/chat", answer(), pauses=PAUSE)
    async with serving(file) as (_, http, said), asyncio.TaskGroup() as group:
        stream = group.create_task(read_stream(http))
        await until(lambda: ollama.asked("/api/chat"))
        save(file, written(ollama.url, 7))
        await until(lambda: any("was read again" in line for line in said))

        assert await limit_now(http) == 1007
        assert await stream == WHOLE
