"""What a backend answers in place of what was asked for, on every path, judged by the official SDKs.

Their users catch one class of exception. Anything else, an empty answer, None, or an error of a JSON or UTF-8 decoder,
is a fault of ours, whatever the backend has sent.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import openai
import pytest

from ollama_proxy.server.keys import MEMORY
from tests.conftest import Proxy, Start
from tests.fakes.raw import MODEL, RawServer, http, raw_server

from .conftest import HELLO

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
ollama = pytest.importorskip("ollama", reason="the ollama SDK is not installed")

SSE, NDJSON, HTML = "text/event-stream", "application/x-ndjson", "text/html; charset=utf-8"
PAGE = b"<!doctype html><html><body>Sign in</body></html>"
HEAD = {"id": "c", "created": 1, "model": MODEL}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
SAID = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
CHAT = {**HEAD, "object": "chat.completion", "choices": [SAID], "usage": USAGE}
TEXT = {**HEAD, "object": "text_completion", "choices": [{"index": 0, "finish_reason": "stop", "text": "Hi"}]}
VECTORS = {"object": "list", "model": MODEL, "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
DELTA = {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
LAST = {**DELTA, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
PIECE = {**HEAD, "object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}
O_HEAD = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
O_CHAT = {**O_HEAD, "message": {"role": "assistant", "content": "Hi"}, "done": False}
O_TEXT = {**O_HEAD, "response": "Hi", "done": False}
END = {"done": True, "done_reason": "stop", "eval_count": 1, "prompt_eval_count": 1}
O_VECTORS = {"model": MODEL, "embeddings": [[0.5]], "prompt_eval_count": 1}


def dumped(record: Any) -> bytes:
    return json.dumps(record).encode()


def events(*records: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + dumped(record) + b"\n\n" for record in records) + end


def lines(*records: Any) -> bytes:
    return b"".join(dumped(record) + b"\n" for record in records)


# By their names: what is wrong for every path, however it was asked.
BODIES: dict[str, bytes] = {
    "page": http(PAGE, HTML),
    "page called JSON": http(PAGE),
    "page called events": http(PAGE, SSE),
    "page called lines": http(PAGE, NDJSON),
    "words": http(b"It works!", "text/plain"),
    "null": http(b"null"),
    "list": http(b"[]"),
    "string": http(b'"text"'),
    "number": http(b"5"),
    "object": http(b"{}"),
    "object with nulls": http(b'{"choices":null,"data":null,"message":null,"embeddings":null}'),
    "no choices": http(b'{"choices":[],"data":[],"embeddings":[]}'),
    "cut": http(dumped(CHAT)[:-30]),
    "no UTF-8": http(dumped(CHAT).replace(b"Hi", b"\xff\xfe")),
    "deep": http(b"[" * 200_000),
    "empty": http(b""),
    "empty events": http(b"", SSE),
    "empty lines": http(b"\n\n", NDJSON),
    "heartbeats": http(b": hi\n\n: hi\n\n", SSE),
    "the end alone": http(b"data: [DONE]\n\n", SSE),
    "null in events": http(events(None, 5, [], "x"), SSE),
    "words in events": http(b"data: hello\n\ndata: [DONE]\n\n", SSE),
    "half an event": http(b'data: {"choices":[{"index":0,"del', SSE),
    "half a line": http(b'{"model":"small","message":{"role":"assis', NDJSON),
    "null in lines": http(b"null\n5\n", NDJSON),
    "an error": http(b'{"error":"Unexpected endpoint or method. (POST /x)"}'),
    "an error in full": http(b'{"error":{"message":"out of memory","type":"x","code":null,"param":null}}'),
    "an error in events": http(events({"error": {"message": "out of memory"}}, end=b""), SSE),
    "an error as text in events": http(events({"error": "out of memory"}, end=b""), SSE),
    "an error in lines": http(b'{"error":"out of memory"}\n', NDJSON),
    "nothing, and so called": http(b"", status="204 No Content"),
    "not modified": http(b"", status="304 Not Modified"),
    "to a login": http(PAGE, HTML, status="302 Found", headers="location: https://login.example/\r\n"),
    "shorter than it says": http(dumped(CHAT), length=5000),
    "longer than it says": http(dumped(CHAT), length=20),
    "cut chunks": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{",
    "no gzip": http(dumped(CHAT), headers="content-encoding: gzip\r\n"),
    "cut gzip": http(gzip.compress(dumped(CHAT) * 50)[:-60], headers="content-encoding: gzip\r\n"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "nothing at all": b"",
}


def blames_backend(line: str) -> bool:
    """Return whether a printed line names the backend and says that it failed."""
    return "lab" in line and (" 502 " in line or "backend_" in line)


class Asked(NamedTuple):
    """One way to ask: what is done with the SDKs, and whether it streams."""

    ask: Callable[[Clients], Awaitable[Any]]
    stream: bool = False


class Clients(NamedTuple):
    openai: Any
    anthropic: Any
    ollama: Any


ERRORS = {"openai": openai.APIError, "anthropic": anthropic.APIError, "ollama": ollama.ResponseError}


async def gathered(source: Awaitable[Any]) -> list[Any]:
    return [each async for each in await source]


def chat(sdk: Clients, **more: Any) -> Any:
    return sdk.openai.chat.completions.create(model=MODEL, messages=HELLO, **more)


def text(sdk: Clients, **more: Any) -> Any:
    return sdk.openai.completions.create(model=MODEL, prompt="Hello", **more)


def response(sdk: Clients, **more: Any) -> Any:
    return sdk.openai.responses.create(model=MODEL, input="Hello", **more)


def message(sdk: Clients, **more: Any) -> Any:
    return sdk.anthropic.messages.create(model=MODEL, max_tokens=20, messages=HELLO, **more)


ASKED: dict[str, Asked] = {
    "openai chat": Asked(chat),
    "openai chat stream": Asked(lambda sdk: gathered(chat(sdk, stream=True)), True),
    "openai completion": Asked(text),
    "openai completion stream": Asked(lambda sdk: gathered(text(sdk, stream=True)), True),
    "openai embedding": Asked(lambda sdk: sdk.openai.embeddings.create(model=MODEL, input="Hello")),
    "openai response": Asked(response),
    "openai response stream": Asked(lambda sdk: gathered(response(sdk, stream=True)), True),
    "openai moderation": Asked(lambda sdk: sdk.openai.moderations.create(model=MODEL, input="Hello")),
    "anthropic message": Asked(message),
    "anthropic message stream": Asked(lambda sdk: gathered(message(sdk, stream=True)), True),
    "ollama chat": Asked(lambda sdk: sdk.ollama.chat(MODEL, HELLO)),
    "ollama chat stream": Asked(lambda sdk: gathered(sdk.ollama.chat(MODEL, HELLO, stream=True)), True),
    "ollama generate": Asked(lambda sdk: sdk.ollama.generate(MODEL, "Hello")),
    "ollama generate stream": Asked(lambda sdk: gathered(sdk.ollama.generate(MODEL, "Hello", stream=True)), True),
    "ollama embed": Asked(lambda sdk: sdk.ollama.embed(MODEL, "Hello")),
    "ollama embeddings": Asked(lambda sdk: sdk.ollama.embeddings(MODEL, "Hello")),
}
FORWARDED: dict[str, Asked] = {
    "openai image": Asked(lambda sdk: sdk.openai.images.generate(model="x", prompt="Hello")),
    "openai image stream": Asked(
        lambda sdk: gathered(sdk.openai.images.generate(model="x", prompt="Hello", stream=True)), True
    ),
    "openai transcription": Asked(lambda sdk: sdk.openai.audio.transcriptions.create(model="x", file=("a.wav", b"x"))),
    "openai tuning": Asked(lambda sdk: sdk.openai.fine_tuning.jobs.retrieve("job_1")),
}
# Ollama's own paths around models.
MANAGED: dict[str, Asked] = {
    "ollama pull": Asked(lambda sdk: sdk.ollama.pull(MODEL)),
    "ollama pull stream": Asked(lambda sdk: gathered(sdk.ollama.pull(MODEL, stream=True)), True),
    "ollama push": Asked(lambda sdk: sdk.ollama.push(MODEL)),
    "ollama push stream": Asked(lambda sdk: gathered(sdk.ollama.push(MODEL, stream=True)), True),
    "ollama create": Asked(lambda sdk: sdk.ollama.create("mine", from_=MODEL)),
}


class Setup(NamedTuple):
    proxy: Proxy
    server: RawServer
    sdk: Clients

    async def fails(self, asked: Asked, name: str) -> Exception:
        """Ask, and return the exception; assert that it is the SDK's own."""
        error = ERRORS[name.partition(" ")[0]]
        try:
            got = await asked.ask(self.sdk)
        except error as exc:
            return exc
        except Exception as exc:
            raise AssertionError(f"{name}: {exc!r}, which is no {error}") from exc
        raise AssertionError(f"{name}: {got!r} in place of an error")


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server() as fake:
        yield fake


@pytest.fixture
async def start(start_proxy: Start, server: RawServer) -> AsyncIterator[Callable[[str], Awaitable[Setup]]]:
    opened: list[Any] = []

    async def made(kind: str) -> Setup:
        serves = 'serves = ["images", "audio", "videos", "fine_tuning"]' if kind == "openai" else ""
        proxy = await start_proxy(
            f'[backends.lab]\ntype = "{kind}"\nurl = "{server.url}{"/v1" if kind == "openai" else ""}"\n'
            f'read_timeout = 5\n{serves}\n[moderations]\nmodel = "{MODEL}"\n'
        )
        sdk = Clients(
            openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0),
            anthropic.AsyncAnthropic(base_url=proxy.url, api_key="x", max_retries=0),
            ollama.AsyncClient(host=proxy.url),
        )
        opened.extend(sdk)
        return Setup(proxy, server, sdk)

    yield made
    for client in opened:
        await client.close()


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_what_is_no_answer_is_the_sdks_own_error(start: Any, kind: str, name: str) -> None:
    setup: Setup = await start(kind)
    for odd, answer in BODIES.items():
        setup.server.answer = answer
        setup.proxy.said.clear()
        error = await setup.fails(ASKED[name], f"{name} {odd}")
        (line,) = setup.proxy.said
        # The line tells the backend, and that it went wrong even where the status had been sent.
        assert "lab" in line, odd
        assert " 502 " in line or "backend_" in line or " 500 " in line, (odd, line)
        assert "Traceback" not in str(error)


@pytest.mark.parametrize("name", FORWARDED)
async def test_what_is_no_answer_of_a_forwarded_route_is_the_sdks_own_error(start: Any, name: str) -> None:
    setup: Setup = await start("openai")
    for odd, answer in BODIES.items():
        if odd in ("object", "object with nulls", "no choices", "longer than it says") or odd.startswith("cut gzip"):
            # What these routes answer is not known here; these are objects.
            continue
        if name == "openai transcription" and odd in ("words",):
            # It may be one.
            continue
        setup.server.answer = answer
        setup.proxy.said.clear()
        error = await setup.fails(FORWARDED[name], f"{name} {odd}")
        (line,) = setup.proxy.said
        assert "lab" in str(error) or odd.startswith("an error"), odd
        assert " 502 " in line or "backend_" in line, (odd, line)


@pytest.mark.parametrize("name", MANAGED)
async def test_what_is_no_answer_of_ollamas_management_is_the_sdks_own_error(start: Any, name: str) -> None:
    setup: Setup = await start("ollama")
    for odd, answer in BODIES.items():
        if odd in ("object", "object with nulls", "no choices", "longer than it says") and not MANAGED[name].stream:
            continue
        setup.server.answer = answer
        await setup.fails(MANAGED[name], f"{name} {odd}")


# --- right answers in a form that was not asked for -------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"
SAYS: dict[str, tuple[Any, Any]] = {
    # What the backend answers: whole, and as a stream.
    "openai chat": (CHAT, events(DELTA, LAST)),
    "openai completion": (TEXT, events(PIECE)),
    "ollama chat": (
        {**O_CHAT, **END},
        lines(O_CHAT, {**O_CHAT, **END, "message": {"role": "assistant", "content": ""}}),
    ),
    "ollama generate": ({**O_TEXT, **END}, lines(O_TEXT, {**O_TEXT, **END, "response": ""})),
}


def said(name: str, got: Any) -> str:
    """Return the text of an answer, whole or in pieces."""
    pieces = got if isinstance(got, list) else [got]
    match name.split(" ")[:2]:
        case ["openai", "chat"]:
            parts = [choice for piece in pieces for choice in piece.choices]
            return "".join((part.delta if hasattr(part, "delta") else part.message).content or "" for part in parts)
        case ["openai", "completion"]:
            return "".join(choice.text for piece in pieces for choice in piece.choices)
        case ["ollama", "chat"]:
            return "".join(piece.message.content or "" for piece in pieces)
    return "".join(piece.response for piece in pieces)


@pytest.mark.parametrize("name", [*SAYS, *(f"{name} stream" for name in SAYS)])
async def test_a_right_answer_in_another_form_is_told_in_the_one_asked_for(start: Any, name: str) -> None:
    kind = "openai" if name.startswith("openai") else "ollama"
    setup: Setup = await start(kind)
    whole, stream = SAYS[name.removesuffix(" stream")]
    document, streamed = dumped(whole), SSE if kind == "openai" else NDJSON
    for answer in (
        http(document),
        http(document, "text/plain"),
        http(document, streamed),
        http(BOM + document),
        http(json.dumps(whole, indent=2).encode()),
        http(gzip.compress(document), headers="content-encoding: gzip\r\n"),
        http(zlib.compress(document), headers="content-encoding: deflate\r\n"),
        http(stream, streamed),
        *([http(stream, "text/plain"), http(BOM + stream, streamed)] if kind == "openai" else []),
    ):
        setup.server.answer = answer
        assert said(name, await ASKED[name].ask(setup.sdk)) == "Hi", answer


@pytest.mark.parametrize("name", ["openai chat stream", "openai completion stream", "ollama chat stream"])
async def test_a_stream_that_goes_wrong_ends_in_the_apis_own_error(start: Any, name: str) -> None:
    kind = "openai" if name.startswith("openai") else "ollama"
    setup: Setup = await start(kind)
    first = {"openai chat stream": events(DELTA, end=b""), "openai completion stream": events(PIECE, end=b"")}
    good = first.get(name, lines(O_CHAT))
    odd: tuple[bytes, ...] = (b"data: null\n\n", b"data: <html>\n\n", b'data: {"choices":[{"ind')
    if kind == "ollama":
        odd = (b"null\n", b"<html>\n", b'{"model":"small","mess', b'{"error":"out of memory"}\n')
    for rest in odd:
        if name == "openai completion stream" and rest.startswith(b'data: {"ch'):
            # It was finished: what is torn after it is left out.
            continue
        setup.server.answer = http(good + rest, SSE if kind == "openai" else NDJSON)
        setup.proxy.said.clear()
        await setup.fails(ASKED[name], f"{name} {rest!r}")
        assert "backend_" in setup.proxy.said[0]


BREAKS = "one\u2028two\u2029three\x85four"


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("name", [name for name in ASKED if ASKED[name].stream])
async def test_no_line_of_a_stream_ends_where_some_clients_see_one(start: Any, kind: str, name: str) -> None:
    """httpx' iter_lines ends lines at them; so ollama-python and others broke in the middle of an answer."""
    setup: Setup = await start(kind)
    body = {"model": MODEL, "messages": HELLO, "input": "Hello", "prompt": "Hello", "max_tokens": 20, "stream": True}
    path, own = PATHS[name]
    body = {key: value for key, value in body.items() if key in own}
    raw = events(PIECE) if name.startswith("openai completion") else events(DELTA, LAST)
    if kind == "ollama":
        raw = lines({**(O_TEXT if path in ("/v1/completions", "/api/generate") else O_CHAT), **END})
    # As servers write it that do not escape: in Python, in C++.
    setup.server.answer = http(raw.replace(b"Hi", BREAKS.encode()), SSE if kind == "openai" else NDJSON)
    async with aiohttp.ClientSession() as session, session.post(setup.proxy.url + path, json=body) as got:
        answer = (await got.read()).decode()
    assert got.status == 200
    assert json.dumps(BREAKS)[1:-1] in answer
    assert len(answer.splitlines()) == answer.count("\n")


PATHS = {
    "openai chat stream": ("/v1/chat/completions", ("model", "messages", "stream")),
    "openai completion stream": ("/v1/completions", ("model", "prompt", "stream")),
    "openai response stream": ("/v1/responses", ("model", "input", "stream")),
    "anthropic message stream": ("/v1/messages", ("model", "messages", "stream", "max_tokens")),
    "ollama chat stream": ("/api/chat", ("model", "messages")),
    "ollama generate stream": ("/api/generate", ("model", "prompt")),
}


# --- documents that are held ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai chat stream", "openai response stream", "ollama chat stream"])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_a_document_that_is_held_to_be_told_as_a_stream_counts_as_memory(
    start: Any, kind: str, name: str
) -> None:
    setup: Setup = await start(kind)
    memory = setup.proxy.app[MEMORY]
    memory.resize(4 * 1024 * 1024)
    long = "a" * 3_000_000
    whole = {**CHAT, "choices": [{**SAID, "message": {"role": "assistant", "content": long}}]}
    if kind == "ollama":
        whole = {**O_CHAT, **END, "message": {"role": "assistant", "content": long}}
    setup.server.answer = http(dumped(whole), NDJSON if kind == "ollama" else "application/json")
    error = await setup.fails(ASKED[name], name)
    assert "memory under [server]" in str(error)
    for _ in range(200):
        if memory.held == 0:
            break
        await asyncio.sleep(0.01)
    assert memory.held == 0
    memory.resize(64 * 1024 * 1024)
    assert await ASKED[name].ask(setup.sdk)


LARGE = b'{"data":[{"b64_json":"' + b"a" * (9 * 1024 * 1024) + b'"}]}'


@pytest.mark.parametrize("chunked", [False, True])
async def test_of_a_forwarded_document_that_is_too_large_to_be_read_beginning_and_end_are_checked(
    start: Any, chunked: bool
) -> None:
    setup: Setup = await start("openai")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"

    def answer(body: bytes) -> bytes:
        return head + b"\r\n" + body if chunked else http(body)

    setup.server.answer = answer(b"\n " + LARGE + b" \n")
    assert len((await FORWARDED["openai image"].ask(setup.sdk)).data[0].b64_json) > len(LARGE) - 100
    for odd in (LARGE[:-3], LARGE[1:], b"<html>" + LARGE, b"[" + LARGE + b"]"):
        setup.server.answer = answer(odd)
        setup.proxy.said.clear()
        await setup.fails(FORWARDED["openai image"], "openai image")
        (line,) = setup.proxy.said
        assert blames_backend(line), line


async def test_fewer_vectors_than_texts_are_no_answer(start: Any) -> None:
    for kind, answer in (("openai", VECTORS), ("ollama", O_VECTORS)):
        setup: Setup = await start(kind)
        setup.server.answer = http(dumped(answer))
        questions: tuple[tuple[str, Callable[[], Awaitable[Any]]], ...] = (
            ("openai", lambda: setup.sdk.openai.embeddings.create(model=MODEL, input=["a", "b"])),  # noqa: B023
            ("ollama", lambda: setup.sdk.ollama.embed(MODEL, ["a", "b"])),  # noqa: B023
        )
        for name, ask in questions:
            with pytest.raises(ERRORS[name]):
                await ask()
        assert len((await setup.sdk.ollama.embed(MODEL, ["a"])).embeddings) == 1
