"""The official openai SDK against the daemon with a real model. Imports nothing of ours, so that another version of
the SDK can run the same file (see test_sdk2.py)."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from .conftest import Daemon

QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City name"}},
            "required": ["city"],
        },
    },
}


def called(city: str) -> list[Any]:
    """An earlier question with the tool call it led to: the model is small and copies what it has seen."""
    id = f"call_{city.lower()}"
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return [
        {"role": "user", "content": f"What is the weather in {city}?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": id, "content": "sunny"},
        {"role": "assistant", "content": "It is sunny."},
    ]


HISTORY: Any = [*called("Paris"), *called("Rome"), {"role": "user", "content": "What is the weather in London?"}]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=daemon.url, api_key="sk-test", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture
def aclient(daemon: Daemon) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=daemon.url, api_key="sk-test", max_retries=0, timeout=120)


def test_a_chat_answer_has_text_and_true_usage(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.chat.completions.create(model=daemon.chat, messages=QUESTION, temperature=0, max_tokens=24)
    assert answer.choices[0].message.content
    assert answer.model == daemon.chat
    assert answer.usage is not None
    assert 10 < answer.usage.prompt_tokens < 100
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_openais_own_name_is_answered_by_a_local_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_completion_tokens=4)
    assert answer.model == "gpt-4o-mini"
    assert answer.choices[0].finish_reason == "length"


def test_a_stream_gives_the_same_text_and_usage_as_a_whole_answer(client: openai.OpenAI, daemon: Daemon) -> None:
    ask: Any = {"model": daemon.chat, "messages": QUESTION, "temperature": 0, "seed": 1, "max_tokens": 16}
    client.chat.completions.create(**ask)  # so that both find the prompt in the backend's cache
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({c.id for c in chunks}) == 1
    assert len({c.created for c in chunks}) == 1
    assert chunks[-1].choices == []
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_async_chats_run_side_by_side(aclient: openai.AsyncOpenAI, daemon: Daemon) -> None:
    async with aclient:
        answers = await asyncio.gather(
            *(aclient.chat.completions.create(model=daemon.chat, messages=QUESTION, max_tokens=4) for _ in range(3))
        )
    assert all(a.choices[0].finish_reason == "length" for a in answers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_tool_is_called(client: openai.OpenAI, daemon: Daemon, choice: Any, stream: bool) -> None:
    ask: Any = {
        "model": daemon.tools, "messages": HISTORY, "tools": [WEATHER], "tool_choice": choice,
        "temperature": 0, "max_tokens": 80,
    }  # fmt: skip
    if stream:
        chunks = list(client.chat.completions.create(**ask, stream=True))
        calls = [d for c in chunks for d in c.choices[0].delta.tool_calls or ()]
        name, id, reason = calls[0].function.name, calls[0].id, chunks[-1].choices[0].finish_reason
        arguments = "".join(call.function.arguments or "" for call in calls)
    else:
        choices = client.chat.completions.create(**ask).choices
        call: Any = choices[0].message.tool_calls[0]
        name, id, arguments, reason = call.function.name, call.id, call.function.arguments, choices[0].finish_reason
    assert name == "get_weather"
    assert id.startswith("call_")
    assert isinstance(json.loads(arguments)["city"], str)
    assert reason == "tool_calls"


def test_no_tool_is_called_when_none_may_be(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.chat.completions.create(
        model=daemon.tools, messages=HISTORY, tools=[WEATHER], tool_choice="none", temperature=0, max_tokens=40
    )
    assert not answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_custom_tool_gets_free_text(client: openai.OpenAI, daemon: Daemon) -> None:
    tool: Any = {"type": "custom", "custom": {"name": "shout", "description": "Shout a text"}}
    choice: Any = {"type": "custom", "custom": {"name": "shout"}}
    answer = client.chat.completions.create(
        model=daemon.tools, messages=[{"role": "user", "content": "Shout hello."}], tools=[tool],
        tool_choice=choice, temperature=0, max_tokens=60,
    )  # fmt: skip
    call: Any = answer.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert call.type == "custom"
    assert call.custom.name == "shout"
    assert isinstance(call.custom.input, str)


def test_structured_output_follows_its_schema(client: openai.OpenAI, daemon: Daemon) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=daemon.chat,
        messages=[{"role": "user", "content": "Describe a person named Ada, 36 years old, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        temperature=0, max_tokens=120,
    )  # fmt: skip
    assert answer.choices[0].finish_reason == "stop"
    person = json.loads(answer.choices[0].message.content or "")
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)


def test_several_choices_are_numbered_and_their_usage_summed(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.chat.completions.create(model=daemon.chat, messages=QUESTION, n=3, max_tokens=5, seed=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert 3 <= answer.usage.completion_tokens <= 15
    assert answer.usage.prompt_tokens < 100


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.chat.completions.create(
        model=daemon.chat, messages=QUESTION, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    first = logprobs.content[0]
    assert first.logprob <= 0
    assert len(first.top_logprobs) == 2
    assert bytes(first.bytes or []).decode() == first.token


def test_embeddings_are_the_same_in_both_encodings(client: openai.OpenAI, daemon: Daemon) -> None:
    texts = ["The cat sits on the mat.", "A dog runs.", "Stocks fell today."]
    packed = client.embeddings.create(model=daemon.embed, input=texts)
    plain = client.embeddings.create(model=daemon.embed, input=texts, encoding_format="float")
    assert [e.index for e in packed.data] == [0, 1, 2]
    for a, b in zip(packed.data, plain.data, strict=True):
        assert len(a.embedding) == 384
        assert a.embedding == pytest.approx(b.embedding, abs=1e-4)
    assert math.hypot(*plain.data[0].embedding) == pytest.approx(1, abs=1e-3)
    assert packed.usage.prompt_tokens > 5


def test_completions_continue_a_text(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.completions.create(
        model=daemon.chat, prompt=["Once upon a", "The capital of France is"], max_tokens=4, temperature=0, echo=True
    )
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.choices[1].text.startswith("The capital of France is")
    assert len(answer.choices[1].text) > len("The capital of France is")


def test_models_are_listed_and_found(client: openai.OpenAI, daemon: Daemon) -> None:
    ids = [model.id for model in client.models.list()]
    assert any(id.startswith(daemon.chat) for id in ids)
    assert client.models.retrieve(daemon.chat).object == "model"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no/such:model", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_a_wrong_parameter_is_a_bad_request_that_names_it(client: openai.OpenAI, daemon: Daemon) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=daemon.chat, messages=QUESTION, temperature=200)
    assert caught.value.param == "temperature"
    assert caught.value.code == "decimal_above_max_value"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(
    client: openai.OpenAI, daemon: Daemon, stream: bool
) -> None:
    long: Any = [{"role": "user", "content": "word " * 5000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=daemon.chat, messages=long, max_tokens=4, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert "2048" in str(caught.value)


def test_a_response_has_text_and_true_usage_and_is_gone_on_from(client: openai.OpenAI, daemon: Daemon) -> None:
    answer = client.responses.create(model=daemon.chat, input=QUESTION, temperature=0, max_output_tokens=16)
    assert answer.output_text
    assert answer.usage is not None
    assert 1 <= answer.usage.output_tokens <= 16
    assert answer.status in ("completed", "incomplete")
    more = client.responses.create(
        model=daemon.chat, input="And of Italy?", previous_response_id=answer.id, temperature=0, max_output_tokens=16
    )
    assert more.usage is not None
    assert more.usage.input_tokens > answer.usage.input_tokens
    assert len(client.responses.input_items.list(more.id).data) == 1
    for id in (answer.id, more.id):
        client.responses.delete(id)


def test_a_streamed_response_is_the_same_as_a_whole_one(client: openai.OpenAI, daemon: Daemon) -> None:
    ask: Any = {"model": daemon.chat, "input": QUESTION, "temperature": 0, "max_output_tokens": 24, "store": False}
    whole = client.responses.create(**ask)
    with client.responses.stream(**ask) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_response_calls_the_tool_it_has_to(client: openai.OpenAI, daemon: Daemon) -> None:
    tool: Any = {"type": "function", "strict": False, **WEATHER["function"]}
    answer = client.responses.create(
        model=daemon.tools, input="What is the weather in London?", tools=[tool], temperature=0, max_output_tokens=80,
        tool_choice={"type": "function", "name": "get_weather"},
    )  # fmt: skip
    call: Any = answer.output[-1]
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert isinstance(json.loads(call.arguments)["city"], str)


def test_a_response_in_the_background_comes_to_its_end(client: openai.OpenAI, daemon: Daemon) -> None:
    made = client.responses.create(model=daemon.chat, input=QUESTION, background=True, max_output_tokens=16)
    assert made.status == "queued"
    for event in client.responses.retrieve(made.id, stream=True):
        assert event.type.startswith("response.")
    assert client.responses.retrieve(made.id).status in ("completed", "incomplete")


async def test_leaving_a_stream_frees_the_model(aclient: openai.AsyncOpenAI, daemon: Daemon) -> None:
    async with aclient:
        stream = await aclient.chat.completions.create(
            model=daemon.chat, messages=[{"role": "user", "content": "Count from 1 to 1000."}],
            max_tokens=1500, stream=True,
        )  # fmt: skip
        async for _ in stream:
            break
        await stream.close()
        # With one slot the next answer can only come when the first has been given up.
        answer = await aclient.chat.completions.create(model=daemon.chat, messages=QUESTION, max_tokens=2)
        assert answer.choices[0].finish_reason == "length"
    if daemon.pid:
        assert " 499 client_closed_request" in daemon.log.read_text()


def test_every_answer_carries_the_headers(client: openai.OpenAI, daemon: Daemon) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=daemon.chat, messages=QUESTION, max_tokens=2, extra_body={"verbosity": "low", "made_up": 1}
    )
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["x-oproxy-backend"] == daemon.kind
    assert raw.headers["x-oproxy-model"].startswith(daemon.chat)
    ignored = {name.strip() for name in raw.headers["x-oproxy-ignored"].split(",")}
    assert {"verbosity", "made_up"} <= ignored
