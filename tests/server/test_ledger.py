"""The ledger as requests fill it: one row for each, refused ones too; and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import openai
import pytest

from ollama_proxy import tokens
from ollama_proxy.server.keys import CLERK
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import HELLO, config

WORD = "the-daemons-own-word"
QUIET = "[logs]\nrequests = false\n"
# What the recorded answer took, by Ollama's own count.
PROMPT, ANSWER = 21, 8


class Booked(NamedTuple):
    """A proxy that books, and a session to it."""

    proxy: Proxy
    ollama: FakeOllama
    http: aiohttp.ClientSession

    async def chat(
        self, headers: Mapping[str, str] = {}, path: str = "/v1/chat/completions", **body: Any
    ) -> tuple[int, str]:
        """Return the status and the request's id, having read all of the answer."""
        asked = {"model": "smollm2", "messages": HELLO, **body}
        async with self.http.post(path, json=asked, headers=headers) as response:
            await response.read()
            return response.status, response.headers["x-request-id"]

    async def make(self, **body: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {WORD}"}
        async with self.http.post("/oproxy/keys", json={"name": "one", **body}, headers=headers) as response:
            assert response.status == 200, await response.text()
            return dict(await response.json())

    async def health(self) -> dict[str, Any]:
        async with self.http.get("/v1/health") as response:
            return dict(await response.json())


def database() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "oproxy.db"


def rows() -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database())) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute("SELECT * FROM requests ORDER BY seq")]


def row(id: str) -> dict[str, Any]:
    found = [row for row in rows() if row["id"] == id]
    assert len(found) == 1
    return found[0]


@contextmanager
def locked() -> Iterator[None]:
    """Keep everybody else from writing."""
    with closing(sqlite3.connect(database(), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def until(true: Callable[[], object]) -> None:
    for _ in range(1500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


class Books(NamedTuple):
    start: Start
    ollama: FakeOllama
    sessions: list[aiohttp.ClientSession]

    async def __call__(self, more: str = "") -> Booked:
        proxy = await self.start(config(self.ollama.url, QUIET + more), books=True, control=WORD)
        session = aiohttp.ClientSession(proxy.url)
        self.sessions.append(session)
        booked = Booked(proxy, self.ollama, session)
        # The database is open when the first request has been answered.
        await booked.http.get("/v1/models")
        return booked


@pytest.fixture
async def books(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[Books]:
    made = Books(start_proxy, ollama, [])
    yield made
    for session in made.sessions:
        await session.close()


# --- the row --------------------------------------------------------------------------------------------------------


async def test_a_row_tells_all_of_its_request(books: Books) -> None:
    booked = await books('[models.aliases]\nhelper = "smollm2"\n')
    made = await booked.make(name="mine")
    headers = {"authorization": f"Bearer {made['key']}", "x-oproxy-tag": "nightly", "user-agent": "curl/8.5.0"}
    status, id = await booked.chat(headers, model="helper", user="somebody")

    found = row(id)
    assert status == 200
    times = {name: found.pop(name) for name in ("at", "queued", "first", "total")}
    assert found.pop("seq") > 0
    assert found == {
        "id": id, "endpoint": "/v1/chat/completions", "status": 200, "key": made["id"], "caller": "mine",
        "tag": "nightly", "address": "127.0.0.1", "client": "curl/8.5.0", "asked": "helper",
        "served": "smollm2:latest", "backend": "ollama", "code": None, "stream": 0,
        "prompt": PROMPT, "cached": 0, "completion": ANSWER, "reasoning": 0, "exact": 1,
        "cost": 0, "listed": None, "tries": 1,
    }  # fmt: skip
    assert times["queued"] == 0
    assert 0 < times["first"] <= times["total"]


@pytest.mark.parametrize(
    ("headers", "body", "tag"),
    [
        ({"x-oproxy-tag": "header"}, {"metadata": {"tag": "meta"}, "user": "user"}, "header"),
        ({}, {"metadata": {"tag": "meta"}, "user": "user"}, "meta"),
        ({}, {"metadata": {"other": "x"}, "user": "user"}, "user"),
        ({}, {}, ""),
    ],
)
async def test_the_tag_is_the_headers_else_the_metadatas_else_the_user(
    books: Books, headers: dict[str, str], body: dict[str, Any], tag: str
) -> None:
    booked = await books()

    assert row((await booked.chat(headers, **body))[1])["tag"] == tag


async def test_whoever_sends_another_key_is_named_by_it_masked(books: Books) -> None:
    booked = await books()
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    _, id = await booked.chat({"authorization": f"Bearer {secret}"})

    found = row(id)
    assert (found["key"], found["caller"]) == ("", "sk-proj-**********************wxyz")
    assert not any(secret.encode() in file.read_bytes() for file in database().parent.glob("oproxy.db*"))


async def test_the_sdk_is_named_with_its_version(books: Books) -> None:
    booked = await books()
    async with openai.AsyncOpenAI(base_url=f"{booked.proxy.url}/v1", api_key="none") as client:
        answer = await client.embeddings.with_raw_response.create(model="all-minilm", input=["Hello"])

    found = row(answer.headers["x-request-id"])
    assert found["client"].endswith(f"openai-python/{openai.__version__}")
    assert (found["endpoint"], found["prompt"], found["completion"]) == ("/v1/embeddings", 5, 0)


async def test_every_refusal_is_a_row(books: Books) -> None:
    booked = await books('[auth]\nmode = "on"\n[limits]\nrequests_per_minute = 1\n')
    mine = {"authorization": f"Bearer {(await booked.make())['key']}"}
    before = len(rows())

    seen = [
        await booked.chat(),
        await booked.chat(mine, temperature=9),
        await booked.chat(mine, model="no-such-model"),
        await booked.chat(mine),
        await booked.chat(mine),
    ]

    assert [(row(id)["status"], row(id)["code"], row(id)["tries"]) for _, id in seen] == [
        (401, None, 0),
        (400, "decimal_above_max_value", 0),
        (404, "model_not_found", 0),
        (200, None, 1),
        (429, "rate_limit_exceeded", 0),
    ]
    assert [row(id)["status"] for _, id in seen] == [status for status, _ in seen]
    assert len(rows()) == before + len(seen)


async def test_a_backend_that_fails_is_booked_with_its_status(books: Books) -> None:
    booked = await books()
    booked.ollama.play("/api/chat", [{"error": "out of memory"}], status=500)
    status, id = await booked.chat()

    found = row(id)
    assert (found["status"], found["backend"], found["prompt"], found["completion"]) == (status, "ollama", 0, 0)
    assert found["code"]


@pytest.mark.parametrize("n", [1, 3])
async def test_streams_and_whole_answers_book_the_same_numbers(books: Books, n: int) -> None:
    booked = await books()
    numbers = ("asked", "served", "prompt", "completion", "reasoning", "exact", "cost", "listed", "tries", "status")

    whole = row((await booked.chat(n=n))[1])
    stream = row((await booked.chat(n=n, stream=True))[1])

    assert [whole[name] for name in numbers] == [stream[name] for name in numbers]
    assert (whole["stream"], stream["stream"]) == (0, 1)
    # The prompt of several answers is one prompt, read as often as there are answers.
    assert (whole["prompt"], whole["completion"], whole["tries"]) == (PROMPT, ANSWER * n, n)


async def test_a_client_that_leaves_in_the_middle_has_a_row_with_what_it_got(books: Books) -> None:
    booked = await books()
    booked.ollama.play("/api/chat", "chat-stream", hold_after=3)
    body = {"model": "smollm2", "messages": HELLO, "stream": True}
    async with booked.http.post("/v1/chat/completions", json=body) as response:
        seen = b""
        while b" of" not in seen:
            seen += await response.content.readany()
        id = response.headers["x-request-id"]
        assert not [each for each in rows() if each["id"] == id]
        response.close()
    await until(lambda: [each for each in rows() if each["id"] == id])

    found = row(id)
    assert (found["status"], found["code"], found["stream"], found["exact"]) == (499, "client_closed_request", 1, 0)
    assert found["completion"] == tokens.count("The capital of", "smollm2")
    assert found["prompt"] > 0
    assert found["first"] is not None


async def test_a_stream_that_breaks_off_is_booked_with_its_error(books: Books) -> None:
    booked = await books()
    booked.ollama.play("/api/chat", "chat-stream", cut_after=400, drop_connection=True)
    _, id = await booked.chat(stream=True)

    found = row(id)
    assert found["status"] == 200
    assert found["code"]
    assert (found["exact"], found["completion"] > 0) == (0, True)


async def test_pages_and_health_are_not_booked(books: Books) -> None:
    booked = await books()
    before = len(rows())
    for path in ("/", "/health", "/v1/health", "/openapi.json"):
        async with booked.http.get(path) as response:
            await response.read()

    assert len(rows()) == before


# --- when it cannot be written --------------------------------------------------------------------------------------


async def test_while_the_database_is_locked_answers_go_on_and_their_rows_come_later(books: Books) -> None:
    booked = await books()
    with locked():
        first = await asyncio.wait_for(booked.chat(), 10)
        others = [await booked.chat(stream=stream) for stream in (False, True)]
        assert [status for status, _ in (first, *others)] == [200, 200, 200]
        state = booked.proxy.app[CLERK].ledger
        assert state is not None
        assert not state.state.ok
        assert state.state.waiting == 3
        health = await booked.health()
        assert health["status"] == "degraded"
        assert (health["ledger"]["ok"], health["ledger"]["waiting"]) == (False, 3)
        assert "locked" in health["ledger"]["error"]
        assert any("the database fails" in line for line in booked.proxy.said)

    await until(lambda: state.state.ok)
    assert [row(id)["status"] for _, id in (first, *others)] == [200, 200, 200]
    assert (await booked.health())["status"] == "ok"


async def test_a_buffer_that_is_full_drops_rows_and_says_how_many(books: Books) -> None:
    booked = await books("[store]\nbuffer = 2\n")
    ledger = booked.proxy.app[CLERK].ledger
    assert ledger is not None
    with locked():
        seen = [await booked.chat() for _ in range(5)]
        assert [status for status, _ in seen] == [200] * 5
        assert (ledger.state.waiting, ledger.state.dropped) == (2, 3)

    await until(lambda: ledger.state.ok)
    ids = {each["id"] for each in rows()}
    assert [id in ids for _, id in seen] == [True, True, False, False, False]


async def test_requests_are_refused_while_the_database_fails_if_that_is_wanted(books: Books) -> None:
    booked = await books('[store]\non_error = "refuse"\n')
    ledger = booked.proxy.app[CLERK].ledger
    assert ledger is not None
    with locked():
        # Nobody knows it fails before the first row.
        assert (await booked.chat())[0] == 200
        body = {"model": "smollm2", "messages": HELLO}
        async with booked.http.post("/v1/chat/completions", json=body) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (503, "ledger_unavailable")
            assert error["type"] == "service_unavailable_error"
            assert (response.headers["retry-after"], response.headers["x-should-retry"]) == ("5", "true")
        assert len(booked.ollama.asked("/api/chat")) == 1

    await until(lambda: ledger.state.ok)
    assert (await booked.chat())[0] == 200


async def test_a_relaxed_ledger_is_not_waited_for(books: Books) -> None:
    booked = await books('[store]\ndurability = "relaxed"\n')
    ledger = booked.proxy.app[CLERK].ledger
    assert ledger is not None
    with locked():
        _, id = await booked.chat()
        # Whoever waited would have seen the writer give up.
        assert ledger.state.ok
        assert ledger.state.waiting >= 1

    await until(lambda: [each for each in rows() if each["id"] == id])
