"""Answers of models, whole and streamed, and everything that can go wrong on their way."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import openai
import pytest

from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, Setup, config


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


DONE = record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)


def documents(data: bytes) -> list[Any]:
    """Return the JSON documents of a stream; "[DONE]" stays text, comments stay out."""
    events = [event for event in data.decode().split("\n\n") if event.startswith("data: ")]
    return [event[6:] if event == "data: [DONE]" else json.loads(event[6:]) for event in events]


async def test_a_stream_has_openais_exact_sequence(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), DONE])
    status, data = await setup.stream(stream_options={"include_usage": True})
    first, one, two, finish, usage, end = documents(data)
    assert status == 200
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [one["choices"][0]["delta"], two["choices"][0]["delta"]] == [{"content": "Hel"}, {"content": "lo"}]
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 12
    assert end == "[DONE]"
    assert all(chunk["usage"] is None for chunk in (first, one, two, finish))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in (first, one, two, finish, usage)}) == 1


async def test_no_usage_is_mentioned_when_it_was_not_asked_for(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE])
    _, data = await setup.stream()
    assert all("usage" not in chunk for chunk in documents(data)[:-1])


async def test_an_early_failure_of_a_stream_has_its_true_status(setup: Setup) -> None:
    setup.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    async with setup.http.post(
        "/v1/chat/completions", json={"model": "smollm2", "messages": HELLO, "stream": True}
    ) as response:
        body = await response.json()
        assert response.status == 400
        assert body["error"]["code"] == "context_length_exceeded"
        assert "613" in body["error"]["message"]


async def test_a_slow_model_is_waited_for_with_comments(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE], delay=0.6)
    status, data = await setup.stream()
    assert status == 200
    assert data.startswith(b": ")
    assert data.count(b"\n: ") >= 1
    assert documents(data)[-1] == "[DONE]"


async def test_a_failure_after_the_comments_comes_in_the_stream(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [{"error": "model runner has unexpectedly stopped"}], status=500, delay=0.5)
    status, data = await setup.stream()
    assert status == 200
    assert "unexpectedly stopped" in documents(data)[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("records", "how"),
    [
        ([record("Hi"), {"error": "an error was encountered while running the model: unexpected EOF"}], {}),
        ([record("Hi")], {}),
        ([record("Hi"), b"{broken\n"], {}),
        ([record("Hi"), record("there")], {"cut_after": 150, "drop_connection": True}),
    ],
)
async def test_a_failure_in_mid_stream_reaches_the_sdk(setup: Setup, records: list[Any], how: dict[str, Any]) -> None:
    setup.ollama.play("/api/chat", records, **how)
    status, data = await setup.stream()
    assert status == 200
    assert "message" in documents(data)[-1]["error"]
    assert b"[DONE]" not in data
    setup.ollama.play("/api/chat", records, **how)
    async with openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="x", max_retries=0) as client:
        messages: Any = HELLO
        stream = await client.chat.completions.create(model="smollm2", messages=messages, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


@pytest.mark.parametrize("early", [True, False])
async def test_a_client_that_leaves_frees_the_model(setup: Setup, early: bool) -> None:
    if early:
        setup.ollama.play("/api/chat", [record("Hi"), DONE], delay=30)
    else:
        setup.ollama.play("/api/chat", [record("Hi"), DONE], hold_after=1)
    body = {"model": "smollm2", "messages": HELLO, "stream": not early}
    if early:
        request = asyncio.ensure_future(setup.http.post("/v1/chat/completions", json=body))
        await asyncio.wait_for(chat_arrived(setup.ollama), 5)
        request.cancel()
    else:
        async with setup.http.post("/v1/chat/completions", json=body) as response:
            await response.content.readany()
            response.close()
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    for _ in range(100):
        if any(" 499 client_closed_request" in line for line in setup.proxy.said):
            break
        await asyncio.sleep(0.02)
    assert any(" 499 client_closed_request" in line for line in setup.proxy.said)


async def chat_arrived(ollama: FakeOllama) -> None:
    for _ in range(500):
        if ollama.asked("/api/chat"):
            return
        await asyncio.sleep(0.01)


async def test_several_choices_are_parallel_calls_with_one_usage(setup: Setup) -> None:
    for word in ("a", "b", "c"):
        setup.ollama.play("/api/chat", [record(word, done=True, done_reason="stop", prompt_eval_count=9, eval_count=2)])
    status, body, _ = await setup.chat(n=3, seed=5)
    assert status == 200
    assert sorted(choice["message"]["content"] for choice in body["choices"]) == ["a", "b", "c"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (9, 6)
    assert sorted(call["options"]["seed"] for call in setup.ollama.asked("/api/chat")) == [5, 6, 7]


async def test_one_failing_choice_fails_the_answer(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("a", done=True, done_reason="stop")])
    setup.ollama.play(
        "/api/chat", [{"error": "server busy, please try again.  maximum pending requests exceeded"}], status=503
    )
    status, body, headers = await setup.chat(n=2)
    assert status == 503
    assert body["error"]["code"] == "server_is_overloaded"
    assert int(headers["Retry-After"]) >= 1


async def test_a_forced_tool_is_a_tool_call(setup: Setup) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}}
    setup.ollama.play("/api/chat", [record('{"x": 1}', done=True, done_reason="stop", eval_count=4)])
    _, body, _ = await setup.chat(tools=[tool], tool_choice="required")
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("f", {"x": 1})
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert setup.ollama.asked("/api/chat")[0]["format"]["type"] == "object"


async def test_an_answer_that_misses_its_schema_is_not_hidden(setup: Setup) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    setup.ollama.play("/api/chat", [record('{"x": "no"}', done=True, done_reason="stop")])
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    _, body, headers = await setup.chat(response_format=form)
    assert body["choices"][0]["finish_reason"] == "content_filter"
    assert "x" in headers["x-oproxy-schema-miss"]


async def test_the_window_is_constant_and_nothing_is_truncated(setup: Setup) -> None:
    await setup.chat()
    await setup.post("/v1/completions", {"model": "smollm2", "prompt": "x"})
    chat, text = setup.ollama.asked("/api/chat")[0], setup.ollama.asked("/api/generate")[-1]
    assert chat["truncate"] is False
    assert text["truncate"] is False
    assert chat["options"]["num_ctx"] == text["options"]["num_ctx"] == 8192


async def test_completions_are_numbered_prompt_by_prompt(setup: Setup) -> None:
    for word in ("a", "b", "c", "d"):
        answer = {"response": word, "done": True, "done_reason": "length", "prompt_eval_count": 2, "eval_count": 1}
        setup.ollama.play("/api/generate", [answer])
    status, body, _ = await setup.post(
        "/v1/completions", {"model": "smollm2", "prompt": ["x", "y"], "n": 2, "max_tokens": 1, "echo": True}
    )
    assert status == 200
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][0] for choice in body["choices"]] == ["x", "x", "y", "y"]
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8} | {
        key: value for key, value in body["usage"].items() if key.endswith("details")
    }


async def test_a_completion_of_no_tokens_asks_nobody(setup: Setup) -> None:
    status, body, _ = await setup.post(
        "/v1/completions", {"model": "smollm2", "prompt": "x", "max_tokens": 0, "echo": True}
    )
    assert (status, body["choices"][0]["text"], body["choices"][0]["finish_reason"]) == (200, "x", "length")
    assert setup.ollama.asked("/api/generate") == []


async def test_embeddings_keep_their_order_in_both_encodings(setup: Setup) -> None:
    rows = [[1.0, 0.0], [0.0, 1.0]]
    for encoding in ("float", "base64"):
        setup.ollama.play("/api/embed", [{"embeddings": rows, "prompt_eval_count": 5}], type="application/json")
        status, body, _ = await setup.post(
            "/v1/embeddings", {"model": "all-minilm", "input": ["a", "b"], "encoding_format": encoding}
        )
        assert status == 200
        got = [each["embedding"] for each in body["data"]]
        if encoding == "base64":
            got = [list(struct.unpack("<2f", base64.b64decode(text))) for text in got]
        assert got == rows
        assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


async def test_an_input_that_is_too_long_is_an_error_and_not_a_cut(setup: Setup) -> None:
    setup.ollama.play("/api/embed", "embed-toolong-truncate-false")
    status, body, _ = await setup.post("/v1/embeddings", {"model": "all-minilm", "input": "long " * 900})
    assert status == 400
    assert (body["error"]["code"], body["error"]["param"]) == ("context_length_exceeded", "input")
    assert "512" in body["error"]["message"]
    assert setup.ollama.asked("/api/embed")[0]["truncate"] is False


async def test_a_chat_model_makes_no_embeddings(setup: Setup) -> None:
    status, body, _ = await setup.post("/v1/embeddings", {"model": "smollm2", "input": "x"})
    assert (status, body["error"]["param"]) == (400, "model")


async def test_names_lead_to_models_in_their_order(start_proxy: Any, setup: Setup) -> None:
    names = '[models.aliases]\nmine = "smollm2-tools"\n"claude-*" = "ollama/smollm2"\n'
    proxy = await start_proxy(config(setup.ollama.url, f'[models]\ndefault = "smollm2-jinja"\n{names}'))
    for asked, served in {
        "mine": "smollm2-tools:latest", "smollm2": "smollm2:latest", "ollama/smollm2": "smollm2:latest",
        "claude-x": "smollm2:latest", "gpt-4o": "smollm2-jinja:latest",
    }.items():  # fmt: skip
        body = {"model": asked, "messages": HELLO}
        async with setup.http.post(f"{proxy.url}/v1/chat/completions", json=body) as response:
            assert response.headers["x-oproxy-model"] == served, asked
            assert (await response.json())["model"] == asked
    async with setup.http.get(f"{proxy.url}/v1/models") as response:
        assert "mine" in {model["id"] for model in (await response.json())["data"]}


async def test_an_unknown_model_is_told_with_what_is_near(setup: Setup) -> None:
    status, body, _ = await setup.chat(model="smolm2")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert body["error"]["message"].startswith(
        "The model `smolm2` does not exist or you do not have access to it. Did you mean"
    )


async def test_a_backend_that_is_away_is_named_and_comes_back(start_proxy: Any, setup: Setup) -> None:
    proxy = await start_proxy('[backends.lab]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    body = {"model": "smollm2", "messages": HELLO}
    async with setup.http.post(f"{proxy.url}/v1/chat/completions", json=body) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (502, "backend_unreachable")
        assert "'lab'" in error["message"]


async def test_a_silent_backend_is_a_timeout(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [DONE], delay=10)
    status, body, _ = await setup.chat()
    assert (status, body["error"]["code"]) == (504, "backend_timeout")
