"""Golden cases of /v1/responses: a request, the call it becomes, the backend's answer, and what the client gets.

A folder under `tests/cases/responses/` is what `tests/test_cases.py` describes; what was said before stands in
`request.json` as items. Every answer is read whole, byte by byte, and cut at every byte; every event and every response
fits OpenAI's own schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ollama_proxy.errors import OproxyError
from ollama_proxy.events import Event, Fail
from ollama_proxy.model import ModelInfo
from ollama_proxy.policy.plan import plan
from ollama_proxy.translate import responses
from ollama_proxy.translate.ollama import WIRE
from ollama_proxy.translate.responses_items import items_of
from ollama_proxy.translate.responses_replay import documents, replay
from ollama_proxy.translate.responses_write import ResponseWriter
from ollama_proxy.translate.shapes_responses import ResponsesRequest
from ollama_proxy.translate.validate import decode
from tests import shapes
from tests.test_cases import CASES, Way, cuts, golden, name, pretty, read, refusal, told

RESPONSES = sorted(folder for folder in (CASES / "responses").glob("*") if folder.is_dir())
ANSWERED = [folder for folder in RESPONSES if (folder / "upstream.ndjson").exists()]
STREAMED = [folder for folder in ANSWERED if json.loads((folder / "request.json").read_bytes()).get("stream")]
ID = "resp_0a1b2c3d4e5f0a1b2c3d4e5f0a1b2c3d4e5f0a1b2c3d4e5f"


class Case(NamedTuple):
    """How a case goes, and what of its request its response repeats."""

    way: Way
    request: ResponsesRequest
    question: responses.Question

    def writer(self) -> ResponseWriter:
        return ResponseWriter(
            responses.echo(self.request, id=ID, created=1700000000),
            clock=lambda: 1700000001.5,
            names=self.question.names,
            summary=self.question.summary,
            sealed=self.question.sealed,
            padded=bool(self.request.stream_options and self.request.stream_options.include_obfuscation),
        )

    def frames(self, batches: Iterable[list[Event]]) -> list[bytes]:
        writer = self.writer()
        return [*(frame for batch in batches for frame in writer.feed(batch)), *writer.flush()]

    def whole(self, batches: Iterable[list[Event]]) -> bytes:
        events = [event for batch in batches for event in batch]
        for event in events:
            if isinstance(event, Fail):
                return refusal(event.error)
        writer = self.writer()
        writer.feed(events)
        writer.flush()
        return pretty(writer.response)


def case_of(folder: Path) -> Case:
    """Parse, plan and write the call. Raises errors.OproxyError for a case that is refused."""
    about = folder / "case.json"
    settings: dict[str, Any] = json.loads(about.read_bytes()) if about.exists() else {}
    info = msgspec.convert({"id": "smollm2:latest", "backend": "ollama", **settings.get("info", {})}, ModelInfo)
    shape, fields = decode((folder / "request.json").read_bytes(), ResponsesRequest)
    responses.check(shape)
    question = responses.parse(shape, fields, items_of(shape.input))
    planned = plan(question.ask, info, WIRE.abilities)
    way = Way(question.ask, planned, WIRE.chat(planned.ask, info), settings.get("status", 200))
    return Case(way, shape, question)


@pytest.mark.parametrize("folder", [folder for folder in RESPONSES if folder not in ANSWERED], ids=name)
def test_a_request_is_refused_before_any_call(folder: Path) -> None:
    with pytest.raises(OproxyError) as caught:
        case_of(folder)
    body = refusal(caught.value)
    assert json.loads(body) == json.loads(golden(folder / "out.json", body))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_a_request_becomes_the_call(folder: Path) -> None:
    case = case_of(folder)
    call = case.way.call
    made = {
        "method": call.method,
        "path": call.path,
        "ignored": list(case.way.plan.ignored),
        "body": json.loads(call.body or b"null"),
    }
    assert made == json.loads(golden(folder / "call.json", pretty(made)))


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_the_answer_becomes_what_the_client_gets(folder: Path) -> None:
    case = case_of(folder)
    upstream = (folder / "upstream.ndjson").read_bytes()
    if case.way.status >= 400:
        out = refusal(WIRE.error(case.way.status, upstream, backend="ollama", model=case.way.ask.model))
        assert json.loads(out) == json.loads(golden(folder / "out.json", out))
    elif folder in STREAMED:
        out = b"".join(case.frames(read(case.way, [upstream])))
        assert out == golden(folder / "out.sse", out)
    else:
        out = case.whole(read(case.way, [upstream]))
        assert json.loads(out) == json.loads(golden(folder / "out.json", out))
        shapes.check("ErrorResponse" if json.loads(out).get("error") else "Response", out)


@pytest.mark.parametrize("folder", STREAMED, ids=name)
def test_a_stream_has_events_of_openais_form_in_their_order(folder: Path) -> None:
    case = case_of(folder)
    frames = case.frames(read(case.way, [(folder / "upstream.ndjson").read_bytes()]))
    events = [json.loads(document) for document in documents(frames)]
    for frame, event in zip(frames, events, strict=True):
        assert frame.startswith(f"event: {event['type']}\ndata: ".encode())
        assert frame.endswith(b"\n\n")
        shapes.check_event(event)
    ordered(events)
    assert events[-1]["response"] == json.loads(msgspec.json.encode(assembled(events)))


def ordered(events: list[dict[str, Any]]) -> None:
    """Check what must hold of each stream: numbers, ids, one item after the other, all that is told is told twice."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    items = events[-1]["response"]["output"]
    assert len({item["id"] for item in items}) == len(items)
    begun = [event for event in events if event["type"] == "response.output_item.added"]
    ended = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in begun] == sorted(event["output_index"] for event in begun)
    assert [event["item"]["id"] for event in begun] == [item["id"] for item in items]
    assert {event["output_index"]: event["item"] for event in ended} == dict(enumerate(items))
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == items[event["output_index"]]["id"]


def assembled(events: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Return the last response with its output put together from the pieces alone, as a client does it."""
    pieces: dict[tuple[Any, ...], str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            place = (event["output_index"], event.get("content_index"), event.get("summary_index"))
            pieces[place] = pieces.get(place, "") + event["delta"]
    response: dict[str, Any] = json.loads(json.dumps(events[-1]["response"]))
    for number, item in enumerate(response["output"]):
        for field in ("arguments", "input"):
            if field in item:
                item[field] = pieces.get((number, None, None), "")
        for index, part in enumerate(item.get("content") or ()):
            part["refusal" if part["type"] == "refusal" else "text"] = pieces[number, index, None]
        for index, part in enumerate(item.get("summary") or ()):
            part["text"] = pieces[number, None, index]
    return response


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_an_answer_says_the_same_wherever_it_is_cut(folder: Path) -> None:
    case = case_of(folder)
    if case.way.status >= 400:
        return  # error bodies are read whole
    upstream = (folder / "upstream.ndjson").read_bytes()
    whole = told(read(case.way, [upstream]))
    written = case.frames(read(case.way, [upstream]))
    for number, pieces in enumerate(cuts(upstream)):
        batches = read(case.way, pieces)
        assert told(batches) == whole
        # What is written comes of the events alone; byte by byte it is written in the smallest steps.
        if number % 16 == 0:
            assert case.frames(batches) == written


@pytest.mark.parametrize("folder", ANSWERED, ids=name)
def test_a_response_that_is_kept_is_streamed_again_to_the_same_end(folder: Path) -> None:
    case = case_of(folder)
    if case.way.status >= 400:
        return
    frames = case.frames(read(case.way, [(folder / "upstream.ndjson").read_bytes()]))
    response = json.loads(documents(frames)[-1])["response"]
    again = [json.loads(document) for document in documents(replay(response))]
    ordered(again)
    assert again[-1]["response"] == response
    assert replay(response) == replay(again[-1]["response"])


def test_there_are_cases() -> None:
    assert len(RESPONSES) >= 40
