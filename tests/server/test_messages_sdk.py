"""The official Anthropic SDK as a client: everything it does with messages, and that it understands our errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .conftest import HELLO, Setup

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

MESSAGES: Any = HELLO
TOOL: Any = {
    "name": "get_weather",
    "description": "Get the weather for a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = {"id": "call_1", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}}


def record(content: str = "", *, done: bool = False, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    counts = {"done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3} if done else {}
    return {"model": "smollm2", "message": message, "done": done, **counts}


@pytest.fixture
async def client(setup: Setup) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=setup.proxy.url, api_key="x", max_retries=0) as made:
        yield made


async def test_a_message(setup: Setup, client: Any) -> None:
    message = await client.messages.create(model="claude-x", max_tokens=20, messages=MESSAGES, system="Hi")
    assert message.content[0].text == "The capital of France is Paris."
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 8)
    assert message._request_id.startswith("req_")
    raw = await client.messages.with_raw_response.create(model="smollm2", max_tokens=20, messages=MESSAGES)
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert setup.ollama.asked("/api/chat")[0]["messages"][0] == {"role": "system", "content": "Hi"}


async def test_a_stream_and_its_final_message(client: Any) -> None:
    async with client.messages.stream(model="smollm2", max_tokens=20, messages=MESSAGES) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == final.content[0].text == "The capital of France is Paris."
    assert final.stop_reason == "end_turn"
    usage = final.usage
    assert (usage.input_tokens + usage.cache_read_input_tokens, usage.output_tokens) == (21, 8)
    raw = await client.messages.create(model="smollm2", max_tokens=20, messages=MESSAGES, stream=True)
    kinds = [event.type async for event in raw]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_turn_with_a_tool(setup: Setup, client: Any, streams: bool) -> None:
    ask: Any = {"model": "smollm2-tools", "max_tokens": 99, "tools": [TOOL]}

    async def answer(messages: Any) -> Any:
        if not streams:
            return await client.messages.create(messages=messages, **ask)
        async with client.messages.stream(messages=messages, **ask) as stream:
            return await stream.get_final_message()

    setup.ollama.play("/api/chat", [record("Let me see.", tool_calls=[CALL], done=True)])
    said = await answer(MESSAGES)
    text, call = said.content
    assert (said.stop_reason, text.text, call.name, call.input) == (
        "tool_use", "Let me see.", "get_weather", {"city": "Paris"},
    )  # fmt: skip
    assert call.id.startswith("toolu_")
    setup.ollama.play("/api/chat", [record("It is 22 degrees.", done=True)])
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}
    said = await answer(
        [*MESSAGES, {"role": "assistant", "content": said.content}, {"role": "user", "content": [result]}]
    )
    assert (said.stop_reason, said.content[0].text) == ("end_turn", "It is 22 degrees.")
    sent = setup.ollama.asked("/api/chat")[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == call.id


@pytest.mark.parametrize("display", ["summarized", "omitted"])
async def test_thoughts_round_trip(setup: Setup, client: Any, display: str) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024, "display": display}
    ask: Any = {"model": "smollm2-jinja-think", "max_tokens": 2048, "thinking": thinking}
    setup.ollama.play(
        "/api/chat", [record(thinking="Paris, "), record(thinking="surely."), record("Paris.", done=True)]
    )
    async with client.messages.stream(messages=MESSAGES, **ask) as stream:
        said = await stream.get_final_message()
    thought, text = said.content
    assert (thought.thinking, text.text) == ("Paris, surely." if display == "summarized" else "", "Paris.")
    assert thought.signature
    setup.ollama.play("/api/chat", [record("Yes.", done=True)])
    turns: Any = [*MESSAGES, {"role": "assistant", "content": said.content}, {"role": "user", "content": "Sure?"}]
    await client.messages.create(messages=turns, **ask)
    assert setup.ollama.asked("/api/chat")[-1]["messages"][1]["thinking"] == "Paris, surely."


async def test_tokens_are_counted(client: Any) -> None:
    few = await client.messages.count_tokens(model="smollm2", messages=MESSAGES)
    many = await client.messages.count_tokens(model="smollm2", messages=MESSAGES, tools=[TOOL], system="Be brief")
    assert 0 < few.input_tokens < many.input_tokens


async def test_the_beta_door_is_the_same(client: Any) -> None:
    message = await client.beta.messages.create(
        model="smollm2", max_tokens=20, messages=MESSAGES, betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    )  # fmt: skip
    assert message.content[0].text == "The capital of France is Paris."


async def test_an_answer_of_a_form(setup: Setup, client: Any) -> None:
    setup.ollama.play("/api/chat", [record('{"capital": "Paris"}', done=True)])
    schema = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]}
    message = await client.messages.create(
        model="smollm2", max_tokens=20, messages=MESSAGES,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )  # fmt: skip
    assert message.content[0].text == '{"capital": "Paris"}'
    assert setup.ollama.asked("/api/chat")[0]["format"] == schema


async def test_errors_are_the_sdks_own(setup: Setup, client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(model="nosuch", max_tokens=20, messages=MESSAGES)
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as bad:
        await client.messages.create(model="smollm2", max_tokens=0, messages=MESSAGES)
    assert bad.value.message.count("max_tokens: ")
    setup.ollama.play("/api/chat", [{"error": "server busy, please try again.  maximum pending requests"}], status=503)
    with pytest.raises(anthropic.APIStatusError) as busy:
        await client.messages.create(model="smollm2", max_tokens=20, messages=MESSAGES)
    assert (busy.value.status_code, busy.value.body["error"]["type"]) == (529, "overloaded_error")


async def test_an_error_in_mid_stream_is_raised(setup: Setup, client: Any) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), {"error": "unexpected EOF"}])
    async with client.messages.stream(model="smollm2", max_tokens=20, messages=MESSAGES) as stream:
        with pytest.raises(anthropic.APIStatusError) as broken:
            async for _ in stream:
                pass
    assert broken.value.body["error"]["type"] == "api_error"


async def test_a_failure_is_tried_again_and_pings_are_passed_over(setup: Setup, client: Any) -> None:
    patient = client.with_options(max_retries=1)
    setup.ollama.play("/api/chat", [{"error": "model runner has unexpectedly stopped"}], status=500)
    setup.ollama.play("/api/chat", [record("Hi"), record(done=True)], delay=0.35)
    async with patient.messages.stream(model="smollm2", max_tokens=20, messages=MESSAGES) as stream:
        final = await stream.get_final_message()
    assert final.content[0].text == "Hi"
    assert len(setup.ollama.asked("/api/chat")) == 2


async def test_models_are_listed_page_by_page_and_described(client: Any) -> None:
    found = [model async for model in client.models.list(limit=2)]
    assert len(found) > 4
    assert found[0].type == "model"
    one = await client.models.retrieve("claude-x")
    assert (one.id, one.created_at.year > 2000) == ("claude-x", True)


async def test_a_tool_runner_goes_on_where_no_conversation_is_held(setup: Setup, client: Any) -> None:
    """Newer SDKs' runners send only the new turn by default; refused in their API's form, they send all of it."""
    if not hasattr(client.beta.messages, "thread"):
        pytest.skip("this SDK has no threads")

    async def get_weather(city: str) -> str:
        """Get the weather for a city"""
        return "22 degrees"

    setup.ollama.play("/api/chat", [record(tool_calls=[CALL], done=True)])
    setup.ollama.play("/api/chat", [record("It is 22 degrees.", done=True)])
    runner = client.beta.messages.tool_runner(
        model="smollm2-tools", max_tokens=99, tools=[anthropic.beta_async_tool(get_weather)], messages=MESSAGES
    )
    said = await runner.until_done()
    assert said.content[0].text == "It is 22 degrees."
    assert [message["role"] for message in setup.ollama.asked("/api/chat")[-1]["messages"]] == [
        *("user", "assistant", "tool")
    ]


@pytest.mark.parametrize(
    ("thread", "error", "code"),
    [
        ({"type": "create"}, anthropic.BadRequestError, "thread_unsupported_request"),
        ({"type": "continue", "previous_message_id": "msg_1"}, anthropic.NotFoundError, "thread_not_found"),
    ],
)
async def test_a_thread_is_refused(client: Any, thread: Any, error: Any, code: str) -> None:
    for streams in (False, True):
        with pytest.raises(error) as refused:
            await client.beta.messages.create(
                model="smollm2", max_tokens=9, messages=MESSAGES, stream=streams, extra_body={"thread": thread}
            )
        assert refused.value.body["error"]["details"]["error_code"] == code
