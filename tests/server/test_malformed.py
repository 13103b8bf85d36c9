"""What is no HTTP request, over raw sockets: OpenAI's form, an id, no version, and the connection is over."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Proxy, Start

HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST


async def told(proxy: Proxy, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes; return the status, the headers and the body of the first answer, which ends with the connection."""
    url = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def check(headers: dict[str, str], body: bytes) -> Any:
    """Check that a refusal has OpenAI's form; return its error."""
    assert headers["content-type"].startswith("application/json")
    assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
    assert headers["server"] == "oproxy"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]
    return error


NO_REQUESTS = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no such line": b"HELLO\r\n\r\n",
    "a strange version": b"GET / HTTP/9.9.9\r\n" + HOST + b"\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length that is none": POST + b"Content-Length: many\r\n\r\n",
    "a header without a colon": POST + b"what is this\r\n\r\n",
    "a header with a zero in it": POST + b"X-Odd: a\x00b\r\n\r\n",
    "a header that is too long": POST + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "a line that is too long": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("case", NO_REQUESTS)
async def test_what_is_no_request_is_refused_in_openais_form(start_proxy: Start, case: str) -> None:
    proxy = await start_proxy("")
    status, headers, body = await told(proxy, NO_REQUESTS[case])
    assert status == 400
    assert "could not read" in check(headers, body)["message"]


async def test_what_came_is_not_repeated(start_proxy: Start) -> None:
    proxy = await start_proxy("")
    _, _, body = await told(proxy, POST + b"Authorization: Bearer sk-secret\x00\r\n\r\n")
    assert b"sk-secret" not in body


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/nothing", "/"])
async def test_an_expectation_that_nobody_knows_is_417(start_proxy: Start, path: str) -> None:
    proxy = await start_proxy("")
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: wonders\r\nConnection: close\r\n\r\n".encode()
    status, headers, body = await told(proxy, request)
    assert status == 417
    assert "100-continue" in check(headers, body)["message"]


async def test_a_client_that_waits_is_told_to_go_on(start_proxy: Start) -> None:
    proxy = await start_proxy("")
    body = b"{}"
    more = b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    status, _, rest = await told(proxy, POST + more + body)
    assert status == 100
    assert rest.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_is_not_packed_as_it_says_is_refused(start_proxy: Start, encoding: str) -> None:
    proxy = await start_proxy("")
    more = f"Content-Encoding: {encoding}\r\nConnection: close\r\nContent-Length: 30\r\n\r\n".encode()
    status, headers, body = await told(proxy, POST + more + b"\xff" * 30)
    assert status == 400
    check(headers, body)


async def test_a_good_request_before_it_is_answered(start_proxy: Start) -> None:
    proxy = await start_proxy("")
    url = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))
    writer.write(b"HELLO\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"aiohttp" not in head + rest
    assert rest.startswith(b"HTTP/1.0 400 ")
