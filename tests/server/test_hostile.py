"""Bodies that no client should send, on every POST route: each is refused in OpenAI's form with a 4xx, at once, and the
next request is answered as if nothing had been."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.server.routes import ROUTES

from .conftest import HELLO, Setup

# The smallest bodies that are answered.
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "smollm2", "messages": HELLO},
    "/v1/completions": {"model": "smollm2", "prompt": "x"},
    "/v1/embeddings": {"model": "all-minilm", "input": "x"},
    "/v1/messages": {"model": "smollm2", "max_tokens": 9, "messages": HELLO},
    "/v1/messages/count_tokens": {"model": "smollm2", "messages": HELLO},
    "/oproxy/load": {"model": "smollm2"},
    "/oproxy/unload": {"model": "smollm2"},
    "/oproxy/pull": {"model": "all-minilm"},
}
# Every other POST route: whatever a good body is there, the bad ones below are none.
# What is passed on to Ollama is Ollama's to refuse.
PATHS = [
    row.route.path
    for row in ROUTES
    if row.route.method == "POST" and "{" not in row.route.path and not row.route.path.startswith("/api/")
]
# Those that ask no model and take any object.
FREE = ("/v1/conversations", "/v1/responses/input_tokens")
FULL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **GOOD["/v1/chat/completions"],
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "a"}], "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant", "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "b"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto", "temperature": 1, "top_p": 1, "n": 1, "stop": ["a"], "max_tokens": 5, "seed": 1,
        "logprobs": True, "top_logprobs": 1, "presence_penalty": 0, "frequency_penalty": 0, "user": "u",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "reasoning_effort": "low", "stream": False, "metadata": {"a": "b"}, "options": {"top_k": 1}, "keep_alive": "1m",
    },
    "/v1/completions": {
        **GOOD["/v1/completions"], "prompt": ["x", "y"], "n": 1, "best_of": 1, "echo": True,
        "max_tokens": 3, "stop": ["a"], "suffix": None, "temperature": 0, "seed": 1, "logit_bias": None,
    },
    "/v1/embeddings": {**GOOD["/v1/embeddings"], "input": ["x"], "encoding_format": "float", "dimensions": None},
    "/v1/messages": {
        "model": "smollm2", "max_tokens": 2000, "system": [{"type": "text", "text": "a", "cache_control": None}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "a", "signature": "b"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "", "is_error": None}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"x": 1}]}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}, "stop_sequences": ["a"], "top_k": 1,
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "stream": False, "metadata": {"user_id": "u"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    },
}  # fmt: skip


async def answered(setup: Setup, path: str, data: Any, **how: Any) -> tuple[int, bytes]:
    headers = {"content-type": "application/json", **how.pop("headers", {})}
    async with asyncio.timeout(20), setup.http.post(path, data=data, headers=headers, **how) as response:
        return response.status, await response.read()


def refused(status: int, body: bytes) -> dict[str, Any]:
    """Check that an answer is a refusal as OpenAI's are, or Anthropic's at its door; return the error."""
    assert 400 <= status < 500, (status, body[:300])
    answer = json.loads(body)
    error: dict[str, Any] = answer["error"]
    assert set(error) == (
        {"type", "message"} if answer.get("type") == "error" else {"message", "type", "param", "code"}
    )
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert "Traceback" not in error["message"]
    assert len(error["message"]) < 10_000
    return error


async def still_serves(setup: Setup) -> None:
    status, body, _ = await setup.chat()
    assert status == 200, body


# --- whole bodies that are no request -----------------------------------------------------------------------------

NO_REQUESTS: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n ",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a string": b'"model"',
    "no model": b"{}",
    "a null model": b'{"model": null}',
    "a model that is a number": b'{"model": 5}',
    "a model that is a list": b'{"model": ["smollm2"]}',
    "a model without letters": b'{"model": ""}',
    "truncated": b'{"model": "smollm2", "messages": [{"role": "us',
    "two documents": b'{"model": "nosuch"}{"model": "nosuch"}',
    "a comma too many": b'{"model": "nosuch",}',
    "single quotes": b"{'model': 'nosuch'}",
    "NaN": b'{"model": NaN}',
    "a comment": b'/* x */ {"model": "nosuch"}',
    "a BOM": b'\xef\xbb\xbf{"model": "nosuch"}',
    "UTF-16": '{"model": "nosuch"}'.encode("utf-16"),
    "invalid UTF-8": b'{"model": "\xff\xfe"}',
    "overlong UTF-8": b'{"model": "\xc0\xaf"}',
    "an encoded surrogate": b'{"model": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "half a pair": b'{"model": "\\udc00\\ud800"}',
    "a raw NUL": b'{"model": "\x00"}',
    "an escaped NUL": b'{"model": "\\u0000"}',
    "a raw newline": b'{"model": "a\nb"}',
    "header injection": b'{"model": "nosuch\\r\\nx-evil: 1\\r\\n\\r\\n"}',
    "a path": b'{"model": "../../../etc/passwd"}',
    "format signs": b'{"model": "{0.__class__} %s %(x)s ${x}"}',
    "terminal escapes": b'{"model": "\\u001b[31m\\u009b2J"}',
    "a long model": b'{"model": "' + b"m" * 1_000_000 + b'"}',
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep below a key": b'{"model": "nosuch", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a long number": b'{"model": ' + b"9" * 100_000 + b"}",
    "a large exponent": b'{"model": 1e999999999}',
    "duplicate keys, the last wrong": b'{"model": "smollm2", "model": 5}',
    "a form": b"model=nosuch&messages=x",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_no_request_is_refused(setup: Setup, path: str) -> None:
    for name, body in NO_REQUESTS.items():
        if path == "/oproxy/pull" and name not in ("nothing", "null", "truncated", "deep lists", "invalid UTF-8"):
            continue  # what a backend may fetch is its own to say
        status, answer = await answered(setup, path, body)
        if path in FREE and status == 200:
            assert body[:1] in (b"", b"{"), name
            continue
        assert refused(status, answer), name
    await still_serves(setup)


@pytest.mark.parametrize("path", list(GOOD))
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a/b/c", ""]
)
async def test_the_content_type_is_not_what_matters(setup: Setup, path: str, kind: str) -> None:
    status, _ = await answered(setup, path, json.dumps(GOOD[path]).encode(), headers={"content-type": kind})
    assert status == 200
    refused(*await answered(setup, path, b"{", headers={"content-type": kind}))


async def test_a_charset_that_does_not_exist_does_no_harm(setup: Setup) -> None:
    for charset in ("nosuch", "utf-16", '"', "utf-8; charset=utf-7"):
        body = json.dumps(GOOD["/v1/chat/completions"]).encode()
        headers = {"content-type": f"application/json; charset={charset}"}
        status, _ = await answered(setup, "/v1/chat/completions", body, headers=headers)
        assert status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_in_chunks_is_read_like_any_other(setup: Setup, path: str) -> None:
    async def pieces(data: bytes) -> Any:
        for place in range(0, len(data), 7):
            yield data[place : place + 7]

    refused(
        *await answered(setup, path, pieces(b'{"model": 5, "messages": [[[]]], "input": {}, "prompt": {}, "items": 5}'))
    )
    if path in GOOD:
        status, _ = await answered(setup, path, pieces(json.dumps(GOOD[path]).encode()))
        assert status == 200


async def test_a_compressed_body_that_is_none_is_refused(setup: Setup) -> None:
    path = "/v1/chat/completions"
    for data in (b"no gzip at all", gzip.compress(b"{}")[:-4], b""):
        refused(*await answered(setup, path, data, headers={"content-encoding": "gzip"}))
    await still_serves(setup)


async def test_a_bomb_is_refused_at_the_limit_of_a_body(start_proxy: Any, setup: Setup) -> None:
    proxy = await start_proxy("[server]\nmax_body = 100000\n")
    bomb = gzip.compress(b'{"model": "' + b"m" * 20_000_000 + b'"}')
    assert len(bomb) < 100_000
    for headers in ({"content-encoding": "gzip"}, {"content-encoding": "deflate"}):
        status, body = await answered(setup, f"{proxy.url}/v1/chat/completions", bomb, headers=headers)
        assert refused(status, body)


# --- raw connections ----------------------------------------------------------------------------------------------


async def raw(setup: Setup, data: bytes) -> bytes:
    """Send bytes as they are and return all that comes back until the server or 5 seconds end it."""
    host, _, port = setup.proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
BROKEN: dict[str, bytes] = {
    "a body shorter than said": HEAD + b"content-length: 100\r\n\r\n{",
    "a length that is no number": HEAD + b"content-length: ten\r\n\r\n{}",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n{}",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks that are none": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "chunks without an end": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a chunk longer than said": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "a header with a NUL": HEAD + b"x: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
    "a folded header": HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "a header without a colon": HEAD + b"nothing\r\n\r\n",
    "a long header": HEAD + b"x: " + b"a" * 100_000 + b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"GET /v1/models\r\n\r\n",
    "a strange method": b"GE\x00T / HTTP/1.1\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", list(BROKEN))
async def test_broken_http_never_makes_an_accident(setup: Setup, name: str) -> None:
    answer = await raw(setup, BROKEN[name])
    if answer:
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:300]
        assert b"Traceback" not in answer
    await still_serves(setup)


async def test_names_of_models_cannot_write_headers_of_their_own(setup: Setup) -> None:
    body = {"model": "smollm2", "messages": HELLO, "x\r\nx-evil: 1": 1}
    async with setup.http.post("/v1/chat/completions", json=body) as response:
        assert "x-evil" not in response.headers
        assert response.status == 200
    path = "/v1/models/nosuch%0d%0ax-evil:%201"
    async with setup.http.get(path) as response:
        assert "x-evil" not in response.headers
        refused(response.status, await response.read())


# --- good requests with one thing wrong ---------------------------------------------------------------------------

WRONG: list[Any] = [
    None, True, -1, 0, 10**400, -(2**63), 2**64, 1e308, -0.5, "", "x", "\x00", "\u202e", [], [[]], [None], {},
    {"a": None},
    {"type": "nosuch"}, {"type": None}, [{"type": "text"}], "9" * 5000, list(range(300)), {"a": {"b": {"c": {}}}},
]  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every place of a JSON value, its own last."""
    found: list[tuple[Any, ...]] = []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in steps:
        found += places(each, (*way, key))
    return [*found, way] if way else found


def changed(value: Any, way: tuple[Any, ...], wrong: Any) -> Any:
    if not way:
        return wrong
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = changed(value[way[0]], way[1:], wrong)
    return copy


def encoded(value: Any) -> bytes:
    """Write JSON, numbers of any size included."""
    return json.dumps(value).encode("utf-8")


@pytest.mark.parametrize("path", list(FULL))
async def test_one_wrong_value_anywhere_is_taken_or_refused_but_never_an_accident(setup: Setup, path: str) -> None:
    status, body = await answered(setup, path, encoded(FULL[path]))
    assert status == 200, body
    for way in places(FULL[path]):
        for wrong in WRONG:
            status, body = await answered(setup, path, encoded(changed(FULL[path], way, wrong)))
            if status != 200:
                assert refused(status, body), (way, wrong)
    await still_serves(setup)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("path", list(FULL))
async def test_made_up_values_are_taken_or_refused_but_never_an_accident(setup: Setup, path: str) -> None:
    ways = places(FULL[path])
    bodies: list[bytes] = []

    @settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(ways), JSON, st.integers(0, 400), st.booleans())
    def gather(way: tuple[Any, ...], wrong: Any, cut: int, cuts: bool) -> None:
        body = encoded(changed(FULL[path], way, wrong))
        bodies.append(body[:cut] + b"\xff" + body[cut:] if cuts else body)

    gather()
    for body in bodies:
        status, answer = await answered(setup, path, body)
        if status != 200:
            assert refused(status, answer), body
    await still_serves(setup)


async def test_many_bad_requests_at_once_do_not_stop_a_good_one(setup: Setup) -> None:
    bad = [answered(setup, path, NO_REQUESTS["deep lists"]) for path in GOOD for _ in range(5)]
    refusals, good = await asyncio.gather(asyncio.gather(*bad), setup.chat())
    assert good[0] == 200
    for status, body in refusals:
        refused(status, body)


async def test_a_client_that_sends_slowly_and_leaves_does_no_harm(setup: Setup) -> None:
    host, _, port = setup.proxy.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(HEAD + b"content-length: 1000\r\n\r\n{")
    await writer.drain()
    await still_serves(setup)
    writer.close()
    await still_serves(setup)
    with pytest.raises(aiohttp.ClientError):
        await setup.http.post(f"http://{host}:1/v1/models")
