"""The books of a real model: a streamed and a whole answer of the same prompt are booked with the same numbers."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

import openai
import pytest

from .conftest import Daemon

NUMBERS = ("asked", "served", "backend", "prompt", "completion", "reasoning", "exact", "cost", "listed", "tries")


def row(daemon: Daemon, id: str) -> dict[str, Any]:
    with closing(sqlite3.connect(daemon.log.parent / "data" / "oproxy" / "oproxy.db")) as opened:
        opened.row_factory = sqlite3.Row
        found = [dict(row) for row in opened.execute("SELECT * FROM requests WHERE id = ?", (id,))]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_and_a_whole_answer_are_booked_with_the_same_numbers(daemon: Daemon, n: int) -> None:
    if os.environ.get("OPROXY_E2E_URL"):
        pytest.skip("the books are in the daemon's folder, which another run started")
    asked: dict[str, Any] = {
        "model": daemon.chat,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "seed": 7,
        "max_tokens": 12,
        "n": n,
    }
    with openai.OpenAI(base_url=daemon.url, api_key="none", max_retries=0) as client:
        # The first one may fill the model's cache, which is booked too.
        client.chat.completions.create(**asked)
        whole = client.chat.completions.with_raw_response.create(**asked)
        with client.chat.completions.with_streaming_response.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ) as stream:
            lines = [line for line in stream.iter_lines() if line]
        usage = whole.parse().usage

    assert lines[-1] == "data: [DONE]"
    first, second = row(daemon, whole.headers["x-request-id"]), row(daemon, stream.headers["x-request-id"])
    assert {name: first[name] for name in NUMBERS} == {name: second[name] for name in NUMBERS}
    assert (first["stream"], second["stream"]) == (0, 1)
    assert usage is not None
    # What the client was told is what is booked, by the model's own count.
    assert (first["prompt"], first["completion"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert first["exact"] == 1
    assert first["completion"] > 0
    assert f'"total_tokens":{usage.total_tokens}' in lines[-2].replace(" ", "")
