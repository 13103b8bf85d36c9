"""`oproxy models` and `oproxy chat` as processes, in a pipe, without a daemon, with a fake Ollama behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import BOOKLESS
from tests.fakes.ollama import FakeOllama


class Ended(NamedTuple):
    """What a command left behind."""

    code: int | None
    out: str
    err: str


class Shell:
    """Runs `oproxy` with the fake as the only Ollama."""

    def __init__(self, ollama: FakeOllama, config: Path) -> None:
        self.ollama, self.config = ollama, config

    async def __call__(self, *args: str, stdin: str = "") -> Ended:
        env = {**os.environ, **BOOKLESS, "OPROXY_CONFIG": str(self.config)}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ollama_proxy", *args, env=env,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(child.communicate(stdin.encode()), 60)
        return Ended(child.returncode, out.decode(), err.decode())


@pytest.fixture
async def oproxy(tmp_path: Path) -> AsyncIterator[Shell]:
    async with FakeOllama() as fake:
        config = tmp_path / "config.toml"
        config.write_text(f'# mine\n[backends.ollama]\ntype = "ollama"\nurl = "{fake.url}"  # here\n')
        yield Shell(fake, config)


async def test_models_are_listed_with_tabs_in_a_pipe_and_as_json(oproxy: Shell) -> None:
    listed = await oproxy("models", "list")
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert listed.code == 0
    assert rows[0][:2] == ["NAME", "BACKEND"]
    assert {"smollm2", "all-minilm"} <= {row[0] for row in rows}
    assert "\x1b" not in listed.out
    found = json.loads((await oproxy("models", "list", "--json")).out)
    assert {"models", "aliases", "unreachable"} == set(found)
    names = (await oproxy("models", "list", "--names")).out.split()
    assert "smollm2-jinja" in names


async def test_a_model_is_shown_and_an_unknown_one_is_an_error(oproxy: Shell) -> None:
    shown = await oproxy("models", "show", "smollm2-tools")
    assert shown.code == 0
    assert "tools" in dict(line.split("\t", 1) for line in shown.out.splitlines())["can"]
    wrong = await oproxy("models", "show", "nosuch")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.startswith("oproxy: The model `nosuch` does not exist")
    assert wrong.err.count("\n") == 1


async def test_a_pull_tells_its_steps_and_its_failure(oproxy: Shell) -> None:
    done = await oproxy("models", "pull", "all-minilm")
    assert done.code == 0
    assert "100 % of 46 MB" in done.err
    oproxy.ollama.play("/api/pull", [{"status": "pulling manifest"}, {"error": "no such host"}])
    failed = await oproxy("models", "pull", "nope")
    assert failed.code == 1
    assert "no such host" in failed.err


async def test_a_model_is_removed_only_with_a_yes(oproxy: Shell) -> None:
    asked = await oproxy("models", "rm", "smollm2")
    assert (asked.code, oproxy.ollama.asked("/api/delete")) == (1, [])
    assert "--yes" in asked.err
    done = await oproxy("models", "rm", "smollm2", "--yes")
    assert (done.code, oproxy.ollama.asked("/api/delete")) == (0, [{"model": "smollm2:latest"}])


async def test_models_are_loaded_listed_and_unloaded(oproxy: Shell) -> None:
    assert (await oproxy("models", "load", "smollm2", "--keep-alive", "10m")).code == 0
    assert "smollm2" in (await oproxy("models", "ps")).out
    assert (await oproxy("models", "unload", "smollm2")).code == 0
    assert oproxy.ollama.asked("/api/generate")[-1]["keep_alive"] == 0


async def test_aliases_are_kept_in_the_file_with_its_comments(oproxy: Shell) -> None:
    assert (await oproxy("models", "alias", "add", "gpt-4*", "smollm2")).code == 0
    text = oproxy.config.read_text()
    assert text.startswith("# mine\n")
    assert "# here" in text
    assert "gpt-4*\tsmollm2" in (await oproxy("models", "alias", "list")).out
    assert (await oproxy("models", "alias", "rm", "gpt-4*")).code == 0
    gone = await oproxy("models", "alias", "rm", "gpt-4*")
    assert gone.code == 1
    assert "no alias" in gone.err


async def test_a_backend_that_is_away_is_told(oproxy: Shell) -> None:
    await oproxy.ollama.stop()
    listed = await oproxy("models", "list")
    assert listed.code == 1
    assert "not reachable" in listed.err


def record(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": False, **more}


DONE = record("", done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)


async def test_a_question_is_answered_as_plain_text(oproxy: Shell) -> None:
    thought = {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}
    oproxy.ollama.play("/api/chat", [thought, record("**Hel"), record("lo**\x1b[31m"), DONE])
    done = await oproxy("chat", "Say", "hello", "-m", "smollm2", "--stats", stdin="and this\n")
    assert (done.code, done.out) == (0, "**Hello**[31m\n")
    assert "9 + 3 tokens" in done.err
    assert oproxy.ollama.asked("/api/chat")[0]["messages"] == [{"role": "user", "content": "Say hello\n\nand this"}]


async def test_what_cannot_be_asked_is_told(oproxy: Shell) -> None:
    assert (await oproxy("chat")).code == 2
    assert (await oproxy("chat", "hi", "--temperature", "9")).code == 2
    wrong = await oproxy("chat", "hi", "-m", "nosuch")
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (1, "", 1)


async def test_an_answer_that_breaks_off_is_printed_as_far_as_it_came(oproxy: Shell) -> None:
    oproxy.ollama.play("/api/chat", [record("Hel"), {"error": "model runner has unexpectedly stopped"}])
    broken = await oproxy("chat", "hi", "-m", "smollm2")
    assert (broken.code, broken.out) == (1, "Hel\n")
    assert "unexpectedly stopped" in broken.err


async def test_the_whole_answer_is_printed_for_programs(oproxy: Shell) -> None:
    oproxy.ollama.play("/api/chat", [record('{"x": 1}', done=True, done_reason="stop")])
    schema = '{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}'
    done = await oproxy("chat", "hi", "-m", "smollm2", "--json", "--schema", schema)
    assert json.loads(done.out)["output"][0]["content"][0]["text"] == '{"x": 1}'
    assert oproxy.ollama.asked("/api/chat")[0]["format"]["required"] == ["x"]
