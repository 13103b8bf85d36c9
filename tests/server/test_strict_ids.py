"""Ids whose form is looked at only where the settings ask for it."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import config
from tests.shapes import check

CALL = {"type": "message", "role": "assistant", "content": "x", "id": "chatcmpl-abc"}
ASK: dict[str, Any] = {"model": "smollm2", "input": "x"}
CASES: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/conversations/foo", None, "conversation_id"),
    ("POST", "/v1/conversations/foo", {"metadata": {}}, "conversation_id"),
    ("DELETE", "/v1/conversations/foo", None, "conversation_id"),
    ("GET", "/v1/conversations/foo/items", None, "conversation_id"),
    ("POST", "/v1/conversations/foo/items", {"items": []}, "conversation_id"),
    ("GET", "/v1/conversations/foo/items/x", None, "conversation_id"),
    ("POST", "/v1/conversations", {"items": [CALL]}, "items[0].id"),
    ("GET", "/v1/responses/foo", None, "response_id"),
    ("DELETE", "/v1/responses/foo", None, "response_id"),
    ("POST", "/v1/responses/foo/cancel", {}, "response_id"),
    ("GET", "/v1/responses/foo/input_items", None, "response_id"),
    ("POST", "/v1/responses", {**ASK, "conversation": "foo"}, "conversation_id"),
    ("POST", "/v1/responses", {**ASK, "previous_response_id": "foo bar!"}, "previous_response_id"),
    ("POST", "/v1/responses", {**ASK, "previous_response_id": "foo", "background": True}, "previous_response_id"),
    ("POST", "/v1/responses", {"model": "smollm2", "input": [CALL]}, "input[0].id"),
    ("POST", "/v1/responses/input_tokens", {**ASK, "conversation": "foo"}, "conversation_id"),
    ("POST", "/v1/responses/compact", {**ASK, "previous_response_id": "foo"}, "previous_response_id"),
    (
        "POST",
        "/v1/batches",
        {"input_file_id": "wrong-id", "endpoint": "/v1/responses", "completion_window": "24h"},
        "input_file_id",
    ),
]


@pytest.mark.parametrize("strict", [True, False])
async def test_ids_are_looked_at_only_where_the_settings_ask(
    start_proxy: Start, ollama: FakeOllama, strict: bool
) -> None:
    proxy = await start_proxy(config(ollama.url, f"[server]\nstrict_ids = {str(strict).lower()}\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        for method, path, body, param in CASES:
            async with http.request(method, path, json=body) as response:
                status, answer = response.status, await response.json()
            error = answer.get("error") or {}
            told = str(error.get("message")).startswith(f"Invalid '{param}': ")
            assert told == strict, (method, path, answer)
            if strict:
                check("ErrorResponse", answer)
                assert (status, error["param"]) == (400, param)


async def test_what_the_server_made_itself_is_right(start_proxy: Start, ollama: FakeOllama) -> None:
    proxy = await start_proxy(config(ollama.url, "[server]\nstrict_ids = true\n"))
    async with aiohttp.ClientSession(proxy.url) as http:
        async with http.post("/v1/conversations", json={"items": [{"role": "user", "content": "Hi"}]}) as response:
            conversation = (await response.json())["id"]
        async with http.post("/v1/responses", json={**ASK, "conversation": conversation}) as response:
            first = await response.json()
            assert response.status == 200
        async with http.get(f"/v1/conversations/{conversation}/items") as response:
            items = (await response.json())["data"]
        assert len(items) == 3
        again = {"model": "smollm2", "input": [*reversed(items), {"role": "user", "content": "More"}]}
        async with http.post("/v1/responses", json=again) as response:
            assert response.status == 200, await response.text()
        async with http.post("/v1/responses", json={**ASK, "previous_response_id": first["id"]}) as response:
            assert response.status == 200
        async with http.get(f"/v1/responses/{first['id']}") as response:
            assert response.status == 200
