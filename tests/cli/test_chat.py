"""`oproxy chat` as a process, at a terminal and in a pipe, with a fake Ollama behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BOOKLESS
from tests.fakes.ollama import FakeOllama
from tests.fakes.terminal import terminal

OPROXY = (sys.executable, "-m", "ollama_proxy")
CTRL_C, CTRL_D = "\x03", "\x04"


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


DONE = record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)


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


async def test_a_conversation_at_a_terminal_is_painted_and_ctrl_c_ends_an_answer_only(
    ollama: FakeOllama, env: dict[str, str]
) -> None:
    ollama.play("/api/chat", [record("Some **bold** words"), DONE])
    ollama.play("/api/chat", [record("Once upon"), record(" a time"), DONE], hold_after=1)
    async with terminal(*OPROXY, "chat", "-m", "smollm2", env=env) as screen:
        await screen.until(">>>")
        screen.types("Hi\r")
        await screen.until("Some bold words")
        assert "**" not in screen.seen
        assert "\x1b[1mbold" in screen.painted
        await screen.until(">>>")
        screen.types("A story\r")
        await screen.until("Once upon")
        screen.types(CTRL_C)
        await screen.until("(stopped)")
        await asyncio.wait_for(ollama.hangups.wait(), 10)
        await screen.until(">>>")
        screen.types("And then?\r/usage\r")
        await screen.until("2 answers, ")
        await screen.until(">>>")
        screen.types(CTRL_D)
        assert await screen.ended() == 0
    assert [turn["content"] for turn in ollama.asked("/api/chat")[2]["messages"]][2:] == [
        "A story", "Once upon", "And then?",
    ]  # fmt: skip
    assert "Traceback" not in screen.seen


async def test_ctrl_c_ends_a_single_question_with_130_and_frees_the_model(
    ollama: FakeOllama, env: dict[str, str]
) -> None:
    ollama.play("/api/chat", [record("Once upon"), DONE], hold_after=1)
    child = await asyncio.create_subprocess_exec(
        *OPROXY, "chat", "A story", "-m", "smollm2", env=env,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.read(9), 20) == b"Once upon"
    child.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 130
    assert out == b"\n"  # the line that was begun is ended
    assert b"Traceback" not in err
    await asyncio.wait_for(ollama.hangups.wait(), 10)


async def test_ctrl_c_at_a_terminal_leaves_the_terminal_as_it_was(ollama: FakeOllama, env: dict[str, str]) -> None:
    ollama.play("/api/chat", [record("Once upon"), DONE], hold_after=1)
    async with terminal(*OPROXY, "chat", "A story", "-m", "smollm2", env=env) as screen:
        await screen.until("Once upon")
        screen.types(CTRL_C)
        assert await screen.ended() == 130
    # The cursor that was hidden while painting is back.
    assert screen.painted.rindex("\x1b[?25h") > screen.painted.rindex("\x1b[?25l")
    assert "Traceback" not in screen.seen
    await asyncio.wait_for(ollama.hangups.wait(), 10)
