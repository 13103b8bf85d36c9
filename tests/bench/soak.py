"""A soak: `python -m tests.bench.soak --minutes 10`. A real daemon with everything on, a scripted backend, and clients
that do what clients do: chats, streams, responses kept and not, files, embeddings, errors, and hang-ups half-way.

Prints what the daemon holds at each interval, and whether that still grows in the second half. Loopback only; ends by
itself. Needs /proc (Linux).

With many large requests, memory in use (`mallinfo2().uordblks`, `sys.getallocatedblocks()`, objects by type) stays the
same from the first minute on: nothing leaks. What grew by some megabytes a minute at first was the arena of glibc,
whose blocks of megabytes left holes that the next did not fit into. They are mapped by themselves now
(`server.run.limit_arenas`): with bodies of 2 MB, the free part of the arena went from 30 MB and more to 2 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from .__main__ import ON, daemon
from .mock import FINAL, SHOW, TAGS, record
from .process import Process, free_port

CLIENTS = 8
COLUMNS = (
    *("minutes", "requests", "RSS MB", "files", "threads", "tasks"),
    *("DB MB", "WAL MB", "logs MB", "lag ms", "worst ms"),
)
KEY = {"authorization": "Bearer sk-bench"}
TEXT = "Tell me about the sea. " * 40
# Growth below this is noise: the allocator's, and caches that are still being filled (MB a minute, file descriptors).
STEADY_MB, STEADY_FDS = 0.5, 1.0


# --- the backend --------------------------------------------------------------------------------------------------


async def chat(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    text = asked["messages"][-1]["content"]
    if text.startswith("fail"):
        return web.json_response({"error": "no luck"}, status=500)
    if not asked.get("stream"):
        return web.Response(body=record("The sea is wide.", **FINAL), content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
    await response.prepare(request)
    for _ in range(2000 if text.startswith("long") else 40):
        await response.write(record(" word") + b"\n")
        await asyncio.sleep(0.002)
    await response.write(record("", **FINAL) + b"\n")
    await response.write_eof()
    return response


async def embed(request: web.Request) -> web.Response:
    asked = await request.json()
    count = len(asked["input"]) if isinstance(asked["input"], list) else 1
    return web.json_response({"model": "embed", "embeddings": [[0.5] * 384] * count, "prompt_eval_count": 7})


def backend(port: int) -> None:
    """Serve the scripted backend until the process is ended."""
    tags: dict[str, Any] = json.loads(json.dumps(TAGS))
    tags["models"].append({**tags["models"][0], "name": "embed:latest", "model": "embed:latest"})

    def told(value: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response(value)

        return answer

    async def show(request: web.Request) -> web.Response:
        kind = "embedding" if "embed" in (await request.json())["model"] else "completion"
        return web.json_response({**SHOW, "capabilities": [kind]})

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/api/chat", chat)
    app.router.add_post("/api/embed", embed)
    app.router.add_post("/api/show", show)
    app.router.add_get("/api/tags", told(tags))
    app.router.add_get("/api/version", told({"version": "0.34.4"}))
    app.router.add_get("/api/ps", told({"models": []}))
    web.run_app(app, host="127.0.0.1", port=port, print=None)


# --- the clients --------------------------------------------------------------------------------------------------


class Clients:
    """What clients do, each thing a method that is one request or a few; `done` counts them by name."""

    def __init__(self, http: aiohttp.ClientSession, dice: random.Random) -> None:
        self.http = http
        self.dice = dice
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    async def post(self, path: str, body: Any, want: int = 200) -> Any:
        async with self.http.post(path, json=body) as response:
            found = await response.read()
            if response.status != want:
                self.wrong[f"{path} {response.status}"] += 1
                return {}
            return json.loads(found) if found.startswith(b"{") else {}

    async def chat(self) -> None:
        # Tags, users and models of which there is no end are clients' doing too.
        who = f"user-{self.dice.randrange(10**9)}"
        await self.post("/v1/chat/completions", {**said(TEXT), "user": who})

    async def stream(self) -> None:
        await self.post("/v1/chat/completions", {**said(TEXT), "stream": True})

    async def hang_up(self) -> None:
        path = self.dice.choice(["/v1/chat/completions", "/v1/responses"])
        body: dict[str, Any] = {**said("long " + TEXT), "stream": True}
        if path == "/v1/responses":
            body = {"model": "bench", "input": "long " + TEXT, "stream": True}
        async with self.http.post(path, json=body) as response:
            await response.content.readany()
            await asyncio.sleep(self.dice.random() * 0.2)
            response.close()

    async def response(self) -> None:
        await self.post("/v1/responses", {"model": "bench", "input": TEXT, "store": False})

    async def response_kept(self) -> None:
        first = await self.post("/v1/responses", {"model": "bench", "input": TEXT})
        if id := first.get("id"):
            await self.post("/v1/responses", {"model": "bench", "input": "And?", "previous_response_id": id})
            async with self.http.delete(f"/v1/responses/{id}") as response:
                await response.read()

    async def file(self) -> None:
        form = aiohttp.FormData()
        form.add_field("purpose", "user_data")
        form.add_field("file", self.dice.randbytes(200_000), filename="a.bin")
        async with self.http.post("/v1/files", data=form) as response:
            id = (await response.json())["id"]
        async with self.http.get(f"/v1/files/{id}/content") as response:
            await response.read()
        async with self.http.delete(f"/v1/files/{id}") as response:
            await response.read()

    async def embedding(self) -> None:
        await self.post("/v1/embeddings", {"model": "embed", "input": [TEXT] * 8})

    async def failure(self) -> None:
        await self.post("/v1/chat/completions", said("fail"), 502)

    async def unknown_model(self) -> None:
        await self.post("/v1/chat/completions", {**said("x"), "model": f"no-{self.dice.randrange(10**9)}"}, 404)

    async def wrong_key(self) -> None:
        headers = {"authorization": f"Bearer sk-{self.dice.randrange(10**9)}"}
        async with self.http.get("/v1/models", headers=headers) as response:
            await response.read()

    async def large(self) -> None:
        await self.post("/v1/chat/completions", said("word " * 400_000))

    async def run(self, until: float) -> None:
        kinds = [
            *[self.chat] * 30, *[self.stream] * 10, *[self.hang_up] * 5, *[self.response] * 8,
            *[self.response_kept] * 8, *[self.file] * 3, *[self.embedding] * 6, *[self.failure] * 3,
            *[self.unknown_model] * 3, *[self.wrong_key] * 3, self.large,
        ]  # fmt: skip
        while time.monotonic() < until:
            kind = self.dice.choice(kinds)
            try:
                await kind()
            except (aiohttp.ClientError, TimeoutError, KeyError) as exc:
                self.wrong[f"{kind.__name__}: {type(exc).__name__}"] += 1
            self.done[kind.__name__] += 1


def said(text: str) -> dict[str, Any]:
    return {"model": "bench", "messages": [{"role": "user", "content": text}]}


# --- what is watched ----------------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """What a daemon holds at a time (minutes since the start)."""

    at: float
    requests: int
    rss: float
    fds: int
    threads: int
    tasks: int
    database: float
    wal: float
    logs: float
    lag_ms: float
    worst_ms: float


def size(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file()) / 1e6


def token_of(home: Path) -> str:
    token: str = json.loads(next(home.rglob("daemon.json")).read_text())["token"]
    return token


async def look(process: Process, home: Path, http: aiohttp.ClientSession, at: float, requests: int) -> Mark:
    # A daemon that asks for keys tells only its administrators how it is, and this machine's own commands.
    async with http.get("/v1/health", headers={"authorization": f"Bearer {token_of(home)}"}) as response:
        loop = (await response.json())["loop"]
    proc = Path(f"/proc/{process.pid}")
    return Mark(
        at,
        requests,
        process.rss(),
        len(list((proc / "fd").iterdir())),
        len(list((proc / "task").iterdir())),
        loop["tasks"],
        size(home, "*.db"),
        size(home, "*.db-wal"),
        size(home, "*.jsonl*"),
        loop["max_ms"],
        loop["worst_ms"],
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much y grows per x, by least squares."""
    n = len(points)
    x, y = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    spread = sum((p[0] - x) ** 2 for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / spread if spread else 0.0


def verdict(marks: Sequence[Mark]) -> str:
    """Say whether memory, files or tasks still grow in the second half."""
    half = marks[len(marks) // 2 :]
    if len(half) < 3:
        return "too short for a verdict"
    memory = slope([(mark.at, mark.rss) for mark in half])
    files = slope([(mark.at, float(mark.fds)) for mark in half])
    tasks = slope([(mark.at, float(mark.tasks)) for mark in half])
    each = slope([(float(mark.requests), mark.rss) for mark in half]) * 1e6
    grows = memory > STEADY_MB or files > STEADY_FDS or tasks > STEADY_FDS
    return (
        f"{'GROWS' if grows else 'steady'}: in the second half RSS {memory:+.2f} MB a minute "
        f"({each:+.0f} bytes a request), "
        f"open files {files:+.2f}, tasks {tasks:+.2f} a minute"
    )


def show(mark: Mark) -> None:
    cells = (
        f"{mark.at:.1f}", mark.requests, f"{mark.rss:.1f}", mark.fds, mark.threads, mark.tasks, f"{mark.database:.1f}",
        f"{mark.wal:.1f}", f"{mark.logs:.1f}", f"{mark.lag_ms:.0f}", f"{mark.worst_ms:.0f}",
    )  # fmt: skip
    print("".join(f"{cell:>10}" for cell in cells), flush=True)


async def soak(process: Process, home: Path, minutes: float, clients: int, step: float) -> list[Mark]:
    start = time.monotonic()
    until = start + minutes * 60
    url = f"http://127.0.0.1:{process.port}"
    timeout, connector = aiohttp.ClientTimeout(total=120), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector, headers=KEY) as http:
        crowd = Clients(http, random.Random(1))
        running = asyncio.gather(*(crowd.run(until) for _ in range(clients)))
        marks = []
        while not running.done():
            await asyncio.wait([running], timeout=step)
            marks.append(await look(process, home, http, (time.monotonic() - start) / 60, sum(crowd.done.values())))
            show(marks[-1])
        await running
        # Without load: what is given back.
        await asyncio.sleep(5)
        print("idle:", flush=True)
        show(await look(process, home, http, (time.monotonic() - start) / 60, sum(crowd.done.values())))
    print("requests:", dict(crowd.done.most_common()))
    print("not as expected:", dict(crowd.wrong) or "none")
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--step", type=float, default=0.0, help="seconds between marks (default: a minute at most)")
    args = parser.parse_args()
    upstream, port = free_port(), free_port()
    config = f'[backends.ollama]\ntype = "ollama"\nurl = "http://127.0.0.1:{upstream}"\n' + ON
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        with (
            Process("-m", "tests.bench.soak", "backend", str(upstream), port=upstream),
            daemon(home, port, config) as process,
        ):
            print("".join(f"{word:>10}" for word in COLUMNS))
            step = args.step or min(60.0, args.minutes * 60 / 10)
            marks = asyncio.run(soak(process, home, args.minutes, args.clients, step))
    print(verdict(marks))


if __name__ == "__main__":
    if sys.argv[1:2] == ["backend"]:
        backend(int(sys.argv[2]))
    else:
        main()
