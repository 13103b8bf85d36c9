"""The real Claude Code against the real daemon: a whole turn of an agent, with a tool that it really runs.

The model behind the daemon is a scripted one. Needs the program: `npm install -g @anthropic-ai/claude-code`, or its
path in OPROXY_TEST_CLAUDE.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.ollama import Answer, FakeOllama, line, traces

from .conftest import ENVIRONMENT, end, start

CLAUDE = ENVIRONMENT.get("OPROXY_TEST_CLAUDE") or shutil.which("claude", path=ENVIRONMENT.get("PATH"))
SECRET = "the word is papaya"

pytestmark = pytest.mark.skipif(
    CLAUDE is None, reason="there is no `claude` in PATH, and OPROXY_TEST_CLAUDE names none"
)


class Agent(FakeOllama):
    """A model that reads a file by the shell and tells what is in it. `full`: nothing fits its window."""

    full = False

    def _default(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        if path != "/api/chat":
            return super()._default(method, path, body)
        if self.full:
            trace = traces()["ctx-chat-truncate-false-stream"]
            return Answer(status=trace.status, chunks=[trace.body])
        results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        if results:
            records = [record("It says: "), record(results[-1].strip())]
        elif any(tool["function"]["name"] == "Bash" for tool in body.get("tools", ())):
            arguments = {"command": "cat secret.txt", "description": "Read the file"}
            call = {"id": "call_1", "function": {"index": 0, "name": "Bash", "arguments": arguments}}
            records = [record("I look."), record(tool_calls=[call])]
        else:
            records = [record("A title")]
        done = {**record(), "done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 5}
        return Answer(chunks=[line(each) for each in [*records, done]])


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2-tools", "message": {"role": "assistant", "content": content, **more}, "done": False}


class Desk(NamedTuple):
    """A daemon with a scripted model, a folder to work in, and the environment of a user who has only just come."""

    agent: Agent
    home: Path
    work: Path
    log: Path

    async def claude(self, *args: str, settings: str) -> subprocess.CompletedProcess[str]:
        return await self.run(str(CLAUDE), "--settings", settings, "--allowedTools", "Bash", *args)

    async def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": ENVIRONMENT["PATH"], "HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data")}
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
        child, _, log = await asyncio.to_thread(start, home, config)
        try:
            yield Desk(agent, home, work, log)
        finally:
            assert await asyncio.to_thread(end, child) == 0, log.read_text()


async def settings(desk: Desk) -> str:
    """Return what `oproxy env` tells Claude Code."""
    told = await desk.run(sys.executable, "-m", "ollama_proxy", "env", "--for", "claude-code")
    assert told.returncode == 0, told.stderr
    return told.stdout


async def test_a_whole_turn_with_a_tool(desk: Desk) -> None:
    ways = ("--output-format", "stream-json", "--verbose")
    done = await desk.claude("-p", "What does secret.txt say?", *ways, settings=await settings(desk))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(each) for each in done.stdout.splitlines()]
    blocks = [block for each in lines if each["type"] in ("assistant", "user") for block in each["message"]["content"]]
    assert [block["type"] for block in blocks] == ["text", "tool_use", "tool_result", "text"]
    assert blocks[2]["content"] == SECRET
    result = lines[-1]
    assert (result["subtype"], result["result"], result["num_turns"]) == ("success", f"It says: {SECRET}", 2)
    assert (result["usage"]["input_tokens"], result["usage"]["output_tokens"]) == (200, 10)
    assert set(result["modelUsage"]) == {"smollm2-tools"}
    first, second = desk.agent.asked("/api/chat")
    assert [message["role"] for message in second["messages"]][-2:] == ["assistant", "tool"]
    # The beginning of the prompt is the same, so that a backend need not read it again.
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert second["tools"] == first["tools"]


async def test_a_prompt_that_is_too_long_is_understood(desk: Desk) -> None:
    desk.agent.full = True
    done = await desk.claude("-p", "What does secret.txt say?", settings=await settings(desk))
    assert done.returncode == 1
    assert done.stdout.startswith("Prompt is too long")
    assert "POST /v1/messages" in desk.log.read_text()


async def test_claude_models_are_answered_by_default(desk: Desk) -> None:
    told = json.loads(await settings(desk))
    told["env"] = {name: value for name, value in told["env"].items() if not name.endswith("_MODEL")}
    done = await desk.claude("-p", "What does secret.txt say?", "--model", "haiku", settings=json.dumps(told))
    assert (done.returncode, done.stdout) == (0, f"It says: {SECRET}\n"), done.stderr
    assert {asked["model"] for asked in desk.agent.asked("/api/chat")} == {"smollm2-tools:latest"}


async def test_it_runs_on_an_account_of_its_own(desk: Desk) -> None:
    oproxy = (sys.executable, "-m", "ollama_proxy", "run", "--model", "smollm2-tools", "--")
    claude = (str(CLAUDE), "--allowedTools", "Bash", "-p", "What does secret.txt say?")
    done = await desk.run(*oproxy, *claude)
    assert (done.returncode, done.stdout) == (0, f"It says: {SECRET}\n"), done.stderr
    assert "requests" in done.stderr
