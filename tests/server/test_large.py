"""Large requests do not hold up others: what grows with them runs beside the event loop, what is small stays on it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import aiohttp
import pytest

from ollama_proxy import tokens
from ollama_proxy.server.keys import BODY, LOOP_WATCH, WORKERS
from ollama_proxy.workers import LARGE, THREADS
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.loop import Heartbeat, functions_here

from .conftest import Setup, config

LIMITS = "[limits]\nrequests_per_minute = 1000\ntokens_per_minute = 1_000_000_000\n"
TEXT = "word " * (LARGE // 5 + 1)
DECODE, PLAN, ESTIMATE = "translate.validate.decode", "policy.plan.plan", "tokens.estimate"


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# By path: a body with this text, and what of the work on it must not be done on the loop when it is large.
KINDS: dict[str, tuple[str, Any, set[str]]] = {
    "chat": (
        "/v1/chat/completions",
        lambda text: {"model": "smollm2", "messages": said(text)},
        {DECODE, PLAN, ESTIMATE, "translate.chat.parse_shape", "translate.ollama.chat"},
    ),
    "chat stream": (
        "/v1/chat/completions",
        lambda text: {"model": "smollm2", "messages": said(text), "stream": True},
        {DECODE, PLAN, ESTIMATE, "translate.chat.parse_shape", "translate.ollama.chat"},
    ),
    "wrong": (
        "/v1/chat/completions",
        lambda text: {"model": "smollm2", "messages": [*said(text), {"role": "user", "content": 7}]},
        {DECODE, "translate.validate._walk"},
    ),
    "completion": (
        "/v1/completions",
        lambda text: {"model": "smollm2", "prompt": text},
        {DECODE, "translate.completions.parse_shape", "tokens.estimate_texts", "translate.ollama.complete"},
    ),
    "embedding": (
        "/v1/embeddings",
        lambda text: {"model": "all-minilm", "input": [text, "Hi"]},
        {DECODE, "translate.embeddings.parse_shape", "tokens.estimate_texts", "translate.ollama.embed"},
    ),
    "response": (
        "/v1/responses",
        lambda text: {"model": "smollm2", "input": said(text), "store": False},
        {DECODE, PLAN, ESTIMATE, "translate.responses.parse", "translate.responses_items.canonical"},
    ),
    "count": (
        "/v1/responses/input_tokens",
        lambda text: {"model": "smollm2", "input": text},
        {DECODE},
    ),
    "anthropic": (
        "/v1/messages",
        lambda text: {"model": "smollm2", "max_tokens": 9, "messages": said(text)},
        {DECODE, PLAN, ESTIMATE, "translate.messages.parse_shape"},
    ),
    "anthropic count": (
        "/v1/messages/count_tokens",
        lambda text: {"model": "smollm2", "messages": said(text)},
        {DECODE, "translate.messages.parse_shape"},
    ),
    "edit": (
        "/v1/edits",
        lambda text: {"model": "smollm2", "instruction": "Mend it", "input": text},
        {DECODE, PLAN, ESTIMATE},
    ),
    "conversation": (
        "/v1/conversations",
        lambda text: {"items": [{"type": "message", "role": "user", "content": text}]},
        {DECODE, "translate.conversations.new_items"},
    ),
    "moderation": (
        "/v1/moderations",
        lambda text: {"model": "llama-guard3", "input": text},
        {DECODE, "translate.moderations.parse_shape"},
    ),
    "ollama chat": (
        "/api/chat",
        lambda text: {"model": "smollm2", "messages": said(text), "stream": False},
        {DECODE, ESTIMATE, "translate.ollama_front.opened"},
    ),
    "ollama embed": (
        "/api/embed",
        lambda text: {"model": "all-minilm", "input": text},
        {DECODE, "tokens.estimate_texts", "translate.ollama_front.opened"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_work_on_a_large_request_is_done_beside_the_loop(
    start_proxy: Start, ollama: FakeOllama, kind: str
) -> None:
    path, body, heavy = KINDS[kind]
    # The first count of all is done in a thread anyway, for it loads the vocabulary.
    tokens.count("")
    proxy = await start_proxy(config(ollama.url, LIMITS))
    async with aiohttp.ClientSession(proxy.url) as http:
        ran = []
        for text in ("Hello", TEXT):
            with functions_here() as functions:
                async with http.post(path, json=body(text)) as response:
                    await response.read()
            ran.append(functions)
    small, large = ran
    assert heavy - small == set(), "these are run at all, on the loop when the request is small"
    assert heavy & large == set()


@pytest.mark.parametrize("kind", ["count", "anthropic count"])
async def test_tokens_that_are_asked_for_are_counted_beside_the_loop(
    start_proxy: Start, ollama: FakeOllama, kind: str
) -> None:
    path, body, _ = KINDS[kind]
    proxy = await start_proxy(config(ollama.url))
    async with aiohttp.ClientSession(proxy.url) as http:
        for text, least in (("Hello", 1), (TEXT, len(TEXT) // 6)):
            with functions_here() as functions:
                async with http.post(path, json=body(text)) as response:
                    assert (await response.json())["input_tokens"] > least
            assert not {name for name in functions if name.startswith("tokens.")}


async def test_the_vocabulary_is_not_loaded_on_the_loop_by_the_first_request_that_is_limited(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start_proxy(config(ollama.url, LIMITS))
    tokens._encoder.cache_clear()
    tokens._count_short.cache_clear()
    tokens._loaded.clear()
    async with aiohttp.ClientSession(proxy.url) as http:
        body = KINDS["chat"][1]("Hello")
        ran = []
        for _ in range(2):
            with functions_here() as functions:
                async with http.post("/v1/chat/completions", json=body) as response:
                    assert response.status == 200
            ran.append(functions)
    assert tokens.ready("smollm2")
    assert [ESTIMATE in functions for functions in ran] == [False, True], (
        "once it is there, small prompts are counted here"
    )
    assert not any("tokens._encoder" in functions for functions in ran)


async def test_a_client_that_leaves_while_its_request_waits_for_a_thread_leaves_nothing_behind(setup: Setup) -> None:
    app = setup.proxy.app
    release = threading.Event()
    busy = [asyncio.ensure_future(app[WORKERS].run(LARGE, release.wait, 60)) for _ in range(THREADS)]
    async with Heartbeat() as beat:
        large = asyncio.ensure_future(setup.chat(messages=said(TEXT)))
        while not any(request.get(BODY) for request in app[LOOP_WATCH].running.values()):
            await beat.turns(1)
        # Small requests are answered meanwhile.
        assert (await setup.chat())[0] == 200
        assert not large.done()
        large.cancel()
        while app[LOOP_WATCH].running:
            await beat.turns(1)
    release.set()
    await asyncio.gather(*busy)
    assert len(setup.ollama.asked("/api/chat")) == 1
    assert "499" in setup.proxy.said[-1]
    assert (await setup.chat(messages=said(TEXT)))[0] == 200


async def test_small_requests_are_answered_while_a_large_one_is_worked_on(setup: Setup) -> None:
    async with Heartbeat() as beat:
        large = asyncio.ensure_future(setup.chat(messages=[said("Hi")[0]] * 20_000))
        await beat.turns(1)
        before = beat.count
        assert (await large)[0] == 200
        assert beat.count > before
