"""One request cannot take the memory of the others: bodies are counted together, and given up when they do not come."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import openai
import pytest

from ollama_proxy import server
from ollama_proxy.cli.status import accounts
from ollama_proxy.policy.books import Books
from ollama_proxy.server.keys import CLERK, ENGINE, MEMORY, RECORDER
from ollama_proxy.server.malformed import Protocol
from ollama_proxy.server.responses import pieces
from ollama_proxy.server.routes import ROUTES
from ollama_proxy.server.runs import FOLLOWED
from ollama_proxy.translate import validate
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, config

MIB = 1024 * 1024
BIG = {"model": "smollm2", "messages": [{"role": "user", "content": "a" * 400_000}]}
FORWARDED = '[backends.other]\ntype = "openai"\nurl = "{url}/v1"\nserves = ["audio", "images"]\n'


async def start(start_proxy: Start, ollama: FakeOllama, *lines: str, more: str = "") -> Proxy:
    return await start_proxy(config(ollama.url, "[server]\n" + "\n".join(lines) + "\n") + more)


async def given_back(proxy: Proxy) -> bool:
    """Return whether nothing is held in the end; the last request may just be ending."""
    for _ in range(200):
        if proxy.app[MEMORY].held == 0:
            return True
        await asyncio.sleep(0.01)
    return False


class Raw:
    """A connection whose bytes are ours."""

    def __init__(self, proxy: Proxy) -> None:
        self._port = int(proxy.url.rpartition(":")[2])

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()

    async def send(self, head: str, body: bytes = b"") -> None:
        self.writer.write(head.replace("\n", "\r\n").encode() + body)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and body."""
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers, json.loads(body)

    async def closed(self) -> bool:
        """Return whether the server hangs up."""
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


def chat_head(length: int, path: str = "/v1/chat/completions") -> str:
    return f"POST {path} HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {length}\n\n"


# --- the sum of bodies ------------------------------------------------------------------------------------------------


async def test_of_many_large_bodies_some_are_refused_and_all_is_given_back(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "6MiB"')
    async with aiohttp.ClientSession(proxy.url) as http:

        async def ask() -> tuple[int, str | None]:
            async with http.post("/v1/chat/completions", json=BIG) as response:
                body = await response.json()
                if response.status == 503:
                    assert body["error"]["code"] == "server_is_overloaded"
                    assert "memory under [server]" in body["error"]["message"]
                return response.status, response.headers.get("retry-after")

        found = await asyncio.gather(*(ask() for _ in range(8)))
        assert {status for status, _ in found} == {200, 503}
        assert all(retry == "1" for status, retry in found if status == 503)
        assert await given_back(proxy)
        assert (await ask())[0] == 200
        async with http.get("/v1/health") as response:
            health = await response.json()
        told = health["memory"]
        assert ("memory", f"0.0 MiB of 6.0 MiB held by requests; {told['refused']} refusals") in accounts(health)
        assert (told["held"], told["budget"]) == (0, 6 * MIB)
        assert told["refused"] >= 1


async def test_only_as_many_are_refused_as_do_not_fit_though_all_come_at_once(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    # Room for four of six, whose pieces come in turns; a refusal takes a while to be booked.
    proxy = await start(start_proxy, ollama, 'memory = "10MiB"')
    close = proxy.app[CLERK].close

    async def slowly(books: Books) -> None:
        await asyncio.sleep(0.3)
        await close(books)

    proxy.app[CLERK].close = slowly  # type: ignore[method-assign]
    raws = [Raw(proxy) for _ in range(6)]
    body = json.dumps(BIG).encode()
    async with AsyncExitStack() as stack:
        for raw in raws:
            await stack.enter_async_context(raw)
            await raw.send(chat_head(len(body)))
        for at in range(0, len(body), 50_000):
            for raw in raws:
                with suppress(ConnectionError):
                    await raw.send("", body[at : at + 50_000])
            await asyncio.sleep(0.01)
        found = [(await raw.answer())[0] for raw in raws]
    assert sorted(found) == [200, 200, 200, 200, 503, 503]
    assert await given_back(proxy)


async def test_a_small_request_is_served_while_large_ones_fill_the_budget(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "16MiB"')
    memory = proxy.app[MEMORY]
    assert memory.take(memory.large, memory.small)
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/chat/completions", json=BIG) as response:
            assert response.status == 503
        small = {"model": "smollm2", "messages": HELLO, "metadata": {"pad": "x" * 500}}
        async with http.post("/v1/chat/completions", json=small) as response:
            assert response.status == 200
    memory.give(memory.large)
    assert await given_back(proxy)


async def test_what_is_too_large_for_the_whole_budget_is_413_before_it_is_read(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "4MiB"')
    async with Raw(proxy) as raw:
        await raw.send(chat_head(8 * MIB))
        status, headers, body = await raw.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert body["error"]["type"] == "invalid_request_error"
    assert "memory under [server]" in body["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_the_items_of_a_conversation_count_for_more_than_their_bytes(
    start_proxy: Start, ollama: FakeOllama, path: str
) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "32MiB"')
    body = {"model": "smollm2", "input": [{"role": "user", "content": "x"}] * 14_000}
    async with aiohttp.ClientSession(proxy.url) as http, http.post(path, json=body) as response:
        assert response.status == 413, await response.text()
        assert "memory under [server]" in (await response.json())["error"]["message"]
    assert not ollama.asked("/api/chat")
    assert await given_back(proxy)


async def test_the_items_that_a_response_goes_on_from_count_too(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "32MiB"')
    body: dict[str, Any] = {"model": "smollm2", "input": [{"role": "user", "content": "x"}] * 8_000}
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/responses", json=body) as response:
            assert response.status == 200, await response.text()
            body["previous_response_id"] = (await response.json())["id"]
        async with http.post("/v1/responses", json=body) as response:
            assert response.status == 413, await response.text()
    assert await given_back(proxy)


async def test_a_body_of_unknown_length_is_counted_as_it_comes(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "4MiB"')

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"a" * 65536

    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post("/v1/chat/completions", data=pieces()) as response,
    ):
        assert response.status == 413
    assert await given_back(proxy)


async def test_where_the_system_has_no_memory_left_only_that_request_fails(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama)
    gate = proxy.app[ENGINE].gate
    admit = gate.admit

    async def none_left(*args: Any) -> None:
        gate.admit = admit  # type: ignore[method-assign]
        raise MemoryError

    gate.admit = none_left  # type: ignore[assignment]
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/chat/completions", json=ASKED) as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert (await response.json())["error"]["code"] == "server_is_overloaded"
        async with http.post("/v1/chat/completions", json=ASKED) as response:
            assert response.status == 200
    assert await given_back(proxy)


async def test_a_body_that_is_half_here_keeps_the_rest_for_itself(start_proxy: Start, ollama: FakeOllama) -> None:
    # About 3 MB each, of 5.5.
    proxy = await start(start_proxy, ollama, 'memory = "6MiB"')
    body = json.dumps({**BIG, "messages": [{"role": "user", "content": "a" * 600_000}]}).encode()
    async with Raw(proxy) as first, Raw(proxy) as second:
        await first.send(chat_head(len(body)), body[:400_000])
        await wait_for(lambda: proxy.app[MEMORY].held >= 5 * len(body) * 0.99)
        await second.send(chat_head(len(body)))
        # Before a byte of it was sent.
        assert (await second.answer())[0] == 503
        await first.send("", body[400_000:])
        assert (await first.answer())[0] == 200
    assert await given_back(proxy)


async def test_where_memory_ends_in_a_thread_only_that_request_fails(
    start_proxy: Start, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start(start_proxy, ollama)
    decode = validate.decode

    def none_left(body: bytes, *args: Any) -> Any:
        if b"too much" in body:
            assert threading.current_thread() is not threading.main_thread()
            raise MemoryError
        return decode(body, *args)

    monkeypatch.setattr(validate, "decode", none_left)
    large = {**BIG, "user": "too much"}
    async with aiohttp.ClientSession(proxy.url) as http:

        async def ask(body: Any) -> int:
            async with http.post("/v1/chat/completions", json=body) as response:
                return response.status

        assert list(await asyncio.gather(ask(large), ask(BIG), ask(ASKED))) == [503, 200, 200]
    assert await given_back(proxy)


@pytest.mark.parametrize("when", ["in the head", "in the body", "at the end"])
async def test_where_memory_ends_in_a_callback_of_a_connection_only_that_connection_ends(
    start_proxy: Start, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    proxy = await start(start_proxy, ollama)
    received = Protocol.data_received
    marks = {"in the head": b"POST", "in the body": b"half", "at the end": b"tail"}

    def none_left(self: Protocol, data: bytes) -> None:
        if b"GET" not in data and marks[when] in data:
            raise MemoryError
        received(self, data)

    monkeypatch.setattr(Protocol, "data_received", none_left)
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    async with Raw(proxy) as raw, Raw(proxy) as other:
        for piece in (chat_head(300_000), "a" * 100_000, "half", "a" * 100_000, "tail"):
            with suppress(ConnectionError):
                await raw.send(piece)
            await asyncio.sleep(0.02)
        with suppress(ConnectionError):
            await raw.closed()
        await other.send("GET /health HTTP/1.1\nHost: localhost\n\n")
        assert (await other.answer())[0] == 200
    assert any(isinstance(each, MemoryError) for each in told)
    assert await given_back(proxy)


async def test_a_client_that_announces_much_and_sends_nothing_holds_nothing(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "16MiB"')
    async with Raw(proxy) as raw:
        await raw.send(chat_head(2 * MIB), b"a" * 100_000)
        await wait_for(lambda: proxy.app[MEMORY].held > 0)
        assert proxy.app[MEMORY].held < 2 * MIB
    assert await given_back(proxy)


async def wait_for(met: Any) -> None:
    for _ in range(500):
        if met():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def test_a_client_that_hangs_up_gives_everything_back(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, 'memory = "32MiB"')
    ollama.play("/api/chat", [{"message": {"content": "Hi"}, "done": False}], hold_after=1)
    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post("/v1/chat/completions", json={**BIG, "stream": True}) as response,
    ):
        await response.content.readany()
        assert proxy.app[MEMORY].held > MIB
        response.close()
    assert await given_back(proxy)


# Only for administrators.
KEYS = ("/oproxy/keys", "/v1/organization")


def bodies() -> list[tuple[str, str]]:
    """Return every route that reads a body."""
    found = []
    for row in ROUTES:
        method, path = row.route.method, row.route.path
        # Of what is named in a path, and of the keys, nothing is there that would be read for.
        named = "{" in path and not path.endswith(("/parts", "{digest}"))
        if path == "/api/delete" or (method == "POST" and not named and not path.startswith(KEYS)):
            found.append((method, path))
    return [*found, ("POST", "/v1/images/generations"), ("POST", "/v1/audio/transcriptions")]


FORMS = {"/v1/files", "/v1/uploads/{upload_id}/parts", "/v1/audio/transcriptions"}


@pytest.mark.parametrize(("method", "path"), bodies())
async def test_every_body_is_counted(start_proxy: Start, ollama: FakeOllama, method: str, path: str) -> None:
    proxy = await start(start_proxy, ollama, "memory = 1024", more=FORWARDED.format(url=ollama.url))
    url = proxy.url + path.replace("{digest}", "sha256:" + "0" * 64)
    async with aiohttp.ClientSession() as http:
        data: Any = json.dumps({"model": "smollm2", "pad": "x" * 2000})
        if path in FORMS:
            if "upload_id" in path:
                proxy.app[MEMORY].resize(MIB)
                asked = {"bytes": 1, "filename": "a", "purpose": "user_data", "mime_type": "text/plain"}
                async with http.post(f"{proxy.url}/v1/uploads", json=asked) as response:
                    url = proxy.url + path.replace("{upload_id}", (await response.json())["id"])
                proxy.app[MEMORY].resize(1024)
            data = aiohttp.FormData({"purpose": "user_data"})
            data.add_field("file", b"x" * 2000, filename="a.txt")
        async with http.request(
            method, url, data=data, headers={"content-type": "application/json"} if isinstance(data, str) else {}
        ) as response:
            text = await response.text()
            assert response.status == 413, text
            assert "memory under [server]" in text
    assert await given_back(proxy)


def test_a_body_is_read_nowhere_else() -> None:
    reads = re.compile(r"request\.(read|json|text|post|multipart|content)\b(?!_)")
    found = {path.name for path in Path(server.__file__).parent.glob("*.py") if reads.search(path.read_text("utf-8"))}
    assert found == {"body.py", "forms.py"}


# --- answers ----------------------------------------------------------------------------------------------------------

LONG = [{"message": {"content": "a" * 100}, "done": False} for _ in range(100)]
TOKENS = [{"message": {"content": "a"}, "done": False}] * 600 + [{"message": {"content": ""}, "done": True}]
ASKED = {"model": "smollm2", "messages": HELLO}


async def test_a_streamed_answer_that_outgrows_the_memory_ends_with_an_error(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama, "memory = 60000")
    ollama.play("/api/generate", [{"response": "a" * 100, "done": False}] * 100, hold_after=100)
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client:
        # Where all pieces come at once, nothing has been sent yet.
        with pytest.raises(openai.APIError, match="memory under"):
            async for _ in await client.completions.create(model="smollm2", prompt="Hi", stream=True):
                pass
    assert "answer_too_large" in proxy.said[-1]
    assert await given_back(proxy)
    await asyncio.wait_for(ollama.hangups.wait(), 5)


async def test_a_whole_answer_that_outgrows_the_memory_is_refused(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "memory = 60000")
    async with aiohttp.ClientSession(proxy.url) as http:
        for path, behind, body in (
            ("/v1/chat/completions", "/api/chat", ASKED),
            ("/v1/responses", "/api/chat", {"model": "smollm2", "input": "Hi", "store": False}),
            ("/v1/messages", "/api/chat", {**ASKED, "max_tokens": 5}),
            ("/v1/completions", "/api/generate", {"model": "smollm2", "prompt": "Hi"}),
            ("/v1/embeddings", "/api/embed", {"model": "all-minilm", "input": "Hi"}),
            ("/api/chat", "/api/chat", {**ASKED, "stream": False}),
            ("/api/embed", "/api/embed", {"model": "all-minilm", "input": "Hi"}),
        ):
            ollama.play(behind, [b"x" * 10_000 for _ in range(10)], type="application/json", hold_after=10)
            async with http.post(path, json=body) as response:
                text = await response.text()
                assert response.status == 502, (path, text)
                assert "memory under [server]" in text
    assert await given_back(proxy)


async def test_a_background_response_that_outgrows_the_memory_fails(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "memory = 60000")
    ollama.play("/api/chat", LONG)
    asked = {"model": "smollm2", "input": "Hi", "store": True, "background": True}
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/responses", json=asked) as response:
            made = await response.json()
            assert response.status == 200, made
        for _ in range(200):
            async with http.get(f"/v1/responses/{made['id']}") as response:
                found = await response.json()
            if found["status"] not in ("queued", "in_progress"):
                break
            await asyncio.sleep(0.02)
        assert found["status"] == "failed"
        assert "memory under [server]" in found["error"]["message"]
    assert await given_back(proxy)


# Too little from the start, and too little when the answer grows.
@pytest.mark.parametrize("memory", [130_000, 160_000])
async def test_what_the_recorder_keeps_of_a_stream_is_cut_and_the_answer_is_not(
    start_proxy: Start, ollama: FakeOllama, tmp_path: Path, memory: int
) -> None:
    logs = f'[logs]\nfolder = "{tmp_path}"\n[server]\nmemory = {memory}\n'
    proxy = await start_proxy(config(ollama.url, logs), books=True)
    ollama.play("/api/chat", TOKENS)
    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post("/v1/chat/completions", json={**ASKED, "stream": True}) as response,
    ):
        data = await response.read()
    assert data.count(b'"content":"a"') == 600
    assert data.endswith(b"data: [DONE]\n\n")
    proxy.app[RECORDER].flush()
    (line,) = [json.loads(each) for each in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert line["altered"]["answer"] == ["cut"]
    assert line["timing"]["done"] is True
    assert await given_back(proxy)


async def test_a_response_that_is_only_remembered_is_let_go_when_it_is_deleted(
    start_proxy: Start, ollama: FakeOllama
) -> None:
    proxy = await start(start_proxy, ollama)
    asked = {"model": "smollm2", "input": "Hi", "background": True, "stream": True, "store": False}
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/responses", json=asked) as response:
            id = re.search(rb'"id":"(resp_[^"]+)"', await response.read())
            assert id is not None
        assert proxy.app[MEMORY].held > 0
        async with http.delete(f"/v1/responses/{id[1].decode()}") as response:
            assert response.status == 200
    assert await given_back(proxy)


async def test_a_follower_of_a_long_response_gets_it_in_pieces(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama)
    ollama.play(
        "/api/chat", [{"message": {"content": "a"}, "done": False}] * 600 + [{"message": {"content": ""}, "done": True}]
    )
    asked = {"model": "smollm2", "input": "Hi", "background": True, "stream": True}
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/responses", json=asked) as response:
            first = await response.read()
        id = re.search(rb'"id":"(resp_[^"]+)"', first)
        assert id is not None
        async with http.get(f"/v1/responses/{id[1].decode()}?stream=true") as response:
            assert await response.read() == first
    assert first.count(b"output_text.delta") >= 1200
    assert max(len(each) for each in [fresh async for fresh in pieces([b"x"] * 600, 1)]) == FOLLOWED


# --- bodies that do not come ------------------------------------------------------------------------------------------


FORM = (
    "POST {path} HTTP/1.1\nHost: localhost\nContent-Type: multipart/form-data; boundary=b\nContent-Length: 900\n\n"
    '--b\nContent-Disposition: form-data; name="purpose"\n\nuser_data\n'
    '--b\nContent-Disposition: form-data; name="file"; filename="a"\n\n'
)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (chat_head(1000), b"{"),
        (chat_head(1000, "/v1/conversations"), b""),
        (chat_head(1000, "/api/chat"), b"{"),
        (chat_head(1000, "/v1/messages"), b"{"),
        (chat_head(1000, "/api/blobs/sha256:" + "0" * 64), b"x"),
        (FORM.format(path="/v1/files"), b"x"),
        (FORM.format(path="/v1/audio/transcriptions"), b"x"),
    ],
)
async def test_a_body_that_does_not_come_is_given_up(
    start_proxy: Start, ollama: FakeOllama, head: str, body: bytes
) -> None:
    proxy = await start(start_proxy, ollama, "body_timeout = 0.2", more=FORWARDED.format(url=ollama.url))
    async with Raw(proxy) as raw:
        await raw.send(head, body)
        status, headers, told = await raw.answer()
        assert await raw.closed()
    assert (status, headers["connection"]) == (408, "close")
    assert "body_timeout under [server]" in json.dumps(told)
    assert await given_back(proxy)


async def test_a_trickle_is_given_up_though_it_never_stops(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "body_timeout = 0.3", "body_rate = 1000")
    async with Raw(proxy) as raw:
        await raw.send(chat_head(100_000))
        for _ in range(40):
            if raw.reader.at_eof() or raw.reader._buffer:  # type: ignore[attr-defined]
                break
            await raw.send("", b"x")
            await asyncio.sleep(0.05)
        status, _, told = await raw.answer()
    assert status == 408
    assert "body_rate under [server]" in told["error"]["message"]


async def test_a_slow_body_that_keeps_its_rate_passes(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start(start_proxy, ollama, "body_timeout = 0.2", "body_rate = 1000")
    data = json.dumps({"model": "smollm2", "messages": HELLO, "metadata": {"pad": "x" * 400}}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 40):
            yield data[at : at + 40]
            await asyncio.sleep(0.03)

    async with aiohttp.ClientSession(proxy.url) as http:
        headers = {"content-type": "application/json"}
        async with http.post("/v1/chat/completions", data=pieces(), headers=headers) as response:
            assert response.status == 200, await response.text()
