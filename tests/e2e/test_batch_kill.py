"""A daemon that is killed while it answers a batch: what was answered is neither lost nor asked again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.ollama import FakeOllama

from .conftest import free_port
from .test_kill import daemon

LINES = 120
KILLS = 2
CONCURRENCY = 4


def jsonl() -> bytes:
    lines = []
    for number in range(LINES):
        body = {"model": "smollm2", "messages": [{"role": "user", "content": f"line {number}"}]}
        lines.append({"custom_id": f"id-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def asked(ollama: FakeOllama) -> list[str]:
    """Return the texts that the model was asked, in their order."""
    return [body["messages"][-1]["content"] for body in ollama.asked("/api/chat")]


async def submit(url: str) -> str:
    async with aiohttp.ClientSession(url) as http:
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", jsonl(), filename="in.jsonl")
        async with http.post("/v1/files", data=form) as response:
            file = (await response.json())["id"]
        body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        async with http.post("/v1/batches", json=body) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["id"])


def written(id: str) -> set[str]:
    """Return the lines whose answers are on the disk, as the killed daemon left them."""
    folder = Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "files" / "batches" / id
    found = set()
    for line in (folder / "output.jsonl").read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            found.add(json.loads(line)["custom_id"].replace("id-", "line "))
    return found


async def killed_half_way(config: Path, port: int, ollama: FakeOllama, dice: random.Random, id: str) -> str:
    """Let the daemon answer some lines and kill it; submit the batch first if there is none yet."""
    async with daemon(config, port) as child:
        begin = len(asked(ollama))
        id = id or await submit(f"http://127.0.0.1:{port}")
        more = dice.randint(5, 25)
        async with asyncio.timeout(20):
            while len(asked(ollama)) < begin + more:
                ollama.arrived.clear()
                await ollama.arrived.wait()
        os.kill(child.pid, signal.SIGKILL)
        assert await asyncio.to_thread(child.wait, 10) == -signal.SIGKILL
    return id


async def finished(url: str, id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the batch once it is over, and the lines of its results."""
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(30):
        while True:
            async with http.get(f"/v1/batches/{id}") as response:
                batch = await response.json()
            if batch["status"] not in ("validating", "in_progress", "finalizing"):
                break
            await asyncio.sleep(0.05)
        async with http.get(f"/v1/files/{batch['output_file_id']}/content") as response:
            return batch, [json.loads(line) for line in (await response.text()).splitlines()]


async def test_a_killed_daemon_goes_on_with_a_batch_and_asks_nothing_twice_that_was_answered(tmp_path: Path) -> None:
    dice = random.Random()
    async with FakeOllama() as ollama:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[batches]\nconcurrency = {CONCURRENCY}\n[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n'
        )
        port, id = free_port(), ""
        done: set[str] = set()
        for _ in range(KILLS):
            before = len(asked(ollama))
            id = await killed_half_way(config, port, ollama, dice, id)
            again = done & set(asked(ollama)[before:])
            assert not again, "what was answered was asked again"
            done = written(id)
        before = len(asked(ollama))
        async with daemon(config, port):
            batch, lines = await finished(f"http://127.0.0.1:{port}", id)

    assert not done & set(asked(ollama)[before:]), "what was answered was asked again"
    assert batch["status"] == "completed", batch
    assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    assert sorted(line["custom_id"] for line in lines) == sorted(f"id-{number}" for number in range(LINES))
    assert len({line["id"] for line in lines}) == LINES
    # Each kill may take the answers away that were under way, and no others.
    assert len(asked(ollama)) - LINES <= KILLS * CONCURRENCY
    assert batch["usage"]["input_tokens"] == 21 * LINES
