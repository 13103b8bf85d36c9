"""Chat completions that are kept (`store: true`): whole and streamed, listed, shown, changed and forgotten."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from ollama_proxy.policy.books import Books
from ollama_proxy.server import stored_chat
from ollama_proxy.server.answers import ANSWERS
from ollama_proxy.server.keys import WALL
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import CHAT, Answer, chunk, fake_openai, sse
from tests.shapes import check

from .conftest import HELLO, Setup, config
from .test_generate import DONE, documents, record

WORD = "control-word"
PATH = "/v1/chat/completions"


async def get(http: aiohttp.ClientSession, path: str, **how: Any) -> tuple[int, Any]:
    async with http.get(path, **how) as response:
        return response.status, await response.json()


async def listed(setup: Setup, query: str = "") -> list[str]:
    status, body = await get(setup.http, f"{PATH}{query}")
    assert status == 200, body
    check("ChatCompletionList", body)
    return [each["id"] for each in body["data"]]


async def store(setup: Setup, **body: Any) -> Any:
    status, answer, headers = await setup.chat(store=True, **body)
    assert status == 200, answer
    assert "x-oproxy-ignored" not in {name.lower() for name in headers}
    return answer


async def test_what_is_not_to_be_kept_is_not(setup: Setup) -> None:
    await setup.chat()
    await setup.chat(store=False)
    await setup.chat(store=None)
    await setup.stream()
    assert await listed(setup) == []


async def test_a_kept_answer_is_found_as_it_was_given_with_what_was_asked_for(setup: Setup) -> None:
    answer = await store(setup, temperature=0.5, user="ann", metadata={"topic": "demo"}, seed=7)
    status, body = await get(setup.http, f"{PATH}/{answer['id']}")
    assert status == 200
    check("CreateChatCompletionResponse", body)
    assert answer.items() <= body.items()
    assert (body["temperature"], body["seed"], body["input_user"], body["top_p"]) == (0.5, 7, "ann", None)
    assert body["metadata"] == {"topic": "demo"}
    assert body["request_id"].startswith("req_")


async def test_all_choices_and_tool_calls_are_kept(setup: Setup) -> None:
    for word in ("a", "b"):
        setup.ollama.play("/api/chat", [record(word, done=True, done_reason="stop", prompt_eval_count=9, eval_count=2)])
    answer = await store(setup, n=2)
    _, body = await get(setup.http, f"{PATH}/{answer['id']}")
    assert sorted(choice["message"]["content"] for choice in body["choices"]) == ["a", "b"]


async def test_a_stream_is_kept_as_the_whole_answer_before_its_last_byte(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), DONE])
    asked = {"model": "smollm2", "messages": HELLO, "stream": True, "store": True, "metadata": {"a": "b"}}
    async with setup.http.post(PATH, json=asked) as response:
        data = b""
        while b"[DONE]" not in data:
            data += await response.content.readany()
        id = documents(data)[0]["id"]
        status, body = await get(setup.http, f"{PATH}/{id}")
    assert status == 200
    check("CreateChatCompletionResponse", body)
    assert (body["object"], body["metadata"]) == ("chat.completion", {"a": "b"})
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert body["usage"]["total_tokens"] == 12


@pytest.mark.parametrize("records", [[record("Hi")], [record("Hi"), {"error": "it broke"}]])
async def test_a_stream_that_breaks_off_is_not_kept(setup: Setup, records: list[Any]) -> None:
    setup.ollama.play("/api/chat", records)
    _, data = await setup.stream(store=True)
    assert "error" in documents(data)[-1]
    assert await listed(setup) == []


async def test_a_stream_whose_client_leaves_is_not_kept(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), DONE], hold_after=1)
    asked = {"model": "smollm2", "messages": HELLO, "stream": True, "store": True}
    async with setup.http.post(PATH, json=asked) as response:
        await response.content.readany()
        response.close()
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    assert await listed(setup) == []


async def test_the_messages_are_those_of_the_request(setup: Setup) -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "text", "text": " here"}]
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    _, answer, _ = await setup.chat(messages=messages, store=True)
    path = f"{PATH}/{answer['id']}/messages"
    status, body = await get(setup.http, path)
    assert status == 200
    # The schema knows no other role, OpenAI's own examples do.
    check("ChatCompletionMessageList", {**body, "data": [{**each, "role": "assistant"} for each in body["data"]]})
    system, user, assistant, tool = body["data"]
    assert [each["id"] for each in body["data"]] == [f"{answer['id']}-{n}" for n in range(4)]
    assert (system["role"], system["content"], system["content_parts"]) == ("system", "Be brief.", None)
    assert (user["content"], user["content_parts"], user["name"]) == ("Look here", parts, "ann")
    assert (assistant["content"], assistant["tool_calls"]) == (None, [call])
    assert (tool["role"], tool["tool_call_id"], tool["content"]) == ("tool", "call_1", "42")
    _, page = await get(setup.http, f"{path}?limit=2&order=desc&after={answer['id']}-3")
    assert [each["role"] for each in page["data"]] == ["assistant", "user"]
    assert page["has_more"] is True
    status, body = await get(setup.http, f"{path}?after=nothing")
    assert (status, body["error"]["param"]) == (400, "after")


async def test_lists_are_oldest_first_and_narrowed_by_model_and_metadata(setup: Setup) -> None:
    first = (await store(setup, metadata={"a": "1", "b": "2"}))["id"]
    second = (await store(setup, metadata={"a": "1"}))["id"]
    third = (await store(setup))["id"]
    assert await listed(setup) == [first, second, third]
    assert await listed(setup, "?order=desc") == [third, second, first]
    assert await listed(setup, f"?after={first}&limit=1") == [second]
    assert await listed(setup, "?metadata[a]=1") == [first, second]
    assert await listed(setup, "?metadata[a]=1&metadata[b]=2") == [first]
    assert await listed(setup, "?metadata[a]=2") == []
    assert await listed(setup, "?model=smollm2&metadata[a]=1&limit=1&order=desc") == [second]
    assert await listed(setup, "?model=other") == []
    _, page = await get(setup.http, f"{PATH}?limit=2")
    assert (page["first_id"], page["last_id"], page["has_more"]) == (first, second, True)
    async with setup.http.get(f"{PATH}?made_up=1") as response:
        assert response.headers["x-oproxy-ignored"] == "made_up"


async def test_a_wrong_query_is_openais_error(setup: Setup) -> None:
    for name, value in (("limit", "0"), ("limit", "many"), ("order", "x"), ("after", "x"), ("after", "%00")):
        status, body = await get(setup.http, f"{PATH}?{name}={value}")
        check("ErrorResponse", body)
        assert (status, body["error"]["param"]) == (400, name)


async def test_only_metadata_can_be_changed(setup: Setup) -> None:
    id = (await store(setup, metadata={"a": "1"}))["id"]
    status, body, told = await setup.post(f"{PATH}/{id}", {"metadata": {"b": "2"}, "model": "x"})
    headers: Any = told
    assert (status, body["metadata"], body["model"]) == (200, {"b": "2"}, "smollm2")
    assert headers["x-oproxy-ignored"] == "model"
    assert await listed(setup, "?metadata[a]=1") == []
    assert await listed(setup, "?metadata[b]=2") == [id]
    assert (await setup.post(f"{PATH}/{id}", {"metadata": None}))[1]["metadata"] == {}
    status, body, _ = await setup.post(f"{PATH}/{id}", {})
    assert (status, body["error"]["message"]) == (400, "Missing required parameter: 'metadata'.")
    status, body, _ = await setup.post(f"{PATH}/{id}", {"metadata": {"a": 1}})
    assert (status, body["error"]["param"]) == (400, "metadata.a")


async def test_what_is_forgotten_or_never_was_is_not_found(setup: Setup) -> None:
    id = (await store(setup))["id"]
    async with setup.http.delete(f"{PATH}/{id}") as response:
        body = await response.json()
    check("ChatCompletionDeleted", body)
    assert body == {"object": "chat.completion.deleted", "id": id, "deleted": True}
    for path in (f"{PATH}/{id}", f"{PATH}/{id}/messages", f"{PATH}/none"):
        status, body = await get(setup.http, path)
        check("ErrorResponse", body)
        assert status == 404
    assert (await setup.post(f"{PATH}/{id}", {"metadata": {}}))[0] == 404
    async with setup.http.delete(f"{PATH}/{id}") as response:
        assert response.status == 404


async def test_lists_are_not_counted_as_answers(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url), books=True, control=WORD)
    admin = {"authorization": f"Bearer {WORD}"}
    async with aiohttp.ClientSession(proxy.url, headers=admin) as http:
        setup = Setup(proxy, ollama, http)
        await store(setup)
        await listed(setup)
        await listed(setup)
        path = f"/v1/organization/usage/completions?start_time={int(proxy.app[WALL]()) - 90000}"
        _, usage = await get(http, path)
    results = [result for bucket in usage["data"] for result in bucket["results"]]
    assert sum(result["num_model_requests"] for result in results) == 1


# --- whose they are, and how long ----------------------------------------------------------------------------------


async def test_a_key_sees_its_own_only_and_the_machines_commands_see_all(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, '[auth]\nmode = "on"\n'), control=WORD)
    admin = {"authorization": f"Bearer {WORD}"}
    async with aiohttp.ClientSession(proxy.url) as http:
        setup, ids, keys = Setup(proxy, ollama, http), {}, {}
        for name in ("ann", "bob"):
            _, made, _ = await setup.post("/oproxy/keys", {"name": name}, headers=admin)
            keys[name] = {"authorization": f"Bearer {made['key']}"}
            asked = {"model": "smollm2", "messages": HELLO, "store": True}
            ids[name] = (await setup.post(PATH, asked, headers=keys[name]))[1]["id"]
        for name, other in (("ann", "bob"), ("bob", "ann")):
            _, page = await get(http, PATH, headers=keys[name])
            assert [each["id"] for each in page["data"]] == [ids[name]]
            for path in (f"{PATH}/{ids[other]}", f"{PATH}/{ids[other]}/messages"):
                assert (await get(http, path, headers=keys[name]))[0] == 404
            async with http.delete(f"{PATH}/{ids[other]}", headers=keys[name]) as response:
                assert response.status == 404
            change: Any = {"json": {"metadata": {}}, "headers": keys[name]}
            async with http.post(f"{PATH}/{ids[other]}", **change) as response:
                assert response.status == 404
        _, page = await get(http, PATH, headers=admin)
        assert [each["id"] for each in page["data"]] == [ids["ann"], ids["bob"]]


async def test_they_are_kept_as_long_as_the_settings_say(start_proxy: Start, ollama: FakeOllama) -> None:
    for days, want in ((30, 30 * 86400.0), (0, None)):
        proxy = await start_proxy(config(ollama.url, f"[responses]\nkeep = {days}\n"))
        async with aiohttp.ClientSession(proxy.url) as http:
            answer = await store(Setup(proxy, ollama, http))
        with sqlite3.connect(next(Path.home().rglob("*.db"))) as database:
            row = database.execute("SELECT created, expires FROM objects WHERE id = ?", (answer["id"],)).fetchone()
        assert row[1] == (want if want is None else pytest.approx(row[0] + want))


async def test_what_is_answered_without_a_request_is_kept_too(setup: Setup) -> None:
    books = Books(0.0, id="req_batch")
    asked = {"model": "smollm2", "messages": HELLO, "store": True, "metadata": {"line": "1"}}
    answer = msgspec.json.decode(await ANSWERS[PATH](setup.proxy.app, msgspec.json.encode(asked), books))
    _, body = await get(setup.http, f"{PATH}/{answer['id']}")
    assert (body["request_id"], body["metadata"]) == ("req_batch", {"line": "1"})


# --- where the store fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_kept_is_given_and_says_so(
    start_proxy: Start, ollama: FakeOllama, tmp_path: Path, stream: bool
) -> None:
    proxy = await start_proxy(config(ollama.url, f'[store]\nurl = "sqlite:///{tmp_path}"\n'))
    async with aiohttp.ClientSession(proxy.url) as http:
        asked = {"model": "smollm2", "messages": HELLO, "store": True, "stream": stream, "verbosity": "low"}
        async with http.post(PATH, json=asked) as response:
            assert response.status == 200
            assert response.headers["x-oproxy-ignored"] == "verbosity, store"
            assert await response.read()
        status, body = await get(http, PATH)
    check("ErrorResponse", body)
    assert (status, body["error"]["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_store_that_fails_at_the_end_spoils_no_answer(setup: Setup, stream: bool) -> None:
    await store(setup)
    with sqlite3.connect(next(Path.home().rglob("*.db"))) as database:
        database.execute("DROP TABLE pieces")
    asked = {"model": "smollm2", "messages": HELLO, "store": True, "stream": stream}
    async with setup.http.post(PATH, json=asked) as response:
        data = await response.read()
        assert response.status == 200
        if stream:
            assert documents(data)[-1] == "[DONE]"
        else:
            assert response.headers["x-oproxy-ignored"] == "store"
    assert len(await listed(setup)) == 1


# --- answers of servers that speak the same wire -------------------------------------------------------------------


# --- what is too long ------------------------------------------------------------------------------------------------


async def check_not_kept(setup: Setup, asked: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture) -> bytes:
    """Ask, and check that the answer is whole, that nothing of it is kept, and that the log says why; return it."""
    async with setup.http.post(PATH, json={**asked, "messages": HELLO, "store": True}) as response:
        assert response.status == 200
        data = await response.read()
        # The head of a stream may be sent before its length is known.
        assert asked["stream"] or response.headers["x-oproxy-ignored"] == "store"
    if asked["stream"]:
        assert data.endswith(b"data: [DONE]\n\n")
    id = documents(data)[0]["id"] if asked["stream"] else json.loads(data)["id"]
    assert await listed(setup) == []
    for path in (f"{PATH}/{id}", f"{PATH}/{id}/messages"):
        assert (await get(setup.http, path))[0] == 404
    assert [each for each in caplog.messages if "is not kept" in each and why in each]
    return data


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_too_long_is_given_and_nothing_of_it_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    monkeypatch.setattr(stored_chat, "LARGEST", 400)
    setup.ollama.play("/api/chat", [*[record("word ") for _ in range(40)], DONE])
    data = await check_not_kept(setup, {"model": "smollm2", "stream": stream}, "more than 400 bytes", caplog)
    assert data.count(b"word") == 40


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_passes_and_is_too_long_is_given_and_nothing_of_it_is_kept(
    lab: tuple[Setup, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    monkeypatch.setattr(stored_chat, "LARGEST", 200)
    await check_not_kept(lab[0], {"model": "small", "stream": stream}, "more than 200 bytes", caplog)


async def test_a_stream_for_which_there_is_no_memory_is_given_and_nothing_of_it_is_kept(
    setup: Setup, lab: tuple[Setup, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stored_chat, "LARGEST", 10**12)
    monkeypatch.setattr(stored_chat, "EVENT", 10**11)
    for each, model in ((setup, "smollm2"), (lab[0], "small")):
        caplog.clear()
        await check_not_kept(each, {"model": model, "stream": True}, "memory under [server]", caplog)


@pytest.fixture
async def lab(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[tuple[Setup, Any]]:
    async with fake_openai() as fake:
        proxy: Proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{fake.url}"\n')
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Setup(proxy, ollama, http), fake


async def test_answers_of_an_openai_backend_are_kept_under_ids_of_ours(lab: tuple[Setup, Any]) -> None:
    setup, _ = lab
    first = await store(setup, model="small")
    second = await store(setup, model="small")
    assert first["id"] != second["id"]
    assert await listed(setup) == [first["id"], second["id"]]
    _, body = await get(setup.http, f"{PATH}/{first['id']}")
    assert (body["choices"][0]["message"]["content"], body["usage"]) == ("Hello you.", first["usage"])


async def test_an_answer_that_passes_and_is_not_kept_has_the_backends_id(lab: tuple[Setup, Any]) -> None:
    setup, _ = lab
    _, answer, _ = await setup.chat(model="small")
    assert answer["id"] == "chatcmpl-1"
    assert b'"id": "chatcmpl-1"' in (await setup.stream(model="small"))[1]


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
async def test_a_stream_that_passes_is_kept_too(lab: tuple[Setup, Any], more: dict[str, Any]) -> None:
    setup, _ = lab
    _, data = await setup.stream(model="small", store=True, **more)
    ids = {each["id"] for each in documents(data)[:-1]}
    assert len(ids) == 1
    assert ids != {"chatcmpl-1"}
    assert await listed(setup) == [*ids]
    _, body = await get(setup.http, f"{PATH}/{ids.pop()}")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello you.", "refusal": None}
    assert (body["choices"][0]["finish_reason"], body["usage"]["total_tokens"]) == ("stop", 13)


async def test_tool_calls_of_a_stream_that_passes_are_put_together(lab: tuple[Setup, Any]) -> None:
    setup, _ = lab
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    _, data = await setup.stream(model="small", store=True, tools=[tool])
    _, body = await get(setup.http, f"{PATH}/{documents(data)[0]['id']}")
    function = {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert body["choices"][0]["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert body["tools"] == [tool]


@pytest.mark.parametrize("cut", range(0, 400, 61))
async def test_a_stream_that_passes_is_kept_wherever_its_bytes_are_cut(lab: tuple[Setup, Any], cut: int) -> None:
    setup, fake = lab
    data = sse(chunk("small", {"role": "assistant", "content": "Hé"}), chunk("small", {"content": "llo"}, "stop"))
    fake.script(CHAT, Answer(pieces=[data[:cut], data[cut:]] if cut else [data]))
    _, passed = await setup.stream(model="small", store=True)
    _, body = await get(setup.http, f"{PATH}/{documents(passed)[0]['id']}")
    assert body["choices"][0]["message"]["content"] == "Héllo"


async def test_a_stream_that_passes_and_breaks_off_is_not_kept(lab: tuple[Setup, Any]) -> None:
    setup, fake = lab
    data = sse(chunk("small", {"role": "assistant", "content": "Hi"}), done=False)
    fake.script(CHAT, Answer(pieces=[data]))
    fake.script(CHAT, Answer(pieces=[data], cut=True))
    for _ in range(2):
        _, passed = await setup.stream(model="small", store=True)
        assert "error" in documents(passed)[-1]
    assert await listed(setup) == []


async def test_what_is_no_completion_is_an_error_and_not_kept(lab: tuple[Setup, Any]) -> None:
    setup, fake = lab
    bodies: list[dict[str, Any]] = [{"hello": 1}, {"choices": {}}, {"choices": [{"text": "x"}]}]
    for body in bodies:
        fake.script(CHAT, Answer(body=body))
        status, told, _ = await setup.chat(model="small", store=True)
        assert (status, told["error"]["code"]) == (502, "backend_error")
    assert await listed(setup) == []


# --- OpenAI's own client --------------------------------------------------------------------------------------------


async def test_the_sdk_drives_every_method(setup: Setup) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, *HELLO]
    async with openai.AsyncOpenAI(base_url=f"{setup.proxy.url}/v1", api_key="x", max_retries=0) as client:
        chats = client.chat.completions
        made = [
            await chats.create(model="smollm2", messages=messages, store=True, metadata={"n": str(n % 2)})
            for n in range(5)
        ]
        ids = [each.id for each in made]
        assert [each.id async for each in chats.list(limit=2)] == ids
        assert [each.id async for each in chats.list(limit=1, metadata={"n": "1"}, order="desc")] == [ids[3], ids[1]]
        assert [each.id async for each in chats.list(model="smollm2", after=ids[3])] == [ids[4]]
        assert (await chats.retrieve(ids[0])).choices[0].message.content == made[0].choices[0].message.content
        assert (await chats.update(ids[0], metadata={"n": "9"})).metadata == {"n": "9"}
        assert [each.role async for each in chats.messages.list(ids[0], limit=1)] == ["system", "user"]
        assert (await chats.delete(ids[0])).deleted is True
        with pytest.raises(openai.NotFoundError):
            await chats.retrieve(ids[0])
        assert [each.id async for each in chats.list(limit=1000)] == ids[1:]
        async with chats.stream(model="smollm2", messages=messages, store=True) as stream:
            final = await stream.get_final_completion()
        assert (await chats.retrieve(final.id)).choices[0].message.content == final.choices[0].message.content
