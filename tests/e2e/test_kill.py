"""The books of a daemon that is killed under load: whoever has a whole answer finds it in the ledger, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.ollama import FakeOllama

from .conftest import free_port

CONNECTIONS = 6
KILLS = 3
# Answers between two kills: enough for some to end together, few enough for a short test.
ANSWERS = (20, 60)


@dataclass
class Client:
    """Several connections that ask as fast as they are answered. `got` has the ids of whole answers, with whether
    they were streams; `broken` counts requests that ended otherwise, which may be booked or not."""

    url: str
    got: dict[str, bool] = field(default_factory=dict)
    broken: int = 0
    on_answer: Callable[[], None] = lambda: None
    over: bool = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self.ask_on(random.Random(number)))

    async def ask_on(self, dice: random.Random) -> None:
        async with aiohttp.ClientSession(self.url) as http:
            while not self.over:
                try:
                    await self.ask(http, stream=dice.random() < 0.5)
                except aiohttp.ClientConnectorError:
                    # Nobody listens: the request never left.
                    await asyncio.sleep(0.02)
                except (aiohttp.ClientError, OSError):
                    self.broken += 1

    async def ask(self, http: aiohttp.ClientSession, *, stream: bool) -> None:
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        async with http.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
            if not stream:
                assert json.loads(await response.read())["object"] == "chat.completion"
                self.note(response, stream)
                return
            text = b""
            async for data in response.content.iter_any():
                text += data
                # Counted as soon as it is seen, not when the connection is done with it.
                if text.endswith(b"data: [DONE]\n\n"):
                    self.note(response, stream)
                    return
            raise aiohttp.ClientPayloadError("the stream broke off")

    def note(self, response: aiohttp.ClientResponse, stream: bool) -> None:
        id = response.headers["x-request-id"]
        assert id not in self.got
        self.got[id] = stream
        self.on_answer()


def start(config: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ollama_proxy", "serve", "--port", str(port), "--config", str(config)]
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


@asynccontextmanager
async def daemon(config: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run `oproxy serve`; killed at the end at the latest."""
    log = config.with_name("serve.log")
    child = start(config, port, log)
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(500):
                assert child.poll() is None, log.read_text()
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/health"):
                        break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError(f"it never listened:\n{log.read_text()}")
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        await asyncio.to_thread(child.wait)


async def killed_under_load(config: Path, port: int, client: Client, dice: random.Random) -> None:
    """Start the daemon and kill it after some answers, in the very step in which the last of them came in."""
    left = dice.randint(*ANSWERS)
    killed = asyncio.Event()
    async with daemon(config, port) as child:

        def kill() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(child.pid, signal.SIGKILL)
                killed.set()

        client.on_answer = kill
        await asyncio.wait_for(killed.wait(), 20)
        assert await asyncio.to_thread(child.wait, 10) == -signal.SIGKILL


def rows() -> list[dict[str, Any]]:
    """Return the ledger's rows as the killed daemon left them."""
    with closing(sqlite3.connect(Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "oproxy.db")) as database:
        database.row_factory = sqlite3.Row
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return [dict(row) for row in database.execute("SELECT * FROM requests")]


async def test_killed_under_load_it_has_booked_every_answer_that_arrived_whole_and_none_twice(tmp_path: Path) -> None:
    dice = random.Random()
    async with FakeOllama() as ollama:
        config = tmp_path / "config.toml"
        config.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
        port = free_port()
        client = Client(f"http://127.0.0.1:{port}")
        async with asyncio.TaskGroup() as group:
            group.create_task(client.run())
            for _ in range(KILLS):
                await killed_under_load(config, port, client, dice)
            client.over = True

    booked = rows()
    ids = [row["id"] for row in booked]
    assert len(set(ids)) == len(ids)
    assert set(client.got) - set(ids) == set(), "answers that arrived whole are missing"
    # What is booked beyond that was under way when the daemon died; an answer booked twice would be one too many.
    assert len(ids) - len(client.got) <= client.broken
    assert {True, False} <= set(client.got.values())
    for row in booked:
        if row["id"] in client.got:
            assert bool(row["stream"]) == client.got[row["id"]]
            assert (row["status"], row["code"], row["endpoint"]) == (200, None, "/v1/chat/completions")
            assert (row["prompt"], row["completion"], row["exact"]) == (21, 8, 1)
