"""Ollama's own clients at our door: the official Python package, the `ollama` command itself, and `codex --oss`.

Each is used where it is installed: the package as `ollama`, the commands in PATH or where OPROXY_TEST_OLLAMA and
OPROXY_TEST_CODEX say.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import fake_openai
from tests.server.conftest import HELLO, config

# As the environment is before the isolating fixture empties it.
COMMAND = os.environ.get("OPROXY_TEST_OLLAMA") or shutil.which("ollama")
CODEX = os.environ.get("OPROXY_TEST_CODEX") or shutil.which("codex")
PATH = os.environ.get("PATH", "")
WORD = "the-daemons-own-word"


class Door(NamedTuple):
    """A proxy, whether an Ollama is behind it, and the names of a model that chats and one that embeds."""

    proxy: Proxy
    own: bool
    chat: str
    embed: str
    said: str


@pytest.fixture(params=["ollama", "hub"])
async def door(request: pytest.FixtureRequest, start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Door]:
    if request.param == "ollama":
        proxy = await start_proxy(config(ollama.url))
        yield Door(proxy, True, "smollm2", "all-minilm", "The capital of France is")
        return
    async with fake_openai() as lab:
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n')
        yield Door(proxy, False, "small", "embed", "Hello you.")


# --- the Python package -----------------------------------------------------------------------------------------------


@pytest.fixture
def package() -> Any:
    return pytest.importorskip("ollama", reason="the official package is not installed: pip install ollama")


@pytest.fixture
async def client(package: Any, door: Door) -> AsyncIterator[Any]:
    made = package.AsyncClient(host=door.proxy.url)
    yield made
    await made._client.aclose()


async def test_the_package_lists_and_describes(client: Any, door: Door) -> None:
    models = (await client.list()).models
    assert door.chat in [model.model.removesuffix(":latest") for model in models]
    assert all(model.modified_at.tzinfo and model.digest and model.details for model in models)
    assert (await client.ps()).models == []
    shown = await client.show(door.chat)
    assert "completion" in shown.capabilities
    assert shown.details is not None


async def test_the_package_chats_whole_and_streamed(client: Any, door: Door) -> None:
    answer = await client.chat(door.chat, HELLO)
    pieces = [piece async for piece in await client.chat(door.chat, HELLO, stream=True)]
    assert answer.message.content.startswith(door.said)
    assert "".join(piece.message.content for piece in pieces).startswith(door.said)
    assert (answer.done, answer.done_reason, pieces[-1].done) == (True, "stop", True)
    assert answer.prompt_eval_count == pieces[-1].prompt_eval_count > 0
    assert answer.model == door.chat


async def test_the_package_generates_whole_and_streamed(client: Any, door: Door) -> None:
    answer = await client.generate(door.chat, "Hello", options={"temperature": 0})
    pieces = [piece async for piece in await client.generate(door.chat, "Hello", stream=True)]
    assert answer.response.startswith(door.said)
    assert "".join(piece.response for piece in pieces).startswith(door.said)
    assert answer.eval_count > 0


async def test_the_package_calls_tools(client: Any, door: Door) -> None:
    if door.own:
        pytest.skip("a recorded answer calls none")

    def weather(city: str) -> str:
        """Tell the weather."""
        return f"Sunny in {city}."

    answer = await client.chat(door.chat, HELLO, tools=[weather])
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris"})
    result = {"role": "tool", "content": weather("Paris"), "tool_name": "weather"}
    again = await client.chat(door.chat, [*HELLO, answer.message, result], tools=[weather])
    assert again.message.content == door.said


async def test_the_package_embeds(client: Any, door: Door) -> None:
    answer = await client.embed(door.embed, ["a", "b"])
    assert (len(answer.embeddings), answer.model, answer.prompt_eval_count > 0) == (2, door.embed, True)


async def test_the_package_reads_our_refusals(client: Any, package: Any, door: Door) -> None:
    with pytest.raises(package.ResponseError, match="model 'nope' not found") as caught:
        await client.chat("nope", HELLO)
    assert caught.value.status_code == 404
    pieces = await client.chat("nope", HELLO, stream=True)
    with pytest.raises(package.ResponseError, match="model 'nope' not found") as caught:
        await anext(pieces)
    assert caught.value.status_code == 404


async def test_the_package_pulls_with_progress(client: Any, package: Any, door: Door) -> None:
    if not door.own:
        with pytest.raises(package.ResponseError, match="No configured backend can fetch it"):
            await client.pull("new")
        return
    steps = [step async for step in await client.pull("smollm2", stream=True)]
    assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
    assert max(step.completed or 0 for step in steps) == 46203200


async def test_the_package_gets_in_with_a_key(package: Any, start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=WORD)
    headers = {"Authorization": f"Bearer {WORD}"}
    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post("/oproxy/keys", json={"name": "me"}, headers=headers) as response,
    ):
        key = (await response.json())["key"]
    client = package.AsyncClient(host=proxy.url, headers={"Authorization": f"Bearer {key}"})
    stranger = package.AsyncClient(host=proxy.url)
    assert (await client.chat("smollm2", HELLO)).done
    with pytest.raises(package.ResponseError) as caught:
        await stranger.chat("smollm2", HELLO)
    assert caught.value.status_code == 401
    await client._client.aclose()
    await stranger._client.aclose()


# --- the command ------------------------------------------------------------------------------------------------------


async def command(door: Door, *args: str) -> tuple[int, str]:
    """Run `ollama`; return its exit status and what it printed, without what moves the cursor."""
    if COMMAND is None:
        pytest.skip("there is no `ollama` in PATH, and OPROXY_TEST_OLLAMA names none")
    env = {
        "HOME": os.environ["HOME"],
        "PATH": PATH,
        "OLLAMA_HOST": door.proxy.url,
        "TERM": "dumb",
    }
    child = await asyncio.create_subprocess_exec(
        *(COMMAND, *args),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        out, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.decode())


async def test_the_command_lists_describes_and_tells_the_version(door: Door) -> None:
    status, out = await command(door, "list")
    assert (status, door.chat in out) == (0, True)
    status, out = await command(door, "show", door.chat)
    assert (status, "completion" in out) == (0, True)
    assert (await command(door, "ps"))[0] == 0
    status, out = await command(door, "--version")
    assert (status, "0.34.4" in out) == (0, True)


async def test_the_command_runs_a_model_and_stops_it(door: Door) -> None:
    status, out = await command(door, "run", door.chat, "Hello")
    assert (status, " ".join(out.split()).find(door.said) >= 0) == (0, True)
    assert (await command(door, "stop", door.chat))[0] == 0


async def test_the_command_fetches_and_removes(door: Door) -> None:
    if not door.own:
        status, out = await command(door, "pull", "new")
        assert (status, "No configured backend can fetch it" in out) == (1, True)
        return
    status, out = await command(door, "pull", "smollm2")
    assert (status, "success" in out) == (0, True)
    status, out = await command(door, "rm", "smollm2")
    assert (status, "deleted 'smollm2'" in out) == (0, True)
    status, out = await command(door, "show", "smollm2")
    assert (status, "model 'smollm2' not found" in out) == (1, True)


# --- codex --oss ------------------------------------------------------------------------------------------------------


async def test_codex_takes_us_for_an_ollama(start_proxy: Start, ollama: FakeOllama, tmp_path: Path) -> None:
    if CODEX is None:
        pytest.skip("there is no `codex` in PATH, and OPROXY_TEST_CODEX names none")
    proxy = await start_proxy(config(ollama.url, '[models.aliases]\n"gpt-oss:20b" = "smollm2-tools"\n'))
    child = await asyncio.create_subprocess_exec(
        *(CODEX, "exec", "--oss", "--local-provider", "ollama", "-m", "gpt-oss:20b", "--skip-git-repo-check", "Hello"),
        cwd=tmp_path,
        env={
            "PATH": PATH,
            "HOME": str(tmp_path),
            "CODEX_HOME": str(tmp_path),
            "CODEX_OSS_BASE_URL": f"{proxy.url}/v1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, said = await child.communicate()
    assert (child.returncode, out.decode().strip()) == (0, "The capital of France is Paris."), said.decode()
    # It asks whether the server is new enough, and whether the model is there, before it asks the model.
    paths = [line.split()[2] for line in proxy.said]
    assert {"/api/version", "/api/tags", "/v1/responses"} <= set(paths)
