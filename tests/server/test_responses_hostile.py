"""Whatever is sent to /v1/responses, the answer has OpenAI's form and is never a failure of ours."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import shapes

from .conftest import Setup
from .test_responses import ask

PATH = "/v1/responses"
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**66), 2**66), st.sampled_from(["", "x", "\0", "msg_1", "é"])
)
KINDS = ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "item_reference"]
TOOLS = ["function", "custom", "namespace", "web_search_call", "additional_tools", "compaction"]
TYPES: st.SearchStrategy[Any] = st.sampled_from([*KINDS, *TOOLS, None, 5, [], "nonsense"])
KEYS = ["id", "role", "content", "call_id", "name", "arguments", "output", "input", "summary", "encrypted_content"]
THINGS = st.builds(
    lambda kind, rest: {"type": kind, **rest},
    TYPES,
    st.dictionaries(
        st.sampled_from([*KEYS, "tools", "format", "text", "file_id", "namespace"]),
        st.one_of(
            ATOMS, st.just("user"), st.lists(st.one_of(ATOMS, st.just({"type": "input_text", "text": "x"})), max_size=2)
        ),
        max_size=4,
    ),
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["smollm2", "smollm2", "nobody"])},
    optional={
        "input": st.one_of(ATOMS, st.lists(THINGS, max_size=3)),
        "tools": st.one_of(ATOMS, st.lists(THINGS, max_size=2)),
        "tool_choice": st.one_of(ATOMS, THINGS, st.sampled_from(["auto", "required"])),
        "previous_response_id": ATOMS,
        "conversation": st.one_of(ATOMS, THINGS),
        "background": ATOMS,
        "stream": ATOMS,
        "store": ATOMS,
        "include": st.one_of(ATOMS, st.lists(ATOMS, max_size=2)),
        "metadata": st.one_of(ATOMS, st.dictionaries(st.text(max_size=3), ATOMS, max_size=2)),
        "text": st.one_of(ATOMS, THINGS, st.builds(lambda form: {"format": form}, THINGS)),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["", "", "", "/input_tokens", "/compact"]))
async def test_a_hostile_body_is_refused_in_openais_form(setup: Setup, body: dict[str, Any], path: str) -> None:
    async with setup.http.post(PATH + path, json=body) as response:
        data = await response.read()
    assert response.status in (200, 400, 404), data
    if response.status != 200:
        shapes.check("ErrorResponse", data)


@pytest.mark.parametrize("place", ["tools", "items", "metadata", "schema", "parameters", "choice"])
async def test_what_is_nested_deeply_is_no_failure_of_ours(setup: Setup, place: str) -> None:
    body = {
        "tools": '"tools":[{"type":"web_search","x":%s}]',
        "items": '"input":[{"role":"user","content":"x"},{"type":"web_search_call","id":"ws_1","x":%s}]',
        "metadata": '"client_metadata":%s',
        "schema": '"text":{"format":{"type":"json_schema","name":"x","schema":{"a":%s}}}',
        "parameters": '"tools":[{"type":"function","name":"f","parameters":{"a":%s}}]',
        "choice": '"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp","x":%s}]}',
    }[place]
    asked = "" if place == "items" else '"input":"x",'
    for depth, more in itertools.product(
        (200, 900, 975, 985, 1000, 5000), ("", '"stream":true,', '"background":true,')
    ):
        sent = '{"model":"smollm2",' + asked + more + body % ("[" * depth + "]" * depth) + "}"
        async with setup.http.post(PATH, data=sent, headers={"content-type": "application/json"}) as response:
            data = await response.read()
        assert response.status in (200, 400), data
        assert b"event: error" not in data
        if more or response.status != 200:
            continue
        for path in ("", "/input_items", "?stream=true"):
            async with setup.http.get(f"{PATH}/{json.loads(data)['id']}{path}") as response:
                assert response.status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"model":"smollm2","input":"\\ud800"}'])
async def test_a_body_that_is_no_object_is_refused(setup: Setup, body: bytes) -> None:
    for path in ("", "/input_tokens", "/compact"):
        async with setup.http.post(PATH + path, data=body, headers={"content-type": "application/json"}) as response:
            assert response.status == 400
            shapes.check("ErrorResponse", await response.read())


@pytest.mark.parametrize(
    "id", ["resp_no", "%00", "a%2Fb", "x" * 5000, "%F0%9F%98%80", "..", "resp_x.events", "'; DROP"]
)
async def test_an_id_of_nothing_is_not_found(setup: Setup, id: str) -> None:
    made = await ask(setup)
    for method, path in (
        ("GET", ""),
        ("GET", "?stream=true"),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
    ):
        async with setup.http.request(method, f"{PATH}/{id}{path}") as response:
            data = await response.read()
            assert response.status in (404, 405), data
            shapes.check("ErrorResponse", data)
    async with setup.http.get(f"{PATH}/{made['id']}.events") as response:
        assert response.status == 404
    async with setup.http.get(f"{PATH}/{made['id']}") as response:
        assert response.status == 200


async def test_a_very_long_conversation_is_answered(setup: Setup) -> None:
    items = [{"role": role, "content": f"{number}"} for number in range(1500) for role in ("user", "assistant")]
    made = await ask(setup, input=[*items, {"role": "user", "content": "last"}])
    assert len(setup.ollama.asked("/api/chat")[-1]["messages"]) == 3001
    async with setup.http.get(f"{PATH}/{made['id']}/input_items", params={"limit": "100"}) as response:
        assert len((await response.json())["data"]) == 100
