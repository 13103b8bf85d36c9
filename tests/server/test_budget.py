"""Budgets at the gate: 64 at once, what a key may spend, alerts where they are looked for."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config

WORD = "the-daemons-own-word"
# What the fake's answer takes, and what is reserved for it at least.
TAKES = 29
ASKED = {"model": "smollm2", "messages": HELLO, "max_tokens": 30}


async def ask(http: aiohttp.ClientSession, key: str = "") -> tuple[int, Any, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with http.post("/v1/chat/completions", json=ASKED, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_64_at_once_do_not_spend_what_only_some_of_them_may(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, "[budget]\ntokens_per_month = 200\n"), books=True)
    async with aiohttp.ClientSession(proxy.url, connector=aiohttp.TCPConnector(limit=64)) as http:
        answers = await asyncio.gather(*(ask(http) for _ in range(64)))
        let_in = sum(status == 200 for status, _, _ in answers)
        assert let_in >= 1
        assert let_in * TAKES < 200 + TAKES, "passed by one request at most"
        assert {body["error"]["code"] for status, body, _ in answers if status != 200} <= {
            "insufficient_quota",
            "rate_limit_exceeded",
        }

        while (last := await ask(http))[0] == 200:
            let_in += 1
        status, body, headers = last
        assert let_in * TAKES < 200 + TAKES
        assert (status, body["error"]["type"], body["error"]["code"]) == (
            429,
            "insufficient_quota",
            "insufficient_quota",
        )
        assert body["error"]["message"].startswith("You exceeded your current quota, please check your plan and bill")
        assert headers["x-should-retry"] == "false"
        assert "retry-after" not in headers

        async with http.get("/v1/health") as response:
            alerts = (await response.json())["alerts"]
        assert [(alert["scope"], alert["window"], alert["share"]) for alert in alerts] == [("all", "month", 1.0)]
        assert sum("budget: 100%" in line for line in proxy.said) == 1


async def test_a_keys_budget_is_its_own_and_outlives_the_daemon(start_proxy: Start, ollama: FakeOllama) -> None:
    settings = config(ollama.url, '[auth]\nmode = "on"\n')
    first = await start_proxy(settings, books=True, control=WORD)
    admin = {"authorization": f"Bearer {WORD}"}
    keys = []
    async with aiohttp.ClientSession(first.url) as http:
        for name, budget in (("small", {"tokens_per_day": 40}), ("free", {})):
            async with http.post("/oproxy/keys", json={"name": name, "budget": budget}, headers=admin) as response:
                keys.append((await response.json())["key"])
        small, free = keys
        assert [(await ask(http, small))[0] for _ in range(3)] == [200, 200, 429]
        assert (await ask(http, free))[0] == 200

    again = await start_proxy(settings, books=True, control=WORD)
    async with aiohttp.ClientSession(again.url) as http:
        status, body, _ = await ask(http, small)
        assert (status, body["error"]["code"]) == (429, "insufficient_quota"), "what was spent is read from the ledger"
        assert (await ask(http, free))[0] == 200
