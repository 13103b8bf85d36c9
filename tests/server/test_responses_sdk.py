"""OpenAI's own SDK on the Responses API: every method of it, and what agents make of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest

from tests.openai_routes import methods

from .conftest import Setup
from .test_responses import calling, done, record

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
# What this file calls; the SDK may grow methods that are not here yet.
CALLED = {
    "create",
    "retrieve",
    "delete",
    "cancel",
    "compact",
    "input_items.list",
    "input_tokens.count",
}


class Capital(pydantic.BaseModel):
    city: str
    people: int


@pytest.fixture
async def client(setup: Setup) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="sk-none", max_retries=0) as made:
        yield made


def test_every_method_is_called_here() -> None:
    known = {sdk.call for sdk in methods() if sdk.how == "served" and sdk.call.startswith("responses.")}
    assert known == {f"responses.{name}" for name in CALLED}


async def test_a_response_is_made_shown_listed_and_forgotten(setup: Setup, client: openai.AsyncOpenAI) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    made = await client.responses.create(model="smollm2", input="Hello", metadata={"a": "b"})
    assert (made.output_text, made.status, made.metadata) == ("Hi", "completed", {"a": "b"})
    assert await client.responses.retrieve(made.id) == made
    items = [item async for item in client.responses.input_items.list(made.id, order="asc", limit=1)]
    assert [item.type for item in items] == ["message"]
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(made.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_items_of_many_pages_are_walked(setup: Setup, client: openai.AsyncOpenAI) -> None:
    asked: Any = [{"role": "user", "content": str(number)} for number in range(7)]
    made = await client.responses.create(model="smollm2", input=asked)
    items: list[Any] = [item async for item in client.responses.input_items.list(made.id, limit=3)]
    assert [item.content[0].text for item in items] == list("6543210")


async def test_tokens_are_counted_and_a_conversation_made_short(setup: Setup, client: openai.AsyncOpenAI) -> None:
    assert (await client.responses.input_tokens.count(model="smollm2", input="Hello there")).input_tokens > 1
    setup.ollama.play("/api/chat", [record("They greeted."), done()])
    short = await client.responses.compact(model="smollm2", input=[{"role": "user", "content": "Hello"}])
    assert short.output[-1].type == "compaction"
    # The SDK's types know no message of the user in an output.
    items: Any = [item.to_dict(warnings=False) for item in short.output]
    assert (
        await client.responses.create(model="smollm2", input=[*items, {"role": "user", "content": "x"}])
    ).output_text


async def test_a_response_in_the_background_is_polled_followed_and_cancelled(
    setup: Setup, client: openai.AsyncOpenAI
) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    made = await client.responses.create(model="smollm2", input="Hello", background=True)
    assert made.status == "queued"
    stream = await client.responses.retrieve(made.id, stream=True, starting_after=1)
    numbers = [event.sequence_number async for event in stream]
    assert numbers == list(range(2, len(numbers) + 2))
    assert (await client.responses.retrieve(made.id)).output_text == "Hello"
    setup.ollama.play("/api/chat", [record("Hel"), done()], hold_after=1)
    running = await client.responses.create(model="smollm2", input="Hello", background=True)
    assert (await client.responses.cancel(running.id)).status == "cancelled"


async def test_the_stream_helper_gathers_text_calls_and_thoughts(setup: Setup, client: openai.AsyncOpenAI) -> None:
    setup.ollama.play("/api/chat", [record("Let me look."), calling("weather", {"city": "Bern"}), done()])
    async with client.responses.stream(model="smollm2-tools", input="Weather?", tools=[TOOL]) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert types[-1] == "response.completed"
    call: Any = final.output[-1]
    assert (final.output_text, call.name, call.parsed_arguments) == ("Let me look.", "weather", {"city": "Bern"})
    setup.ollama.play("/api/chat", [record(message={"thinking": "Hm."}), record("Hi"), done()])
    async with client.responses.stream(
        model="smollm2-think", input="Hello", reasoning={"effort": "low", "summary": "auto"}
    ) as stream:
        final = await stream.get_final_response()
    thought: Any = final.output[0]
    assert thought.summary[0].text == "Hm."


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_parsed_into_the_clients_own_type(
    setup: Setup, client: openai.AsyncOpenAI, stream: bool
) -> None:
    setup.ollama.play("/api/chat", [record('{"city": "Bern", '), record('"people": 140000}'), done()])
    if stream:
        async with client.responses.stream(model="smollm2", input="x", text_format=Capital) as events:
            parsed = (await events.get_final_response()).output_parsed
    else:
        parsed = (await client.responses.parse(model="smollm2", input="x", text_format=Capital)).output_parsed
    assert parsed == Capital(city="Bern", people=140000)
    assert setup.ollama.asked("/api/chat")[-1]["format"]["required"] == ["city", "people"]


async def test_an_agents_loop_comes_to_its_end_without_anything_kept(setup: Setup, client: openai.AsyncOpenAI) -> None:
    said: list[Any] = [{"role": "user", "content": "Weather in Bern?"}]
    setup.ollama.play("/api/chat", [calling("weather", {"city": "Bern"}), done()])
    setup.ollama.play("/api/chat", [record("Sunny."), done()])
    answer = None
    for _ in range(3):
        answer = await client.responses.create(
            model="smollm2-tools", input=said, tools=[TOOL], store=False, include=["reasoning.encrypted_content"]
        )
        said += [item.to_dict() for item in answer.output]
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            break
        said += [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"} for call in calls]
    assert answer is not None
    assert answer.output_text == "Sunny."
    assert [each["role"] for each in setup.ollama.asked("/api/chat")[-1]["messages"]] == ["user", "assistant", "tool"]


async def test_a_failure_in_a_stream_is_the_sdks_own_error(setup: Setup, client: openai.AsyncOpenAI) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), {"error": "out of memory"}])
    stream = await client.responses.create(model="smollm2", input="Hello", stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        async for _ in stream:
            pass


async def test_raw_answers_have_their_headers(setup: Setup, client: openai.AsyncOpenAI) -> None:
    raw = await client.responses.with_raw_response.create(model="smollm2", input="Hello", prompt_cache_key="k")
    assert raw.headers["x-oproxy-ignored"] == "prompt_cache_key"
    assert raw.parse().status == "completed"
    async with client.responses.with_streaming_response.create(model="smollm2", input="Hello", stream=True) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in streamed.iter_lines()]
    assert lines[0] == "event: response.created"
