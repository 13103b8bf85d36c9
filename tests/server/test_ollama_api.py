"""Ollama's own API where an Ollama answers: bytes go through, and are limited, booked and kept from strangers."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ollama_proxy.recorder.place import folder_of
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama, Trace, traces
from tests.server.conftest import HELLO, Setup, config

WORD = "the-daemons-own-word"
ASK = {"model": "smollm2", "messages": HELLO}
# What the recorded answer took, by Ollama's own count.
PROMPT, ANSWER = 21, 8


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def rows() -> list[dict[str, Any]]:
    path = Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "oproxy.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute("SELECT * FROM requests ORDER BY seq")]


async def ask(http: aiohttp.ClientSession, path: str, body: Any, key: str = "") -> tuple[int, bytes, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with http.post(path, json=body, headers=headers) as response:
        return response.status, await response.read(), response.headers


@pytest.fixture
async def booked(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Setup]:
    proxy = await start_proxy(config(ollama.url), books=True, control=WORD)
    async with aiohttp.ClientSession(proxy.url) as session:
        yield Setup(proxy, ollama, session)


# --- bytes ------------------------------------------------------------------------------------------------------------


def passed(trace: Trace) -> bool:
    """Return whether a recording is of a request that is sent on: one that names a model there is."""
    installed = {each["name"].removesuffix(":latest") for each in traces()["meta-tags"].json["models"]}
    named = isinstance(trace.request, dict) and trace.request.get("model")
    paths = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")
    return trace.path in paths and isinstance(named, str) and named in installed and trace.end == ""


RECORDED = [trace for trace in traces().values() if passed(trace)]
OLDER = [trace for trace in traces("v0.24.0").values() if passed(trace)]


async def test_every_recorded_answer_goes_through_byte_by_byte(setup: Setup) -> None:
    assert len(RECORDED) > 150
    assert len(OLDER) > 20
    for trace in [*RECORDED, *OLDER]:
        chunks = [chunk.encode() for chunk in trace.chunks]
        setup.ollama.play(trace.path, chunks, status=trace.status, type=trace.type)
        sent = json.dumps(trace.request).encode()
        async with setup.http.post(trace.path, data=sent) as response:
            body = await response.read()
        assert (trace.name, response.status) == (trace.name, trace.status)
        if trace.type.startswith("application/x-ndjson") and '"done":true' not in trace.body.decode():
            # One that had no end gets one.
            assert body.startswith(trace.body)
        else:
            assert body == trace.body, trace.name
        assert response.headers["content-type"].partition(";")[0] == trace.type.partition(";")[0]
        assert setup.ollama.asked(trace.path)[-1] == trace.request


STREAMS = [trace for trace in RECORDED if trace.type.startswith("application/x-ndjson") and len(trace.chunks) > 1]


async def test_the_clients_name_is_put_back_and_nothing_else_is_changed(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[models.aliases]\n"my/own" = "smollm2"\n'))
    async with aiohttp.ClientSession(proxy.url) as http:
        for trace in (each for each in STREAMS if each.request["model"] == "smollm2"):
            # In pieces that end anywhere.
            data = trace.body
            ollama.play(trace.path, [data[at : at + 50] for at in range(0, len(data), 50)])
            status, body, _ = await ask(http, trace.path, {**trace.request, "model": "my/own"})
            assert (status, ollama.asked(trace.path)[-1]) == (200, {**trace.request, "model": "smollm2:latest"})
            want = trace.body.replace(b'{"model":"smollm2"', b'{"model":"my/own"')
            assert body.startswith(want.removesuffix(b"\n")), trace.name
        for path, name in (("/api/chat", "chat-nonstream"), ("/api/generate", "generate-nonstream")):
            ollama.play(path, name)
            body = (await ask(http, path, {"model": "my/own", "messages": HELLO, "prompt": "Hello"}))[1]
            assert body == traces()[name].body.replace(b'"model":"smollm2"', b'"model":"my/own"')


async def test_a_piece_is_passed_on_before_the_next_one_comes(setup: Setup) -> None:
    setup.ollama.play("/api/chat", "chat-stream", hold_after=2)
    async with setup.http.post("/api/chat", json=ASK) as response:
        want = "".join(traces()["chat-stream"].chunks[:2]).encode()
        assert await response.content.readexactly(len(want)) == want


async def test_openais_names_and_a_named_backend_lead_to_a_model(setup: Setup) -> None:
    for name in ("gpt-4o", "ollama/smollm2", "SMOLLM2"):
        status, body, headers = await ask(setup.http, "/api/chat", {**ASK, "model": name, "stream": False})
        assert (status, json.loads(body)["model"], headers["x-oproxy-backend"]) == (200, name, "ollama")


async def test_the_clients_key_never_leaves(setup: Setup) -> None:
    await ask(setup.http, "/api/chat", ASK, key="sk-client")
    assert not any("sk-client" in value for call in setup.ollama.calls for value in call.headers.values())


# --- streams that break off -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"drop_connection": True, "cut_after": 300}, {"cut_after": 300}, {"cut_after": 240}, {"cut_after": 245}]
)
async def test_a_stream_that_breaks_off_ends_in_a_line_that_says_so(booked: Setup, how: dict[str, Any]) -> None:
    booked.ollama.play("/api/chat", "chat-stream", **how)
    status, body, _ = await ask(booked.http, "/api/chat", ASK)
    *lines, last = body.splitlines()
    assert status == 200
    # Half a line is not passed on: clients would fail at it before they saw the error.
    assert lines == traces()["chat-stream"].body[: how["cut_after"]].split(b"\n")[:-1]
    assert list(json.loads(last)) == ["error"]
    assert len(lines) >= 1
    (row,) = rows()
    assert (row["status"], row["code"] is not None, row["exact"], row["completion"] > 0) == (200, True, 0, True)


async def test_ollamas_own_error_line_is_the_last_one(booked: Setup) -> None:
    booked.ollama.play("/api/chat", "dyn-runner-killed-chat-stream")
    _, body, _ = await ask(booked.http, "/api/chat", ASK)
    assert body == traces()["dyn-runner-killed-chat-stream"].body
    assert rows()[0]["code"] == "backend_error"


async def test_a_backend_that_is_gone_before_its_first_record_is_an_error(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [], drop_connection=True)
    setup.ollama.play("/api/chat", [], drop_connection=True)
    status, body, _ = await ask(setup.http, "/api/chat", ASK)
    assert (status, list(json.loads(body))) == (502, ["error"])


async def test_an_endless_line_is_cut_off(setup: Setup) -> None:
    setup.ollama.play("/api/generate", [b"x" * (1 << 20)] * 70)
    body = (await ask(setup.http, "/api/generate", {"model": "gpt-4o", "prompt": "x"}))[1]
    assert list(json.loads(body.splitlines()[-1])) == ["error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_model(booked: Setup, stream: bool) -> None:
    await ask(booked.http, "/api/chat", ASK)
    booked.ollama.play("/api/chat", "chat-stream", hold_after=3 if stream else 0)
    task = asyncio.ensure_future(ask(booked.http, "/api/chat", {**ASK, "stream": stream}))
    await until(lambda: len(booked.ollama.asked("/api/chat")) == 2)
    await asyncio.sleep(0.1)
    task.cancel()
    async with asyncio.timeout(5):
        await booked.ollama.hangups.wait()
    await until(lambda: len(rows()) == 2)
    row = rows()[1]
    assert (row["status"], row["endpoint"], row["exact"], row["prompt"] > 0) == (499, "/api/chat", 0, True)
    assert (row["completion"] > 0) is stream


# --- books ------------------------------------------------------------------------------------------------------------


async def test_the_books_are_those_of_the_same_prompt_by_openais_api(booked: Setup) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        for stream in (True, False):
            for name in ("think-template-true-stream", "chat-stream"):
                recorded = name if stream else name.replace("-stream", "-nonstream")
                booked.ollama.play("/api/chat", recorded)
                await ask(booked.http, path, {**ASK, "stream": stream})
    found = [
        {key: row[key] for key in ("asked", "served", "backend", "stream", "prompt", "cached", "completion")}
        | {key: row[key] for key in ("reasoning", "exact", "code", "status", "tries", "cost", "listed")}
        for row in rows()
    ]
    assert found[:4] == found[4:]
    assert (found[1]["prompt"], found[1]["completion"], found[1]["exact"]) == (PROMPT, ANSWER, 1)
    assert found[0]["reasoning"] > 0
    assert [row["endpoint"] for row in rows()[4:]] == ["/api/chat"] * 4


async def test_a_row_is_committed_before_the_last_byte_is_sent(booked: Setup) -> None:
    booked.ollama.play("/api/chat", [each.encode() for each in traces()["chat-stream"].chunks], hold_after=8)
    async with booked.http.post("/api/chat", json=ASK) as response:
        await response.content.readexactly(len(traces()["chat-stream"].body))
        (row,) = rows()
    assert (row["completion"], row["status"]) == (ANSWER, 200)


@pytest.mark.parametrize(
    ("path", "recorded", "body", "usage"),
    [
        ("/api/embed", "embed-batch", {"input": ["a", "b"]}, None),
        ("/api/embeddings", "embeddings-legacy", {"prompt": "hello world"}, (2, 0)),
        ("/api/embed", "load-embed-empty-input", {"input": []}, (0, 1)),
    ],
)
async def test_embeddings_are_booked_and_estimated_where_no_count_comes(
    booked: Setup, path: str, recorded: str, body: dict[str, Any], usage: tuple[int, int] | None
) -> None:
    booked.ollama.play(path, recorded)
    status, answer, _ = await ask(booked.http, path, {"model": "all-minilm", **body})
    assert (status, answer) == (200, traces()[recorded].body)
    (row,) = rows()
    assert (row["prompt"], row["exact"]) == (usage or (traces()[recorded].json["prompt_eval_count"], 1))
    assert row["endpoint"] == path


async def test_refusals_are_booked_with_their_code(booked: Setup) -> None:
    booked.ollama.play("/api/chat", "ctx-chat-truncate-false")
    status, body, _ = await ask(booked.http, "/api/chat", ASK)
    assert (status, body) == (400, traces()["ctx-chat-truncate-false"].body)
    assert (await ask(booked.http, "/api/chat", {**ASK, "model": "nope"}))[0] == 404
    assert [(row["status"], row["code"]) for row in rows()] == [
        (400, "context_length_exceeded"),
        (404, "model_not_found"),
    ]


async def test_management_is_not_booked(booked: Setup) -> None:
    for path in ("/api/tags", "/api/ps", "/api/version"):
        async with booked.http.get(path) as response:
            assert response.status == 200
    await ask(booked.http, "/api/show", {"model": "smollm2"})
    await ask(booked.http, "/api/chat", ASK)
    assert [row["endpoint"] for row in rows()] == ["/api/chat"]


async def test_a_stream_is_recorded_as_the_answer_it_amounts_to(booked: Setup) -> None:
    await ask(booked.http, "/api/chat", ASK)
    path = folder_of("") / "requests.jsonl"
    await until(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
    line = json.loads(path.read_bytes())
    assert line["answer"]["message"]["content"] == "The capital of France is Paris."
    assert (line["request"], line["timing"]["done"]) == (ASK, True)


# --- limits, turns, keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": HELLO}),
        ("/api/generate", {"prompt": "Hello"}),
        ("/api/embed", {"model": "all-minilm", "input": "Hello"}),
        ("/api/chat", {"messages": []}),
    ],
)
async def test_too_many_requests_are_refused_in_ollamas_form(
    start_proxy: Start, ollama: FakeOllama, path: str, body: dict[str, Any]
) -> None:
    proxy = await start_proxy(config(ollama.url, "[limits]\nrequests_per_minute = 1\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        assert (await ask(http, path, {"model": "smollm2", **body}))[0] == 200
        status, answer, headers = await ask(http, path, {"model": "smollm2", **body})
    assert status == 429
    assert "Rate limit reached" in json.loads(answer)["error"]
    assert int(headers["retry-after"]) >= 1
    assert headers["x-ratelimit-limit-requests"] == "1"


@pytest.mark.parametrize("options", [{"num_predict": 1000}, {}])
async def test_tokens_are_limited_by_the_prompt_and_what_is_asked_for(
    start_proxy: Start, ollama: FakeOllama, options: dict[str, int]
) -> None:
    proxy = await start_proxy(config(ollama.url, "[limits]\ntokens_per_minute = 500\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        # A body that we cannot read but Ollama could is counted as it stands.
        for messages in (HELLO, [{"role": "user", "content": "Hello", "images": ["A"]}]):
            status = (await ask(http, "/api/chat", {**ASK, "messages": messages, "options": options}))[0]
            assert status == (429 if options else 200)
        long = {"model": "smollm2", "prompt": "word " * 600}
        assert (await ask(http, "/api/generate", long))[0] == 429


async def test_a_model_is_loaded_and_unloaded_while_others_wait_for_their_turn(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, "[queue]\nmax_concurrent = 1\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        ollama.play("/api/chat", "chat-stream", hold_after=2)
        held = asyncio.ensure_future(ask(http, "/api/chat", ASK))
        await until(lambda: "/api/chat" in [call.path for call in ollama.calls])
        second = asyncio.ensure_future(ask(http, "/api/chat", ASK))
        async with asyncio.timeout(5):
            status, body, _ = await ask(http, "/api/generate", {"model": "smollm2", "keep_alive": 0})
        assert (status, json.loads(body)["done_reason"]) == (200, "unload")
        assert len(ollama.asked("/api/chat")) == 1
        held.cancel()
        assert (await second)[0] == 200


async def make(http: aiohttp.ClientSession, **body: Any) -> str:
    headers = {"authorization": f"Bearer {WORD}"}
    async with http.post("/oproxy/keys", json={"name": "one", **body}, headers=headers) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["key"])


@pytest.fixture
async def strict(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Setup]:
    more = '[auth]\nmode = "on"\nfailures = 0\n[models.aliases]\nmine = "smollm2"\n'
    proxy = await start_proxy(config(ollama.url, more), books=True, control=WORD)
    async with aiohttp.ClientSession(proxy.url) as session:
        yield Setup(proxy, ollama, session)


async def test_nobody_comes_in_without_a_key(strict: Setup) -> None:
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull", "/api/copy"):
        for key in ("", "sk-wrong"):
            status, body, _ = await ask(strict.http, path, ASK, key)
            assert (path, status, list(json.loads(body))) == (path, 401, ["error"])
    for path in ("/api/tags", "/api/ps", "/api/version", "/api/status"):
        async with strict.http.get(path) as response:
            assert (response.status, list(await response.json())) == (401, ["error"])
    for method, path in (("HEAD", "/"), ("GET", "/")):
        async with strict.http.request(method, path) as response:
            assert response.status == 200
    assert not [call for call in strict.ollama.calls if call.method == "POST"]


async def test_a_key_sees_and_asks_its_own_models_only(strict: Setup) -> None:
    key = await make(strict.http, models=["mine"])
    async with strict.http.get("/api/tags", headers={"authorization": f"Bearer {key}"}) as response:
        assert [each["name"] for each in (await response.json())["models"]] == ["mine"]
    assert (await ask(strict.http, "/api/chat", {**ASK, "model": "mine"}, key))[0] == 200
    for path in ("/api/chat", "/api/generate", "/api/show"):
        status, body, _ = await ask(strict.http, path, {**ASK, "prompt": "x"}, key)
        assert (status, json.loads(body)) == (404, {"error": "model 'smollm2' not found"})


async def test_a_key_gets_no_other_model_by_a_key_in_another_case_or_twice(strict: Setup) -> None:
    key = await make(strict.http, models=["mine"])
    for body in ('{"model":"mine","MODEL":"smollm2"}', '{"model":"mine","model":"smollm2"}', '{"Model":"smollm2"}'):
        async with strict.http.post("/api/chat", data=body, headers={"authorization": f"Bearer {key}"}) as response:
            assert response.status == 404
    body = '{"MODEL":"smollm2","Model":"mine","Messages":[{"role":"user","content":"x"}]}'
    async with strict.http.post("/api/chat", data=body, headers={"authorization": f"Bearer {key}"}) as response:
        assert (response.status, json.loads(await response.content.readline())["model"]) == (200, "mine")
    assert strict.ollama.asked("/api/chat") == [
        {"model": "smollm2:latest", "messages": [{"role": "user", "content": "x"}]}
    ]


async def test_what_only_loads_asks_for_nothing_in_a_second_key_either(setup: Setup) -> None:
    for more in ('"prompt":"write","prompt":null', '"Prompt":"write","prompt":""', '"prompt":"write","PROMPT":null'):
        async with setup.http.post("/api/generate", data=f'{{"model":"smollm2",{more}}}') as response:
            assert (await response.json())["done_reason"] == "load"
    assert all(not asked.get("prompt") for asked in setup.ollama.asked("/api/generate"))


async def test_a_keys_model_is_listed_by_the_name_it_may_ask_for(strict: Setup) -> None:
    key = await make(strict.http, models=["smollm2", "all-minilm:latest"])
    headers = {"authorization": f"Bearer {key}"}
    for model in ("smollm2", "smollm2-tools"):
        async with strict.http.post("/api/generate", json={"model": model}, headers=headers) as response:
            assert response.status == (200 if model == "smollm2" else 404)
    strict.ollama.loaded["other"] = {"name": "smollm2-tools:latest"}
    for path, want in (("/api/tags", {"smollm2", "all-minilm:latest"}), ("/api/ps", {"smollm2"})):
        async with strict.http.get(path, headers=headers) as response:
            assert {each["name"] for each in (await response.json())["models"]} == want


async def test_a_key_is_for_its_endpoints_only(strict: Setup) -> None:
    key = await make(strict.http, endpoints=["/api/chat"])
    assert (await ask(strict.http, "/api/chat", ASK, key))[0] == 200
    assert (await ask(strict.http, "/api/generate", {"model": "smollm2", "prompt": "x"}, key))[0] == 403


BLOB = f"/api/blobs/sha256:{'a' * 64}"
CHANGES = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/me", "/api/signout", BLOB)


async def test_only_an_administrator_changes_models(strict: Setup) -> None:
    key, admin = await make(strict.http), await make(strict.http, name="two", admin=True)
    for path in CHANGES:
        status, body, _ = await ask(strict.http, path, {"model": "smollm2"}, key)
        assert (path, status, list(json.loads(body))) == (path, 403, ["error"])
    for who, want in ((key, 403), (admin, 200)):
        headers = {"authorization": f"Bearer {who}"}
        async with strict.http.delete("/api/delete", json={"model": "smollm2"}, headers=headers) as response:
            assert response.status == want
    assert (await ask(strict.http, "/api/pull", {"model": "smollm2"}, admin))[0] == 200


async def test_a_keys_only_model_answers_whatever_is_asked_for(strict: Setup) -> None:
    key = await make(strict.http)
    async with strict.http.get("/oproxy/keys", headers={"authorization": f"Bearer {WORD}"}) as response:
        assert response.status == 200
    status, body, _ = await ask(strict.http, "/api/chat", {**ASK, "stream": False}, key)
    assert (status, json.loads(body)["model"]) == (200, "smollm2")


# --- refusals ---------------------------------------------------------------------------------------------------------


REFUSED = [
    ("/api/chat", b"", 400, "missing request body"),
    ("/api/chat", b"{}", 400, "model is required"),
    ("/api/chat", b'{"model":""}', 400, "model is required"),
    ("/api/chat", b'{"model":7}', 400, "Invalid type for 'model': expected a string."),
    ("/api/generate", b"{}", 404, "model '' not found"),
    ("/api/embed", b"{}", 404, "model '' not found"),
    ("/api/embeddings", b"{}", 404, "model '' not found"),
    ("/api/show", b"{}", 400, "model is required"),
    ("/api/pull", b"{}", 400, "invalid model name"),
    ("/api/push", b"{}", 400, "invalid model name"),
    ("/api/copy", b"{}", 400, "source and destination are required"),
    ("/api/blobs/zzz", b"x", 400, "invalid digest format"),
    ("/api/blobs/sha256:..%2f..%2fapi%2ftags", b"x", 400, "invalid digest format"),
]


async def test_a_bad_request_is_refused_in_ollamas_words(setup: Setup) -> None:
    for path, body, status, error in REFUSED:
        async with setup.http.post(path, data=body) as response:
            assert (path, response.status, await response.json()) == (path, status, {"error": error})


async def test_what_is_no_object_is_refused(setup: Setup) -> None:
    for body in (b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"model":"smollm2"', b"[" * 100_000):
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/create"):
            async with setup.http.post(path, data=body) as response:
                assert (path, response.status, list(await response.json())) == (path, 400, ["error"])


async def test_other_paths_and_methods_are_told_in_ollamas_form(setup: Setup) -> None:
    for method, path, status in (("GET", "/api/nope", 404), ("GET", "/api/chat", 405), ("POST", "/api/tags", 405)):
        async with setup.http.request(method, path) as response:
            assert (response.status, list(await response.json())) == (status, ["error"])


async def test_a_backend_that_is_away_is_told_in_ollamas_form(start_proxy: Start) -> None:
    proxy = await start_proxy(config("http://127.0.0.1:9"))
    async with aiohttp.ClientSession(proxy.url) as http:
        for path in ("/api/chat", "/api/show"):
            status, body, _ = await ask(http, path, ASK)
            assert (status, "not reachable" in json.loads(body)["error"]) == (502, True)
        async with http.get("/api/tags") as response:
            assert (response.status, await response.json()) == (200, {"models": []})
