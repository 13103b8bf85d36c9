"""Going on with an earlier conversation, with a fake Ollama behind the application in this process."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.cli.chat import once
from ollama_proxy.cli.client import connect
from ollama_proxy.cli.failure import Failure
from ollama_proxy.cli.resume import place, remember, remembered, resume
from ollama_proxy.cli.session import Session
from tests.fakes.ollama import FakeOllama


def said(content: str) -> list[dict[str, Any]]:
    """Return the records of a short answer."""
    record = {"model": "smollm2", "message": {"role": "assistant", "content": content}, "done": False}
    done = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return [record, {**record, **done, "prompt_eval_count": 9, "eval_count": 3}]


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


async def ask(config: Path, text: str, going_on: str = "", system: str = "") -> None:
    session = Session(model="smollm2", system=system)
    await once(session, text, config, going_on, stream=True, stats=False, as_json=False)


async def test_a_question_later_goes_on_where_the_last_one_ended(
    config: Path, ollama: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer in ("Hello.", "Fine.", "Bye."):
        ollama.play("/api/chat", said(answer))
    await ask(config, "Hi", system="Be brief.")
    await ask(config, "How are you?", remembered())
    await ask(config, "Leave", remembered())

    messages = ollama.asked("/api/chat")[-1]["messages"]
    assert [each["content"] for each in messages] == [
        "Be brief.", "Hi", "Hello.", "How are you?", "Fine.", "Leave"
    ]  # fmt: skip
    told = capsys.readouterr().err
    assert "Going on with a conversation of 4 messages." in told
    assert ">>> How are you?" in told


async def test_the_session_has_all_turns_and_what_the_server_keeps(config: Path, ollama: FakeOllama) -> None:
    ollama.play("/api/chat", said("Hello."))
    await ask(config, "Hi")
    session = Session()
    async with connect(config) as api:
        await resume(api, session, remembered())
    assert session.turns == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert session.marks == [(2, remembered())]


async def test_what_the_server_has_forgotten_is_sent_again(config: Path, ollama: FakeOllama) -> None:
    for answer in ("Hello.", "Fine."):
        ollama.play("/api/chat", said(answer))
    session = Session(model="smollm2")
    await once(session, "Hi", config, "", stream=True, stats=False, as_json=False)
    session.answer("Hello.", "resp_forgotten")
    await once(session, "How are you?", config, "", stream=True, stats=False, as_json=False)
    messages = ollama.asked("/api/chat")[-1]["messages"]
    assert [each["content"] for each in messages] == ["Hi", "Hello.", "How are you?"]


async def test_there_may_be_nothing_to_go_on_with(config: Path) -> None:
    with pytest.raises(Failure, match="no earlier conversation"):
        remembered()
    with pytest.raises(Failure, match="Response with id 'resp_no' not found"):
        await ask(config, "Hi", "resp_no")
    place().parent.mkdir(parents=True)
    place().write_text("nonsense")
    with pytest.raises(Failure, match="no earlier conversation"):
        remembered()


def test_what_is_remembered_is_for_nobody_else() -> None:
    remember("", "m")
    assert not place().exists()
    remember("resp_1", "m")
    remember("resp_2", "m")
    assert remembered() == "resp_2"
    assert stat.S_IMODE(place().stat().st_mode) == 0o600
    assert [path.name for path in place().parent.iterdir()] == ["chat_last.json"]
