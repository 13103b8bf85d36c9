"""The official SDKs at a limit: they try again at the moment they were told, and then are let in."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import config

ROOT = Path(__file__).parents[2]
# One process for all, as it takes an SDK longer to be imported than to do this. `ask` answers, `tell` gives the result.
SCRIPT = """
import json, sys, time, openai

def ask(url, retries=0, **more):
    client = openai.OpenAI(base_url=url + "/v1", api_key="sk-of-this-test", max_retries=retries)
    said = [{"role": "user", "content": "Hello"}]
    with client:
        answer = client.chat.completions.create(model="smollm2", messages=said, **more)
        if more.get("stream"):
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        return answer.choices[0].message.content

def refusal(url, retries=0, **more):
    try:
        ask(url, retries, **more)
    except openai.RateLimitError as exc:
        return exc

by_requests, by_tokens, small = sys.argv[1:]
told = {"version": openai.__version__}

# Fill the bucket; wait once by hand as long as was said, so that it has just been filled again; then leave it to the
# SDK, with one try more and no second.
with openai.OpenAI(base_url=by_requests + "/v1", api_key="sk-of-this-test", max_retries=0) as client:
    refused = None
    while refused is None:
        try:
            client.embeddings.create(model="all-minilm", input="x")
        except openai.RateLimitError as exc:
            refused = exc
time.sleep(int(refused.response.headers["retry-after-ms"]) / 1000)
ask(by_requests)
answers = [ask(by_requests, 1, stream=stream) for stream in (False, True, False)]
told["requests"] = [refused.code, refused.type, *answers]

# 6000 a minute are 100 a second.
ask(by_tokens, max_tokens=5900)
told["tokens"] = [ask(by_tokens, 1, max_tokens=120), ask(by_tokens, 1, max_tokens=40, stream=True)]

too_large = refusal(small, 3, max_tokens=100_000)
told["too_large"] = [too_large.code, too_large.type]
print(json.dumps(told))
"""
ANSWER = "The capital of France is Paris."


def packages(line: str) -> dict[str, str]:
    """Return what must be in the environment for one line of the SDK."""
    if line == "3.":
        return {}
    found = sorted(ROOT.glob(".venv-openai2/lib/python*/site-packages"))
    if not found:
        pytest.skip("openai 2.x is not installed: make sdk2")
    return {"PYTHONPATH": str(found[0])}


async def run(line: str, *proxies: Proxy) -> Any:
    """Run the script with one line of the SDK, in a process of its own; return what it told."""
    pipe, urls = asyncio.subprocess.PIPE, [proxy.url for proxy in proxies]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, *urls, env={**os.environ, **packages(line)}, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, err.decode()
    told = json.loads(out)
    assert told.pop("version").startswith(line)
    return told


def refusals(proxy: Proxy) -> int:
    return sum(" 429 " in line for line in proxy.said)


@pytest.mark.parametrize("line", ["3.", "2."])
async def test_the_sdk_tries_again_when_it_was_told_and_never_twice(start_proxy: Start, line: str) -> None:
    async with FakeOllama() as ollama:
        by_requests = await start_proxy(config(ollama.url, "[limits]\nrequests_per_minute = 120"))
        by_tokens = await start_proxy(config(ollama.url, '[limits]\ntokens_per_minute = 6000\naccounting = "openai"'))
        small = await start_proxy(config(ollama.url, "[limits]\ntokens_per_minute = 6000"))

        told = await run(line, by_requests, by_tokens, small)

    assert told == {
        "requests": ["rate_limit_exceeded", "requests", ANSWER, ANSWER, ANSWER],
        "tokens": [ANSWER, ANSWER],
        "too_large": ["rate_limit_exceeded", "tokens"],
    }
    # The first one filled the bucket; of the three that followed at least one came too early.
    assert refusals(by_requests) >= 2
    assert refusals(by_tokens) >= 1
    # What never fits is not tried again.
    assert refusals(small) == 1
