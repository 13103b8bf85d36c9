"""Packed request bodies at every API's door."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ollama_proxy.translate import encodings
from ollama_proxy.translate.encodings import SUPPORTED
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, Setup, config

PATHS = {
    "/v1/chat/completions": {"model": "smollm2", "messages": HELLO},
    "/v1/responses": {"model": "smollm2", "input": "Hello"},
    "/v1/messages": {"model": "smollm2", "messages": HELLO, "max_tokens": 20},
    "/api/chat": {"model": "smollm2", "messages": HELLO, "stream": False},
}


def packed(data: bytes, *names: str) -> bytes:
    for name in names:
        match name.lower():
            case "gzip" | "x-gzip":
                data = gzip.compress(data)
            case "deflate":
                data = zlib.compress(data)
            case "br":
                data = encodings.brotli.compress(data)
            case "zstd":
                data = encodings.zstd.compress(data)
    return data


async def post(setup: Setup, path: str, data: bytes, encoding: str) -> tuple[int, Any, Any]:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    async with setup.http.post(path, data=data, headers=headers) as response:
        return response.status, await response.json(), response.headers


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_packed_is_answered(setup: Setup, path: str) -> None:
    body = json.dumps(PATHS[path]).encode()
    for names in ((), ("identity",), *((name,) for name in SUPPORTED), ("x-gzip",), ("GZIP",), ("deflate", "gzip")):
        status, answer, _ = await post(setup, path, packed(body, *names), ", ".join(names))
        assert status == 200, (names, answer)
    last = SUPPORTED[-1]
    assert (await post(setup, path, packed(body, "gzip", last), f"gzip, {last}"))[0] == 200


@pytest.mark.parametrize("path", PATHS)
async def test_other_encodings_are_refused_in_the_apis_form(setup: Setup, path: str) -> None:
    for header in ("compress", "gzip, lzma", "exi"):
        status, answer, headers = await post(setup, path, b"x" * 100, header)
        told = answer["error"] if isinstance(answer["error"], str) else answer["error"]["message"]
        assert (status, headers["accept-encoding"]) == (400 if "messages" in path else 415, ", ".join(SUPPORTED))
        assert header in told
        assert "install" not in told
        if path == "/v1/messages":
            assert answer["error"]["details"] == {"error_code": "request_body_encoding_unsupported"}


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_cut_or_broken_is_refused(setup: Setup, path: str) -> None:
    body = json.dumps(PATHS[path]).encode()
    for name in (*SUPPORTED, "x-gzip", "deflate, gzip"):
        data = packed(body, *name.split(", "))
        for broken in (data[: len(data) // 2], b"\xff" * 100):
            status, answer, _ = await post(setup, path, broken, name)
            assert (status, "error" in answer) == (400, True), (name, broken)
            form = {"/v1/messages": "request_id" in answer, "/api/chat": isinstance(answer["error"], str)}
            assert form.get(path, True), (name, answer)


@pytest.mark.parametrize("name", [*SUPPORTED, "x-gzip", "deflate, gzip"])
async def test_a_bomb_is_cut_off_at_the_largest_body(setup: Setup, name: str) -> None:
    most = 64 << 20
    bomb = packed(b'{"x":"' + b" " * (2 * most) + b'"}', *name.split(", "))
    assert len(bomb) < most / 100
    status, answer, _ = await post(setup, "/v1/chat/completions", bomb, name)
    assert (status, "larger than" in answer["error"]["message"]) == (413, True)


@pytest.mark.parametrize("names", [*((name,) for name in SUPPORTED), ("x-gzip",), ("deflate", "gzip")])
async def test_a_form_is_unpacked(kept: Any, names: tuple[str, ...]) -> None:
    data = b"hello " * 100_000
    plain = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b\r\n'
    plain += b'content-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + data + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b", "content-encoding": ", ".join(names)}
    async with kept.post("/v1/files", data=packed(plain, *names), headers=headers) as response:
        assert (response.status, (await response.json()).get("bytes")) == (200, len(data))
    async with kept.post("/v1/files", data=packed(plain, *names)[:-20], headers=headers) as response:
        assert (response.status, list(await response.json())) == (400, ["error"])
    headers["content-encoding"] = "compress"
    async with kept.post("/v1/files", data=plain, headers=headers) as response:
        assert response.status == 415


@pytest.fixture
async def kept(start_proxy: Start, ollama: FakeOllama) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session to a proxy that keeps files."""
    proxy = await start_proxy(config(ollama.url), books=True)
    async with aiohttp.ClientSession(proxy.url) as http:
        yield http
