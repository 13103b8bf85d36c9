"""Limits as clients meet them: the exact bodies and headers of each refusal, whom a limit is on, and what is charged.

The clock stands still, so that every number is exact.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from ollama_proxy import tokens
from ollama_proxy.model import Ask, Message, Text
from ollama_proxy.server.app import build_app
from ollama_proxy.settings import load
from tests.conftest import Clock
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config

WORD = "the-daemons-own-word"
MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."
# Keys that nobody has made. Those of one length and end would be one name, as they are shown masked.
ONE, TWO, THREE = (f"sk-{name * 8}" for name in ("one", "two", "three"))
# What the recorded answer took, by Ollama's own count.
PROMPT, ANSWER = 21, 8
LIMIT = re.compile(r"x-ratelimit-.*|retry-after.*|x-should-retry", re.IGNORECASE)


class Limited(NamedTuple):
    """A proxy with limits, and a session to it."""

    http: aiohttp.ClientSession
    ollama: FakeOllama
    said: list[str]

    async def ask(self, key: str = "", path: str = "/v1/chat/completions", **body: Any) -> tuple[int, Any, Any]:
        """Return status, body (a stream: its text), and the headers that are about limits."""
        asked = {"model": "smollm2", "messages": HELLO, **body}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self.http.post(path, json=asked, headers=headers) as response:
            said = {name.lower(): value for name, value in response.headers.items() if LIMIT.fullmatch(name)}
            if response.content_type == "text/event-stream":
                return response.status, await response.text(), said
            return response.status, await response.json(), said

    async def make(self, name: str, **body: Any) -> str:
        headers = {"authorization": f"Bearer {WORD}"}
        async with self.http.post("/oproxy/keys", json={"name": name, **body}, headers=headers) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["key"])

    async def statuses(self, *keys: str) -> list[int]:
        return [(await self.ask(key))[0] for key in keys]


class Start:
    """Starts proxies with [limits] lines."""

    def __init__(self, stack: AsyncExitStack, ollama: FakeOllama, clock: Clock) -> None:
        self.stack, self.ollama, self.clock = stack, ollama, clock

    async def __call__(self, limits: str, *, books: bool = False) -> Limited:
        text = config(self.ollama.url, f"[logs]\nrequests = false\n[store]\nledger = {str(books).lower()}\n{limits}\n")
        said: list[str] = []
        app = build_app(load(env={}, flags={}, text=text), say=said.append, env={}, clock=self.clock, control=WORD)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = aiohttp.ClientSession("http://{}:{}".format(*runner.addresses[0][:2]))
        return Limited(await self.stack.enter_async_context(http), self.ollama, said)


@pytest.fixture
async def start(ollama: FakeOllama, clock: Clock) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        yield Start(stack, ollama, clock)


def estimate() -> int:
    """Return what we charge for the prompt of these tests before Ollama has counted it."""
    said = Message(role="user", parts=(Text(HELLO[0]["content"]),))
    return tokens.estimate(Ask(model="smollm2", messages=(said,)))


async def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


def error(message: str, type: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": "rate_limit_exceeded"}}


# --- the refusals, word for word ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "words", "wait", "after", "after_ms"),
    [
        ("requests_per_minute", "requests per min (RPM)", "20s", "20", "20000"),
        ("requests_per_day", "requests per day (RPD)", "8h0m0s", "28800", "28800000"),
    ],
)
async def test_too_many_requests_are_refused_in_openais_words(
    start: Start, field: str, words: str, wait: str, after: str, after_ms: str
) -> None:
    limited = await start(f"[limits]\n{field} = 3")
    assert await limited.statuses("", "", "") == [200, 200, 200]

    status, body, said = await limited.ask()

    assert status == 429
    assert body == error(
        f"Rate limit reached for smollm2 in organization org-oproxy on {words}: Limit 3, Used 3, Requested 1. "
        f"Please try again in {wait}. {MORE}",
        "requests",
    )
    full = "1m0s" if wait == "20s" else "24h0m0s"
    assert said == {
        "retry-after": after, "retry-after-ms": after_ms, "x-should-retry": "true",
        "x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": full,
    }  # fmt: skip


async def test_after_the_time_that_was_told_and_no_sooner_the_request_is_let_in(start: Start, clock: Clock) -> None:
    limited = await start("[limits]\nrequests_per_minute = 3")
    await limited.statuses("", "", "")
    wait = int((await limited.ask())[2]["retry-after-ms"]) / 1000

    clock.forward(wait - 0.002)
    status, body, said = await limited.ask()
    assert status == 429
    assert "Please try again in 2ms." in body["error"]["message"]
    assert (said["retry-after"], said["retry-after-ms"]) == ("1", "2")

    clock.forward(0.002)
    assert await limited.statuses("", "") == [200, 429]


@pytest.mark.parametrize(
    ("field", "words", "period"),
    [("tokens_per_minute", "tokens per min (TPM)", 60), ("tokens_per_day", "tokens per day (TPD)", 86400)],
)
async def test_too_many_tokens_are_refused_in_openais_words(start: Start, field: str, words: str, period: int) -> None:
    limited = await start(f"[limits]\n{field} = 1000")
    assert (await limited.ask())[0] == 200
    asked = estimate() + 980

    status, body, said = await limited.ask(max_tokens=980)

    assert status == 429
    ms = round((PROMPT + ANSWER + asked - 1000) * period)
    assert said["retry-after-ms"] == str(ms)
    assert said["x-should-retry"] == "true"
    assert said["x-ratelimit-limit-tokens"] == "1000"
    assert said["x-ratelimit-remaining-tokens"] == str(1000 - PROMPT - ANSWER)
    text = body["error"].pop("message")
    assert text.startswith(
        f"Rate limit reached for smollm2 in organization org-oproxy on {words}: Limit 1000, Used {PROMPT + ANSWER}, "
        f"Requested {asked}. Please try again in "
    )
    assert text.endswith(f"s. {MORE}")
    assert body["error"] == {"type": "tokens", "param": None, "code": "rate_limit_exceeded"}


async def test_a_request_larger_than_the_whole_limit_is_told_so_and_not_to_try_again(start: Start) -> None:
    limited = await start("[limits]\ntokens_per_minute = 100")

    status, body, said = await limited.ask(max_tokens=500)

    assert status == 429
    assert body == error(
        "Request too large for smollm2 in organization org-oproxy on tokens per min (TPM): Limit 100, "
        f"Requested {estimate() + 500}. The input or output tokens must be reduced in order to run successfully. "
        f"{MORE}",
        "tokens",
    )
    assert said == {
        "x-should-retry": "false",
        "x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "0s",
    }  # fmt: skip
    assert not limited.ollama.asked("/api/chat")
    assert (await limited.ask())[0] == 200


async def test_one_request_too_many_at_the_same_time_is_refused(start: Start) -> None:
    limited = await start("[limits]\nconcurrent = 1")
    limited.ollama.play("/api/chat", "chat-nonstream", delay=0.3)
    first = asyncio.ensure_future(limited.ask())
    await until(lambda: limited.ollama.asked("/api/chat"))

    status, body, said = await limited.ask()

    assert status == 429
    assert body == error(
        "Rate limit reached for smollm2 in organization org-oproxy on concurrent requests: Limit 1, Used 1, "
        f"Requested 1. Please try again in 1s. {MORE}",
        "requests",
    )
    assert said == {"retry-after": "1", "retry-after-ms": "1000", "x-should-retry": "true"}
    assert (await first)[0] == 200
    assert await limited.statuses("", "") == [200, 200]


@pytest.mark.parametrize("hold", [0, 3])
async def test_a_client_that_leaves_gives_its_place_back(start: Start, hold: int) -> None:
    limited = await start("[limits]\nconcurrent = 1")
    limited.ollama.play("/api/chat", "chat-stream", hold_after=hold)
    first = asyncio.ensure_future(limited.ask(stream=True))
    await until(lambda: limited.ollama.asked("/api/chat"))
    assert await limited.statuses("") == [429]

    first.cancel()
    await until(lambda: any(" 499 " in line for line in limited.said))

    assert await limited.statuses("", "") == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fails_gives_its_place_back(start: Start, stream: bool) -> None:
    limited = await start("[limits]\nconcurrent = 1")
    for _ in range(3):
        limited.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
        assert (await limited.ask(stream=stream))[0] >= 500

    assert await limited.statuses("") == [200]


# --- the headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_tells_what_is_left(start: Start, stream: bool) -> None:
    limited = await start("[limits]\nrequests_per_minute = 60\ntokens_per_minute = 6000")

    status, _, said = await limited.ask(stream=stream, max_tokens=100)

    assert status == 200
    taken = estimate() + 100
    assert said == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": str(6000 - taken),
        "x-ratelimit-reset-tokens": f"{taken / 100:g}s",
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/completions", {"prompt": "Hello"}), ("/v1/embeddings", {"model": "all-minilm", "input": "Hello"})],
)
async def test_completions_and_embeddings_are_limited_like_chat(start: Start, path: str, body: dict[str, Any]) -> None:
    limited = await start("[limits]\nrequests_per_minute = 1\ntokens_per_minute = 100000")
    asked = {"model": "smollm2", **body}

    async with limited.http.post(path, json=asked) as first:
        assert first.status == 200
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000
    async with limited.http.post(path, json=asked) as second:
        assert second.status == 429


async def test_the_backends_error_has_the_headers_too(start: Start) -> None:
    limited = await start("[limits]\nrequests_per_minute = 60")
    limited.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)

    status, _, said = await limited.ask()

    assert status >= 500
    assert said["x-ratelimit-remaining-requests"] == "59"


async def test_without_limits_nothing_is_said_of_them(start: Start) -> None:
    limited = await start("")

    assert (await limited.ask())[2] == {}


async def test_a_days_limit_is_told_when_less_is_left_of_it_than_of_the_minutes(start: Start) -> None:
    limited = await start("[limits]\nrequests_per_minute = 60\nrequests_per_day = 50")

    said = (await limited.ask())[2]

    assert said["x-ratelimit-limit-requests"] == "50"
    assert said["x-ratelimit-remaining-requests"] == "49"
    assert said["x-ratelimit-reset-requests"] == "28m48s"


# --- whom a limit is on ---------------------------------------------------------------------------------------------


async def test_each_key_has_limits_of_its_own(start: Start) -> None:
    limited = await start("[limits]\nrequests_per_minute = 2", books=True)
    small = await limited.make("small", rates={"requests_per_minute": 1})
    plain = await limited.make("plain")

    assert await limited.statuses(small, small, plain, plain, plain) == [200, 429, 200, 200, 429]


async def test_a_changed_limit_of_a_key_holds_at_once(start: Start) -> None:
    limited = await start("", books=True)
    key = await limited.make("one", rates={"requests_per_minute": 1})
    assert await limited.statuses(key, key) == [200, 429]

    headers = {"authorization": f"Bearer {WORD}"}
    changed = {"rates": {"requests_per_minute": 3}}
    async with limited.http.post("/oproxy/keys/one", json=changed, headers=headers) as response:
        assert response.status == 200

    assert await limited.statuses(key, key, key) == [200, 200, 429]


async def test_strangers_are_told_apart_by_what_they_send_as_a_key(start: Start) -> None:
    limited = await start("[limits]\nrequests_per_minute = 1")

    assert await limited.statuses(ONE, ONE, TWO, "") == [200, 429, 200, 200]


async def test_an_address_is_limited_whatever_key_it_sends(start: Start) -> None:
    limited = await start("[limits.address]\nrequests_per_minute = 2")
    assert await limited.statuses(ONE, TWO) == [200, 200]

    status, body, _ = await limited.ask(THREE)

    assert status == 429
    assert body["error"]["message"].startswith(
        "Rate limit reached for address 127.0.0.1 in organization org-oproxy on requests per min (RPM): Limit 2,"
    )


async def test_a_model_is_limited_for_all_together_under_all_its_names(start: Start) -> None:
    limited = await start(
        '[models.aliases]\nhelper = "smollm2"\n[limits.models."smollm2:latest"]\nrequests_per_minute = 2'
    )
    assert await limited.statuses(ONE, TWO) == [200, 200]

    status, body, _ = await limited.ask(THREE, model="helper")

    assert status == 429
    assert body["error"]["message"].startswith("Rate limit reached for helper in organization org-oproxy")
    assert (await limited.ask(model="smollm2-tools"))[0] == 200


async def test_each_key_may_be_limited_on_one_model(start: Start) -> None:
    limited = await start('[limits.key_models."smollm2"]\nrequests_per_minute = 1', books=True)
    one, two = await limited.make("one"), await limited.make("two")

    assert await limited.statuses(one, one, two, two) == [200, 429, 200, 429]
    assert (await limited.ask(one, model="smollm2-tools"))[0] == 200


async def test_a_key_may_be_in_a_tier_of_openais_or_of_ones_own(start: Start) -> None:
    limited = await start("[limits.tiers.tiny]\nrequests_per_minute = 1", books=True)
    tiny, free = await limited.make("one", tier="tiny"), await limited.make("two", tier="tier1")

    assert await limited.statuses(tiny, tiny) == [200, 429]
    status, _, said = await limited.ask(free, model="gpt-4o-mini")
    assert status == 200
    assert int(said["x-ratelimit-limit-requests"]) > 1
    assert int(said["x-ratelimit-limit-tokens"]) > 1000


async def test_refused_requests_take_nothing(start: Start) -> None:
    limited = await start("[limits]\nrequests_per_minute = 1\n[limits.address]\nrequests_per_minute = 2")

    # The second of the first is refused by its own limit and must not count on the address.
    assert await limited.statuses(ONE, ONE, TWO) == [200, 429, 200]
    assert (await limited.ask(model="no-such-model"))[0] == 404


# --- what is charged ------------------------------------------------------------------------------------------------


def left(said: dict[str, str]) -> int:
    return int(said["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_reserved_and_not_used_is_given_back(start: Start, stream: bool) -> None:
    limited = await start("[limits]\ntokens_per_minute = 10000")

    await limited.ask(stream=stream, max_tokens=1000)
    said = (await limited.ask())[2]

    assert left(said) == 10_000 - PROMPT - ANSWER - estimate()


async def test_openais_accounting_gives_nothing_back(start: Start) -> None:
    limited = await start('[limits]\ntokens_per_minute = 10000\naccounting = "openai"')

    await limited.ask(max_tokens=1000)
    said = (await limited.ask())[2]

    assert left(said) == 10_000 - 1000 - 2 * estimate()


@pytest.mark.parametrize("accounting", ["settled", "openai"])
async def test_what_was_not_reserved_is_charged_afterwards(start: Start, accounting: str) -> None:
    limited = await start(f'[limits]\ntokens_per_minute = 10000\naccounting = "{accounting}"')

    await limited.ask()
    said = (await limited.ask())[2]

    assert left(said) == 10_000 - (PROMPT + ANSWER) - estimate()


async def test_an_answer_cut_off_by_its_client_pays_for_what_it_got(start: Start) -> None:
    limited = await start("[limits]\ntokens_per_minute = 10000")
    limited.ollama.play("/api/chat", "chat-stream", hold_after=3)
    body = {"model": "smollm2", "messages": HELLO, "stream": True, "max_tokens": 1000}
    seen = b""
    async with limited.http.post("/v1/chat/completions", json=body) as response:
        while b" of" not in seen:
            seen += await response.content.readany()
        response.close()
    paid = estimate() + tokens.count("The capital of", "smollm2")

    await until(lambda: any(" 499 " in line for line in limited.said))
    assert left((await limited.ask())[2]) == 10_000 - paid - estimate()


async def test_a_request_without_an_answer_pays_nothing(start: Start) -> None:
    limited = await start("[limits]\ntokens_per_minute = 10000")
    limited.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    assert (await limited.ask(max_tokens=1000))[0] >= 500

    assert left((await limited.ask())[2]) == 10_000 - estimate()
