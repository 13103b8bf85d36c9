"""Every method of the official SDKs that is served, called by the SDKs themselves: what each is called with and what
must hold of its answer is in every/steps.json; a served method that is not there fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.translate.moderations import CATEGORIES
from tests.conftest import Start
from tests.fakes.ollama import Answer, FakeOllama, whole
from tests.openai_routes import methods
from tests.server.conftest import config

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "every"
CONTROL = "the-control-token"
STEPS: list[Any] = json.loads((HERE / "steps.json").read_text())


class Ollama(FakeOllama):
    """One that also judges, when it is asked for a judgement."""

    def _of_model(self, path: str, body: dict[str, Any], model: dict[str, Any]) -> Answer:
        if path == "/api/chat" and body.get("format"):
            message = {"role": "assistant", "content": json.dumps(dict.fromkeys(CATEGORIES, 0))}
            return whole({"model": model["name"], "done": True, "done_reason": "stop", "message": message})
        return super()._of_model(path, body, model)


async def told_by(*command: str | Path, env: Mapping[str, str] = {}) -> Any:
    """Run a driver; return what it tells."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, env={**os.environ, **env}, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(child.communicate(), 100)
    assert child.returncode == 0, err.decode()
    return json.loads(out)


def test_every_method_that_is_served_is_called() -> None:
    served = {sdk.call for sdk in methods() if sdk.how == "served"}
    assert {step["call"] for step in STEPS} == served


def python_sdk(line: str) -> tuple[list[str | Path], dict[str, str]]:
    """Return the driver of a line of the Python SDK, and what must be in its environment."""
    command: list[str | Path] = [sys.executable, HERE / "drive.py"]
    if line == "3.":
        return command, {}
    found = sorted(ROOT.glob(".venv-openai2/lib/python*/site-packages"))
    if not found:
        pytest.skip("openai 2.x is not installed: make sdk2")
    return command, {"PYTHONPATH": str(found[0])}


def node_sdk() -> tuple[list[str | Path], dict[str, str]]:
    node, folder = shutil.which("node"), ROOT / ".node-openai"
    if node is None or not (folder / "node_modules" / "openai").is_dir():
        pytest.skip("openai-node is not installed: make sdknode")
    return [node, HERE / "drive.mjs", folder], {}


@pytest.mark.parametrize(("line", "missing"), [("3.", []), ("2.", []), ("6.", ["files.retrieve_content"])])
async def test_an_sdk_calls_every_method(start_proxy: Start, line: str, missing: list[str]) -> None:
    command, env = node_sdk() if line == "6." else python_sdk(line)
    async with Ollama() as ollama:
        proxy = await start_proxy(config(ollama.url), books=True, control=CONTROL)
        told = await told_by(*command, proxy.url, CONTROL, env=env)
    assert told["version"].startswith(line)
    assert (told["wrong"], told["missing"]) == ([], missing)
    assert {*told["called"], *missing} == {step["call"] for step in STEPS}
