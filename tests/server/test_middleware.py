"""Who is let in, what every answer carries, and how a refusal looks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ollama_proxy.server.routes import ROUTES

from .conftest import Setup


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:11435", "app.localhost"])
async def test_a_loopback_host_is_served(setup: Setup, host: str) -> None:
    async with setup.http.get("/v1/models", headers={"host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.5", "localhost.evil.example"])
async def test_a_foreign_host_is_refused(setup: Setup, host: str) -> None:
    async with setup.http.get("/v1/models", headers={"host": host}) as response:
        body = await response.json()
        assert response.status == 403
        assert body["error"]["type"] == "invalid_request_error"
        assert "allowed_hosts" in body["error"]["message"]


async def test_a_page_of_another_origin_is_refused_and_our_own_is_not(setup: Setup) -> None:
    async with setup.http.get("/v1/models", headers={"origin": "http://evil.example"}) as response:
        assert response.status == 403
        assert "access-control-allow-origin" not in response.headers
    assert " GET /v1/models 403 from http://evil.example " in setup.proxy.said[-1]
    async with setup.http.get("/v1/models", headers={"origin": setup.proxy.url}) as response:
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == setup.proxy.url


async def test_an_allowed_origin_gets_its_preflight_without_a_key(start_proxy: Any, setup: Setup) -> None:
    proxy = await start_proxy('[server]\ncors_origins = ["http://app.example"]\n')
    headers = {"origin": "http://app.example", "access-control-request-headers": "authorization, x-custom"}
    async with setup.http.options(f"{proxy.url}/v1/chat/completions", headers=headers) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "http://app.example"
        assert response.headers["access-control-allow-headers"] == "authorization, x-custom"
        assert "POST" in response.headers["access-control-allow-methods"]
        assert "x-oproxy-ignored" in response.headers["access-control-expose-headers"]


async def test_every_answer_carries_its_headers(setup: Setup) -> None:
    for path in ("/v1/models", "/v1/nothing", "/"):
        async with setup.http.get(path) as response:
            assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])
            assert response.headers["openai-version"] == "2020-10-01"
            assert response.headers["openai-processing-ms"].isdigit()
            assert "x-oproxy-backend" not in response.headers
            assert "x-oproxy-model" not in response.headers
    _, _, headers = await setup.chat(verbosity="low", made_up=1)
    assert headers["x-oproxy-backend"] == "ollama"
    assert headers["x-oproxy-model"] == "smollm2:latest"
    assert headers["x-oproxy-ignored"] == "verbosity, made_up"


async def test_names_a_client_made_up_cannot_break_a_header(setup: Setup) -> None:
    status, _, headers = await setup.chat(**{"a\r\nx-evil: 1": 1, "b\x00": 1, "ключ": 1})
    assert status == 200
    assert headers["x-oproxy-ignored"] == "a??x-evil: 1, b?, ????"


async def test_an_unknown_url_and_a_wrong_method_are_told_in_openais_form(setup: Setup) -> None:
    async with setup.http.post("/v1/foo") as response:
        assert response.status == 404
        assert (await response.json())["error"] == {
            "message": "Invalid URL (POST /v1/foo)", "type": "invalid_request_error", "param": None, "code": None,
        }  # fmt: skip
    async with setup.http.put("/v1/chat/completions") as response:
        assert response.status == 405
        assert response.headers["allow"] == "GET, HEAD, POST"
        assert "PUT" in (await response.json())["error"]["message"]


async def test_a_body_that_is_too_large_is_413(start_proxy: Any, setup: Setup) -> None:
    proxy = await start_proxy("[server]\nmax_body = 2048\n")
    async with setup.http.post(f"{proxy.url}/v1/chat/completions", data=b"x" * 5000) as response:
        assert response.status == 413
        assert "2048" in (await response.json())["error"]["message"]


BODIES = [
    b"", b"null", b"[]", b"{", b'{"model": 5}', b'{"model": ""}', b'{"model": "smollm2"}', b"\xff\xfe", b"[" * 100_000,
    b'{"model": "smollm2", "messages": null, "input": null, "prompt": {}}',
    b'{"model": "smollm2", "messages": [null], "input": [[]], "prompt": [[]]}',
    b'{"model": "smollm2", "messages": [{"role": "user", "content": 1e999}], "input": [1.5], "prompt": [1.5]}',
    b'{"model": "\\u0000", "messages": [{"role": "user", "content": "x"}], "input": "x", "prompt": "x"}',
    b'{"model": "../../etc", "messages": [{"role": "user", "content": "x"}], "input": "x", "prompt": "x"}',
]  # fmt: skip


# What is passed on to Ollama is Ollama's to refuse.
OURS = [row for row in ROUTES if row.route.method == "POST" and not row.route.path.startswith("/api/")]


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.route.path)
async def test_no_body_makes_an_accident(setup: Setup, row: Any) -> None:
    for body in BODIES:
        async with setup.http.post(row.route.path, data=body) as response:
            assert response.status < 500, body
            if response.status < 400:
                continue  # a text to be continued may be missing, and a model may be loaded
            answer = await response.json()
            assert "Traceback" not in str(answer)
            anthropics = row.route.path.startswith("/v1/messages")
            assert set(answer["error"]) == ({"type", "message"} if anthropics else {"message", "type", "param", "code"})


async def test_every_path_is_served_with_and_without_the_slash_at_the_end(setup: Setup) -> None:
    for row in ROUTES:
        if row.route.method != "GET" or row.route.path.startswith("/api/"):
            continue
        path = row.route.path.replace("{model}", "smollm2").replace("{name}", "init.js").replace("{key}", "k")
        for each in {path, f"{path}/" if path != "/" else path}:
            async with setup.http.get(each) as response:
                # Keys and sums are shown to administrators only, and sums need to know of what time.
                private = path.startswith(("/oproxy/keys", "/v1/organization"))
                if path == "/v1/responses":
                    # It is a WebSocket.
                    assert response.status == 405
                elif "{" in path and not private:
                    # There is nothing of that name, which the handler says, not the router.
                    assert response.status == 404, each
                    assert "Invalid URL" not in await response.text(), each
                else:
                    assert response.status in ((400, 401, 429) if private else (200,)), each


async def test_each_request_leaves_one_line_without_its_words(setup: Setup) -> None:
    await setup.chat(messages=[{"role": "user", "content": "a secret"}])
    (line,) = [line for line in setup.proxy.said if "chat/completions" in line]
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d POST /v1/chat/completions smollm2 → ollama/smollm2:latest 200 "
        r"\d+\+\d+ tokens, first [\d.]+ m?s, [\d.]+ m?s",
        line,
    )
