"""The Responses API over a WebSocket: turns in their order, each let in anew, none left running for nobody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.server.responses_socket import REMEMBERED, WAITING
from tests import shapes
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

from .conftest import Setup, config
from .test_responses import calling, done, record, sse, turn, types
from .test_responses_state import until

PATH = "/v1/responses"
WORD = "control-word"
ADMIN = {"authorization": f"Bearer {WORD}"}
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
Socket = aiohttp.ClientWebSocketResponse


def asking(text: str = "Hello", **body: Any) -> dict[str, Any]:
    return {"type": "response.create", "model": "smollm2", "input": text, "store": False, **body}


async def heard(ws: Socket) -> list[dict[str, Any]]:
    """Return the events up to the end of a turn."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in ENDS:
        events.append(await ws.receive_json(timeout=5))
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    return str(events[-1]["response"]["output"][0]["content"][0]["text"])


async def test_a_turn_has_the_events_of_a_stream(setup: Setup) -> None:
    for _ in range(2):
        setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_json(asking())
        over = await heard(ws)
    async with setup.http.post(
        PATH, json={"model": "smollm2", "input": "Hello", "store": False, "stream": True}
    ) as response:
        streamed = sse(await response.read())
    assert types(over) == types(streamed)
    assert [set(event) for event in over] == [set(event) for event in streamed]
    assert [event["sequence_number"] for event in over] == list(range(len(over)))


async def test_two_turns_that_are_sent_at_once_are_answered_in_their_order(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("one"), done()], delay=0.1)
    setup.ollama.play("/api/chat", [record("two"), done()])
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_json(asking("1"))
        await ws.send_json(asking("2"))
        first = await heard(ws)
        assert len(setup.ollama.asked("/api/chat")) == 1, "one turn at a time"
        second = await heard(ws)
    assert (text_of(first), text_of(second)) == ("one", "two")
    assert [body["messages"][-1]["content"] for body in setup.ollama.asked("/api/chat")] == ["1", "2"]
    for events in (first, second):
        assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_frames_beyond_those_that_may_wait_are_refused_at_once(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()], hold_after=1)
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_json(asking())
        while (await ws.receive_json(timeout=5))["type"] != "response.output_text.delta":
            pass
        for _ in range(WAITING + 2):
            await ws.send_json(asking())
        for _ in range(2):
            refused = await ws.receive_json(timeout=5)
            assert (refused["type"], refused["error"]["code"]) == ("error", "too_many")
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    assert len(setup.ollama.asked("/api/chat")) == 1, "what waited is not asked for any more"


async def test_a_client_that_leaves_in_the_middle_frees_the_model(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()], hold_after=1)
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_json(asking())
        await ws.receive_json(timeout=5)
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    await until(lambda: any(" 499 " in line for line in setup.proxy.said))
    async with setup.http.ws_connect(PATH) as ws:
        assert (await turn(ws))[-1]["type"] == "response.completed"


async def test_without_a_key_there_is_no_connection(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        for headers in ({}, {"authorization": "Bearer sk-nobody"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(PATH, headers=headers)
            assert caught.value.status == 401
        upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        async with http.get(PATH, headers=upgrade) as response:
            assert response.status == 401
            shapes.check("ErrorResponse", await response.json())
    assert ollama.asked("/api/chat") == []


async def test_a_key_that_is_revoked_between_two_turns_opens_nothing_any_more(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        setup = Setup(proxy, ollama, http)
        _, made, _ = await setup.post("/oproxy/keys", {"name": "ann"}, headers=ADMIN)
        async with http.ws_connect(PATH, headers={"authorization": f"Bearer {made['key']}"}) as ws:
            assert (await turn(ws))[-1]["type"] == "response.completed"
            assert (await setup.post(f"/oproxy/keys/{made['id']}", {"revoked": True}, headers=ADMIN))[0] == 200
            (refused,) = await turn(ws)
    assert (refused["type"], refused["status"]) == ("error", 401)
    assert "revoked" in refused["error"]["message"]
    assert len(ollama.asked("/api/chat")) == 1


async def test_each_turn_is_counted_by_its_keys_limits(start_proxy: Start, ollama: FakeOllama) -> None:
    more = '[auth]\nmode = "on"\n[limits]\nrequests_per_minute = 2\n'
    proxy = await start_proxy(config(ollama.url, more), control=WORD)
    async with aiohttp.ClientSession(proxy.url) as http:
        _, made, _ = await Setup(proxy, ollama, http).post("/oproxy/keys", {"name": "ann"}, headers=ADMIN)
        async with http.ws_connect(PATH, headers={"authorization": f"Bearer {made['key']}"}) as ws:
            ends = [(await turn(ws, store=False))[-1] for _ in range(3)]
    assert [end["type"] for end in ends] == ["response.completed", "response.completed", "error"]
    assert (ends[-1]["status"], ends[-1]["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_what_is_not_stored_is_gone_on_from_on_its_own_connection_only(setup: Setup) -> None:
    async with setup.http.ws_connect(PATH) as one, setup.http.ws_connect(PATH) as other:
        first = (await turn(one, store=False))[-1]["response"]
        (refused,) = await turn(other, previous_response_id=first["id"])
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
        assert (await turn(one, store=False, previous_response_id=first["id"]))[-1]["type"] == "response.completed"
        async with setup.http.get(f"{PATH}/{first['id']}") as response:
            assert response.status == 404


async def test_a_refused_schema_is_named_as_this_api_calls_it(setup: Setup) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}
    async with setup.http.ws_connect(PATH) as ws:
        (refused,) = await turn(ws, store=False, text={"format": form})
    assert (refused["status"], refused["error"]["param"]) == (400, "text.format.schema")


async def test_a_turn_that_failed_is_not_gone_on_from_by_accident(setup: Setup) -> None:
    async with setup.http.ws_connect(PATH) as ws:
        first = (await turn(ws, store=False))[-1]["response"]
        (unknown,) = await turn(ws, store=False, previous_response_id=first["id"], model="nobody")
        assert unknown["error"]["code"] == "model_not_found"
        (gone,) = await turn(ws, store=False, previous_response_id=first["id"])
        assert gone["error"]["code"] == "previous_response_not_found"


async def test_no_more_turns_are_remembered_than_are_said(setup: Setup) -> None:
    async with setup.http.ws_connect(PATH) as ws:
        ids = [(await turn(ws, store=False))[-1]["response"]["id"] for _ in range(REMEMBERED + 1)]
        (forgotten,) = await turn(ws, store=False, previous_response_id=ids[0])
        assert forgotten["error"]["code"] == "previous_response_not_found"
        assert (await turn(ws, store=False, previous_response_id=ids[1]))[-1]["type"] == "response.completed"


async def test_a_failure_in_the_middle_is_told_and_the_connection_lives_on(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), {"error": "out of memory"}])
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_json(asking())
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "response.failed":
            events.append(await ws.receive_json(timeout=5))
        assert "out of memory" in events[-2]["error"]["message"]
        (gone,) = await turn(ws, previous_response_id=events[-1]["response"]["id"])
        assert gone["error"]["code"] == "previous_response_not_found"
        assert (await turn(ws))[-1]["type"] == "response.completed"


async def test_calls_are_answered_on_the_same_connection(setup: Setup) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    setup.ollama.play("/api/chat", [calling("weather", {"city": "Bern"}), done()])
    setup.ollama.play("/api/chat", [record("Sunny"), done()])
    async with setup.http.ws_connect(PATH) as ws:
        first = (await turn(ws, model="smollm2-tools", store=False, tools=[tool]))[-1]["response"]
        result = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "sun"}
        again = asking(model="smollm2-tools", tools=[tool], previous_response_id=first["id"])
        await ws.send_json({**again, "input": [result]})
        assert text_of(await heard(ws)) == "Sunny"
    assert [each["role"] for each in setup.ollama.asked("/api/chat")[-1]["messages"]] == ["user", "assistant", "tool"]


async def test_a_client_that_sends_bytes_is_not_heard_and_one_that_sends_too_much_is_left(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, "[server]\nmax_body = 2000\n"))
    async with aiohttp.ClientSession(proxy.url) as http, http.ws_connect(PATH) as ws:
        await ws.send_bytes(b"\0\1")
        assert (await turn(ws))[-1]["type"] == "response.completed"
        await ws.send_json(asking("x" * 3000))
        assert (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


HOSTILE = st.one_of(
    # aiohttp reads an empty frame only when the next one comes.
    st.text(min_size=1, max_size=20),
    st.sampled_from(["[" * 5000, '{"type":"response.create"}', "null", "[]", "5", '{"type":[]}', '{"type":null}']),
    st.fixed_dictionaries(
        {"type": st.just("response.create")},
        optional={
            "model": st.sampled_from(["smollm2", "", None, 5]),
            "input": st.sampled_from(
                [None, [], 5, [{}], [None], [{"type": []}], [{"type": "web_search_call", "id": 5}]]
            ),
            "previous_response_id": st.sampled_from([None, 5, [], "", "resp_x", "\0"]),
            "generate": st.sampled_from([True, False, None, "x"]),
            "tools": st.sampled_from([None, 5, [[]], [{"type": []}], [{"type": "custom", "format": 5}]]),
        },
    ).map(json.dumps),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(HOSTILE, min_size=1, max_size=WAITING))
async def test_whatever_is_sent_is_answered_and_the_connection_lives_on(setup: Setup, frames: list[str]) -> None:
    async with setup.http.ws_connect(PATH) as ws:
        for frame in frames:
            await ws.send_str(frame)
            end = (await heard(ws))[-1]
            assert end["type"] == "response.completed" or end["status"] in (400, 404), end


async def test_a_wrong_handshake_is_told_what_is_wrong(setup: Setup) -> None:
    headers = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "99"}
    async with setup.http.get(PATH, headers=headers) as response:
        assert (response.status, "99" in (await response.json())["error"]["message"]) == (400, True)


async def test_a_frame_without_a_type_is_told_so(setup: Setup) -> None:
    async with setup.http.ws_connect(PATH) as ws:
        await ws.send_str("{}")
        error = (await heard(ws))[-1]["error"]
    assert (error["param"], error["code"]) == ("type", "missing_required_parameter")


async def test_the_sdk_connects(setup: Setup) -> None:
    pytest.importorskip("websockets", reason="the SDK's extra [realtime]")
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    async with (
        openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="sk-none") as client,
        client.responses.connect() as connection,
    ):
        await connection.response.create(model="smollm2", input="Hello", store=False)
        async for event in connection:
            if event.type == "response.completed":
                assert event.response.output_text == "Hello"
                break
