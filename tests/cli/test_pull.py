"""`oproxy models pull`: bars at a terminal, lines in a pipe, and Ctrl-C, which ends the pull at the backend too."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import BOOKLESS
from tests.fakes.ollama import FakeOllama
from tests.fakes.terminal import terminal

PULL = (sys.executable, "-m", "ollama_proxy", "models", "pull")
DIGEST = "sha256:38d45623cca1"
STEPS = [
    {"status": "pulling manifest"},
    {"status": "pulling 38d45623cca1", "digest": DIGEST, "total": 46_203_200, "completed": 20_000_000},
    {"status": "pulling 38d45623cca1", "digest": DIGEST, "total": 46_203_200, "completed": 46_203_200},
    {"status": "success"},
]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
def env(tmp_path: Path, ollama: FakeOllama) -> dict[str, str]:
    path = tmp_path / "config.toml"
    quiet = "[store]\nledger = false\n[logs]\nrequests = false\n"
    path.write_text(f'{quiet}[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
    return {**os.environ, **BOOKLESS, "OPROXY_CONFIG": str(path)}


async def test_a_terminal_shows_a_bar_for_the_file_and_a_line_for_each_step(
    ollama: FakeOllama, env: dict[str, str]
) -> None:
    ollama.play("/api/pull", STEPS)
    async with terminal(*PULL, "all-minilm", env=env) as screen:
        await screen.until("all-minilm is here.")
        assert await screen.ended() == 0
    assert "pulling manifest\n" in screen.seen
    assert "46.2/46.2 MB" in screen.seen
    assert "━━━━" in screen.seen
    assert "success\n" in screen.seen


async def test_ctrl_c_at_a_terminal_ends_the_pull_at_the_backend_and_tells_how_to_go_on(
    ollama: FakeOllama, env: dict[str, str]
) -> None:
    ollama.play("/api/pull", STEPS, hold_after=2)
    async with terminal(*PULL, "all-minilm", env=env) as screen:
        await screen.until("20.0/46.2 MB")
        screen.types("\x03")
        assert await screen.ended() == 130
    assert "Stopped. `oproxy models pull all-minilm` goes on with it." in screen.seen
    assert "is here" not in screen.seen
    assert "Traceback" not in screen.seen
    assert screen.painted.rindex("\x1b[?25h") > screen.painted.rindex("\x1b[?25l")
    await asyncio.wait_for(ollama.hangups.wait(), 10)


async def test_ctrl_c_in_a_pipe_ends_the_pull_with_130(ollama: FakeOllama, env: dict[str, str]) -> None:
    ollama.play("/api/pull", STEPS, hold_after=2)
    child = await asyncio.create_subprocess_exec(
        *PULL, "all-minilm", env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert child.stderr is not None
    assert await asyncio.wait_for(child.stderr.readline(), 20) == b"pulling manifest\n"
    assert await asyncio.wait_for(child.stderr.readline(), 20) == b"pulling 38d45623cca1 40 % of 46 MB\n"
    child.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (130, b"")
    assert err == b"Stopped. `oproxy models pull all-minilm` goes on with it.\n"
    await asyncio.wait_for(ollama.hangups.wait(), 10)
