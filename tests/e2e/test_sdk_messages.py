"""The official Anthropic SDK against the daemon with a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Daemon

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
# The likeliest token each time. Newer SDKs have no argument for it.
SURE: Any = {"extra_body": {"top_k": 1}}
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather for a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=daemon.root, api_key="any", max_retries=0, timeout=120) as made:
        yield made


def test_a_stream_gives_the_same_text_and_usage_as_a_whole_message(client: Any, daemon: Daemon) -> None:
    ask: Any = {"model": daemon.chat, "messages": QUESTION, "max_tokens": 16, **SURE, "system": "Be brief."}
    client.messages.create(**ask)  # so that both find the prompt in the backend's cache
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert 0 < whole.usage.output_tokens == final.usage.output_tokens <= 16
    for usage in (whole.usage, final.usage):
        assert 10 < usage.input_tokens + usage.cache_read_input_tokens < 100


def test_a_limit_ends_the_answer(client: Any, daemon: Daemon) -> None:
    message = client.messages.create(model="claude-x", messages=QUESTION, max_tokens=2)
    assert (message.stop_reason, message.usage.output_tokens, message.model) == ("max_tokens", 2, "claude-x")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_forced_tool_is_called(client: Any, daemon: Daemon, choice: Any) -> None:
    asked: Any = [{"role": "user", "content": "What is the weather in London?"}]
    with client.messages.stream(
        model=daemon.tools, messages=asked, max_tokens=80, tools=[WEATHER], tool_choice=choice, **SURE
    ) as stream:
        message = stream.get_final_message()
    call = message.content[-1]
    assert (call.type, call.name) == ("tool_use", "get_weather")
    assert isinstance(call.input, dict)
    assert message.stop_reason in ("tool_use", "max_tokens")


def test_an_answer_has_the_form_that_was_asked_for(client: Any, daemon: Daemon) -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=daemon.chat, messages=QUESTION, max_tokens=60, **SURE,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )  # fmt: skip
    assert set(json.loads(message.content[0].text)) == {"capital"}


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: Any, daemon: Daemon) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            model=daemon.chat, max_tokens=5, messages=[{"role": "user", "content": "many words " * 3000}]
        )
    assert refused.value.body["error"]["message"].startswith("prompt is too long: ")
    assert " tokens > " in refused.value.body["error"]["message"]
