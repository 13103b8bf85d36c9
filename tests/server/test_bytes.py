"""Bytes that are no UTF-8, wherever a request can have them: it is answered, booked and recorded like any other."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import msgspec
import platformdirs
import pytest
from aiohttp import web

from ollama_proxy.server.app import build_app
from ollama_proxy.server.keys import RECORDER
from ollama_proxy.server.malformed import Runner
from ollama_proxy.settings import load
from tests.conftest import Proxy, Start
from tests.fakes.ollama import FakeOllama

from .conftest import HELLO, config

BODY = json.dumps({"model": "smollm2", "messages": HELLO}).encode()
CHAT = b"POST /v1/chat/completions"
ODD = b"x\xff\xe2\x80y\xc3\xa9"


@pytest.fixture
async def proxy(start_proxy: Start, ollama: FakeOllama) -> Proxy:
    return await start_proxy(config(ollama.url), books=True)


async def send(proxy: Proxy, line: bytes, headers: list[bytes], body: bytes) -> tuple[int, bytes, dict[str, str]]:
    """Send bytes as they are; return the status, the body and the headers of the answer."""
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    given = b"".join(each + b"\r\n" for each in headers)
    if not any(each.lower().startswith(b"host:") for each in headers):
        given += b"host: localhost\r\n"
    writer.write(line + b" HTTP/1.1\r\nconnection: close\r\n" + given)
    writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    data = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    found = dict(each.split(": ", 1) for each in lines[1:])
    return int(lines[0].split()[1]), rest, {name.lower(): value for name, value in found.items()}


def faults(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.levelno >= logging.ERROR or each.exc_info]


def recorded(proxy: Proxy) -> list[dict[str, object]]:
    assert proxy.app[RECORDER].flush()
    path = Path(platformdirs.user_log_path("oproxy")) / "requests.jsonl"
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    "header",
    [
        b"user-agent", b"content-type", b"openai-beta", b"x-oproxy-tag", b"accept", b"cookie",
        b"openai-organization", b"idempotency-key", b"authorization", b"x-api-key", b"accept-language", b"x-other",
        b"x-forwarded-for", b"referer", b"anthropic-version", b"x-request-id",
    ],
)  # fmt: skip
async def test_a_header_of_any_bytes_is_answered_booked_and_recorded(
    header: bytes, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    value = b"Bearer " + ODD if header == b"authorization" else ODD
    status, body, _ = await send(proxy, CHAT, [header + b": " + value], BODY)
    assert status == 200, body
    (line,) = recorded(proxy)
    assert line["request"] == json.loads(BODY)
    assert not faults(caplog)
    assert len(proxy.said) == 1
    if header in (b"user-agent", b"x-oproxy-tag"):
        assert line["headers"] == {header.decode(): "x\ufffd\ufffdyé"}


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (CHAT, [b"host: x\xff"], 403),
        (CHAT, [b"origin: http://x\xff"], 403),
        (b"OPTIONS /v1/chat/completions", [b"origin: http://localhost", b"access-control-request-headers: x\xff"], 204),
        (b"GET /v1/models/x\xff", [], None),
        (b"GET /v1/models/x%ff", [], 404),
        (b"GET /v1/models/x%00%1b%5d0;t%07", [], 404),
        (b"GET /nothing/x\xff", [], None),
        (b"GET /nothing/x%ff%ed%a0%80", [], 404),
        (b"GET /v1/files?limit=\xff&purpose=x\xff", [], None),
        (b"GET /v1/files?after=%ff&purpose=%ff", [], None),
        (b"POST /v1/chat/completions?\xff=%ff", [], None),
        (b"POST /v1/files/%ff/content", [], None),
        (b"P\xffST /v1/chat/completions", [], 400),
    ],
)
async def test_a_line_or_a_host_of_any_bytes_is_answered_in_openais_form(
    line: bytes, headers: list[bytes], status: int | None, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    body = BODY if line.startswith(CHAT) else b""
    got, answer, _ = await send(proxy, line, headers, body)
    assert got == status if status is not None else 200 <= got < 500, answer
    if got >= 400:
        error = json.loads(answer)["error"]
        assert set(error) == {"message", "type", "param", "code"}
    assert not faults(caplog)
    if line.startswith(CHAT) and got == 200:
        assert len(recorded(proxy)) == 1


@pytest.mark.parametrize("name", [b'filename="x\xff.jsonl"', b"filename*=UTF-8''x%ff.jsonl", b'filename="a\r\nb"'])
async def test_a_form_of_any_bytes_is_answered(name: bytes, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="x\xff"\r\n\r\n\xff\xfe\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; ' + name + b"\r\n\r\nhello\r\n--b--\r\n"
    )
    status, body, _ = await send(proxy, b"POST /v1/files", [b"content-type: multipart/form-data; boundary=b"], form)
    assert 200 <= status < 500, body
    json.loads(body)
    assert not faults(caplog)


def database() -> bytes:
    return b"".join(path.read_bytes() for path in Path(platformdirs.user_data_path("oproxy")).rglob("*.db*"))


async def test_a_key_in_a_name_a_tag_or_a_path_is_kept_nowhere(proxy: Proxy) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    body = {"model": f"m-{secret}", "messages": HELLO, "user": secret, "metadata": {"tag": secret}, "stream": False}
    answers = []
    for line, headers, data in (
        (CHAT, [], json.dumps(body).encode()),
        (CHAT, [], json.dumps({**body, "model": secret, secret: 1}).encode()),
        (CHAT, [f"x-oproxy-tag: {secret}".encode(), f"user-agent: {secret}".encode()], BODY),
        (f"GET /v1/models/{secret}".encode(), [], b""),
        (f"GET /v1/files/{secret}/content?api_key={secret}".encode(), [], b""),
        (f"GET /nothing/{secret}".encode(), [], b""),
        (f"DELETE /v1/chat/completions/{secret}".encode(), [], b""),
    ):
        _, answer, given = await send(proxy, line, headers, data)
        answers.append(answer.decode() + json.dumps(given))
    lines = recorded(proxy)
    assert "abcdefgh" not in "".join(proxy.said)
    assert "abcdefgh" not in json.dumps(lines)
    assert "abcdefgh" not in "".join(answers)
    data = database()
    assert b"smollm2" in data
    assert b"abcdefgh" not in data


@pytest.mark.parametrize(
    "error", [UnicodeEncodeError("cp1252", "→", 0, 1, "no"), ValueError("closed"), OSError(28, "full")]
)
async def test_a_console_that_cannot_be_written_has_no_bearing_on_the_answer(
    error: Exception, ollama: FakeOllama
) -> None:
    def say(text: str) -> None:
        raise error

    app = build_app(load(env={}, flags={}, text=config(ollama.url)), say=say, env={})
    runner = Runner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    proxy = Proxy(f"http://{host}:{port}", app, [])
    try:
        status, body, _ = await send(proxy, CHAT, [], BODY)
        assert status == 200, body
        assert len(recorded(proxy)) == 1
    finally:
        await runner.cleanup()


async def test_the_first_page_answers_under_any_name_that_is_let_in(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, '[server]\nallowed_hosts = ["*"]\n'))
    for host in (b"x\xff", b"<script>", b"a b"):
        status, body, _ = await send(proxy, b"GET /", [b"host: " + host], b"")
        assert status < 500, body
