"""What only a real Ollama has: both prompt paths, thoughts, filling in, pulls, a runner that dies, one window."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from .conftest import ENVIRONMENT, GIVEN, OLLAMA, Daemon
from .test_sdk import HISTORY, QUESTION, WEATHER, called

pytestmark = [
    pytest.mark.parametrize("daemon", ["ollama"], indirect=True),
    pytest.mark.skipif(bool(GIVEN), reason="run once, with one SDK"),
]

# Questions that led to calls: the model is small and copies what it has seen, if it has seen it often enough.
CALLS: Any = [
    *(message for city in ("Paris", "Rome", "Berlin", "Madrid", "Oslo", "Vienna") for message in called(city)[:3]),
    HISTORY[-1],
]
THOUGHTS: Any = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "reasoning_content": "The user asks 2+2. That is 4.", "content": "4"},
    {"role": "user", "content": "3+3?"},
    {"role": "assistant", "reasoning_content": "The user asks 3+3. That is 6.", "content": "6"},
    {"role": "user", "content": "4+4?"},
]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=daemon.url, api_key="sk-test", max_retries=0, timeout=120) as made:
        yield made


def ollama(path: str) -> Any:
    with urllib.request.urlopen(OLLAMA + path, timeout=10) as response:
        return json.load(response)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["smollm2-tools", "smollm2-jinja"])
def test_a_tool_is_called_of_its_own_accord_on_both_paths(client: openai.OpenAI, model: str, stream: bool) -> None:
    ask: Any = {"model": model, "messages": CALLS, "tools": [WEATHER], "temperature": 0, "max_tokens": 80}
    if stream:
        chunks = list(client.chat.completions.create(**ask, stream=True))
        deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or ()]
        assert deltas[0].index == 0
        id, name = deltas[0].id, deltas[0].function.name
        arguments = "".join(d.function.arguments or "" for d in deltas)
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**ask).choices[0]
        call: Any = choice.message.tool_calls[0]
        id, name, arguments, reason = call.id, call.function.name, call.function.arguments, choice.finish_reason
    assert id.startswith("call_")
    assert (name, json.loads(arguments), reason) == ("get_weather", {"city": "London"}, "tool_calls")


@pytest.mark.parametrize("model", ["smollm2-think", "smollm2-parser"])
def test_thoughts_are_told_apart_and_counted(client: openai.OpenAI, model: str) -> None:
    ask: Any = {"model": model, "messages": THOUGHTS, "temperature": 0, "max_tokens": 60}
    thinking = client.chat.completions.create(**ask, reasoning_effort="high")
    message: Any = thinking.choices[0].message
    assert thinking.usage is not None
    assert thinking.usage.completion_tokens_details is not None
    if model == "smollm2-think":
        assert message.reasoning_content
        assert 0 < (thinking.usage.completion_tokens_details.reasoning_tokens or 0) <= thinking.usage.completion_tokens
    quiet: Any = client.chat.completions.create(**ask, reasoning_effort="none").choices[0].message
    assert not getattr(quiet, "reasoning_content", None)


def test_a_text_is_filled_in_where_the_model_can(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="smollm2-fim", prompt="def add(a, b):", suffix="return c", max_tokens=8)
    assert answer.choices[0].finish_reason in ("stop", "length")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="smollm2", prompt="a", suffix="b", max_tokens=4)
    assert caught.value.param == "suffix"


def test_a_pull_that_cannot_be_made_says_why(daemon: Daemon) -> None:
    body = json.dumps({"model": "http://127.0.0.1:9/library/nothing"}).encode()
    request = urllib.request.Request(f"{daemon.root}/oproxy/pull", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            last = json.loads(response.read().splitlines()[-1])
    except urllib.error.HTTPError as exc:
        last = json.load(exc)
    assert last["error"]["message"]


def test_a_model_keeps_its_window_whatever_is_asked(client: openai.OpenAI, daemon: Daemon) -> None:
    windows = set()
    for _ in range(2):
        client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=2)
        windows |= {run["context_length"] for run in ollama("/api/ps")["models"] if "smollm2" in run["name"]}
        client.completions.create(model="smollm2", prompt="Once", max_tokens=2)
        client.chat.completions.create(model="gpt-4o", messages=QUESTION, max_tokens=2)
        client.embeddings.create(model="all-minilm", input="x")
        windows |= {run["context_length"] for run in ollama("/api/ps")["models"] if "smollm2" in run["name"]}
    assert windows == {2048}


def runners() -> list[int]:
    """Return the llama-server processes of the Ollama under test, where it runs on this machine and is ours."""
    pid_file = Path(ENVIRONMENT.get("OPROXY_E2E_OLLAMA_PID", ""))
    if not pid_file.is_file():
        return []
    found = subprocess.run(["pgrep", "-P", pid_file.read_text().strip()], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def test_a_runner_that_dies_in_mid_stream_is_an_error_and_the_next_request_works(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Count from 1 to 500."}]
    stream = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=400, stream=True)
    for _ in range(3):
        next(stream)
    pids = runners()
    if not pids:
        stream.close()
        pytest.skip("OPROXY_E2E_OLLAMA_PID names no process file: its runner is not ours to kill")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    answer = client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


def test_an_answer_ends_where_the_window_does_and_pushes_nothing_out_of_it(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Write a long story about a fox."}]
    answer = client.chat.completions.create(
        model="smollm2-jinja", messages=messages, max_tokens=600, temperature=0, extra_body={"num_ctx": 256}
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens <= 258
    assert answer.choices[0].finish_reason in ("length", "stop")
