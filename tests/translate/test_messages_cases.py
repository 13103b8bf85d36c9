"""Golden cases of Anthropic's messages: a request, the call it becomes, the backend's answer, and what the client gets.

A folder under `tests/cases/messages/` is what `tests/test_cases.py` describes; refusals are Anthropic's. Every answer
is read whole, byte by byte, and cut at every byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_proxy.errors import OproxyError
from ollama_proxy.events import Event, Finish
from ollama_proxy.model import ModelInfo
from ollama_proxy.policy.plan import plan
from ollama_proxy.translate import messages, messages_errors
from ollama_proxy.translate.ollama import WIRE
from ollama_proxy.translate.shapes_messages import MessagesRequest
from ollama_proxy.translate.validate import decode
from tests.test_cases import CASES, Way, cuts, golden, name, pretty, read, told

MESSAGES = sorted(folder for folder in (CASES / "messages").glob("*") if folder.is_dir())
ANSWERED = [folder for folder in MESSAGES if (folder / "upstream.ndjson").exists()]
Batches = Iterable[list[Event]]


def way_of(folder: Path) -> tuple[Way, MessagesRequest]:
    """Parse, plan and write the call. Raises errors.OproxyError for a case that is refused."""
    about = folder / "case.json"
    settings: dict[str, Any] = json.loads(about.read_bytes()) if about.exists() else {}
    info = msgspec.convert({"id": "smollm2:latest", "backend": "ollama", **settings.get("info", {})}, ModelInfo)
    shape, fields = decode((folder / "request.json").read_bytes(), MessagesRequest)
    ask = messages.parse_shape(shape, fields)
    planned = plan(ask, info, WIRE.abilities)
    return Way(ask, planned, WIRE.chat(planned.ask, info), settings.get("status", 200)), shape


def refusal(error: OproxyError) -> bytes:
    return pretty({"status": messages_errors.status(error), **messages_errors.body(error, "req_case")})


def streamed(shape: MessagesRequest, batches: Batches) -> bytes:
    writer = messages.MessageWriter(
        id="msg_case",
        model=shape.model,
        thoughts=messages.thoughts_of(shape),
        stops=shape.stop_sequences or (),
        request_id="req_case",
    )
    frames = [frame for batch in batches for frame in writer.feed(batch)]
    return b"".join([*frames, *writer.flush()])


def gathered(shape: MessagesRequest, batches: Batches) -> bytes:
    events = [event for batch in batches for event in batch]
    thoughts, stops = messages.thoughts_of(shape), shape.stop_sequences or ()
    try:
        body = messages.whole(events, id="msg_case", model=shape.model, thoughts=thoughts, stops=stops)
    except OproxyError as error:
        return refusal(error)
    return msgspec.json.format(body, indent=2) + b"\n"


@pytest.mark.parametrize("folder", [folder for folder in MESSAGES if folder not in ANSWERED], ids=name)
def test_a_request_is_refused_before_any_call(folder: Path) -> None:
    with pytest.raises(OproxyError) as caught:
        way_of(folder)
    body = refusal(caught.value)
    assert json.loads(body) == json.loads(golden(folder / "out.json", body))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_a_request_becomes_the_call(folder: Path) -> None:
    way, _ = way_of(folder)
    ignored = list(messages.renamed(way.plan.ignored))
    made = {
        "method": way.call.method,
        "path": way.call.path,
        "body": json.loads(way.call.body or b"null"),
        "ignored": ignored,
    }
    assert made == json.loads(golden(folder / "call.json", pretty(made)))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_the_answer_becomes_what_the_client_gets(folder: Path) -> None:
    way, shape = way_of(folder)
    upstream = (folder / "upstream.ndjson").read_bytes()
    if way.status >= 400:
        body = refusal(WIRE.error(way.status, upstream, backend="ollama", model=way.ask.model))
        assert json.loads(body) == json.loads(golden(folder / "out.json", body))
    elif way.ask.stream:
        out = streamed(shape, read(way, [upstream]))
        assert out == golden(folder / "out.sse", out)
    else:
        out = gathered(shape, read(way, [upstream]))
        assert json.loads(out) == json.loads(golden(folder / "out.json", out))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_an_answer_says_the_same_wherever_it_is_cut(folder: Path) -> None:
    way, shape = way_of(folder)
    if way.status >= 400:
        return  # error bodies are read whole
    upstream = (folder / "upstream.ndjson").read_bytes()
    batches = read(way, [upstream])
    whole, written = told(batches), streamed(shape, batches)
    assert any(isinstance(event, Finish | tuple) for event in whole), "an answer ends in Finish or Fail"
    for pieces in cuts(upstream):
        batches = read(way, pieces)
        assert told(batches) == whole
        assert streamed(shape, batches) == written


def test_there_are_cases() -> None:
    assert len(MESSAGES) >= 25
