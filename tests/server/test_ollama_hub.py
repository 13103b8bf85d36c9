"""Ollama's own API where no Ollama answers: through the hub, in Ollama's form."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from ollama_proxy.translate.shapes_ollama import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaMessage,
)
from tests.conftest import Proxy, Start
from tests.fakes.openai import CHAT, COMPLETIONS, USAGE, Answer, FakeOpenAI, chunk, fake_openai, sse

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SAID = "Hello you."


class Hub(NamedTuple):
    """A proxy in front of a server that speaks OpenAI's wire, and a session to it."""

    proxy: Proxy
    lab: FakeOpenAI
    http: aiohttp.ClientSession

    async def ask(self, path: str, **body: Any) -> tuple[int, list[Any], Any]:
        """Return the status, the records, and the headers."""
        asked = {"model": "embed" if "embed" in path else "small", **body}
        async with self.http.post(path, json=asked) as response:
            data = await response.read()
            return response.status, [json.loads(line) for line in data.splitlines()], response.headers

    def sent(self, path: str = CHAT) -> Any:
        return [call.body for call in self.lab.calls if call.path == path][-1]


@pytest.fixture
async def hub(start_proxy: Start) -> AsyncIterator[Hub]:
    async with fake_openai() as lab:
        proxy = await start_proxy(
            f'[models.aliases]\nmine = "small"\n[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\nread_timeout = 2\n'
        )
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Hub(proxy, lab, http)


def text(records: list[Any]) -> str:
    return "".join(record["message"]["content"] if "message" in record else record["response"] for record in records)


# --- chat -------------------------------------------------------------------------------------------------------------


async def test_a_chat_is_a_stream_of_records_with_the_counts_at_its_end(hub: Hub) -> None:
    status, records, headers = await hub.ask("/api/chat", messages=HELLO)
    *pieces, last = records
    assert (status, headers["content-type"], headers["x-oproxy-backend"]) == (200, "application/x-ndjson", "lab")
    assert text(records) == SAID
    assert all(piece["done"] is False and piece["model"] == "small" for piece in pieces)
    assert len(pieces) == 4
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert last["total_duration"] >= last["eval_duration"] > 0
    for record in records:
        assert len(record["created_at"]) == len("2026-11-21T06:03:02.988280722Z")
        assert datetime.fromisoformat(record["created_at"]).tzinfo is not None


async def test_a_whole_chat_is_one_record_under_the_name_asked_for(hub: Hub) -> None:
    status, (record,), headers = await hub.ask("/api/chat", model="mine", messages=HELLO, stream=False)
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert (record["model"], record["message"]) == ("mine", {"role": "assistant", "content": SAID})
    assert (record["done"], record["eval_count"]) == (True, USAGE["completion_tokens"])


async def test_what_was_asked_reaches_the_backend(hub: Hub) -> None:
    call = {"function": {"name": "f", "arguments": {"city": "Paris"}}}
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What?", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "f", "content": "Sunny."},
    ]
    options = {"temperature": 0.5, "num_predict": 7, "stop": ["x"], "seed": 3, "top_k": 5, "num_ctx": 100}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    status, _, headers = await hub.ask(
        "/api/chat", messages=messages, options=options, format=schema, think="low", keep_alive="5m", truncate=True, x=1
    )
    sent = hub.sent()
    assert status == 200
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    (made,) = sent["messages"][2]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"city": "Paris"}
    assert sent["messages"][3]["tool_call_id"] == made["id"]
    assert (sent["temperature"], sent["max_completion_tokens"], sent["stop"], sent["seed"]) == (0.5, 7, ["x"], 3)
    assert sent["response_format"]["json_schema"]["schema"] == schema
    assert sent["reasoning_effort"] == "low"
    assert headers["x-oproxy-ignored"] == "x, truncate, keep_alive"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_call_has_an_object_for_its_arguments(hub: Hub, stream: bool) -> None:
    _, records, _ = await hub.ask("/api/chat", messages=HELLO, tools=[TOOL], stream=stream)
    (call,) = [call for record in records for call in record["message"].get("tool_calls", ())]
    assert call == {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"city": "Paris"}}}
    assert records[-1]["done_reason"] == "stop"


async def test_thinking_and_a_cut_are_told_as_ollama_tells_them(hub: Hub) -> None:
    deltas = [{"role": "assistant", "reasoning_content": "Hm."}, {"content": "A"}]
    chunks = [chunk("small", delta) for delta in deltas] + [chunk("small", {}, "length"), chunk("small", usage=USAGE)]
    hub.lab.script(CHAT, Answer(pieces=[sse(*chunks)]))
    _, records, _ = await hub.ask("/api/chat", messages=HELLO, think=True)
    assert [record["message"].get("thinking") for record in records] == ["Hm.", None, None]
    assert records[-1]["done_reason"] == "length"


async def test_a_stream_that_breaks_off_ends_in_an_error(hub: Hub) -> None:
    hub.lab.script(CHAT, Answer(pieces=[sse(chunk("small", {"content": "A"}), done=False)], cut=True))
    status, records, _ = await hub.ask("/api/chat", messages=HELLO)
    assert (status, text(records[:-1]), list(records[-1])) == (200, "A", ["error"])


async def test_an_error_before_the_first_record_has_its_status(hub: Hub) -> None:
    for stream in (True, False):
        hub.lab.script(CHAT, Answer(status=400, body={"error": {"message": "Too bad.", "type": "x", "code": None}}))
        status, (record,), _ = await hub.ask("/api/chat", messages=HELLO, stream=stream)
        assert (status, record) == (400, {"error": "Too bad."})


async def test_a_client_that_leaves_frees_the_backend(hub: Hub) -> None:
    hub.lab.script(CHAT, Answer(pieces=[sse(chunk("small", {"content": "A"}), done=False)], hang=True))
    async with hub.http.post("/api/chat", json={"model": "small", "messages": HELLO}) as response:
        assert json.loads(await response.content.readline())["message"]["content"] == "A"
        response.close()
    async with asyncio.timeout(5):
        await hub.lab.gone.wait()


CALLED = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
DEEP = {"function": {"name": "f", "parameters": {"x": json.loads("[" * 200 + "]" * 200)}}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": "x"}, "Invalid type for 'messages'"),
    ({"messages": [{"role": "user", "content": [1]}]}, "Invalid type for 'messages[0].content'"),
    ({"messages": [{"role": "user", "images": ["!"]}]}, "illegal base64 data at input byte 0"),
    ({"messages": [CALLED]}, "Invalid type for 'messages[0].tool_calls[0].function.arguments'"),
    ({"messages": HELLO, "format": "xml"}, "invalid format"),
    ({"messages": HELLO, "think": "bogus"}, "invalid think value"),
    ({"messages": HELLO, "options": {"stop": "x"}}, "Invalid type for 'options.stop'"),
    ({"messages": HELLO, "stream": "yes"}, "Invalid type for 'stream'"),
    ({"messages": HELLO, "top_logprobs": 21}, "Invalid 'top_logprobs'"),
    ({"messages": HELLO, "tools": [DEEP]}, "nested too deeply"),
]


async def test_a_wrong_value_is_a_refusal(hub: Hub) -> None:
    for body, error in WRONG:
        status, (record,), _ = await hub.ask("/api/chat", **body)
        assert (status, list(record)) == (400, ["error"])
        assert error in record["error"]


# --- generate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
async def test_a_prompt_is_answered_streamed_and_whole(hub: Hub, raw: bool) -> None:
    _, records, _ = await hub.ask("/api/generate", prompt="Hi", raw=raw, options={"num_predict": 9})
    _, (whole,), _ = await hub.ask("/api/generate", prompt="Hi", raw=raw, options={"num_predict": 9}, stream=False)
    assert (text(records), whole["response"], records[-1]["done"], whole["done"]) == (SAID, SAID, True, True)
    assert records[-1]["eval_count"] == whole["eval_count"] == USAGE["completion_tokens"]
    sent = hub.sent(COMPLETIONS if raw else CHAT)
    assert (sent.get("prompt"), "messages" in sent) == (("Hi", False) if raw else (None, True))


async def test_a_system_message_goes_before_the_prompt(hub: Hub) -> None:
    await hub.ask("/api/generate", prompt="Hi", system="Be short.", format="json")
    assert [message["role"] for message in hub.sent()["messages"]] == ["system", "user"]
    assert hub.sent()["response_format"] == {"type": "json_object"}


async def test_a_suffix_asks_for_the_gap(hub: Hub) -> None:
    await hub.ask("/api/generate", prompt="def f(", suffix="return")
    assert (hub.sent(COMPLETIONS)["prompt"], hub.sent(COMPLETIONS)["suffix"]) == ("def f(", "return")


async def test_what_only_an_ollama_can_do_is_said(hub: Hub) -> None:
    status, (record,), _ = await hub.ask("/api/generate", prompt="x", template="{{ .Prompt }}")
    assert (status, "Ollama" in record["error"]) == (400, True)
    _, _, headers = await hub.ask("/api/generate", prompt="x", context=[1, 2], shift=True)
    assert headers["x-oproxy-ignored"] == "shift, context"
    _, _, headers = await hub.ask("/api/generate", prompt="x", raw=True, format="json", stream=False)
    assert headers["x-oproxy-ignored"] == "format"


@pytest.mark.parametrize(
    ("path", "body", "want"),
    [
        ("/api/chat", {}, "load"),
        ("/api/chat", {"messages": [], "keep_alive": "10m"}, "load"),
        ("/api/chat", {"messages": [], "keep_alive": 0}, "unload"),
        ("/api/generate", {"keep_alive": "0s"}, "unload"),
        ("/api/generate", {"prompt": ""}, "load"),
    ],
)
async def test_without_a_prompt_a_model_is_only_loaded_or_unloaded(
    hub: Hub, path: str, body: dict[str, Any], want: str
) -> None:
    status, (record,), _ = await hub.ask(path, **body)
    assert (status, record["done"], record["done_reason"], text([record])) == (200, True, want, "")
    assert not [call for call in hub.lab.calls if call.method == "POST"]


# --- embeddings -------------------------------------------------------------------------------------------------------


async def test_texts_are_embedded(hub: Hub) -> None:
    _, (record,), _ = await hub.ask("/api/embed", input=["a", "bcd"])
    assert record["embeddings"] == [[1.0, 0.0, 0.5], [3.0, 1.0, 0.5]]
    assert (record["model"], record["prompt_eval_count"] > 0) == ("embed", True)
    _, (record,), _ = await hub.ask("/api/embed", input="ab", dimensions=2)
    assert record["embeddings"] == [[1.0, 0.0]]
    _, (record,), _ = await hub.ask("/api/embeddings", prompt="ab")
    assert record == {"embedding": [2.0, 0.0, 0.5]}


async def test_nothing_to_embed_only_loads(hub: Hub) -> None:
    nothing: list[dict[str, Any]] = [{}, {"input": ""}, {"input": []}, {"input": None}]
    for empty in nothing:
        assert (await hub.ask("/api/embed", **empty))[1] == [{"model": "embed", "embeddings": []}]
    assert (await hub.ask("/api/embeddings", prompt=""))[1] == [{"embedding": []}]
    # What loads is told how long, a question is not.
    for body, want in (({"input": []}, None), ({"input": "a"}, "keep_alive")):
        _, _, headers = await hub.ask("/api/embed", keep_alive="5m", **body)
        assert headers.get("x-oproxy-ignored") == want
    status, (record,), _ = await hub.ask("/api/embed", input=["a", 1])
    assert (status, list(record)) == (400, ["error"])


NASTY: list[Any] = [None, True, 0, -1, 1.5, 1e300, 2**70, "", "x", "\ud83d", [], [[]], [None], {}, {"x": None}, [{}]]
SHAPES: dict[str, tuple[type[msgspec.Struct], dict[str, Any]]] = {
    "/api/chat": (OllamaChatRequest, {"messages": HELLO}),
    "/api/generate": (OllamaGenerateRequest, {"prompt": "x"}),
    "/api/embed": (OllamaEmbedRequest, {"input": "x"}),
    "/api/embeddings": (OllamaEmbeddingsRequest, {"prompt": "x"}),
}


@pytest.mark.parametrize("path", SHAPES)
async def test_no_value_of_any_field_is_our_failure(hub: Hub, path: str) -> None:
    shape, good = SHAPES[path]
    tried = 0
    for field in [*shape.__struct_fields__, "made_up"]:
        for value in NASTY:
            body = {"model": "embed" if "embed" in path else "small", "stream": False, **good, field: value}
            # A lone surrogate too, which no UTF-8 has.
            async with hub.http.post(path, data=json.dumps(body)) as response:
                answer = await response.read()
            assert (field, value, response.status in (200, 400, 404)) == (field, value, True), answer
            tried += 1
    for role, field in itertools.product(("user", "assistant", "tool", 7), OllamaMessage.__struct_fields__):
        for value in NASTY if path == "/api/chat" else ():
            messages = [{"role": role, "content": "x", field: value}]
            async with hub.http.post(path, json={"model": "small", "stream": False, "messages": messages}) as response:
                assert (role, field, value, response.status in (200, 400)) == (role, field, value, True)
    assert tried > 50


# --- models -----------------------------------------------------------------------------------------------------------


async def test_models_are_listed_and_described_in_ollamas_form(hub: Hub) -> None:
    async with hub.http.get("/api/tags") as response:
        models = (await response.json())["models"]
    assert [each["name"] for each in models] == ["small:latest", "embed:latest", "mine:latest"]
    for each in models:
        assert each.keys() >= {"model", "modified_at", "size", "digest", "details", "capabilities"}
        assert len(each["digest"]) == 64
    assert models[0]["digest"] == models[2]["digest"] != models[1]["digest"]
    status, (shown,), _ = await hub.ask("/api/show", model="mine")
    assert (status, shown["capabilities"], shown["modified_at"]) == (
        200,
        ["completion", "tools"],
        "2023-11-14T22:13:20.000000000Z",
    )
    assert (await hub.ask("/api/show", model=None, name="small"))[0] == 200
    assert (await hub.ask("/api/show", model="nope"))[0] == 404


async def test_a_model_without_a_time_has_the_one_that_ollama_shows_as_never(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        lab.models = [{"id": "small", "object": "model"}]
        proxy = await start_proxy(f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\n')
        async with aiohttp.ClientSession(proxy.url) as http:
            async with http.get("/api/tags") as response:
                (model,) = (await response.json())["models"]
            async with http.post("/api/show", json={"model": "small"}) as response:
                shown = await response.json()
    assert model["modified_at"] == shown["modified_at"] == "0001-01-01T00:00:00Z"


async def test_nothing_is_told_of_what_is_in_memory_and_the_version_is_one_that_clients_take(hub: Hub) -> None:
    for path, want in (
        ("/api/ps", {"models": []}),
        ("/api/version", {"version": "0.34.4"}),
        ("/api/status", {"cloud": {"disabled": True, "source": "none"}}),
    ):
        async with hub.http.get(path) as response:
            assert (response.status, await response.json()) == (200, want)
        async with hub.http.head(path) as response:
            assert response.status == 200


BLOB = f"/api/blobs/sha256:{'a' * 64}"


async def test_what_needs_an_ollama_says_so(hub: Hub) -> None:
    for path in ("/api/create", "/api/copy", "/api/push", "/api/me", "/api/signout", BLOB):
        status, (record,), _ = await hub.ask(path, source="small", destination="x")
        assert (path, status, "Ollama" in record["error"]) == (path, 400, True)
    async with hub.http.head(BLOB) as response:
        assert response.status == 400
    status, (record,), _ = await hub.ask("/api/pull", model="x")
    assert (status, record["error"]) == (404, "model 'x' not found. No configured backend can fetch it.")
    async with hub.http.delete("/api/delete", json={"model": "small"}) as response:
        assert (response.status, list(await response.json())) == (400, ["error"])
