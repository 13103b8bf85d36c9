"""A daemon that is killed while it answers in the background: the next one answers anew, once, under the same id."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.ollama import FakeOllama

from .conftest import free_port
from .test_kill import daemon, rows

PATH = "/v1/responses"
HOLD = {"hold_after": 1}


def record(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False, **more}


ANSWER = [record("Hel"), record("lo"), record(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)]


async def begin(http: aiohttp.ClientSession, **body: Any) -> Any:
    asked = {"model": "smollm2", "input": "Hello", "background": True, **body}
    async with http.post(PATH, json=asked) as response:
        assert response.status == 200, await response.text()
        if not body.get("stream"):
            return await response.json()
        # The client has seen the first events when the daemon dies.
        first = await response.content.readuntil(b"\n\n")
        return {"id": first.partition(b'"id":"')[2].partition(b'"')[0].decode()}


async def shown(http: aiohttp.ClientSession, id: str, **query: str) -> Any:
    async with http.get(f"{PATH}/{id}", params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def ended(http: aiohttp.ClientSession, id: str) -> Any:
    for _ in range(500):
        if (response := await shown(http, id))["status"] not in ("queued", "in_progress"):
            return response
        await asyncio.sleep(0.02)
    raise AssertionError("it never ended")


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def test_killed_in_the_middle_a_response_in_the_background_is_answered_by_the_next_daemon(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "config.toml"
    url = f"http://127.0.0.1:{port}"
    async with FakeOllama() as ollama:
        config.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
        for _ in range(2):
            ollama.play("/api/chat", ANSWER, **HOLD)
        async with daemon(config, port) as child, aiohttp.ClientSession(url) as http:
            made = await begin(http, metadata={"a": "b"}, instructions="Be brief.")
            followed = await begin(http, stream=True)
            # One that is cancelled stays so.
            ollama.play("/api/chat", ANSWER, **HOLD)
            left = await begin(http, input="left")
            await until(lambda: len(ollama.asked("/api/chat")) == 3)
            async with http.post(f"{PATH}/{left['id']}/cancel") as response:
                assert (await response.json())["status"] == "cancelled"
            assert (await shown(http, made["id"]))["status"] == "in_progress"
            child.send_signal(signal.SIGKILL)
            await asyncio.to_thread(child.wait)
        for _ in range(2):
            ollama.play("/api/chat", ANSWER)
        async with daemon(config, port) as child, aiohttp.ClientSession(url) as http:
            again = await ended(http, made["id"])
            assert (again["status"], again["output"][0]["content"][0]["text"]) == ("completed", "Hello")
            same = ("id", "created_at", "metadata", "instructions", "background", "model")
            assert {name: again[name] for name in same} == {name: made[name] for name in same}
            assert (await ended(http, followed["id"]))["status"] == "completed"
            async with http.get(f"{PATH}/{followed['id']}", params={"stream": "true"}) as response:
                events = (await response.read()).split(b"\n\n")
            assert events[-2].startswith(b"event: response.completed")
            assert [f'"sequence_number":{n},'.encode() in event for n, event in enumerate(events[:-1])] == [True] * (
                len(events) - 1
            )
            # What was begun anew is gone on from like any other.
            body = {"model": "smollm2", "input": "And?", "previous_response_id": made["id"]}
            async with http.post(PATH, json=body) as response:
                assert response.status == 200, await response.text()
            assert [each["content"] for each in ollama.asked("/api/chat")[-1]["messages"]] == ["Hello", "Hello", "And?"]
            assert (await shown(http, left["id"]))["status"] == "cancelled"
            child.send_signal(signal.SIGKILL)
        # A third one has nothing to do anew.
        before = len(ollama.asked("/api/chat"))
        async with daemon(config, port), aiohttp.ClientSession(url) as http:
            assert (await shown(http, made["id"]))["status"] == "completed"
            assert (await shown(http, left["id"]))["status"] == "cancelled"
        assert len(ollama.asked("/api/chat")) == before

    booked = [row for row in rows() if row["endpoint"] == PATH]
    assert len({row["id"] for row in booked}) == len(booked)
    assert [row["status"] for row in booked].count(200) == 3
    with closing(sqlite3.connect(next(Path.home().rglob("oproxy.db")))) as database:
        places = database.execute("SELECT object, number FROM pieces").fetchall()
    assert len(set(places)) == len(places)


async def test_stopped_politely_it_goes_on_as_well(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "config.toml"
    async with FakeOllama() as ollama:
        config.write_text(f'[backends.ollama]\ntype = "ollama"\nurl = "{ollama.url}"\n')
        ollama.play("/api/chat", ANSWER, **HOLD)
        async with daemon(config, port) as child, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            made = await begin(http)
            await until(lambda: bool(ollama.asked("/api/chat")))
            child.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, 20) == 0
        ollama.play("/api/chat", ANSWER)
        async with daemon(config, port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            # Before anybody asks for it.
            await until(lambda: len(ollama.asked("/api/chat")) == 2)
            assert (await ended(http, made["id"]))["status"] == "completed"
