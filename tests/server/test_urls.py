"""OPTIONS, wrong methods and paths that are not there; and whose form a refusal has."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from yarl import URL

from ollama_proxy.server.routes import ROUTES

from ..conftest import Start
from .conftest import Setup

CLAUDE = {"anthropic-version": "2023-06-01"}


def example(path: str) -> str:
    return "/".join("x" if step.startswith("{") else step for step in path.split("/"))


async def test_options_and_405_tell_the_methods_of_the_path(setup: Setup) -> None:
    for path in sorted({row.route.path for row in ROUTES}):
        url = example(path)
        async with setup.http.options(url) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-methods"] == response.headers["allow"]
            told = set(response.headers["allow"].split(", "))
        served = {row.route.method for row in ROUTES if row.route.path == path}
        # A path may also be one of another, with a name where this has a word.
        assert served | {"OPTIONS"} <= told, path
        assert ("HEAD" in told) == ("GET" in told) or served == {"HEAD", "POST"}, path
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            async with setup.http.request(method, url, json={}) as response:
                if response.status in (401, 429) or (method, path) == ("GET", "/v1/responses"):
                    # Keys are an administrator's; this one is a WebSocket.
                    continue
                assert (response.status == 405) == (method not in told), (method, path)
                if method not in told:
                    assert set(response.headers["allow"].split(", ")) == told - {"OPTIONS"}, (method, path)


async def test_options_of_a_path_that_is_not_there(setup: Setup) -> None:
    for path in ("/v1/foo", "/foo", "/v1/models/a/b/c/d/../../../../../x"):
        async with setup.http.options(path) as response:
            assert response.status == 404
            assert (await response.json())["error"]["message"].startswith("Invalid URL (OPTIONS ")
    # A page's script may read the 404 of the request itself.
    asked = {"origin": setup.proxy.url, "access-control-request-method": "PATCH"}
    async with setup.http.options("/v1/foo", headers=asked) as response:
        assert (response.status, response.headers["access-control-allow-methods"]) == (204, "OPTIONS, PATCH")
        assert response.headers["access-control-allow-origin"] == setup.proxy.url


async def test_options_of_what_openai_has_and_of_what_is_forwarded(start_proxy: Start) -> None:
    proxy = await start_proxy('[backends.up]\ntype = "openai"\nurl = "http://127.0.0.1:9/v1"\nserves = ["audio"]\n')
    expected = {
        "/v1/vector_stores": "GET, HEAD, OPTIONS, POST",
        "/v1/audio/speech": "OPTIONS, POST",
        "/v1/audio/brand_new": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
    }
    async with aiohttp.ClientSession(proxy.url) as http:
        for path, allowed in expected.items():
            async with http.options(path) as response:
                assert (response.status, response.headers["allow"]) == (204, allowed)
        async with http.put("/v1/vector_stores") as response:
            assert (response.status, response.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("path", "base", "goes"),
    [
        ("/chat/completions", "/v1", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1", "/v1/chat/completions"),
        ("/v1/v1/vector_stores/x", "/v1", "/v1/vector_stores/x"),
        ("/v1/v1/messages", "", "/v1/messages"),
        ("/v1/api/generate", "", "/api/generate"),
    ],
)
async def test_a_url_that_is_nearly_right_is_told_the_base_url(setup: Setup, path: str, base: str, goes: str) -> None:
    url = URL(f"{setup.proxy.url}{path}", encoded=True)
    async with setup.http.post(url, json={}) as response:
        assert response.status == 404
        message = (await response.json())["error"]["message"]
    assert message == (
        f"Invalid URL (POST {path}). "
        f"(HINT: Set the base URL to {setup.proxy.url}{base}; this request then goes to {goes}.)"
    )


async def test_azures_path_is_told_the_base_url_and_the_model(setup: Setup) -> None:
    path = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    async with setup.http.post(path, json={}) as response:
        assert response.status == 404
        assert "the model 'my-gpt'" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "type"),
    [
        ("GET", "/v1/models/nope", None, 404, "not_found_error"),
        ("GET", "/v1/nowhere", None, 404, "not_found_error"),
        ("GET", "/nowhere", None, 404, "not_found_error"),
        ("GET", "/v1/skills", None, 404, "not_found_error"),
        ("POST", "/v1/complete", b"{}", 404, "not_found_error"),
        ("GET", "/v1/files/file-x", None, 404, "not_found_error"),
        ("POST", "/v1/files", b"{}", 400, "invalid_request_error"),
        ("PUT", "/v1/models", None, 405, "invalid_request_error"),
        ("POST", "/v1/chat/completions", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/messages/batches", b"{}", 404, "not_found_error"),
        ("OPTIONS", "/v1/nowhere", None, 404, "not_found_error"),
    ],
)
async def test_anthropics_clients_get_anthropics_errors_everywhere(
    setup: Setup, method: str, path: str, body: bytes | None, status: int, type: str
) -> None:
    async with setup.http.request(method, path, data=body, headers=CLAUDE) as response:
        answer: Any = await response.json()
        assert (response.status, answer["type"], answer["error"]["type"]) == (status, "error", type)
        assert set(answer) == {"type", "error", "request_id"}
        assert answer["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]


async def test_anthropics_clients_are_refused_at_the_door_in_their_form(start_proxy: Start) -> None:
    proxy = await start_proxy("[auth]\nmode = 'on'\nfailures = 1\n[server]\nmax_body = 1024\n")
    found = []
    async with aiohttp.ClientSession(proxy.url, headers=CLAUDE) as http:
        for path, data, headers in (
            ("/v1/files", b"x" * 2000, {}),
            ("/v1/models", b"x" * 2000, {}),
            ("/v1/models", b"", {"x-api-key": "sk-wrong"}),
            # Who tries another one guesses.
            ("/v1/models", b"", {"x-api-key": "sk-other"}),
            ("/v1/models", b"", {"origin": "https://evil.example"}),
        ):
            async with http.post(path, data=data, headers=headers) as response:
                answer = await response.json()
                found.append((response.status, answer["type"], answer["error"]["type"]))
    assert found == [
        (401, "error", "authentication_error"),
        (413, "error", "request_too_large"),
        (401, "error", "authentication_error"),
        (429, "error", "rate_limit_error"),
        (403, "error", "permission_error"),
    ]


async def test_the_header_changes_nothing_at_ollamas_door(setup: Setup) -> None:
    async with setup.http.post("/api/show", json={"model": "nope"}, headers=CLAUDE) as response:
        assert set(await response.json()) == {"error"}
