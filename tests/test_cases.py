"""Golden cases: a client's request, the call it becomes, the backend's answer, and what the client gets.

A folder under `cases/chat/` holds `request.json`; then either `out.json` with the refusal, or `call.json`,
`upstream.ndjson` (a recorded answer of Ollama) and `out.json` or `out.sse`. `case.json`, where there is one, tells
what is known of the model (`info`) and the status of the backend's answer (`status`). `REGEN=1` rewrites what is
computed. Every backend answer is read whole, byte by byte, and cut at every byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ollama_proxy.errors import OproxyError
from ollama_proxy.events import Event, Fail, Finish, Note, ToolStart
from ollama_proxy.framing import DONE, sse
from ollama_proxy.model import Ask, Call, ModelInfo
from ollama_proxy.policy.plan import Plan, plan
from ollama_proxy.translate import chat
from ollama_proxy.translate.ollama import WIRE

CASES = Path(__file__).parent / "cases"
CHAT = sorted(folder for folder in (CASES / "chat").glob("*") if folder.is_dir())
ANSWERED = [folder for folder in CHAT if (folder / "upstream.ndjson").exists()]
REGEN = os.environ.get("REGEN") == "1"


class Way(NamedTuple):
    """How a case goes: what the client asks, how the backend is asked, and the status it answers with."""

    ask: Ask
    plan: Plan
    call: Call
    status: int


def way_of(folder: Path) -> Way:
    """Parse, plan and write the call. Raises errors.OproxyError for a case that is refused."""
    about = folder / "case.json"
    settings: dict[str, Any] = json.loads(about.read_bytes()) if about.exists() else {}
    info = msgspec.convert({"id": "smollm2:latest", "backend": "ollama", **settings.get("info", {})}, ModelInfo)
    ask = chat.parse((folder / "request.json").read_bytes())
    planned = plan(ask, info, WIRE.abilities)
    return Way(ask, planned, WIRE.chat(planned.ask, info), settings.get("status", 200))


def golden(path: Path, made: bytes) -> bytes:
    """Return what the file says; rewrite it first when asked to."""
    if REGEN:
        path.write_bytes(made)
    return path.read_bytes()


def pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def refusal(error: OproxyError) -> bytes:
    return pretty({"status": error.status, **error.body()})


# --- the way back ---------------------------------------------------------------------------------------------------


def read(way: Way, pieces: Iterable[bytes]) -> list[list[Event]]:
    """Read a backend's answer and undo the plan, as the engine does; one batch of events a piece."""
    reader = WIRE.chat_reader(way.plan.ask, backend="ollama")
    filters = way.plan.filters()

    def through(events: list[Event], first: int = 0) -> list[Event]:
        for step in filters[first:]:
            events = step.feed(events)
        return events

    batches = [through(reader.feed(piece)) for piece in pieces]
    batches.append(through(reader.flush()))
    batches += [through(step.flush(), number + 1) for number, step in enumerate(filters)]
    return [[with_id(event) for event in batch] for batch in batches]


def with_id(event: Event) -> Event:
    """Give a call without an id one, as the engine does."""
    if isinstance(event, ToolStart) and not event.id:
        return msgspec.structs.replace(event, id=f"call_{event.call}")
    return event


def told(batches: Iterable[list[Event]]) -> list[Any]:
    """Flatten what was read, without what only the books want; errors by what they say."""
    events = [event for batch in batches for event in batch if not isinstance(event, Note)]
    return [("fail", event.error.body()) if isinstance(event, Fail) else event for event in events]


def streamed(ask: Ask, batches: Iterable[list[Event]]) -> bytes:
    writer = chat.ChunkWriter(
        id="chatcmpl-case",
        created=1700000000,
        model=ask.model,
        include_usage=ask.include_usage,
        legacy_functions=bool(ask.extra.get("legacy_functions")),
        include_obfuscation=bool(ask.extra.get("include_obfuscation")),
    )
    chunks = [chunk for batch in batches for chunk in writer.feed(batch)]
    return b"".join(sse(chunk) for chunk in [*chunks, *writer.flush()]) + DONE


def gathered(ask: Ask, batches: Iterable[list[Event]]) -> bytes:
    events = [event for batch in batches for event in batch]
    legacy = bool(ask.extra.get("legacy_functions"))
    try:
        body = chat.whole(events, id="chatcmpl-case", created=1700000000, model=ask.model, legacy_functions=legacy)
    except OproxyError as error:
        return refusal(error)
    return msgspec.json.format(body, indent=2) + b"\n"


def cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


# --- the tests ------------------------------------------------------------------------------------------------------


def name(folder: Path) -> str:
    return folder.name


@pytest.mark.parametrize("folder", [folder for folder in CHAT if folder not in ANSWERED], ids=name)
def test_a_request_is_refused_before_any_call(folder: Path) -> None:
    with pytest.raises(OproxyError) as caught:
        way_of(folder)
    body = refusal(caught.value)
    assert json.loads(body) == json.loads(golden(folder / "out.json", body))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_a_request_becomes_the_call(folder: Path) -> None:
    call = way_of(folder).call
    made = {"method": call.method, "path": call.path, "body": json.loads(call.body or b"null")}
    assert made == json.loads(golden(folder / "call.json", pretty(made)))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_the_answer_becomes_what_the_client_gets(folder: Path) -> None:
    way = way_of(folder)
    upstream = (folder / "upstream.ndjson").read_bytes()
    if way.status >= 400:
        body = refusal(WIRE.error(way.status, upstream, backend="ollama", model=way.ask.model))
        assert json.loads(body) == json.loads(golden(folder / "out.json", body))
    elif way.ask.stream:
        out = streamed(way.ask, read(way, [upstream]))
        assert out == golden(folder / "out.sse", out)
    else:
        out = gathered(way.ask, read(way, [upstream]))
        assert json.loads(out) == json.loads(golden(folder / "out.json", out))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_an_answer_says_the_same_wherever_it_is_cut(folder: Path) -> None:
    way = way_of(folder)
    if way.status >= 400:
        return  # error bodies are read whole
    upstream = (folder / "upstream.ndjson").read_bytes()
    whole = told(read(way, [upstream]))
    assert any(isinstance(event, Finish | tuple) for event in whole), "an answer ends in Finish or Fail"
    for pieces in cuts(upstream):
        assert told(read(way, pieces)) == whole


def test_there_are_cases() -> None:
    assert len(CHAT) >= 40
