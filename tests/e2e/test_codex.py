"""The real Codex against the real daemon: a whole turn of an agent, with a command that it really runs.

The model behind the daemon is a scripted one. Needs the program: `npm install -g @openai/codex`, or its path in
OPROXY_TEST_CODEX.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.ollama import Answer, FakeOllama, line

from .conftest import ENVIRONMENT, end, start

CODEX = ENVIRONMENT.get("OPROXY_TEST_CODEX") or shutil.which("codex", path=ENVIRONMENT.get("PATH"))
SECRET = "the word is papaya"
FREE = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")

pytestmark = pytest.mark.skipif(CODEX is None, reason="there is no `codex` in PATH, and OPROXY_TEST_CODEX names none")


class Agent(FakeOllama):
    """A model that reads a file by the shell and tells what is in it."""

    def _default(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        if path != "/api/chat":
            return super()._default(method, path, body)
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        if results:
            records = [record("It says: "), record(SECRET if SECRET in results[-1] else results[-1])]
        else:
            call = {
                "id": "call_1",
                "function": {"index": 0, "name": "exec_command", "arguments": {"cmd": "cat secret.txt"}},
            }
            records = [record("I look."), record(tool_calls=[call])]
        done = {**record(), "done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 5}
        return Answer(chunks=[line(each) for each in [*records, done]])


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2-tools", "message": {"role": "assistant", "content": content, **more}, "done": False}


class Desk(NamedTuple):
    """A daemon with a scripted model, a folder to work in, and the environment of a user who has only just come."""

    agent: Agent
    home: Path
    work: Path
    url: str
    log: Path

    async def codex(self, config: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        folder = self.home / ".codex"
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(config)
        return await self.run(str(CODEX), "exec", *FREE, *args, "What does secret.txt say?", **env)

    async def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": ENVIRONMENT["PATH"], "HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data"), **more}
        child = await asyncio.create_subprocess_exec(
            *command, cwd=self.work, env=env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(child.communicate(), 60)
        except TimeoutError:
            child.kill()
            raise
        return subprocess.CompletedProcess(command, child.returncode or 0, out.decode(), err.decode())

    def seen(self, done: subprocess.CompletedProcess[str]) -> None:
        """Check that the whole turn went well."""
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip() == f"It says: {SECRET}"
        first, second = self.agent.asked("/api/chat")
        assert [message["role"] for message in second["messages"]][-2:] == ["assistant", "tool"]
        # The beginning of the prompt is the same, so that a backend need not read it again.
        assert second["messages"][: len(first["messages"])] == first["messages"]
        assert second["tools"] == first["tools"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    home, work = tmp_path / "user", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "secret.txt").write_text(f"{SECRET}\n")
    async with Agent() as agent:
        config = (
            f'[backends.ollama]\ntype = "ollama"\nurl = "{agent.url}"\n[models]\ndefault = "smollm2-tools"\n'
            "num_ctx = 65536\n[logs]\nrequests = false\n"
        )
        child, port, log = await asyncio.to_thread(start, home, config)
        try:
            yield Desk(agent, home, work, f"http://127.0.0.1:{port}/v1", log)
        finally:
            assert await asyncio.to_thread(end, child) == 0, log.read_text()


async def test_a_whole_turn_with_what_oproxy_env_tells(desk: Desk) -> None:
    told = await desk.run(sys.executable, "-m", "ollama_proxy", "env", "--for", "codex")
    assert told.returncode == 0, told.stderr
    desk.seen(await desk.codex(told.stdout, OPENAI_API_KEY="sk-any"))
    assert desk.log.read_text().count("POST /v1/responses") == 2


async def test_a_whole_turn_over_a_websocket(desk: Desk) -> None:
    config = f'model = "gpt-5.5"\nopenai_base_url = "{desk.url}"\n'
    desk.seen(await desk.codex(config, CODEX_API_KEY="sk-any"))
    log = desk.log.read_text()
    assert "GET /v1/responses gpt-5.5" in log
    assert "POST /v1/responses" not in log


async def test_a_whole_turn_as_with_ollama(desk: Desk) -> None:
    done = await desk.codex(
        "", "--oss", "--local-provider", "ollama", "-m", "smollm2-tools", CODEX_OSS_BASE_URL=desk.url
    )
    desk.seen(done)
    assert "GET /api/version" in desk.log.read_text()
