"""What a backend answers in place of what was asked for, where no client waits on the answer itself: background
responses, WebSockets, batches, lists of models, and the embedded backend's child.

An odd answer is an error in the form that the API has there, and is booked as the backend's; it is never an answer
without content.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from ollama_proxy.backends.embedded import CHAT_MODEL, EMBEDDING_MODEL, EmbeddedBackend
from ollama_proxy.server.keys import ENGINE
from tests.backends.test_embedded import install
from tests.conftest import Proxy, Start
from tests.fakes.raw import MODEL, RawServer, http, raw_server

from .test_batches import Client
from .test_ledger import rows
from .test_odd_answers import ASKED, BODIES, ERRORS, Clients, anthropic, blames_backend, dumped, ollama

BOTH = pytest.mark.parametrize("kind", ["openai", "ollama"])
QUIET = "[logs]\nrequests = false\n"


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as fake:
        yield fake


def config(server: RawServer, kind: str, more: str = "") -> str:
    return (
        f'[backends.lab]\ntype = "{kind}"\nurl = "{server.url}{"/v1" if kind == "openai" else ""}"\n'
        f'read_timeout = 5\n[moderations]\nmodel = "{MODEL}"\n{more}'
    )


# --- responses --------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_background_response_fails_with_the_error(start_proxy: Start, server: RawServer, kind: str) -> None:
    proxy = await start_proxy(config(server, kind))
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0) as sdk:
        for odd, answer in BODIES.items():
            server.answer = answer
            proxy.said.clear()
            response = await sdk.responses.create(model=MODEL, input="Hello", background=True, store=False)
            async with asyncio.timeout(10):
                while response.status in ("queued", "in_progress"):
                    await asyncio.sleep(0.002)
                    response = await sdk.responses.retrieve(response.id)
            assert response.status == "failed", odd
            assert response.error is not None, odd
            assert response.error.message, odd
            assert not response.output_text, odd
            assert any(blames_backend(line) for line in proxy.said), (odd, proxy.said)


@BOTH
async def test_a_turn_on_a_websocket_ends_in_an_error(start_proxy: Start, server: RawServer, kind: str) -> None:
    proxy = await start_proxy(config(server, kind))
    asked = {"type": "response.create", "model": MODEL, "input": "Hello", "store": False}
    async with aiohttp.ClientSession(proxy.url) as client, client.ws_connect("/v1/responses") as socket:
        for odd, answer in BODIES.items():
            server.answer = answer
            proxy.said.clear()
            await socket.send_json(asked)
            event = await socket.receive_json(timeout=5)
            while event["type"] not in ("error", "response.failed", "response.completed", "response.incomplete"):
                event = await socket.receive_json(timeout=5)
            if event["type"] == "error":
                assert event["status"] >= 500, odd
                error = event["error"]
            else:
                assert event["type"] == "response.failed", (odd, event)
                error = event["response"]["error"]
            assert error["message"], odd
            async with asyncio.timeout(5):
                while not proxy.said:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert any(blames_backend(line) for line in proxy.said), (odd, proxy.said)


# --- batches ----------------------------------------------------------------------------------------------------------

ENDPOINTS: dict[str, str] = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
    "/v1/moderations": "input",
}


@BOTH
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_line_of_a_batch_is_an_error(start_proxy: Start, server: RawServer, kind: str, endpoint: str) -> None:
    proxy = await start_proxy(config(server, kind, f"[batches]\ntries = 1\n{QUIET}"), books=True)
    lines = []
    for odd in BODIES:
        text = f"about: {odd}."
        server.by_text[text.encode()] = BODIES[odd]
        value: Any = [{"role": "user", "content": text}] if endpoint == "/v1/chat/completions" else text
        lines.append(
            {
                "custom_id": odd,
                "method": "POST",
                "url": endpoint,
                "body": {"model": MODEL, ENDPOINTS[endpoint]: value},
            }
        )
    async with aiohttp.ClientSession(proxy.url) as session:
        client = Client(session)
        batch = await client.over((await client.submit(lines, endpoint=endpoint))["id"])
        assert batch["request_counts"] == {"total": len(BODIES), "completed": 0, "failed": len(BODIES)}
        found = await client.results(batch["error_file_id"])
    assert set(found) == set(BODIES)
    for odd, line in found.items():
        assert line["response"]["status_code"] >= 500, (odd, line)
        assert line["response"]["body"]["error"]["message"], odd
    booked = [row for row in rows() if row["tag"] == batch["id"]]
    assert len(booked) == len(BODIES)
    assert {(row["backend"], row["status"] >= 500) for row in booked} == {("lab", True)}


# --- lists and descriptions of models ---------------------------------------------------------------------------------

LISTS = {"openai": "GET /v1/models", "ollama": "GET /api/tags"}
# These are lists, without an entry.
EMPTY = {"openai": ("list", "no choices"), "ollama": ()}


@BOTH
@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/oproxy/models"])
async def test_a_backend_that_lists_no_models_is_down(
    start_proxy: Start, server: RawServer, kind: str, path: str
) -> None:
    proxy = await start_proxy(config(server, kind), control="word")
    engine = proxy.app[ENGINE]
    async with aiohttp.ClientSession(proxy.url, headers={"authorization": "Bearer word"}) as session:
        for odd, answer in BODIES.items():
            # What was listed before stays while a backend is away.
            engine.fleet.members["lab"].models = ()
            server.known[LISTS[kind]] = answer
            await engine.fleet.listed(fresh=True)
            async with session.get(path) as response:
                assert response.status == 200, odd
                listed = await response.json()
            assert not any(listed[name] for name in ("data", "models") if name in listed), odd
            async with session.get("/v1/health") as response:
                (backend,) = (await response.json())["backends"]
            async with session.post("/v1/embeddings", json={"model": MODEL, "input": "Hello"}) as response:
                status, told = response.status, await response.json()
            if odd in EMPTY[kind]:
                assert backend["state"] == "up", odd
                assert status == 404, odd
                continue
            assert backend["state"] == "down", odd
            assert backend["detail"], odd
            assert status in (502, 503), (odd, told)
            assert "lab" in told["error"]["message"], odd
            if path == "/oproxy/models":
                assert set(listed["unreachable"]) == {"lab"}, odd


@pytest.mark.parametrize("path", ["/api/show", "/oproxy/models/small"])
async def test_a_model_that_is_not_described_is_the_backends_error(
    start_proxy: Start, server: RawServer, path: str
) -> None:
    proxy = await start_proxy(config(server, "ollama"), control="word")
    method, body = ("POST", {"model": MODEL}) if path == "/api/show" else ("GET", None)
    async with aiohttp.ClientSession(proxy.url, headers={"authorization": "Bearer word"}) as session:
        for odd, answer in BODIES.items():
            if path != "/api/show" and odd in ("object", "object with nulls", "no choices", "longer than it says"):
                # For our own use a description that says nothing is one.
                continue
            server.known["POST /api/show"] = answer
            await proxy.app[ENGINE].fleet.listed(fresh=True)
            proxy.said.clear()
            async with session.request(method, path, json=body) as response:
                status, told = response.status, await response.json()
            assert status in (502, 503), (odd, status, told)
            assert told["error"], odd
            assert path != "/api/show" or any("lab" in line for line in proxy.said), (odd, proxy.said)


async def test_a_stream_in_place_of_a_description_is_one_record(start_proxy: Start, server: RawServer) -> None:
    proxy = await start_proxy(config(server, "ollama"))
    server.known["POST /api/show"] = http(dumped({"details": {"family": "x"}}) + b"\n", "application/x-ndjson")
    async with (
        aiohttp.ClientSession(proxy.url) as session,
        session.post("/api/show", json={"model": MODEL}) as response,
    ):
        assert (response.status, response.content_type) == (200, "application/json")
        assert (await response.json())["details"] == {"family": "x"}


# --- the embedded backend ---------------------------------------------------------------------------------------------

CHILD = (sys.executable, "-P", str(Path(__file__).parents[1] / "fakes" / "child.py"))
# For what is translated from the same events.
FEW = ("page", "null", "object", "no choices", "cut", "empty events", "an error in events", "nothing at all")
EMBEDDED = [name for name in ASKED if name != "openai moderation"]


@pytest.fixture
async def embedded(start_proxy: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """Return a proxy whose only backend is the embedded one; its children answer with the file OPROXY_FAKE_ANSWER."""
    install(tmp_path, CHAT_MODEL, EMBEDDING_MODEL)
    monkeypatch.setenv("OPROXY_FAKE_ANSWER", str(tmp_path / "answer"))
    proxy = await start_proxy('[backends.lab]\ntype = "embedded"\n')
    made = EmbeddedBackend(
        name="lab", data_dir=tmp_path, clock=asyncio.get_running_loop().time, command=CHILD, needed=(), read_timeout=5
    )
    member = proxy.app[ENGINE].fleet.members["lab"]
    await member.backend.aclose()
    member.backend = made
    await proxy.app[ENGINE].fleet.listed(fresh=True)
    yield proxy
    await made.aclose()


async def test_what_is_no_answer_of_the_embedded_backend_is_the_sdks_own_error(
    embedded: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = Clients(
        openai.AsyncOpenAI(base_url=f"{embedded.url}/v1", api_key="x", max_retries=0),
        anthropic.AsyncAnthropic(base_url=embedded.url, api_key="x", max_retries=0),
        ollama.AsyncClient(host=embedded.url),
    )
    for name in EMBEDDED:
        model = EMBEDDING_MODEL if "embed" in name else CHAT_MODEL
        monkeypatch.setattr("tests.server.test_odd_answers.MODEL", model)
        for odd in BODIES if name.startswith("openai") else FEW:
            (tmp_path / "answer").write_bytes(BODIES[odd])
            embedded.said.clear()
            error: type[Exception] = ERRORS[name.partition(" ")[0]]
            with pytest.raises(error):
                await ASKED[name].ask(sdk)
            assert any(blames_backend(line) for line in embedded.said), (name, odd, embedded.said)
    for each in sdk:
        await each.close()
