"""`make bench`: what oproxy costs. Prints ratios to the direct way and to a bare aiohttp proxy, measured in one run.

The arms are interleaved, so that a machine that slows down slows all of them. Loopback only, bounded in count.
`--quick` takes a tenth of the requests.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .load import Shot, Target, run
from .mock import CHUNKS
from .process import Process, free_port

QUICK = "--quick" in sys.argv
ROUNDS = 5
REQUESTS = 200 if QUICK else 1000
STREAMS = 10 if QUICK else 50
SOAK = 2000 if QUICK else 20_000
# Seconds between the chunks of a stream, where each is to come alone.
PAUSE = 0.001

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France? Answer in one sentence."},
]


def body(**more: object) -> bytes:
    return json.dumps({"model": "bench", "messages": MESSAGES, **more}, separators=(",", ":")).encode()


def responses_arms(port: int) -> list[Target]:
    """Return one stream asked for by both of OpenAI's APIs, and kept."""

    def asked(**more: object) -> bytes:
        told = {"model": "bench", "input": MESSAGES, "temperature": 0, "max_output_tokens": 64, **more}
        return json.dumps(told, separators=(",", ":")).encode()

    return [
        Target("chat", port, "/v1/chat/completions", b"", body(temperature=0, max_tokens=64, stream=True)),
        Target("responses", port, "/v1/responses", b"", asked(stream=True, store=False)),
        Target("responses, kept", port, "/v1/responses", b"", asked(stream=True)),
    ]


# What costs something beside the translation, all off, and all on with limits that are never reached.
OFF = """
[store]
ledger = false
[logs]
requests = false
"""
ON = """
[auth]
mode = "on"
[limits]
requests_per_minute = 1_000_000_000
tokens_per_minute = 1_000_000_000
[limits.address]
concurrent = 100_000
[budget]
tokens_per_month = 1_000_000_000_000
[queue]
max_concurrent = 1000
"""


def arms(upstream: int, bare: int, oproxy: int, accounted: int) -> list[Target]:
    native = body(stream=False), body(stream=True)
    openai = body(temperature=0, max_tokens=64), body(temperature=0, max_tokens=64, stream=True)
    return [
        Target("direct", upstream, "/api/chat", *native),
        Target("bare aiohttp", bare, "/api/chat", *native),
        Target("oproxy", oproxy, "/v1/chat/completions", *openai),
        Target("with accounts", accounted, "/v1/chat/completions", *openai),
    ]


def micros(values: list[float], share: float = 0.5) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e6


def row(name: str, *cells: str) -> None:
    print(f"{name:<44}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


async def latency(targets: list[Target]) -> None:
    shots: dict[str, list[Shot]] = {t.name: [] for t in targets}
    for _ in range(ROUNDS):
        for target in targets:
            shots[target.name] += (await run(target, count=REQUESTS // ROUNDS, connections=1))[0]
    for share, word in ((0.5, "median"), (0.99, "p99")):
        figures = [micros([s.total for s in shots[t.name]], share) for t in targets]
        row(f"latency {word}, 1 connection (µs)", *(f"{f:.0f}" for f in figures))
        row("  added to direct (µs)", "", *(f"{f - figures[0]:.0f}" for f in figures[1:]))


async def throughput(targets: list[Target], processes: dict[str, Process]) -> None:
    for connections in (1, 8, 64):
        rates: dict[str, list[float]] = {t.name: [] for t in targets}
        cpu: dict[str, float] = {t.name: 0.0 for t in targets}
        for _ in range(ROUNDS):
            for target in targets:
                before = processes[target.name].cpu()
                _, seconds = await run(target, count=REQUESTS, connections=connections)
                cpu[target.name] += processes[target.name].cpu() - before
                rates[target.name].append(REQUESTS / seconds)
        row(f"requests/s, {connections} connections", *(f"{statistics.median(rates[t.name]):.0f}" for t in targets))
        each = [cpu[t.name] / (ROUNDS * REQUESTS) * 1e6 for t in targets]
        row("  CPU a request (µs)", *(f"{e:.0f}" for e in each))
        row("  ratio of CPU to bare aiohttp", "", "1.00", *(f"{e / each[1]:.2f}" for e in each[2:]))
        row("  ratio of CPU with accounts to without", "", "", "1.00", f"{each[3] / each[2]:.2f}")


async def streaming(targets: list[Target], processes: dict[str, Process]) -> None:
    cpu: dict[str, float] = {t.name: 0.0 for t in targets}
    rate: dict[str, list[float]] = {t.name: [] for t in targets}
    first: dict[str, list[float]] = {t.name: [] for t in targets}
    for _ in range(ROUNDS):
        for target in targets:
            before = processes[target.name].cpu()
            shots, seconds = await run(target, count=STREAMS, connections=1, stream=True)
            cpu[target.name] += processes[target.name].cpu() - before
            rate[target.name].append(STREAMS * CHUNKS / seconds)
            first[target.name] += [s.first for s in shots]
    row("streamed chunks/s, 1 connection", *(f"{statistics.median(rate[t.name]):.0f}" for t in targets))
    each = [cpu[t.name] / (ROUNDS * STREAMS * CHUNKS) * 1e6 for t in targets]
    row("  CPU a chunk (µs)", *(f"{e:.1f}" for e in each))
    row("  ratio to bare aiohttp", "", "1.00", *(f"{e / each[1]:.2f}" for e in each[2:]))
    figures = [micros(first[t.name]) for t in targets]
    row("first token, median (µs)", *(f"{f:.0f}" for f in figures))
    row("  added to direct (µs)", "", *(f"{f - figures[0]:.0f}" for f in figures[1:]))


async def responding(name: str, process: Process) -> None:
    """Compare the same stream through both of OpenAI's APIs, on one daemon whose upstream pauses between the chunks:
    each is a write of its own, as a model's tokens are. In a hurry they come in bundles, larger ones for a slower arm.
    """
    count = STREAMS // 2
    targets = responses_arms(process.port)
    cpu = dict.fromkeys((t.name for t in targets), 0.0)
    for round in range(-1, ROUNDS):
        for target in targets:
            before = process.cpu()
            await run(target, count=count, connections=8, stream=True)
            # The first round only warms up.
            cpu[target.name] += process.cpu() - before if round >= 0 else 0.0
    row(name, "", *(t.name for t in targets))
    each = [cpu[t.name] / (ROUNDS * count * CHUNKS) * 1e6 for t in targets]
    row("  CPU a streamed chunk (µs)", "", *(f"{e:.1f}" for e in each))
    row("  ratio to chat (at most 1.30)", "", "1.00", *(f"{e / each[0]:.2f}" for e in each[1:]))


async def soak(oproxy: Target, process: Process) -> None:
    """Watch the memory of the arm that keeps the most."""
    idle = process.rss()
    marks = []
    for _ in range(4):
        await run(oproxy, count=SOAK // 4, connections=8)
        marks.append(process.rss())
    row("RSS idle (MB)", "", "", "", f"{idle:.1f}")
    row(f"RSS during {SOAK} requests (MB)", "", "", "", " ".join(f"{m:.0f}" for m in marks))


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def helps(folder: Path) -> None:
    empty = folder / "empty.py"
    empty.write_text("import typer\napp = typer.Typer()\n\n@app.command()\ndef main() -> None: ...\n\napp()\n")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(11):
        theirs.append(seconds_of([str(empty), "--help"]))
        ours.append(seconds_of(["-m", "ollama_proxy", "--help"]))
    a, b = statistics.median(theirs), statistics.median(ours)
    row("--help (ms): empty typer program, oproxy", f"{a * 1000:.0f}", "", f"{b * 1000:.0f}")
    row("  ratio", "1.00", "", f"{b / a:.2f}")


def daemon(home: Path, port: int, config: str) -> Process:
    """Return a daemon of its own with this config; the key of the load is known to it."""
    home.mkdir()
    file = home / "config.toml"
    file.write_text(config)
    folders = {f"XDG_{name}_HOME": str(home) for name in ("STATE", "CONFIG", "DATA", "CACHE")}
    env = {**folders, "HOME": str(home), "OPROXY_API_KEYS": "bench=sk-bench"}
    return Process("-m", "ollama_proxy", "serve", "--port", str(port), "--config", str(file), port=port, env=env)


def responses_apart(folder: Path) -> None:
    """Run the arms of the Responses API, each config with a daemon and a slower upstream of its own."""
    upstream = free_port()
    backend = f'[backends.ollama]\ntype = "ollama"\nurl = "http://127.0.0.1:{upstream}"\n'
    with Process("-m", "tests.bench.mock", str(upstream), str(PAUSE), port=upstream):
        for name, config in (("Responses API", OFF), ("Responses API, with accounts", ON)):
            with daemon(folder / name, free_port(), backend + config) as process:
                asyncio.run(responding(name, process))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, bare, oproxy, accounted = (free_port() for _ in range(4))
        backend = f'[backends.ollama]\ntype = "ollama"\nurl = "http://127.0.0.1:{upstream}"\n'
        serve = daemon(folder / "off", oproxy, backend + OFF)
        serve_accounted = daemon(folder / "on", accounted, backend + ON)
        starts = []
        for _ in range(3):
            with serve_accounted as started:
                starts.append(started.start_seconds)
        with (
            Process("-m", "tests.bench.mock", str(upstream), port=upstream) as mock,
            Process("-m", "tests.bench.passthrough", str(bare), f"http://127.0.0.1:{upstream}", port=bare) as plain,
            serve as ours,
            serve_accounted as all_on,
        ):
            targets = arms(upstream, bare, oproxy, accounted)
            processes = {"direct": mock, "bare aiohttp": plain, "oproxy": ours, "with accounts": all_on}
            row("", *(t.name for t in targets))
            asyncio.run(everything(targets, processes))
        responses_apart(folder)
        row("start until it listens, median of 3 (ms)", "", "", "", f"{statistics.median(starts) * 1000:.0f}")
        helps(folder)


async def everything(targets: list[Target], processes: dict[str, Process]) -> None:
    for target in targets:
        await run(target, count=50, connections=4)
        await run(target, count=4, connections=2, stream=True)
    await latency(targets)
    await throughput(targets, processes)
    await streaming(targets, processes)
    await soak(targets[3], processes["with accounts"])


if __name__ == "__main__":
    main()
