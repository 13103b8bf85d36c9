"""How commands reach the models: through the daemon that runs, or an application of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from ollama_proxy import daemon
from ollama_proxy.cli.client import Api, ApiError, connect, error_of
from tests.fakes.ollama import FakeOllama


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
def config(tmp_path: Path, ollama: FakeOllama) -> Path:
    path = tmp_path / "config.toml"
    quiet = "[store]\nledger = false\n[logs]\nrequests = false\n"
    path.write_text(f'{quiet}[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
    return path


class Server:
    """A server that answers every path with what it was given, as the daemon whose state file is there."""

    def __init__(self) -> None:
        self.body = b"{}"
        self.status = 200
        self.cut = False
        self.seen: list[web.BaseRequest] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        response = web.StreamResponse(status=self.status, headers={"X-Some-Header": "yes"})
        await response.prepare(request)
        await response.write(self.body)
        if self.cut and request.transport is not None:
            request.transport.close()
            return response
        await response.write_eof()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=os.getpid(), url=made.url, version="1", started=1.0, grace=1.0))
        yield made
    await runner.cleanup()


@pytest.fixture
async def api(server: Server, config: Path) -> AsyncIterator[Api]:
    async with connect(config) as api:
        yield api


async def test_without_a_daemon_the_application_runs_inside_and_ends_with_the_command(config: Path) -> None:
    async with connect(config) as api:
        assert api.inside
        assert (await api.get("/v1/models"))["object"] == "list"
        base = api.base
    host, _, port = base.removeprefix("http://").partition(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_running_daemon_is_asked(api: Api, server: Server) -> None:
    assert (api.inside, api.base) == (False, server.url)
    server.body = b'{"id": "x"}'
    assert await api.get("/v1/models") == {"id": "x"}
    assert server.seen[0].headers["authorization"].startswith("Bearer ")


async def test_a_post_returns_the_answer_and_its_headers_in_lower_case(api: Api, server: Server) -> None:
    body, headers = await api.post("/v1/x", {"a": 1})
    assert body == {}
    assert headers["x-some-header"] == "yes"
    assert server.seen[0].method == "POST"
    assert server.seen[0].headers["content-type"] == "application/json"
    assert await api.delete("/v1/models/x") == {}
    assert server.seen[1].method == "DELETE"


async def test_a_refusal_is_told_in_its_own_words(api: Api, server: Server) -> None:
    server.status, server.body = 404, b'{"error": {"message": "No such thing.", "code": "not_found"}}'
    with pytest.raises(ApiError) as caught:
        await api.get("/v1/x")
    assert (caught.value.message, caught.value.status, caught.value.code) == ("No such thing.", 404, "not_found")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": null}', b"null"])
def test_a_refusal_without_words_is_told_by_its_number(body: bytes) -> None:
    error = error_of(502, body)
    assert error.status == 502
    assert "502" in error.message


def test_a_refusal_may_be_words_alone_as_ollamas_are() -> None:
    error = error_of(404, b'{"error": "model not found"}')
    assert (error.message, error.status) == ("model not found", 404)


async def test_lines_come_one_by_one_and_an_error_line_is_raised(api: Api, server: Server) -> None:
    server.body = b'{"a": 1}\n{"a": 2}\n{"error": {"message": "Broken.", "code": "x"}}\n'
    lines = api.lines("/oproxy/pull", {})
    assert [await anext(lines), await anext(lines)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(ApiError, match="Broken"):
        await anext(lines)


async def test_the_last_line_needs_no_newline(api: Api, server: Server) -> None:
    server.body = b'{"a": 1}\n{"a": 2}'
    assert [line async for line in api.lines("/oproxy/pull", {})] == [{"a": 1}, {"a": 2}]


async def test_events_end_with_done_and_comments_are_nothing(api: Api, server: Server) -> None:
    server.body = b': wait\n\ndata: {"a": 1}\n\ndata: [DONE]\n\ndata: {"a": 2}\n\n'
    heads: list[str] = []
    events = api.events("/v1/x", {}, head=lambda headers: heads.append(headers["x-some-header"]))
    assert [event async for event in events] == [{"a": 1}]
    assert heads == ["yes"]


async def test_an_error_event_is_raised(api: Api, server: Server) -> None:
    server.body = b'data: {"error": {"message": "Broken.", "code": null}}\n\n'
    with pytest.raises(ApiError, match="Broken"):
        [event async for event in api.events("/v1/x", {})]


async def test_a_connection_that_breaks_is_told(api: Api, server: Server) -> None:
    server.body, server.cut = b'data: {"a": 1}\n\n', True
    with pytest.raises(ApiError, match="was lost"):
        [event async for event in api.events("/v1/x", {})]


async def test_a_stream_without_its_end_is_an_error(api: Api, server: Server) -> None:
    server.body = b'data: {"a": 1}\n\n'
    events = api.events("/v1/x", {})
    assert await anext(events) == {"a": 1}
    with pytest.raises(ApiError, match="ended before its end"):
        await anext(events)


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b""])
async def test_an_answer_that_is_no_json_is_told(api: Api, server: Server, body: bytes) -> None:
    server.body = body
    with pytest.raises(ApiError, match="not JSON"):
        await api.get("/v1/x")
