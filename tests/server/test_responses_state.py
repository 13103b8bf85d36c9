"""What is kept of responses: whose it is, how long, and what becomes of an answer that cannot be kept."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ollama_proxy.server.keys import RUNS
from ollama_proxy.server.sweep import sweep
from tests import shapes
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

from .conftest import Setup, config
from .filing import NOW, Desk, desk
from .test_responses import ask, done, prompt_of, record, settled, shown, sse, streamed

PATH = "/v1/responses"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@asynccontextmanager
async def desk_of(ollama: FakeOllama, more: str = "") -> AsyncIterator[Desk]:
    """Serve an application whose wall clock is ours, in front of the fake Ollama."""
    async with desk(f'{more}\n[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n') as made:
        yield made


async def said(desk: Desk, *, key: str = "", **body: Any) -> Any:
    status, answer = await desk.ask("POST", PATH, key=key, json={"model": "smollm2", "input": "Hello", **body})
    assert status == 200, answer
    return answer


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that is about to be true."""
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


# --- whose they are ---------------------------------------------------------------------------------------------------


async def test_a_key_never_sees_anothers_response(ollama: FakeOllama) -> None:
    async with desk_of(ollama, '[auth]\nmode = "on"\n') as made:
        ann, bob = await made.make_key("ann"), await made.make_key("bob")
        secret = await said(made, key=ann, input=[{"role": "user", "content": "secret", "id": "msg_ann"}])
        id, item = secret["id"], secret["output"][0]["id"]
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            status, body = await made.ask(method, f"{PATH}/{id}{path}", key=bob)
            assert (status, body["error"]["message"]) == (404, f"Response with id '{id}' not found.")
        go_on = {"model": "smollm2", "input": "x", "previous_response_id": id}
        status, body = await made.ask("POST", PATH, key=bob, json=go_on)
        assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
        for reference in ("msg_ann", item):
            named = {"model": "smollm2", "input": [{"type": "item_reference", "id": reference}]}
            for path in (PATH, f"{PATH}/input_tokens", f"{PATH}/compact"):
                assert (await made.ask("POST", path, key=bob, json=named))[0] == 404
        for path in ("/input_tokens", "/compact"):
            assert (await made.ask("POST", f"{PATH}{path}", key=bob, json=go_on))[0] == 400
        headers = {"authorization": f"Bearer {bob}"}
        async with made.http.ws_connect(PATH, headers=headers) as ws:
            await ws.send_json({"type": "response.create", **go_on})
            assert (await ws.receive_json())["error"]["code"] == "previous_response_not_found"
        before = len(ollama.asked("/api/chat"))
        assert (await made.ask("GET", f"{PATH}/{id}", key=ann))[1] == secret
        await said(made, key=ann, input=[{"type": "item_reference", "id": item}, {"role": "user", "content": "x"}])
        assert len(ollama.asked("/api/chat")) == before + 1


async def test_a_response_in_the_background_is_its_keys_alone(ollama: FakeOllama) -> None:
    ollama.play("/api/chat", [record("Hi"), done()], hold_after=1)
    async with desk_of(ollama, '[auth]\nmode = "on"\n') as made:
        ann, bob = await made.make_key("ann"), await made.make_key("bob")
        for store in (False, True):
            running = await said(made, key=ann, background=True, store=store)
            for method, path in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("DELETE", "")):
                assert (await made.ask(method, f"{PATH}/{running['id']}{path}", key=bob))[0] == 404
            status, body = await made.ask("POST", f"{PATH}/{running['id']}/cancel", key=ann)
            assert status == 200
            assert body["status"] in ("cancelled", "completed")


# --- how long they are kept -------------------------------------------------------------------------------------------


async def test_a_response_is_forgotten_when_its_time_is_over(ollama: FakeOllama) -> None:
    async with desk_of(ollama, "[responses]\nkeep = 2\n") as made:
        first = await said(made)
        made.clock.now = NOW + 2 * 86400 - 1
        second = await said(made, previous_response_id=first["id"])
        made.clock.now += 1
        assert (await made.ask("GET", f"{PATH}/{first['id']}"))[0] == 404
        assert (await made.ask("GET", f"{PATH}/{second['id']}"))[0] == 200
        # A chain whose beginning is forgotten cannot be gone on with, as if all were still known.
        go_on = {"model": "smollm2", "input": "x", "previous_response_id": second["id"]}
        status, body = await made.ask("POST", PATH, json=go_on)
        assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
        assert await sweep(made.app) == 1


async def test_with_keep_0_a_response_is_never_forgotten(ollama: FakeOllama) -> None:
    async with desk_of(ollama, "[responses]\nkeep = 0\n") as made:
        first = await said(made)
        made.clock.now = NOW + 1e9
        assert (await made.ask("GET", f"{PATH}/{first['id']}"))[1] == first
        assert await sweep(made.app) == 0


async def test_a_response_in_the_background_is_kept_from_when_it_ended(ollama: FakeOllama) -> None:
    async with desk_of(ollama, "[responses]\nkeep = 1\n") as made:
        running = await said(made, background=True)
        await until(lambda: made.app[RUNS].get(running["id"], None) is None)
        assert (await made.ask("GET", f"{PATH}/{running['id']}"))[1]["status"] == "completed"
        made.clock.now = NOW + 86400
        assert (await made.ask("GET", f"{PATH}/{running['id']}"))[0] == 404


# --- where the store fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"background": True}])
async def test_an_answer_that_cannot_be_kept_is_given_and_says_so(
    start_proxy: Start, ollama: FakeOllama, tmp_path: Path, more: dict[str, Any]
) -> None:
    proxy = await start_proxy(config(ollama.url, f'[store]\nurl = "sqlite:///{tmp_path}"\n'))
    async with aiohttp.ClientSession(proxy.url) as http:
        body = {"model": "smollm2", "input": "Hello", "prompt_cache_key": "k", **more}
        async with http.post(PATH, json=body) as response:
            assert response.status == 200
            assert response.headers["x-oproxy-ignored"] == "prompt_cache_key, store"
            assert b'"object":"response"' in await response.read()
        async with http.get(f"{PATH}/resp_1") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "store_unavailable")
        async with http.post(PATH, json={**body, "store": False}) as response:
            assert response.headers["x-oproxy-ignored"] == "prompt_cache_key"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_store_that_fails_at_the_end_spoils_no_answer(setup: Setup, stream: bool) -> None:
    first = await ask(setup)
    with sqlite3.connect(next(Path.home().rglob("*.db"))) as database:
        database.execute("DROP TABLE pieces")
    if stream:
        assert (await streamed(setup))[-1]["type"] == "response.completed"
    else:
        status, _, headers = await setup.post(PATH, {"model": "smollm2", "input": "Hello"})
        assert (status, headers["x-oproxy-ignored"]) == (200, "store")  # type: ignore[index]
    assert (await shown(setup, first["id"]))["id"] == first["id"]


# --- conversations ----------------------------------------------------------------------------------------------------


async def items_of(setup: Setup, id: str) -> list[Any]:
    async with setup.http.get(f"/v1/conversations/{id}/items", params={"order": "asc"}) as response:
        found: list[Any] = (await response.json())["data"]
        return found


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"background": True}, {"background": True, "stream": True}])
async def test_a_failure_leaves_the_conversation_as_it_was(setup: Setup, more: dict[str, Any]) -> None:
    _, conversation, _ = await setup.post("/v1/conversations", {"items": [{"role": "user", "content": "First"}]})
    before = await items_of(setup, conversation["id"])
    setup.ollama.play("/api/chat", [record("Hel"), {"error": "out of memory"}])
    body = {"model": "smollm2", "input": "Hello", "conversation": conversation["id"], **more}
    async with setup.http.post(PATH, json=body) as response:
        id = (await response.read()).partition(b'"id":"')[2].partition(b'"')[0].decode()
    await until(lambda: setup.proxy.app[RUNS].get(id, None) is None)
    assert await items_of(setup, conversation["id"]) == before


async def test_a_conversation_of_nobody_is_not_found(setup: Setup) -> None:
    status, body, _ = await setup.post(PATH, {"model": "smollm2", "input": "x", "conversation": "conv_no"})
    assert status == 404
    shapes.check("ErrorResponse", body)


async def test_a_conversation_that_is_deleted_meanwhile_spoils_no_answer(setup: Setup) -> None:
    _, conversation, _ = await setup.post("/v1/conversations", {})
    setup.ollama.play("/api/chat", [record("Hi"), done()], delay=0.2)
    asked = asyncio.ensure_future(ask(setup, conversation=conversation["id"]))
    await until(lambda: bool(setup.ollama.asked("/api/chat")))
    async with setup.http.delete(f"/v1/conversations/{conversation['id']}") as response:
        assert response.status == 200
    assert (await asked)["status"] == "completed"


async def test_an_item_that_was_said_already_is_refused(setup: Setup) -> None:
    item = {"role": "user", "content": "Hello", "id": "msg_mine"}
    first = await ask(setup, input=[item])
    for more in ({"input": [item, item]}, {"input": [item], "previous_response_id": first["id"]}):
        status, body, _ = await setup.post(PATH, {"model": "smollm2", **more})
        assert (status, body["error"]["param"]) == (400, "input")
        assert body["error"]["message"] == (
            "Duplicate item found with id msg_mine. Remove duplicate items from your input and try again."
        )


# --- uploaded files ---------------------------------------------------------------------------------------------------


async def test_an_uploaded_file_is_read_and_kept_by_its_id(ollama: FakeOllama) -> None:
    async with desk_of(ollama) as made:
        file = await made.upload(b"The password is swordfish.", name="note.txt")
        parts = [{"type": "input_text", "text": "Read."}, {"type": "input_file", "file_id": file["id"]}]
        first = await said(made, input=[{"role": "user", "content": parts}])
        assert "swordfish" in ollama.asked("/api/chat")[-1]["messages"][0]["content"]
        _, page = await made.ask("GET", f"{PATH}/{first['id']}/input_items")
        assert page["data"][0]["content"][1] == {"type": "input_file", "file_id": file["id"]}
        shapes.check("ResponseItemList", page)
        await said(made, input="And?", previous_response_id=first["id"])
        assert "swordfish" in ollama.asked("/api/chat")[-1]["messages"][0]["content"]


async def test_an_uploaded_image_is_seen(ollama: FakeOllama) -> None:
    vision = {
        **ollama.models[0],
        "name": "seer:latest",
        "model": "seer:latest",
        "capabilities": ["completion", "vision"],
    }
    ollama.models.append(vision)
    async with desk_of(ollama) as made:
        image = await made.upload(PNG, name="dot.png", purpose="vision")
        part = {"type": "input_image", "file_id": image["id"]}
        status, body = await made.ask(
            "POST", PATH, json={"model": "seer", "input": [{"role": "user", "content": [part]}]}
        )
        assert status == 200, body
        assert ollama.asked("/api/chat")[-1]["messages"][0]["images"] == [base64.b64encode(PNG).decode()]


async def test_a_file_of_another_key_is_not_there(ollama: FakeOllama) -> None:
    async with desk_of(ollama, '[auth]\nmode = "on"\n') as made:
        ann, bob = await made.make_key("ann"), await made.make_key("bob")
        file = await made.upload(b"secret", key=ann)
        for id in (file["id"], "file-nobody", "../config.toml"):
            for kind in ("input_file", "input_image"):
                items = [{"role": "user", "content": [{"type": kind, "file_id": id}]}]
                status, body = await made.ask("POST", PATH, key=bob, json={"model": "smollm2", "input": items})
                assert status in (400, 404)
                assert "No such File object" in body["error"]["message"]
        assert ollama.asked("/api/chat") == []


# --- in the background, and streams -----------------------------------------------------------------------------------


async def test_a_response_in_the_background_need_not_be_stored(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    made = await ask(setup, background=True, store=False, prompt_cache_key="k")
    ended = await settled(setup, made["id"])
    assert (ended["status"], ended["store"]) == ("completed", False)
    async with setup.http.get(f"{PATH}/{made['id']}", params={"stream": "true"}) as response:
        events = sse(await response.read())
    assert events[-1]["response"] == ended
    # It is remembered here for a while, and kept nowhere.
    status, body, _ = await setup.post(PATH, {"model": "smollm2", "input": "x", "previous_response_id": made["id"]})
    assert (status, body["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_response_that_is_not_complete_cannot_be_gone_on_from(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()], hold_after=1)
    made = await ask(setup, background=True)
    await until(lambda: bool(setup.ollama.asked("/api/chat")))
    status, body, _ = await setup.post(PATH, {"model": "smollm2", "input": "x", "previous_response_id": made["id"]})
    assert (status, body["error"]["code"]) == (400, "previous_response_not_complete")
    async with setup.http.delete(f"{PATH}/{made['id']}") as response:
        assert (await response.json())["deleted"]
    async with setup.http.get(f"{PATH}/{made['id']}") as response:
        assert response.status == 404
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)


async def test_events_are_padded_where_that_is_wanted(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()])
    events = await streamed(setup, stream_options={"include_obfuscation": True})
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert all((len(event["delta"]) + len(event["obfuscation"])) % 16 == 0 for event in deltas)
    assert len(deltas) == 2
    for event in events:
        shapes.check_event(event)


@pytest.mark.parametrize(
    ("after", "status"), [("1", 200), ("99", 200), ("", 200), ("x", 400), ("-1", 400), ("1.5", 400)]
)
async def test_a_kept_response_is_streamed_from_any_place(setup: Setup, after: str, status: int) -> None:
    setup.ollama.play("/api/chat", [record("Hi"), done()])
    made = await ask(setup)
    query = {"stream": "true", "starting_after": after}
    async with setup.http.get(f"{PATH}/{made['id']}", params=query) as response:
        data = await response.read()
        assert response.status == status
    if status == 400:
        assert b"starting_after" in data
        return
    numbers = [int(line.partition(b'"sequence_number":')[2].partition(b",")[0]) for line in data.split(b"\n\n") if line]
    assert numbers == list(range(int(after or -1) + 1, 9))


async def test_what_a_query_asks_for_in_vain_is_named_and_what_nobody_knows_refused(setup: Setup) -> None:
    made = await ask(setup)
    for path in ("", "/input_items"):
        url = f"{PATH}/{made['id']}{path}"
        query = {"include[]": "reasoning.encrypted_content", "include_obfuscation": "true", "colour": "red"}
        async with setup.http.get(url, params=query) as response:
            assert response.status == 200
            assert response.headers["x-oproxy-ignored"] == "include_obfuscation, colour"
        async with setup.http.get(url, params={"include": "everything"}) as response:
            assert (response.status, (await response.json())["error"]["param"]) == (400, "include")


async def test_pages_of_input_items_are_walked_in_both_directions(setup: Setup) -> None:
    made = await ask(setup, input=[{"role": "user", "content": str(number)} for number in range(5)])
    for order in ("asc", "desc"):
        seen: list[str] = []
        query = {"order": order, "limit": "2"}
        while True:
            async with setup.http.get(f"{PATH}/{made['id']}/input_items", params=query) as response:
                page = await response.json()
            seen += [item["content"][0]["text"] for item in page["data"]]
            if not page["has_more"]:
                break
            query["after"] = page["last_id"]
        assert seen == sorted("01234", reverse=order == "desc")
    async with setup.http.get(f"{PATH}/{made['id']}/input_items", params={"after": "msg_no"}) as response:
        assert response.status == 400


async def test_a_client_that_leaves_a_stream_frees_the_model_and_nothing_is_kept(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()], hold_after=1)
    asked = {"model": "smollm2", "input": "Hello", "stream": True}
    async with setup.http.post(PATH, json=asked) as response:
        first = await response.content.readuntil(b"\n\n")
        response.close()
    await asyncio.wait_for(setup.ollama.hangups.wait(), 5)
    id = first.partition(b'"id":"')[2].partition(b'"')[0].decode()
    async with setup.http.get(f"{PATH}/{id}") as response:
        assert response.status == 404
    assert len(prompt_of(setup)) == 1
