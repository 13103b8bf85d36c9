"""Conversations and their items."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.errors import NotFound
from ollama_proxy.server import conversations
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.shapes import check

from .conftest import Setup, config
from .test_generate import DONE, record

WORD = "control-word"
PATH = "/v1/conversations"


def said(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **more}


async def begin(setup: Setup, *items: dict[str, Any], **body: Any) -> str:
    status, answer, _ = await setup.post(PATH, {"items": list(items), **body})
    assert status == 200, answer
    check("ConversationResource", answer)
    return str(answer["id"])


async def add(setup: Setup, id: str, *items: Any) -> tuple[int, Any]:
    status, answer, _ = await setup.post(f"{PATH}/{id}/items", {"items": list(items)})
    check("ConversationItemList" if status == 200 else "ErrorResponse", answer)
    return status, answer


async def get(setup: Setup, path: str, **how: Any) -> tuple[int, Any]:
    async with setup.http.get(f"{PATH}{path}", **how) as response:
        return response.status, await response.json()


async def delete(setup: Setup, path: str, **how: Any) -> tuple[int, Any]:
    async with setup.http.delete(f"{PATH}{path}", **how) as response:
        return response.status, await response.json()


def texts(page: Any) -> list[str]:
    return [item["content"][0]["text"] for item in page["data"]]


# --- conversations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{}", b'{"items":null,"metadata":null}', b'{"items":[]}'])
async def test_nothing_has_to_be_said_to_begin_one(setup: Setup, body: bytes) -> None:
    async with setup.http.post(PATH, data=body, headers={"content-type": "application/json"}) as response:
        made = await response.json()
    check("ConversationResource", made)
    assert (response.status, made["object"], made["metadata"]) == (200, "conversation", {})
    assert made["id"].startswith("conv_")
    assert await get(setup, f"/{made['id']}") == (200, made)


async def test_metadata_is_kept_changed_and_taken_away(setup: Setup) -> None:
    id = await begin(setup, metadata={"a": "1"})
    assert (await get(setup, f"/{id}"))[1]["metadata"] == {"a": "1"}
    status, body, told = await setup.post(f"{PATH}/{id}", {"metadata": {"b": "2"}, "made_up": 1})
    headers: Any = told
    assert (status, body["metadata"], headers["x-oproxy-ignored"]) == (200, {"b": "2"}, "made_up")
    assert (await setup.post(f"{PATH}/{id}", {"metadata": None}))[1]["metadata"] == {}
    assert (await get(setup, f"/{id}"))[1]["metadata"] == {}


async def test_a_deleted_one_is_gone_with_its_items(setup: Setup) -> None:
    id = await begin(setup, said("Hello", id="msg_1"))
    status, body = await delete(setup, f"/{id}")
    check("DeletedConversationResource", body)
    assert (status, body) == (200, {"id": id, "object": "conversation.deleted", "deleted": True})
    for path in (f"/{id}", f"/{id}/items", f"/{id}/items/msg_1"):
        status, body = await get(setup, path)
        check("ErrorResponse", body)
        assert (status, body["error"]["message"]) == (404, f"Conversation with id '{id}' not found.")
    for path in (f"/{id}", f"/{id}/items/msg_1"):
        assert (await delete(setup, path))[0] == 404
    assert (await add(setup, id, said("Hi")))[0] == 404
    assert (await setup.post(f"{PATH}/{id}", {"metadata": {}}))[0] == 404


WRONG: list[tuple[Any, str | None, str]] = [
    ({"items": [said("x")] * 21}, "items", "array too long"),
    ({"items": "Hello"}, "items", "expected an array of objects"),
    ({"items": [1]}, "items[0]", "expected an object"),
    ({"items": [{"type": "message", "role": "user"}]}, "items[0].content", "Missing required parameter"),
    ({"items": [said("x"), said("x", role="judge")]}, "items[1].role", "Invalid value: 'judge'"),
    ({"items": [said("x", id=1)]}, "items[0].id", "expected a string"),
    ({"items": [{"type": "web_search_call", "id": 1}]}, "items[0].id", "expected a string"),
    ({"items": [said("x", id="m" * 600)]}, "items[0].id", "string too long"),
    ({"items": [said("x", id="a\0b")]}, "items[0].id", "without NUL characters"),
    ({"items": [{"type": "telepathy"}]}, "items[0].type", "Invalid value: 'telepathy'"),
    ({"items": [{}]}, "items[0].type", "Missing required parameter"),
    ({"items": [{"type": 1}]}, "items[0].type", "expected a string"),
    ({"items": [said("a", id="m"), said("b", id="m")]}, "items", "Duplicate item found with id m."),
    ({"metadata": {"a": 1}}, "metadata.a", "expected a string"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "too many properties"),
    ([], None, "expected an object"),
]


async def test_what_is_wrong_is_openais_error_and_nothing_is_kept(setup: Setup) -> None:
    id = await begin(setup)
    for body, param, words in WRONG:
        status, answer, _ = await setup.post(PATH, body)
        check("ErrorResponse", answer)
        assert (status, answer["error"]["param"]) == (400, param), body
        assert words in answer["error"]["message"], body
        if isinstance(body, dict) and isinstance(body.get("items"), list):
            assert await add(setup, id, *body["items"]) == (400, answer)
    assert (await get(setup, f"/{id}/items"))[1]["data"] == []


async def test_broken_json_is_a_clients_error(setup: Setup) -> None:
    id = await begin(setup)
    for path in (PATH, f"{PATH}/{id}", f"{PATH}/{id}/items"):
        async with setup.http.post(path, data=b'{"items": [') as response:
            assert response.status == 400
            check("ErrorResponse", await response.json())


# --- items ------------------------------------------------------------------------------------------------------------


async def test_items_are_listed_newest_first_in_their_kept_form(setup: Setup) -> None:
    id = await begin(setup, {"role": "user", "content": "One"}, said("Two", role="assistant"))
    status, page = await get(setup, f"/{id}/items")
    check("ConversationItemList", page)
    two, one = page["data"]
    assert status == 200
    assert (one["type"], one["role"], one["status"]) == ("message", "user", "completed")
    assert one["content"] == [{"type": "input_text", "text": "One"}]
    assert two["content"] == [{"type": "output_text", "text": "Two", "annotations": [], "logprobs": []}]
    assert one["id"].startswith("msg_")
    assert (page["first_id"], page["last_id"], page["has_more"]) == (two["id"], one["id"], False)


async def test_items_of_other_kinds_keep_their_fields(setup: Setup) -> None:
    items: list[dict[str, Any]] = [
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "y"},
    ]
    id = await begin(setup)
    status, added = await add(setup, id, *items)
    assert status == 200
    _, page = await get(setup, f"/{id}/items?order=asc")
    assert page["data"] == added["data"]
    for item, kept in zip(items, page["data"], strict=True):
        assert item.items() <= kept.items()
        assert kept["id"]


async def test_items_go_behind_those_that_are_there(setup: Setup) -> None:
    id = await begin(setup, said("a"))
    status, added = await add(setup, id, said("b"), said("c"))
    assert (status, texts(added), added["has_more"]) == (200, ["b", "c"], False)
    assert texts((await get(setup, f"/{id}/items?order=asc"))[1]) == ["a", "b", "c"]


async def test_one_item_is_shown_and_taken_out(setup: Setup) -> None:
    id = await begin(setup, said("a", id="msg_a"), said("b", id="msg_b"), metadata={"x": "y"})
    status, item = await get(setup, f"/{id}/items/msg_a?include[]=message.output_text.logprobs")
    check("ConversationItem", item)
    assert (status, item["content"][0]["text"]) == (200, "a")
    status, body = await delete(setup, f"/{id}/items/msg_a")
    check("ConversationResource", body)
    assert (status, body["id"], body["metadata"]) == (200, id, {"x": "y"})
    assert texts((await get(setup, f"/{id}/items"))[1]) == ["b"]
    for answer in (await get(setup, f"/{id}/items/msg_a"), await delete(setup, f"/{id}/items/msg_a")):
        assert answer[0] == 404
        assert answer[1]["error"]["message"] == f"Item with id 'msg_a' not found in conversation '{id}'."


async def test_an_item_that_is_there_already_is_refused_and_none_of_the_others_is_added(setup: Setup) -> None:
    id = await begin(setup, said("a", id="msg_a"))
    status, body = await add(setup, id, said("b"), said("again", id="msg_a"))
    assert (status, body["error"]["param"]) == (400, "items")
    assert body["error"]["message"].startswith("Duplicate item found with id msg_a.")
    assert texts((await get(setup, f"/{id}/items"))[1]) == ["a"]


async def test_of_those_who_add_the_same_item_at_once_one_wins(setup: Setup) -> None:
    id = await begin(setup)
    answers = await asyncio.gather(*(add(setup, id, said(str(n), id="msg_a")) for n in range(8)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 7
    assert len((await get(setup, f"/{id}/items"))[1]["data"]) == 1


async def test_nothing_is_lost_when_many_add_at_once(setup: Setup) -> None:
    id = await begin(setup)
    await asyncio.gather(*(add(setup, id, said(f"{n}a"), said(f"{n}b")) for n in range(12)))
    found = texts((await get(setup, f"/{id}/items?order=asc&limit=100"))[1])
    assert sorted(found) == sorted(f"{n}{half}" for n in range(12) for half in "ab")
    assert all(found.index(f"{n}b") == found.index(f"{n}a") + 1 for n in range(12))


async def test_a_reference_to_nothing_is_not_found(setup: Setup) -> None:
    id = await begin(setup)
    status, body = await add(setup, id, {"type": "item_reference", "id": "msg_x"})
    assert (status, body["error"]["message"]) == (404, "Item with id 'msg_x' not found.")


async def test_a_wrong_query_is_openais_error(setup: Setup) -> None:
    id = await begin(setup, said("a"))
    for name, value in (("limit", "0"), ("limit", "101"), ("order", "up"), ("after", "x"), ("include", "x")):
        status, body = await get(setup, f"/{id}/items?{name}={value}")
        check("ErrorResponse", body)
        assert (status, body["error"]["param"]) == (400, name)


async def test_an_unknown_parameter_of_a_query_is_named(setup: Setup) -> None:
    id = await begin(setup)
    async with setup.http.get(f"{PATH}/{id}/items?made_up=1") as response:
        assert (response.status, response.headers["x-oproxy-ignored"]) == (200, "made_up")


@given(
    steps=st.lists(
        st.one_of(st.tuples(st.just("add"), st.integers(1, 5)), st.tuples(st.just("delete"), st.integers(0, 30))),
        max_size=6,
    ),
    limit=st.integers(1, 7),
    order=st.sampled_from(["asc", "desc"]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_added_and_taken_out_pages_show_the_rest_once_and_in_order(
    setup: Setup, steps: list[tuple[str, int]], limit: int, order: str
) -> None:
    id, want = await begin(setup), list[str]()
    for step, number in steps:
        if step == "add":
            _, page = await add(setup, id, *(said("x") for _ in range(number)))
            want += [item["id"] for item in page["data"]]
        elif want:
            gone = want.pop(number % len(want))
            assert (await delete(setup, f"/{id}/items/{gone}"))[0] == 200
    found, after = list[str](), ""
    while True:
        _, page = await get(setup, f"/{id}/items", params={"limit": limit, "order": order, "after": after})
        found += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        after = page["last_id"]
    assert found == (want if order == "asc" else want[::-1])


# --- for the Responses API -------------------------------------------------------------------------------------------


async def test_a_turn_is_loaded_and_appended(setup: Setup) -> None:
    id = await begin(setup, said("a", id="msg_a"))
    app = setup.proxy.app
    loaded = [msgspec.json.decode(item.data) for item in await conversations.load(app, id, None)]
    assert [item["id"] for item in loaded] == ["msg_a"]
    # A client that sends the conversation once more adds nothing.
    assert await conversations.append(app, id, None, [*loaded, {"id": "msg_b", "type": "message"}]) is True
    assert [item.id for item in await conversations.load(app, id, None)] == ["msg_a", "msg_b"]
    assert await conversations.append(app, "conv_none", None, loaded) is False
    with pytest.raises(NotFound):
        await conversations.load(app, id, "key_other")
    with pytest.raises(NotFound):
        await conversations.load(app, "conv_none", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_of_the_responses_api_goes_on_with_a_conversation(setup: Setup, stream: bool) -> None:
    id = await begin(setup, said("You are Bob.", role="developer", id="msg_a"))
    for text in ("Hello.", "Who am I?"):
        setup.ollama.play("/api/chat", [record(f"To {text}"), DONE])
        asked = {"model": "smollm2", "input": text, "conversation": {"id": id}, "stream": stream}
        async with setup.http.post("/v1/responses", json=asked) as response:
            assert response.status == 200
            await response.read()
    status, page = await get(setup, f"/{id}/items?order=asc")
    check("ConversationItemList", page)
    assert texts(page) == ["You are Bob.", "Hello.", "To Hello.", "Who am I?", "To Who am I?"]
    first, second = setup.ollama.asked("/api/chat")
    assert [message["content"] for message in first["messages"]] == ["You are Bob.", "Hello."]
    assert [message["content"] for message in second["messages"]][:3] == ["You are Bob.", "Hello.", "To Hello."]
    again = [said("You are Bob.", role="developer", id="msg_a"), said("And?")]
    status, body, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": again, "conversation": id})
    assert (status, body["error"]["param"]) == (400, "input")
    assert body["error"]["message"].startswith("Duplicate item found with id msg_a.")
    status, body, _ = await setup.post("/v1/responses", {"model": "smollm2", "input": "x", "conversation": "conv_x"})
    assert (status, body["error"]["message"]) == (404, "Conversation with id 'conv_x' not found.")


# --- whose they are ---------------------------------------------------------------------------------------------------


async def test_a_key_sees_its_own_only(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=WORD)
    admin = {"authorization": f"Bearer {WORD}"}
    async with aiohttp.ClientSession(proxy.url) as http:
        setup, keys = Setup(proxy, ollama, http), []
        for name in ("ann", "bob"):
            _, made, _ = await setup.post("/oproxy/keys", {"name": name}, headers=admin)
            keys.append({"authorization": f"Bearer {made['key']}"})
        ann, bob = keys
        asked = {"items": [said("secret", id="msg_a")]}
        id = (await setup.post(PATH, asked, headers=ann))[1]["id"]
        for path in (f"/{id}", f"/{id}/items", f"/{id}/items/msg_a"):
            assert (await get(setup, path, headers=bob))[0] == 404
            assert (await get(setup, path, headers=ann))[0] == 200
            assert (await get(setup, path, headers=admin))[0] == 200
        for path in (f"/{id}", f"/{id}/items/msg_a"):
            assert (await delete(setup, path, headers=bob))[0] == 404
        more = {"items": [said("b")]}
        assert (await setup.post(f"{PATH}/{id}/items", more, headers=bob))[0] == 404
        assert (await setup.post(f"{PATH}/{id}", {"metadata": {}}, headers=bob))[0] == 404
        assert texts((await get(setup, f"/{id}/items", headers=ann))[1]) == ["secret"]


async def test_they_outlive_the_daemon(start_proxy: Start, ollama: FakeOllama) -> None:
    ids = []
    for _ in range(2):
        proxy = await start_proxy(config(ollama.url))
        async with aiohttp.ClientSession(proxy.url) as http:
            setup = Setup(proxy, ollama, http)
            ids.append(await begin(setup, said("a")))
            assert texts((await get(setup, f"/{ids[0]}/items"))[1]) == ["a"]


async def test_a_store_that_cannot_be_used_is_said(start_proxy: Start, ollama: FakeOllama, tmp_path: Path) -> None:
    proxy = await start_proxy(config(ollama.url, f'[store]\nurl = "sqlite:///{tmp_path}"\n'))
    async with aiohttp.ClientSession(proxy.url) as http:
        status, body, _ = await Setup(proxy, ollama, http).post(PATH, {})
    check("ErrorResponse", body)
    assert (status, body["error"]["code"]) == (503, "store_unavailable")


# --- OpenAI's own client ----------------------------------------------------------------------------------------------


async def test_the_sdk_drives_every_method(setup: Setup) -> None:
    async with openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="x", max_retries=0) as client:
        talks = client.conversations
        assert (await talks.create()).metadata == {}
        made = await talks.create(metadata={"a": "b"}, items=[{"role": "user", "content": "0"}])
        assert (await talks.retrieve(made.id)).metadata == {"a": "b"}
        assert (await talks.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
        added = await talks.items.create(
            made.id,
            items=[{"type": "message", "role": "user", "content": str(n)} for n in range(1, 6)],
            include=["reasoning.encrypted_content"],
        )
        assert len(added.data) == 5
        found = [item async for item in talks.items.list(made.id, limit=2, order="asc")]
        assert [item.content[0].text for item in found if item.type == "message"] == list("012345")  # type: ignore[union-attr]
        assert [item.id async for item in talks.items.list(made.id)] == [item.id for item in reversed(found)]
        first = found[0].id or ""
        assert (await talks.items.retrieve(first, conversation_id=made.id)).type == "message"
        assert (await talks.items.delete(first, conversation_id=made.id)).id == made.id
        with pytest.raises(openai.NotFoundError):
            await talks.items.retrieve(first, conversation_id=made.id)
        assert (await talks.delete(made.id)).deleted is True
        with pytest.raises(openai.NotFoundError):
            await talks.retrieve(made.id)
