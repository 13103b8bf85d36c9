"""Golden cases of /v1/moderations: a request, the calls it becomes, what the backend answers, and what the client gets.

A folder under `cases/moderations/` holds `request.json`, `case.json` (the model that judges), `calls.json` (all that is
asked of it), `upstream.ndjson` (an answer a line, in the order of the calls) and `out.json`. `REGEN=1` rewrites what is
computed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_proxy.errors import OproxyError
from ollama_proxy.events import Fail
from ollama_proxy.model import Call, ModelInfo
from ollama_proxy.policy import guard
from ollama_proxy.policy.plan import plan
from ollama_proxy.server.judging import conversation, gathered, raw
from ollama_proxy.translate import moderations, validate
from ollama_proxy.translate.ollama import WIRE
from ollama_proxy.translate.shapes_moderations import ModerationRequest
from ollama_proxy.translate.wire import Reader

CASES = Path(__file__).parents[1] / "cases" / "moderations"
FOLDERS = sorted(CASES.iterdir())
REGEN = os.environ.get("REGEN") == "1"


def put(question: guard.Question, info: ModelInfo) -> tuple[Call, Reader]:
    """Return the call for one question, and who reads its answer."""
    if question.prompt:
        text = msgspec.structs.replace(raw(question, info.id), model=info.id)
        return WIRE.complete(text, info), WIRE.completion_reader(text, backend="ollama")
    ask = plan(conversation(question, info.id), info, WIRE.abilities).ask
    return WIRE.chat(ask, info), WIRE.chat_reader(ask, backend="ollama")


def way(folder: Path) -> tuple[bytes, bytes]:
    """Return all calls, and the answer, as JSON."""
    info = msgspec.convert({"backend": "ollama", **json.loads((folder / "case.json").read_bytes())}, ModelInfo)
    judge = guard.judge_of(info)
    try:
        ask = moderations.parse_shape(*validate.decode((folder / "request.json").read_bytes(), ModerationRequest))
    except OproxyError as exc:
        return b"[]\n", pretty(exc.body())
    puts = [guard.questions(judge, thing) for thing in ask.things]
    pairs = [put(question, info) for each in puts for question in each]
    lines = (folder / "upstream.ndjson").read_bytes().splitlines()
    events: list[Any] = []
    for index, ((_, reader), line) in enumerate(zip(pairs, lines, strict=True)):
        for event in [*reader.feed(line + b"\n"), *reader.flush()]:
            assert not isinstance(event, Fail), event.error
            events.append(msgspec.structs.replace(event, index=index) if hasattr(event, "index") else event)
    answers = iter(gathered(events, len(pairs)))
    scores = [guard.scores(judge, [next(answers) for _ in each]) for each in puts]
    out = moderations.write(ask, [each for each in scores if each is not None], id="modr-1")
    calls = [{"path": call.path, "body": json.loads(call.body or b"null")} for call, _ in pairs]
    return pretty(calls), pretty(json.loads(out))


def pretty(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_case_is_asked_and_answered_as_it_is_written_down(folder: Path) -> None:
    calls, out = way(folder)
    if REGEN:
        (folder / "calls.json").write_bytes(calls)
        (folder / "out.json").write_bytes(out)
    assert (folder / "calls.json").read_bytes() == calls
    assert (folder / "out.json").read_bytes() == out


def test_there_is_a_case_of_every_judge() -> None:
    judges = {
        guard.judge_of(ModelInfo(id=json.loads((folder / "case.json").read_bytes())["id"], backend="o"))
        for folder in FOLDERS
    }
    assert judges == {"llama-guard", "shieldgemma", "granite-guardian", "chat"}
