"""The Responses API: answered, streamed, kept and gone on from."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from ollama_proxy.server.keys import ACCOUNTS
from tests import shapes
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

from .conftest import Setup, config

FIRST = ["response.created", "response.in_progress"]
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


def record(content: str = "", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    return {"model": "smollm2", "message": message, "done": False, **more}


def done(reason: str = "stop") -> dict[str, Any]:
    return record(done=True, done_reason=reason, prompt_eval_count=9, eval_count=3)


def calling(name: str, arguments: Any) -> dict[str, Any]:
    return record(message={"tool_calls": [{"function": {"name": name, "arguments": arguments}}]})


def sse(data: bytes) -> list[dict[str, Any]]:
    """Return the documents of a stream; each names its event twice."""
    found = []
    for frame in data.decode().split("\n\n"):
        if not frame or frame.startswith(":"):
            continue
        name, _, document = frame.partition("\ndata: ")
        event = json.loads(document)
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def ask(setup: Setup, **body: Any) -> Any:
    status, answer, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": "Hello", **body})
    assert status == 200, answer
    return answer


async def streamed(setup: Setup, **body: Any) -> list[dict[str, Any]]:
    asked = {"model": "smollm2", "input": "Hello", "stream": True, **body}
    async with setup.http.post("/v1/responses", json=asked) as response:
        data = await response.read()
        assert response.status == 200, data
        assert response.headers["content-type"].startswith("text/event-stream")
        return sse(data)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def prompt_of(setup: Setup, place: int = -1) -> Any:
    return setup.ollama.asked("/api/chat")[place]["messages"]


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_is_openais_whole_object(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    response = await ask(setup, instructions="Be brief.")

    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "Hello"
    assert response["usage"]["total_tokens"] == 12
    assert prompt_of(setup) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    shapes.check("Response", response)


async def test_a_stream_has_openais_exact_sequence(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    events = await streamed(setup)

    assert types(events) == [
        *FIRST,
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["service_tier"] == "auto"
    assert events[0]["response"]["usage"] is None
    assert events[2]["item"]["content"] == []
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1
    assert events[-1]["response"]["output"][0] == events[-2]["item"]
    for event in events:
        shapes.check_event(event)


async def test_the_sdk_reads_both(setup: Setup) -> None:
    client = openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="sk-none")
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    assert (await client.responses.create(model="smollm2", input="Hello")).output_text == "Hi"
    setup.ollama.play("/api/chat", [record("Hi"), record(" you"), done()])
    async with client.responses.stream(model="smollm2", input="Hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == "Hi you"
    await client.close()


async def test_a_call_is_an_item_of_its_own(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [calling("weather", {"city": "Bern"}), done()])
    events = await streamed(setup, model="smollm2-tools", tools=[TOOL])

    assert types(events)[2:-1] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    item = events[-1]["response"]["output"][0]
    assert (item["type"], item["name"], json.loads(item["arguments"])) == ("function_call", "weather", {"city": "Bern"})
    assert item["id"].startswith("fc_")
    assert item["call_id"].startswith("call_")
    for event in events:
        shapes.check_event(event)


async def test_tools_of_a_namespace_go_by_one_name_and_come_back_by_two(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [calling("mail__send", {}), done()])
    group = {"type": "namespace", "name": "mail", "description": "Mail", "tools": [{**TOOL, "name": "send"}]}
    response = await ask(setup, model="smollm2-tools", tools=[group, {"type": "web_search"}])

    item = response["output"][0]
    assert (item["namespace"], item["name"]) == ("mail", "send")
    assert [tool["function"]["name"] for tool in setup.ollama.asked("/api/chat")[-1]["tools"]] == ["mail__send"]
    setup.ollama.play("/api/chat", [record("Sent."), done()])
    result = {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
    await ask(setup, model="smollm2-tools", input=[result], previous_response_id=response["id"], tools=[group])
    assert prompt_of(setup)[1]["tool_calls"][0]["function"]["name"] == "mail__send"


async def test_thoughts_are_shown_as_asked_and_come_back_sealed(setup: Setup) -> None:
    thinking = [record(message={"thinking": "Hmm."}), record("Hi"), done()]
    setup.ollama.play("/api/chat", thinking)
    events = await streamed(
        setup,
        model="smollm2-think",
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        store=False,
    )
    assert types(events)[2:8] == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    ]
    output = events[-1]["response"]["output"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hmm."}]
    assert "Hmm" not in output[0]["encrypted_content"]
    for event in events:
        shapes.check_event(event)

    setup.ollama.play("/api/chat", thinking)
    # Without the summary, as a client does that shows none.
    replayed = [{**output[0], "summary": []}, output[1], {"role": "user", "content": "And?"}]
    answer = await ask(
        setup, input=[{"role": "user", "content": "Hello"}, *replayed], store=False, model="smollm2-think"
    )
    assert prompt_of(setup)[1]["thinking"] == "Hmm."
    assert answer["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hmm."}]


async def test_an_answer_that_was_cut_is_incomplete(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), done("length")])
    events = await streamed(setup, max_output_tokens=16)

    final = events[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["response"]["output"][0]["status"] == "incomplete"
    assert final["response"]["usage"]["output_tokens"] == 3


async def test_a_failure_in_the_middle_is_told_flat_and_nested_and_kept(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), {"error": "out of memory"}])
    events = await streamed(setup)

    error, failed = events[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert error["message"] == error["error"]["message"]
    assert "out of memory" in failed["response"]["error"]["message"]
    async with setup.http.get(f"/v1/responses/{failed['response']['id']}") as response:
        assert (await response.json())["status"] == "failed"


# --- state ------------------------------------------------------------------------------------------------------------


async def test_a_response_is_gone_on_from_without_its_instructions(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    first = await ask(setup, instructions="Be brief.")
    setup.ollama.play("/api/chat", [record("Bye"), done()])
    second = await ask(setup, input="Leave", previous_response_id=first["id"])
    setup.ollama.play("/api/chat", [record("!"), done()])
    await ask(setup, input="Now", previous_response_id=second["id"])

    assert [(each["role"], each["content"]) for each in prompt_of(setup)] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "Leave"),
        ("assistant", "Bye"),
        ("user", "Now"),
    ]
    assert second["previous_response_id"] == first["id"]


async def test_a_response_is_shown_and_forgotten(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    made = await ask(setup, input=[{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}])
    url = f"/v1/responses/{made['id']}"
    async with setup.http.get(url) as response:
        assert await response.json() == made
    async with setup.http.get(f"{url}/input_items", params={"order": "asc", "limit": "1"}) as response:
        page = await response.json()
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "One"}]
    assert page["has_more"]
    shapes.check("ResponseItemList", page)
    async with setup.http.delete(url) as response:
        assert await response.json() == {"id": made["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        async with setup.http.request(method, url) as response:
            body = await response.json()
            assert response.status == 404
            assert body["error"]["message"] == f"Response with id '{made['id']}' not found."


async def test_what_is_not_stored_is_not_there(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    made = await ask(setup, store=False)
    status, body, _ = await setup.post(
        "/v1/responses", {"model": "smollm2", "input": "x", "previous_response_id": made["id"]}
    )
    assert status == 400
    assert body["error"]["code"] == "previous_response_not_found"


async def test_an_item_may_be_named_by_its_id(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [calling("weather", {}), done()])
    call = (await ask(setup, model="smollm2-tools", tools=[TOOL]))["output"][0]
    setup.ollama.play("/api/chat", [record("Sunny"), done()])
    items = [
        {"role": "user", "content": "Weather?"},
        {"type": "item_reference", "id": call["id"]},
        {"type": "function_call_output", "call_id": call["call_id"], "output": [{"type": "input_text", "text": "sun"}]},
    ]
    await ask(setup, model="smollm2-tools", input=items, tools=[TOOL])
    assert [each["role"] for each in prompt_of(setup)] == ["user", "assistant", "tool"]
    status, body, _ = await setup.post(
        "/v1/responses", {"model": "smollm2", "input": [{"type": "item_reference", "id": "msg_no"}]}
    )
    assert (status, body["error"]["param"]) == (404, "input")


async def test_a_conversation_grows_with_each_answer(setup: Setup) -> None:
    _, conversation, _ = await setup.post("/v1/conversations", {})
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    made = await ask(setup, conversation=conversation["id"])
    assert made["conversation"] == {"id": conversation["id"]}
    setup.ollama.play("/api/chat", [record("Bye"), done()])
    await ask(setup, input="Leave", conversation={"id": conversation["id"]})
    assert [each["content"] for each in prompt_of(setup)] == ["Hello", "Hi", "Leave"]
    async with setup.http.get(f"/v1/conversations/{conversation['id']}/items") as response:
        assert len((await response.json())["data"]) == 4


async def test_tokens_are_counted_without_a_model(setup: Setup) -> None:
    status, body, _ = await setup.post("/v1/responses/input_tokens", {"model": "smollm2", "input": "Hello there"})
    assert status == 200
    assert body["object"] == "response.input_tokens"
    assert 2 <= body["input_tokens"] <= 20
    assert setup.ollama.asked("/api/chat") == []


async def test_a_kept_response_is_replayed_as_a_stream(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record(message={"thinking": "Hmm."}), record("Hel"), record("lo"), done()])
    made = await ask(setup, model="smollm2-think")
    async with setup.http.get(f"/v1/responses/{made['id']}", params={"stream": "true"}) as response:
        events = sse(await response.read())
    assert events[-1]["response"] == made
    for event in events:
        shapes.check_event(event)
    params = {"stream": "true", "starting_after": "3"}
    async with setup.http.get(f"/v1/responses/{made['id']}", params=params) as response:
        data = await response.read()
    assert data.startswith(b"event: ")
    assert [json.loads(frame.partition("data: ")[2]) for frame in data.decode().split("\n\n")[:-1]] == events[4:]


async def test_a_conversation_is_made_short(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("They said hello."), done()])
    items = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    status, compaction, _ = await setup.post("/v1/responses/compact", {"model": "smollm2", "input": items})
    assert status == 200
    shapes.check("CompactResource", compaction)
    assert [item["type"] for item in compaction["output"]] == ["message", "compaction"]
    assert "hello" not in compaction["output"][1]["encrypted_content"]
    setup.ollama.play("/api/chat", [record("Yes."), done()])
    await ask(setup, input=[*compaction["output"], {"role": "user", "content": "Remember?"}])
    assert "They said hello." in prompt_of(setup)[0]["content"]
    foreign = {"type": "compaction", "encrypted_content": "gAAAAfromelsewhere"}
    status, body, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": [foreign]})
    assert (status, body["error"]["code"]) == (400, "invalid_encrypted_content")


async def test_a_prompt_that_is_too_long_loses_its_oldest_turns_where_that_is_wanted(setup: Setup) -> None:
    said = [f"{number} " + "word " * 50 for number in range(20)]
    turns = [{"role": role, "content": text} for text in said for role in ("user", "assistant")]
    turns.append({"role": "user", "content": "last"})
    body = {"model": "smollm2", "input": turns, "instructions": "Be brief."}
    setup.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    status, answer, _ = await setup.post("/v1/responses", body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "context_length_exceeded", "input")
    assert answer["error"]["message"].startswith("Your input exceeds the context window of this model.")
    setup.ollama.play("/api/chat", "ctx-chat-truncate-false-stream")
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    response = await ask(setup, **body, truncation="auto")
    sent = [each["content"] for each in prompt_of(setup)]
    assert (sent[0], sent[-1]) == ("Be brief.", "last")
    assert 2 < len(sent) < len(turns)
    assert response["truncation"] == "auto"


# --- in the background ------------------------------------------------------------------------------------------------


async def shown(setup: Setup, id: str) -> Any:
    async with setup.http.get(f"/v1/responses/{id}") as response:
        return await response.json()


async def settled(setup: Setup, id: str) -> Any:
    """Return a response in the background once it has ended."""
    for _ in range(200):
        if (response := await shown(setup, id))["status"] not in ("queued", "in_progress"):
            return response
        await asyncio.sleep(0.01)
    raise AssertionError("it never ended")


async def test_a_response_in_the_background_is_asked_for_until_it_is_there(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()], delay=0.1)
    made = await ask(setup, background=True)
    assert (made["status"], made["output"], made["background"]) == ("queued", [], True)
    ended = await settled(setup, made["id"])
    assert ended["status"] == "completed"
    assert ended["output"][0]["content"][0]["text"] == "Hello"
    shapes.check("Response", ended)
    setup.ollama.play("/api/chat", [record("Bye"), done()])
    await ask(setup, input="Leave", previous_response_id=made["id"])
    assert [each["content"] for each in prompt_of(setup)] == ["Hello", "Hello", "Leave"]


async def test_a_stream_from_the_background_is_followed_again_with_the_same_numbers(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()], delay=0.05)
    asked = {"model": "smollm2", "input": "Hello", "stream": True, "background": True}
    async with setup.http.post("/v1/responses", json=asked) as response:
        # The client leaves after the first event.
        first = await response.content.readuntil(b"\n\n")
    id = json.loads(first.partition(b"data: ")[2])["response"]["id"]
    async with setup.http.get(f"/v1/responses/{id}", params={"stream": "true", "starting_after": "0"}) as response:
        live = await response.read()
    async with setup.http.get(f"/v1/responses/{id}", params={"stream": "true"}) as response:
        later = await response.read()
    events = sse(first + live)
    assert types(events)[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert events[0]["response"]["status"] == "queued"
    assert sse(later) == events
    assert events[-1]["type"] == "response.completed"


async def test_a_response_in_the_background_is_cancelled_and_frees_the_model(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()], delay=1.5)
    made = await ask(setup, background=True)
    for _ in range(2):
        async with setup.http.post(f"/v1/responses/{made['id']}/cancel") as response:
            assert (await response.json())["status"] == "cancelled"
    assert (await shown(setup, made["id"]))["status"] == "cancelled"
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    plain = await ask(setup)
    async with setup.http.post(f"/v1/responses/{plain['id']}/cancel") as response:
        assert response.status == 400


async def test_a_failure_in_the_background_is_kept(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    made = await ask(setup, background=True)
    ended = await settled(setup, made["id"])
    assert ended["status"] == "failed"
    assert "out of memory" in ended["error"]["message"]


async def test_what_ran_in_the_background_when_the_daemon_ended_runs_again(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    ollama.play("/api/chat", [record("never")], delay=30)
    first = await start_proxy(config(ollama.url), books=True)
    async with aiohttp.ClientSession(first.url) as http:
        body = {"model": "smollm2", "input": "Hello", "background": True}
        async with http.post("/v1/responses", json=body) as response:
            made = await response.json()
    for _ in range(300):
        if ollama.asked("/api/chat"):
            break
        await asyncio.sleep(0.01)
    await first.app.cleanup()
    ollama.play("/api/chat", [record("Again"), done()])
    second = await start_proxy(config(ollama.url), books=True)
    async with aiohttp.ClientSession(second.url) as http:
        await http.get("/v1/models")
        for _ in range(300):
            async with http.get(f"/v1/responses/{made['id']}") as response:
                again = await response.json()
            if again["status"] == "completed":
                break
            await asyncio.sleep(0.01)
    assert again["output"][0]["content"][0]["text"] == "Again"
    assert again["created_at"] == made["created_at"]


# --- over a WebSocket -------------------------------------------------------------------------------------------------


@pytest.fixture
async def socket(setup: Setup) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with setup.http.ws_connect("/v1/responses", headers={"openai-beta": "responses_websockets=2026-02-06"}) as ws:
        yield ws


async def turn(ws: aiohttp.ClientWebSocketResponse, **body: Any) -> list[dict[str, Any]]:
    """Ask once; return the events up to the last."""
    await ws.send_json({"type": "response.create", "model": "smollm2", "input": "Hello", **body})
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in ("response.completed", "response.failed", "error"):
        events.append(await ws.receive_json(timeout=5))
    return events


async def test_a_socket_answers_turn_after_turn(setup: Setup, socket: aiohttp.ClientWebSocketResponse) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    events = await turn(socket, store=False)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        shapes.check_event(event)
    first = events[-1]["response"]
    setup.ollama.play("/api/chat", [record("Bye"), done()])
    second = (await turn(socket, input="Leave", store=False, previous_response_id=first["id"]))[-1]["response"]
    assert [each["content"] for each in prompt_of(setup)] == ["Hello", "Hello", "Leave"]
    setup.ollama.play("/api/chat", [record("Kept"), done()])
    kept = (await turn(socket, input="Keep", previous_response_id=second["id"]))[-1]["response"]
    setup.ollama.play("/api/chat", [record("!"), done()])
    await ask(setup, input="Now", previous_response_id=kept["id"])
    assert [each["content"] for each in prompt_of(setup)][-3:] == ["Keep", "Kept", "Now"]
    assert len(prompt_of(setup)) == 7


async def test_a_warm_up_asks_no_model_and_can_be_gone_on_from(
    setup: Setup, socket: aiohttp.ClientWebSocketResponse
) -> None:
    events = await turn(socket, generate=False, store=False)
    assert types(events) == [*FIRST, "response.completed"]
    assert setup.ollama.asked("/api/chat") == []
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    await turn(socket, input="Now", store=False, previous_response_id=events[-1]["response"]["id"])
    assert [each["content"] for each in prompt_of(setup)] == ["Hello\n\nNow"]


async def test_a_socket_tells_errors_and_lives_on(setup: Setup, socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str("nonsense")
    assert (await socket.receive_json())["status"] == 400
    await socket.send_json({"type": "response.undo"})
    assert (await socket.receive_json())["error"]["param"] == "type"
    (missing,) = await turn(socket, previous_response_id="resp_no")
    assert missing["error"]["code"] == "previous_response_not_found"
    (unknown,) = await turn(socket, model="nobody")
    assert (unknown["status"], unknown["error"]["code"]) == (404, "model_not_found")
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    assert (await turn(socket))[-1]["type"] == "response.completed"


async def test_a_turn_is_booked_like_a_request(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url), books=True)
    ollama.play("/api/chat", [record("Hi"), done()])
    async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect("/v1/responses") as ws:
        await turn(ws)
        async with http.get(
            "/v1/organization/usage/completions", params={"start_time": str(int(time.time()) - 60)}
        ) as response:
            usage = await response.json()
    results = [result for bucket in usage["data"] for result in bucket["results"]]
    assert sum(result["num_model_requests"] for result in results) == 1
    assert sum(result["input_tokens"] for result in results) == 9


async def test_a_plain_get_is_the_wrong_method(setup: Setup) -> None:
    async with setup.http.get("/v1/responses") as response:
        assert response.status == 405
        assert (await response.json())["error"]["type"] == "invalid_request_error"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({"input": None}, "input", "must be provided"),
        ({"input": []}, "input", "empty array"),
        ({"input": [{"type": "nonsense"}]}, "input[0].type", "Supported values"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role", "Supported values"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text", "Missing"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
            "Missing",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input", "No tool call found"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
            "input",
            "No tool output found for function call c.",
        ),
        ({"max_output_tokens": 5}, "max_output_tokens", ">= 16"),
        ({"tools": [{"type": "magic"}]}, "tools[0].type", "Supported values"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name", "unique"),
        ({"tool_choice": {"type": "web_search"}, "tools": [{"type": "web_search"}]}, "tool_choice", "not found in"),
        ({"tool_choice": {"type": "function", "name": "x"}, "tools": [TOOL]}, "tool_choice", "not found in"),
        ({"previous_response_id": "resp_x", "conversation": "conv_x"}, "previous_response_id", "Mutually exclusive"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt.id", "not found"),
        ({"stream_options": {}}, "stream_options", "only allowed when"),
        ({"truncation": "some"}, "truncation", "Supported values"),
        ({"include": ["everything"]}, "include[0]", "Supported values"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing"),
    ],
)
async def test_refusals_name_the_culprit(setup: Setup, body: dict[str, Any], param: str, part: str) -> None:
    status, answer, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": "Hello", **body})
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert part in answer["error"]["message"]
    assert setup.ollama.asked("/api/chat") == []


async def test_what_has_no_effect_is_named(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    body = {
        "model": "smollm2",
        "input": [
            {"role": "user", "content": "Hi"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
        ],
        "tools": [{"type": "web_search", "external_web_access": True}],
        "client_metadata": {"x": "y"},
        "prompt_cache_key": "k",
        "text": {"verbosity": "low"},
        "provider": {"a": 1},
    }
    status, answer, headers = await setup.post("/v1/responses", body)
    named = set(headers["x-oproxy-ignored"].split(", "))  # type: ignore[index]
    assert status == 200
    assert named == {
        "client_metadata",
        "input.web_search_call",
        "prompt_cache_key",
        "provider",
        "text.verbosity",
        "tools.web_search",
    }
    async with setup.http.get(f"/v1/responses/{answer['id']}/input_items") as response:
        assert [item["type"] for item in (await response.json())["data"]] == ["web_search_call", "message"]


async def test_explicit_nulls_and_empty_lists_ask_for_nothing(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    nulls = ("include", "instructions", "metadata", "user", "previous_response_id", "text", "reasoning", "tool_choice")
    response = await ask(setup, **dict.fromkeys(nulls), tools=[])
    assert response["status"] == "completed"


async def test_a_refused_schema_is_named_as_this_api_calls_it(setup: Setup) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}
    status, body, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": "Hi", "text": {"format": form}})
    assert (status, body["error"]["param"]) == (400, "text.format.schema")
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "x"}}}}
    status, body, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": "Hi", "tools": [tool]})
    assert (status, body["error"]["param"]) == (400, "tools[0].parameters")


async def test_an_answer_that_breaks_off_is_an_error_that_sdks_raise_and_is_kept_as_failed(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hal")])
    async with setup.http.post("/v1/responses", json={"model": "smollm2", "input": "Hi"}) as response:
        assert response.status == 502
        assert "without finishing it" in (await response.json())["error"]["message"]
    objects = setup.proxy.app[ACCOUNTS].store
    assert objects is not None
    page = await asyncio.to_thread(objects.objects.page, "response", owner=None)
    assert page is not None
    assert [thing.status for thing in page.data] == ["failed"]
