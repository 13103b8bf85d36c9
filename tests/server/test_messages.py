"""Anthropic's door: its messages over HTTP, whole and streamed, its errors, its counting, its place in the books."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ollama_proxy import tokens
from ollama_proxy.framing import SseDecoder
from ollama_proxy.model import Ask, Message, Text
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import CHAT, USAGE, chunk, fake_openai, sse
from tests.fakes.openai import Answer as LabAnswer

from .conftest import HELLO, Setup, config

THINKING = {"model": "smollm2-jinja-think", "max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


DONE = record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)


async def ask(setup: Setup, path: str = "/v1/messages", headers: Any = None, **body: Any) -> tuple[int, Any, Any]:
    asked = {"model": "smollm2", "max_tokens": 50, "messages": HELLO, **body}
    return await setup.post(path, asked, headers=headers)


async def stream(setup: Setup, **body: Any) -> tuple[int, list[tuple[str, Any]]]:
    """Return the status and the events by name; what is no stream is one event without a name."""
    asked = {"model": "smollm2", "max_tokens": 50, "messages": HELLO, "stream": True, **body}
    async with setup.http.post("/v1/messages", json=asked) as response:
        data = await response.read()
        if response.content_type != "text/event-stream":
            return response.status, [("", json.loads(data))]
        decoder = SseDecoder()
        return response.status, [(event.event, json.loads(event.data)) for event in decoder.feed(data)]


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


async def test_a_message_is_answered(setup: Setup) -> None:
    status, body, headers = await ask(setup, headers={"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"})
    assert status == 200
    assert body["id"].startswith("msg_01")
    assert body["content"] == [{"type": "text", "text": "The capital of France is Paris."}]
    assert (body["model"], body["stop_reason"], body["usage"]["output_tokens"]) == ("smollm2", "end_turn", 8)
    assert headers["request-id"] == headers["X-Request-ID"]
    assert "x-oproxy-ignored" not in headers
    assert setup.ollama.asked("/api/chat")[0]["options"]["num_predict"] == 50


async def test_a_stream_has_named_events_and_no_done(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), DONE])
    status, events = await stream(setup)
    assert status == 200
    assert names(events) == [
        "message_start", "ping", "content_block_start", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(name == body["type"] for name, body in events)
    assert events[-2][1]["usage"]["input_tokens"] == 9


async def test_a_stream_begins_with_what_count_tokens_says_of_the_prompt(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), DONE])
    _, events = await stream(setup)
    began = events[0][1]["message"]["usage"]
    counted = (await setup.post("/v1/messages/count_tokens", {"model": "smollm2", "messages": HELLO}))[1][
        "input_tokens"
    ]
    assert began["input_tokens"] == counted > 0
    assert (began["cache_read_input_tokens"], began["cache_creation_input_tokens"], began["output_tokens"]) == (0, 0, 0)


async def test_the_usual_names_of_anthropics_models_are_answered(setup: Setup) -> None:
    for name in ("claude-opus-4-8", "claude-sonnet-4-5-20250929", "claude-3-5-haiku-latest"):
        status, body, headers = await ask(setup, model=name)
        assert (status, body["model"]) == (200, name)
        assert headers["x-oproxy-model"] == "smollm2-jinja-think:latest"


async def test_a_slow_model_is_waited_for_with_pings(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE], delay=0.45)
    status, events = await stream(setup)
    assert status == 200
    at = names(events).index("message_start")
    assert names(events)[:at] == ["ping"] * at
    assert at >= 2
    assert events[-1][0] == "message_stop"


async def test_an_early_failure_of_a_stream_has_its_true_status(setup: Setup) -> None:
    setup.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    status, ((_, body),) = await stream(setup)
    assert (status, body["type"]) == (400, "error")
    assert body["error"] == {"type": "invalid_request_error", "message": "prompt is too long: 613 tokens > 256 maximum"}
    assert body["request_id"].startswith("req_")


async def test_a_failure_after_the_pings_comes_in_the_stream(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [{"error": "model runner has unexpectedly stopped"}], status=500, delay=0.35)
    status, events = await stream(setup)
    assert status == 200
    assert set(names(events[:-1])) == {"ping"}
    assert events[-1][0] == "error"
    assert "unexpectedly stopped" in events[-1][1]["error"]["message"]


@pytest.mark.parametrize(
    ("records", "how"),
    [
        ([record("Hi"), {"error": "an error was encountered while running the model: unexpected EOF"}], {}),
        ([record("Hi")], {}),
        ([record("Hi"), b"{broken\n"], {}),
        ([record("Hi"), record("there")], {"cut_after": 150, "drop_connection": True}),
    ],
)
async def test_a_failure_in_mid_stream_is_the_last_event(setup: Setup, records: list[Any], how: dict[str, Any]) -> None:
    setup.ollama.play("/api/chat", records, **how)
    status, events = await stream(setup)
    assert status == 200
    assert names(events)[:3] == ["message_start", "ping", "content_block_start"]
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == "api_error"
    assert "message_stop" not in names(events)


async def test_what_has_no_effect_is_named_as_the_client_calls_it(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE])
    _, _, headers = await ask(setup, thinking={"type": "adaptive"}, context_management={"edits": []})
    assert headers["x-oproxy-ignored"] == "context_management, thinking"


async def test_thinking_is_shown_to_who_asks_for_it(setup: Setup) -> None:
    thought = {"role": "assistant", "content": "", "thinking": "Hm."}
    for thinking in ({}, THINKING):
        setup.ollama.play("/api/chat", [record(message=thought), record("Hi"), DONE])
        status, events = await stream(setup, **thinking)
        assert status == 200
        kinds = [body["content_block"]["type"] for name, body in events if name == "content_block_start"]
        assert kinds == (["thinking", "text"] if thinking else ["text"])
    assert setup.ollama.asked("/api/chat")[-1]["think"] is True


@pytest.mark.parametrize(
    ("path", "method", "status", "kind"),
    [
        ("/v1/messages/batches", "POST", 404, "not_found_error"),
        ("/v1/messages/batches/msgbatch_1", "GET", 404, "not_found_error"),
        ("/v1/messages", "GET", 405, "invalid_request_error"),
        ("/v1/messages", "POST", 413, "request_too_large"),
    ],
)
async def test_what_is_not_here_is_told_in_anthropics_form(
    start_proxy: Start, setup: Setup, path: str, method: str, status: int, kind: str
) -> None:
    proxy = await start_proxy(config(setup.ollama.url, "[server]\nmax_body = 2048\n"))
    data = b"x" * 4096 if status == 413 else None
    async with setup.http.request(method, f"{proxy.url}{path}", data=data) as response:
        body = await response.json()
        assert response.status == status
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert response.headers["request-id"] == body["request_id"]


async def test_an_unknown_model_a_busy_and_a_lost_backend(start_proxy: Start, setup: Setup) -> None:
    status, body, _ = await ask(setup, model="smolm2")
    assert (status, body["error"]["type"]) == (404, "not_found_error")
    assert "Did you mean" in body["error"]["message"]
    setup.ollama.play(
        "/api/chat", [{"error": "server busy, please try again.  maximum pending requests exceeded"}], status=503
    )
    status, body, headers = await ask(setup)
    assert (status, body["error"]["type"]) == (529, "overloaded_error")
    assert int(headers["Retry-After"]) >= 1
    proxy = await start_proxy('[backends.lab]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    asked = {"model": "smollm2", "max_tokens": 5, "messages": HELLO}
    status, body, _ = await setup.post(f"{proxy.url}/v1/messages", asked)
    assert (status, body["error"]["type"]) == (502, "api_error")


async def test_keys_are_asked_for_in_anthropics_form(start_proxy: Start, ollama: FakeOllama) -> None:
    env = {"OPROXY_API_KEYS": "anna=sk-anna-0123456789abcdef"}
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), env=env)
    body = {"model": "smollm2", "max_tokens": 5, "messages": HELLO}
    async with aiohttp.ClientSession(proxy.url) as http:
        for headers, status in (
            ({}, 401),
            ({"x-api-key": "sk-wrong-0123456789abcdef"}, 401),
            ({"x-api-key": "sk-anna-0123456789abcdef"}, 200),
            ({"authorization": "Bearer sk-anna-0123456789abcdef"}, 200),
        ):
            async with http.post("/v1/messages", json=body, headers=headers) as response:
                assert response.status == status
                if status == 401:
                    assert (await response.json())["error"]["type"] == "authentication_error"


async def test_limits_hold_here_too_and_are_told_in_anthropics_headers(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, "[limits]\nrequests_per_minute = 2\n"))
    body = {"model": "smollm2", "max_tokens": 5, "messages": HELLO}
    async with aiohttp.ClientSession(proxy.url) as http:
        for left in ("1", "0"):
            async with http.post("/v1/messages", json=body) as response:
                assert response.status == 200
                assert response.headers["anthropic-ratelimit-requests-limit"] == "2"
                assert response.headers["anthropic-ratelimit-requests-remaining"] == left
        async with http.post("/v1/messages", json=body) as response:
            assert response.status == 429
            assert (await response.json())["error"]["type"] == "rate_limit_error"
            assert "retry-after" in response.headers


async def test_counting_asks_no_model(setup: Setup) -> None:
    status, body, _ = await ask(setup, "/v1/messages/count_tokens", system="Be brief", max_tokens=None)
    wanted = Ask(model="smollm2", messages=(Message("system", (Text("Be brief"),)), Message("user", (Text("Hello"),))))
    assert (status, body) == (200, {"input_tokens": tokens.estimate(wanted)})
    assert setup.ollama.asked("/api/chat") == []
    status, body, _ = await ask(setup, "/v1/messages/count_tokens", model="nosuch")
    assert (status, body["error"]["type"]) == (404, "not_found_error")


async def test_a_client_that_leaves_frees_the_model(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE], hold_after=1)
    asked = {"model": "smollm2", "max_tokens": 5, "messages": HELLO, "stream": True}
    async with setup.http.post("/v1/messages", json=asked) as response:
        await response.content.readany()
        response.close()
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)


async def test_a_message_is_in_the_ledger_under_its_session(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, "[logs]\nrequests = false\n"), books=True)
    user = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "session-7"})
    body = {"model": "claude-x", "max_tokens": 5, "messages": HELLO, "metadata": {"user_id": user}}
    async with aiohttp.ClientSession(proxy.url) as http:
        for streams in (False, True):
            async with http.post("/v1/messages", json={**body, "stream": streams}) as response:
                await response.read()
    database = Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "oproxy.db"
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT endpoint, asked, tag, prompt, completion FROM requests ORDER BY seq").fetchall()
    assert rows == [("/v1/messages", "claude-x", "session-7", 21, 8)] * 2


async def test_an_openai_backend_answers_with_calls_in_pieces_and_tells_which_stop_matched(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n')

        def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
            function = {"arguments": arguments, **({"name": "f"} if more else {})}
            return chunk("small", {"tool_calls": [{"index": index, "function": function, **more}]})

        lab.script(
            CHAT,
            LabAnswer(
                content_type="text/event-stream",
                body=sse(
                    chunk("small", {"role": "assistant", "reasoning_content": "Hm."}),
                    call(0, "", id="call_a", type="function"),
                    call(0, '{"x"'),
                    call(1, "{}", id="call_b", type="function"),
                    call(0, ":1}"),
                    chunk("small", {}, "tool_calls"),
                    chunk("small", usage=USAGE),
                ),
            ),
        )
        tool = {"name": "f", "input_schema": {"type": "object"}}
        asked = {"model": "small", "max_tokens": 9, "messages": HELLO, "tools": [tool], "stop_sequences": ["END"]}
        async with aiohttp.ClientSession(proxy.url) as http:
            async with http.post("/v1/messages", json={**asked, "stream": True}) as response:
                events = [json.loads(event.data) for event in SseDecoder().feed(await response.read())]
            starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
            assert [block["id"] for block in starts] == ["toolu_a", "toolu_b"]
            pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
            assert "".join(pieces) == '{"x":1}{}'
            usage = events[-2]["usage"]
            assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (7, 2, 4)
            choice = {"index": 0, "message": {"role": "assistant", "content": "One "}, "finish_reason": "stop"}
            body = {"id": "x", "model": "small", "choices": [{**choice, "stop_reason": "END"}], "usage": USAGE}
            lab.script(CHAT, LabAnswer(body=body))
            async with http.post("/v1/messages", json=asked) as response:
                answer = await response.json()
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "END")
        sent = [made.body for made in lab.calls if made.path == CHAT]
        # Nobody asked for thinking; a server that does not know the word would refuse it.
        assert all("reasoning_effort" not in body and body["stop"] == ["END"] for body in sent)


async def test_a_refused_schema_is_named_as_this_api_calls_it(setup: Setup) -> None:
    form = {"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}
    status, body, _ = await ask(setup, output_config=form)
    assert status == 400
    assert body["error"]["message"].startswith("output_config.format: Invalid schema for format: ")
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "x"}}}}
    status, body, _ = await ask(setup, tools=[tool])
    assert status == 400
    assert body["error"]["message"].startswith("tools.0.input_schema: Invalid schema for function 'f': ")


async def test_an_answer_in_a_form_is_bound_by_a_pattern_too(setup: Setup) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^\d$"}}, "required": ["a"]}
    await ask(setup, output_config={"format": {"type": "json_schema", "schema": schema}})
    sent = setup.ollama.asked("/api/chat")[0]["format"]
    assert sent["properties"]["a"] == {"type": "string", "pattern": "^([0-9])$"}


async def test_arguments_that_do_not_fit_are_named_in_a_header(setup: Setup) -> None:
    call = {"function": {"name": "pay", "arguments": {"price": -1}}}
    setup.ollama.play("/api/chat", [{**DONE, "message": {"role": "assistant", "content": "", "tool_calls": [call]}}])
    price = {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}}
    _, body, headers = await ask(setup, model="smollm2-tools", tools=[{"name": "pay", "input_schema": price}])
    assert body["content"][0]["input"] == {"price": -1}
    assert headers["x-oproxy-schema-miss"] == "pay: price: -1 is less than the minimum of 0"
