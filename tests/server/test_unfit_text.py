"""Text that PostgreSQL does not hold (NUL, half of a surrogate pair) is refused where it is checked, cleaned where it
is only booked, and never a failure of the database; on both databases alike."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import yarl

from tests.conftest import Start
from tests.fakes.ollama import FakeOllama
from tests.server.conftest import config
from tests.store.databases import server

__all__ = ["server"]

WORD = "the-daemons-own-word"
NUMBERS = itertools.count()
UNFIT = ("a\0b", "\0", "a\ud800b", "\udfff")


@pytest.fixture(params=["sqlite", "postgresql"])
async def http(
    request: pytest.FixtureRequest, start_proxy: Start, ollama: FakeOllama
) -> AsyncIterator[aiohttp.ClientSession]:
    store = ""
    if request.param == "postgresql":
        folder: Path = request.getfixturevalue("server")
        name = f"unfit{os.getpid()}_{next(NUMBERS)}"
        with psycopg.connect(f"host={folder} user=oproxy dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        store = f'url = "postgresql://oproxy@/{name}?host={folder}"'
    proxy = await start_proxy(
        config(ollama.url, f"[store]\n{store}\n[logs]\nrequests = false\n"), books=True, control=WORD
    )
    async with aiohttp.ClientSession(proxy.url, headers={"authorization": f"Bearer {WORD}"}) as session:
        yield session


def bodies(bad: str) -> list[tuple[str, str, dict[str, Any]]]:
    hello = [{"role": "user", "content": "hi"}]
    return [
        ("POST", "/v1/organization/admin_api_keys", {"name": bad}),
        ("POST", "/oproxy/keys", {"name": bad}),
        ("POST", "/oproxy/keys", {"name": f"x{len(bad)}{ord(bad[-1])}", "tags": [bad]}),
        ("POST", "/oproxy/keys", {"name": f"y{len(bad)}{ord(bad[-1])}", "models": [bad], "endpoints": [bad]}),
        ("POST", "/oproxy/keys", {"name": f"z{len(bad)}{ord(bad[-1])}", "model": bad}),
        ("POST", "/v1/conversations", {"metadata": {"k": bad}}),
        ("POST", "/v1/conversations", {"metadata": {bad: "v"}}),
        ("POST", "/v1/conversations", {"items": [{"type": "message", "role": "user", "content": bad}]}),
        (
            "POST",
            "/v1/chat/completions",
            {"model": "smollm2", "messages": hello, "metadata": {"k": bad}},
        ),
        ("POST", "/v1/chat/completions", {"model": bad, "messages": hello}),
        ("POST", "/v1/chat/completions", {"model": "smollm2", "messages": hello, "user": bad}),
        ("POST", "/v1/responses", {"model": "smollm2", "input": bad, "metadata": {"k": bad}}),
        ("POST", "/v1/responses", {"model": "smollm2", "input": "hi", "previous_response_id": bad}),
        ("POST", "/v1/responses", {"model": "smollm2", "input": "hi", "conversation": bad}),
        ("POST", "/v1/batches", {"input_file_id": bad, "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
        ("POST", "/v1/uploads", {"filename": bad, "purpose": "batch", "bytes": 1, "mime_type": bad}),
    ]


async def test_bodies_with_unfit_text(http: aiohttp.ClientSession) -> None:
    for bad in UNFIT:
        for method, path, body in bodies(bad):
            data = json.dumps(body).encode()
            async with http.request(method, path, data=data, headers={"content-type": "application/json"}) as response:
                text = await response.text()
            assert response.status < 500, (path, body, text)
            if "admin_api_keys" in path or body.get("name") == bad:
                assert response.status == 400, (path, body, text)


async def test_paths_and_queries_with_unfit_text(http: aiohttp.ClientSession) -> None:
    for bad in ("a%00b", "%00", "%ED%A0%80"):
        for path in (
            f"/v1/files/{bad}",
            f"/v1/files/{bad}/content",
            f"/v1/uploads/{bad}/cancel",
            f"/v1/responses/{bad}",
            f"/v1/responses/{bad}/input_items",
            f"/v1/conversations/{bad}",
            f"/v1/conversations/{bad}/items/{bad}",
            f"/v1/chat/completions/{bad}",
            f"/v1/batches/{bad}",
            f"/v1/models/{bad}",
            f"/v1/organization/admin_api_keys/{bad}",
            f"/oproxy/keys/{bad}/usage",
            f"/v1/files?after={bad}",
            f"/v1/files?purpose={bad}",
            f"/v1/batches?after={bad}",
            f"/v1/chat/completions?metadata[k]={bad}",
            f"/v1/chat/completions?metadata[{bad}]=v",
            f"/v1/chat/completions?model={bad}",
            f"/v1/chat/completions?after={bad}",
            f"/v1/organization/usage/completions?start_time=0&models={bad}",
            f"/v1/organization/usage/completions?start_time=0&api_key_ids={bad}",
        ):
            for method in ("GET", "DELETE"):
                url = yarl.URL(str(http._base_url).rstrip("/") + path, encoded=True)
                async with http.request(method, url) as response:
                    text = await response.text()
                assert response.status < 500, (method, path, text)


async def test_files_with_unfit_names(http: aiohttp.ClientSession) -> None:
    for bad in (b"a\0b.jsonl", b"a\xed\xa0\x80.jsonl", b"a%00b.jsonl"):
        body = (
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="' + bad + b'"\r\n\r\n{}\r\n--x--\r\n'
        )
        async with http.post(
            "/v1/files", data=body, headers={"content-type": "multipart/form-data; boundary=x"}
        ) as got:
            assert got.status < 500, (bad, await got.text())
