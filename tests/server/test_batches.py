"""Batches over HTTP: made, told of, cancelled, and what their lines leave in files, ledger and limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from ollama_proxy.server.keys import BATCHES
from tests.server.conftest import Setup
from tests.shapes import check

OVER = {"completed", "failed", "expired", "cancelled"}
QUIET = "[logs]\nrequests = false\n"


def line(id: str, text: str = "Hello", url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    """Return a request of a batch."""
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": id, "method": "POST", "url": url, "body": asked}


def jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


class Client:
    """What a client of batches does, by plain HTTP."""

    def __init__(self, http: aiohttp.ClientSession, key: str = "") -> None:
        self.http = http
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    async def upload(self, data: bytes, purpose: str = "batch") -> str:
        form = aiohttp.FormData()
        form.add_field("purpose", purpose)
        form.add_field("file", data, filename="in.jsonl")
        async with self.http.post("/v1/files", data=form, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["id"])

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.http.post(path, json=body, headers=self.headers) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path, headers=self.headers) as response:
            return response.status, await response.json()

    async def submit(self, lines: Sequence[Any] | bytes, **more: Any) -> dict[str, Any]:
        file = await self.upload(lines if isinstance(lines, bytes) else jsonl(lines))
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
        status, batch = await self.post("/v1/batches", asked)
        assert status == 200, batch
        return dict(batch)

    async def batch(self, id: str) -> dict[str, Any]:
        status, batch = await self.get(f"/v1/batches/{id}")
        assert status == 200, batch
        check("Batch", {name: value for name, value in batch.items() if value is not None})
        return dict(batch)

    async def over(self, id: str) -> dict[str, Any]:
        """Return a batch once it is over."""
        async with asyncio.timeout(20):
            while (batch := await self.batch(id))["status"] not in OVER:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return batch

    async def results(self, id: str | None) -> dict[str, dict[str, Any]]:
        """Return the lines of a results file by their custom ids."""
        assert id is not None
        async with self.http.get(f"/v1/files/{id}/content", headers=self.headers) as response:
            assert response.status == 200
            found = [json.loads(each) for each in (await response.text()).splitlines()]
        assert len({each["custom_id"] for each in found}) == len(found)
        return {each["custom_id"]: each for each in found}


@pytest.fixture
async def client(setup: Setup) -> Client:
    setup.proxy.app[BATCHES].lines.first_wait = 0.01
    return Client(setup.http)


async def test_a_batch_is_answered_line_by_line(setup: Setup, client: Client) -> None:
    made = await client.submit([line("a", "one"), line("b", "two")], metadata={"for": "test"})

    assert made["status"] == "validating"
    assert set(made) >= {"id", "object", "errors", "output_file_id", "cancelled_at", "usage", "model"}
    over = await client.over(made["id"])
    assert over["status"] == "completed", over
    assert over["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert over["error_file_id"] is None
    found = await client.results(over["output_file_id"])
    assert set(found) == {"a", "b"}
    assert found["a"]["error"] is None
    assert found["a"]["response"]["status_code"] == 200
    check("CreateChatCompletionResponse", found["a"]["response"]["body"])
    assert over["usage"]["input_tokens"] == 42
    assert over["usage"]["total_tokens"] == 42 + over["usage"]["output_tokens"]
