"""Large answers do not hold up others: they are read, translated and written beside the event loop, or in pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from ollama_proxy import tokens
from ollama_proxy.workers import LARGE
from tests.conftest import Proxy, Start
from tests.fakes.ollama import JSON, FakeOllama
from tests.fakes.openai import CHAT, Answer, FakeOpenAI, chunk, fake_openai, sse
from tests.loop import Heartbeat, functions_here

from .conftest import HELLO, config

WORD = "word "
TEXT = WORD * (2 * LARGE // len(WORD))
VECTOR = [0.25] * 384
ROWS = LARGE // 1000
Play = Callable[[FakeOllama, FakeOpenAI, str], None]


def record(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "smollm2", "message": message, "response": text, "done": True, "eval_count": 1}


def line(path: str) -> Play:
    """One line of a stream that holds all of the answer."""
    return lambda ollama, lab, text: ollama.play(path, [record(text)])


def whole(path: str) -> Play:
    return lambda ollama, lab, text: ollama.play(path, [record(text)], type=JSON)


def vectors(ollama: FakeOllama, lab: FakeOpenAI, text: str) -> None:
    rows = [VECTOR] * (ROWS if text == TEXT else 1)
    ollama.play("/api/embed", [{"model": "all-minilm", "embeddings": rows, "prompt_eval_count": 1}], type=JSON)


def event(ollama: FakeOllama, lab: FakeOpenAI, text: str) -> None:
    """One event of a stream that holds all of the answer."""
    data = sse(chunk("small", {"role": "assistant", "content": text}, "stop"))
    lab.script(CHAT, Answer(pieces=[data], content_type="text/event-stream"))


def document(ollama: FakeOllama, lab: FakeOpenAI, text: str) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice], "usage": usage}
    lab.script(CHAT, Answer(body=body))


def image(ollama: FakeOllama, lab: FakeOpenAI, text: str) -> None:
    body = {"created": 1, "data": [{"b64_json": text}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    lab.script("/images/generations", Answer(body=body))


def images(ollama: FakeOllama, lab: FakeOpenAI, text: str) -> None:
    data = {"type": "image_generation.completed", "b64_json": text, "usage": {"input_tokens": 1, "output_tokens": 1}}
    lab.script("/images/generations", Answer(pieces=[sse(data)], content_type="text/event-stream"))


OLLAMA, OPENAI = {"model": "smollm2", "messages": HELLO}, {"model": "small", "messages": HELLO}
LINE = "translate.ollama_read._line"
# By path: the request, what the backend answers, and what of the work on it must not be done on the loop.
KINDS: dict[str, tuple[str, Any, Play, set[str]]] = {
    "chat": ("/v1/chat/completions", OLLAMA, whole("/api/chat"), {LINE, "translate.chat_write.whole"}),
    "chat stream": ("/v1/chat/completions", {**OLLAMA, "stream": True}, line("/api/chat"), {LINE}),
    "chat kept": ("/v1/chat/completions", {**OLLAMA, "stream": True, "store": True}, line("/api/chat"), {LINE}),
    "two choices": ("/v1/chat/completions", {**OLLAMA, "stream": True, "n": 2}, line("/api/chat"), {LINE}),
    "completion": (
        "/v1/completions",
        {"model": "smollm2", "prompt": "Hi"},
        whole("/api/generate"),
        {LINE, "translate.completions.whole"},
    ),
    "response": (
        "/v1/responses",
        {"model": "smollm2", "input": "Hi", "store": False},
        whole("/api/chat"),
        {LINE, "translate.responses_write.feed"},
    ),
    "response kept": (
        "/v1/responses",
        {"model": "smollm2", "input": "Hi"},
        whole("/api/chat"),
        {LINE, "translate.responses_write.feed", "server.responses_ask.pieces_of", "server.responses_ask.stored_of"},
    ),
    "response stream": (
        "/v1/responses",
        {"model": "smollm2", "input": "Hi", "stream": True, "store": False},
        line("/api/chat"),
        {LINE, "translate.responses_write.flush"},
    ),
    "anthropic": (
        "/v1/messages",
        {**OLLAMA, "max_tokens": 9},
        whole("/api/chat"),
        {LINE, "translate.messages_write.whole"},
    ),
    "anthropic stream": ("/v1/messages", {**OLLAMA, "max_tokens": 9, "stream": True}, line("/api/chat"), {LINE}),
    "embeddings": (
        "/v1/embeddings",
        {"model": "all-minilm", "input": ["Hi"]},
        vectors,
        {"translate.ollama_read.embeddings", "translate.embeddings.write"},
    ),
    "ollama chat": (
        "/api/chat",
        {**OLLAMA, "stream": False},
        whole("/api/chat"),
        {LINE, "translate.ollama_pass.one_record"},
    ),
    "ollama chat stream": ("/api/chat", OLLAMA, line("/api/chat"), {LINE, "translate.ollama_pass.is_record"}),
    "ollama embed": (
        "/api/embed",
        {"model": "mini", "input": ["Hi"]},
        vectors,
        {"translate.ollama_pass.renamed"},
    ),
    "passed": ("/v1/chat/completions", OPENAI, document, {"translate.passthrough.observe_whole"}),
    "passed stream": (
        "/v1/chat/completions",
        {**OPENAI, "stream": True},
        event,
        {"translate.passthrough._event"},
    ),
    "passed and kept": (
        "/v1/chat/completions",
        {**OPENAI, "stream": True, "store": True},
        event,
        {"translate.passthrough._event", "recorder.assemble.assemble"},
    ),
    "openai response": (
        "/v1/responses",
        {"model": "small", "input": "Hi", "stream": True, "store": False},
        event,
        {"translate.openai_read._event", "translate.responses_write.flush"},
    ),
    "forwarded": (
        "/v1/images/generations",
        {"prompt": "Hi"},
        image,
        {"translate.forward.whole", "translate.ollama_pass.is_record"},
    ),
    "forwarded stream": (
        "/v1/images/generations",
        {"prompt": "Hi", "stream": True},
        images,
        {"translate.forward._event", "translate.forward._sound"},
    ),
}


@pytest.fixture
async def lab() -> AsyncIterator[FakeOpenAI]:
    async with fake_openai() as fake:
        yield fake


@pytest.fixture
async def proxy(start_proxy: Start, ollama: FakeOllama, lab: FakeOpenAI) -> Proxy:
    tokens.count("")
    lab_config = f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\nserves = ["images"]\n'
    more = f'[models.aliases]\nmini = "all-minilm"\n{lab_config}'
    return await start_proxy(config(ollama.url, more))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_work_on_a_large_answer_is_done_beside_the_loop(
    proxy: Proxy, ollama: FakeOllama, lab: FakeOpenAI, kind: str
) -> None:
    path, body, play, heavy = KINDS[kind]
    ran = []
    async with aiohttp.ClientSession(proxy.url) as http:
        for text in ("Hello", TEXT):
            for _ in range(body.get("n", 1)):
                play(ollama, lab, text)
            asked = {**body, "input": ["Hi"] * ROWS} if "embed" in path and text == TEXT else body
            with functions_here() as functions:
                async with http.post(path, json=asked) as response:
                    assert response.status == 200, await response.text()
                    data = await response.read()
            if "embed" not in path and text == TEXT:
                # Some are in two events of a stream.
                assert data.count(b"word") > len(TEXT) // len(WORD) * 0.99
            ran.append(functions)
    small, large = ran
    assert heavy - small == set(), "these are run at all, on the loop when the answer is small"
    assert heavy & large == set()


async def test_a_large_line_of_a_stream_is_passed_on_in_pieces(proxy: Proxy, ollama: FakeOllama) -> None:
    ollama.play("/api/chat", [record("ä" * LARGE)])
    async with aiohttp.ClientSession(proxy.url) as http, Heartbeat() as beat:
        before = beat.count
        async with http.post("/v1/chat/completions", json={**OLLAMA, "stream": True}) as response:
            chunks = [json.loads(each[6:]) for each in (await response.text()).split("\n\n") if each[6:7] == "{"]
        assert beat.count > before
    said = [choice["delta"].get("content") or "" for each in chunks for choice in each["choices"]]
    assert "".join(said) == "ä" * LARGE
    assert max(map(len, said)) < LARGE // 2


async def test_what_is_kept_is_read_beside_the_loop_when_it_is_large(proxy: Proxy, ollama: FakeOllama) -> None:
    heavy = {"translate.responses.parse", "policy.plan.plan", "translate.ollama.chat"}
    ran = []
    async with aiohttp.ClientSession(proxy.url) as http:
        for text in ("Hello", TEXT):
            ask = {"model": "smollm2", "input": text}
            async with http.post("/v1/responses", json=ask) as response:
                id = (await response.json())["id"]
            with functions_here() as functions:
                ask = {"model": "smollm2", "input": "And?", "previous_response_id": id}
                async with http.post("/v1/responses", json=ask) as response:
                    assert response.status == 200
            assert ollama.asked("/api/chat")[-1]["messages"][0]["content"] == text
            ran.append(functions)
    small, large = ran
    assert heavy - small == set()
    assert heavy & large == set()


async def test_a_conversation_that_needs_more_memory_than_there_is_is_refused(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, '[server]\nmemory = "16MiB"\n'))
    async with aiohttp.ClientSession(proxy.url) as http:
        id = None
        for _ in range(9):
            ask = {"model": "smollm2", "input": TEXT, "previous_response_id": id}
            async with http.post("/v1/responses", json=ask) as response:
                answer = await response.json()
                if response.status != 200:
                    break
                id = answer["id"]
        assert id is not None
        assert (response.status, answer["error"]["type"]) == (413, "invalid_request_error")
        ask = {"model": "smollm2", "input": "Hi"}
        async with http.post("/v1/responses", json=ask) as response:
            assert response.status == 200, "the memory is given back"
