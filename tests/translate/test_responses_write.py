"""Events to the stream of the Responses API: the same however they come, in OpenAI's order, and all of it told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy import errors
from ollama_proxy.events import Event, Fail, Finish, Logprob, Note, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.translate import responses
from ollama_proxy.translate.responses_parts import error_of
from ollama_proxy.translate.responses_replay import documents, replay
from ollama_proxy.translate.responses_write import ResponseWriter
from ollama_proxy.translate.shapes_responses import ResponsesRequest
from tests import shapes

from .test_responses_cases import assembled, ordered

ID = "resp_" + "0123456789abcdef" * 3
WORDS = st.text(max_size=10)


def writer(**how: Any) -> ResponseWriter:
    base = responses.echo(ResponsesRequest(model="m", input="x"), id=ID, created=1)
    return ResponseWriter(base, clock=lambda: 2.0, names={"mail__send": ("mail", "send")}, **how)


def read(frames: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(document) for document in documents(frames)]


def written(events: list[Event], **how: Any) -> list[dict[str, Any]]:
    out = writer(**how)
    return read(out.feed(events) + out.flush())


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


TOKENS = st.builds(
    Logprob,
    WORDS,
    st.sampled_from([0.0, -0.5, float("-inf")]),
    st.none() | st.lists(st.integers(0, 255), max_size=3).map(tuple),
    st.lists(st.builds(Logprob, WORDS, st.just(-1.0)), max_size=2).map(tuple),
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """An answer as backends give them; the pieces of its calls may come in any order."""
    events: list[Event] = []
    calls = 0
    for kind in draw(
        st.lists(st.sampled_from(["text", "logprobs", "thought", "refusal", "calls", "custom"]), max_size=6)
    ):
        pieces = draw(st.lists(WORDS, min_size=1, max_size=3))
        match kind:
            case "text":
                events += [Text(0, piece) for piece in pieces]
            case "logprobs":
                events += [Text(0, piece, (draw(TOKENS),)) for piece in pieces]
            case "thought":
                events += [Thinking(0, piece) for piece in pieces]
            case "refusal":
                events += [Refusal(0, piece) for piece in pieces]
            case "custom":
                events += [ToolStart(0, calls, f"call_{calls}", "note", "custom")]
                events += [ToolDelta(0, calls, piece) for piece in pieces]
                calls += 1
            case _:
                some = draw(st.integers(1, 3))
                events += draw(mixed(calls, some))
                calls += some
    events += draw(st.sampled_from([[Usage(5, 3, 1, 2)], []]))
    last = draw(st.sampled_from([Finish(0, "stop"), Finish(0, "length"), Finish(0, "content_filter"), None]))
    return [*events, Note({}), *([last] if last else [Fail(errors.UpstreamFailed("gone", backend="o"))])]


@st.composite
def mixed(draw: st.DrawFn, first: int, some: int) -> list[Event]:
    """Calls made at once, each call's events in their order, those of different calls in any."""
    lanes: list[list[Event]] = []
    for number in range(first, first + some):
        text = json.dumps({"a": draw(WORDS)})
        at = draw(st.integers(1, len(text) - 1))
        name = draw(st.sampled_from(["weather", "mail__send"]))
        start = ToolStart(0, number, f"call_{number}", name)
        lanes.append([start, ToolDelta(0, number, text[:at]), ToolDelta(0, number, text[at:])])
    events: list[Event] = []
    while lanes := [lane for lane in lanes if lane]:
        events.append(lanes[draw(st.integers(0, len(lanes) - 1))].pop(0))
    return events


HOW = st.fixed_dictionaries({name: st.booleans() for name in ("summary", "sealed", "padded", "queued")})


@settings(max_examples=60)
@given(answers(), HOW)
def test_every_event_has_openais_form_and_order(events: list[Event], how: dict[str, bool]) -> None:
    told = written(events, **how)
    for event in told:
        shapes.check_event(event)
    if how["queued"]:
        assert types(told)[:3] == ["created", "queued", "in_progress"]
        told = [told[0], *({**event, "sequence_number": event["sequence_number"] - 1} for event in told[2:])]
    ordered(told)
    assert told[-1]["response"] == assembled(told)


@given(answers(), HOW, st.data())
def test_it_is_the_same_in_whatever_batches_the_events_come(
    events: list[Event], how: dict[str, bool], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(events)))
    whole, cut, single = writer(**how), writer(**how), writer(**how)
    frames = whole.feed(events) + whole.flush()
    assert cut.feed(events[:at]) + cut.feed(events[at:]) + cut.flush() == frames
    assert [frame for event in events for frame in single.feed([event])] + single.flush() == frames
    assert whole.flush() == []
    assert whole.next == len(frames)


@settings(max_examples=300)
@given(answers())
def test_nothing_of_calls_is_lost_in_whatever_order_their_pieces_come(events: list[Event]) -> None:
    starts = {event.call: event.id for event in events if isinstance(event, ToolStart)}
    arguments = dict.fromkeys(starts, "")
    for event in events:
        if isinstance(event, ToolDelta):
            arguments[event.call] += event.arguments
    output = written(events)[-1]["response"]["output"]
    items = {item["call_id"]: item.get("arguments", item.get("input")) for item in output if "call_id" in item}
    assert items == {starts[call]: text for call, text in arguments.items()}
    texts = [part["text"] for item in output if item["type"] == "message" for part in item["content"] if "text" in part]
    assert "".join(texts) == "".join(event.text for event in events if isinstance(event, Text))


@settings(max_examples=60)
@given(answers(), HOW)
def test_a_response_that_is_kept_is_told_again_to_the_same_end(events: list[Event], how: dict[str, bool]) -> None:
    response = written(events, **how)[-1]["response"]
    again = read(replay(response))
    assert again[-1]["response"] == response
    assert replay(response) == replay(again[-1]["response"])


def test_a_response_that_was_cancelled_is_told_up_to_where_it_came() -> None:
    out = writer(queued=True)
    out.response["background"] = True
    frames = out.feed([Text(0, "Hel"), Text(0, "lo")]) + out.cancel()
    assert out.response["status"] == "cancelled"
    assert out.response["output"][0]["status"] == "incomplete"
    assert types(read(frames))[-1] == "output_item.done"
    again = read(replay(json.loads(json.dumps(out.response))))
    assert [each["item"]["status"] for each in again if each["type"] == "response.output_item.done"] == ["incomplete"]
    assert out.feed([Text(0, "more")]) == []
    assert out.flush() == []


def test_pieces_of_calls_that_come_mixed_are_written_one_call_after_the_other() -> None:
    start = [ToolStart(0, number, f"call_{number}", "f") for number in range(2)]
    told = written(
        [*start, ToolDelta(0, 0, '{"a"'), ToolDelta(0, 1, "{"), ToolDelta(0, 0, ":1}"), ToolDelta(0, 1, "}")]
    )
    places = [event["output_index"] for event in told if "output_index" in event]
    assert places == sorted(places)
    assert [item["arguments"] for item in told[-1]["response"]["output"]] == ['{"a":1}', "{}"]
    # What waits is not held back longer than it has to be.
    out = writer()
    first = out.feed([*start, ToolDelta(0, 1, "{}")])
    assert types(read(first))[-1] == "output_item.added"
    assert len(out.feed([ToolDelta(0, 0, "{}")])) == 5


def test_a_call_without_arguments_is_an_empty_object() -> None:
    told = written([ToolStart(0, 0, "call_0", "f"), ToolDelta(0, 0, ""), Finish(0, "tool_calls")])
    assert types(told)[3:5] == ["function_call_arguments.delta", "function_call_arguments.done"]
    assert told[-1]["response"]["output"][0]["arguments"] == "{}"


def test_a_call_that_was_cut_is_incomplete_and_one_that_was_not_is_complete() -> None:
    start = ToolStart(0, 0, "call_0", "f")
    for text, status in (('{"a"', "incomplete"), ('{"a":1}', "completed")):
        (item,) = written([start, ToolDelta(0, 0, text), Finish(0, "length")])[-1]["response"]["output"]
        assert (item["arguments"], item["status"]) == (text, status)


def test_padding_hides_how_long_a_piece_is() -> None:
    told = written([Text(0, "x" * length) for length in range(1, 40)], padded=True)
    sizes = {len(event["delta"]) + len(event["obfuscation"]) for event in told if "delta" in event}
    assert all(size % 16 == 0 for size in sizes)
    assert "obfuscation" not in written([Text(0, "x")])[4]


def test_a_text_without_words_opens_nothing() -> None:
    told = written([Text(0, ""), Thinking(0, ""), Finish(0, "stop")])
    assert types(told) == ["created", "in_progress", "completed"]


def test_thoughts_that_are_sealed_are_in_the_item_when_it_is_done() -> None:
    told = written([Thinking(0, "a"), Text(0, "b")], sealed=True)
    done = next(event["item"] for event in told if event["type"] == "response.output_item.done")
    assert set(done) == {"id", "type", "summary", "content", "encrypted_content"}
    assert done["content"] == [{"type": "reasoning_text", "text": "a"}]


def test_the_usage_of_several_calls_is_their_sum() -> None:
    usage = written([Text(0, "x"), Usage(5, 3, 1, 2), Usage(7, 4)])[-1]["response"]["usage"]
    assert usage == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 19,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UpstreamFailed("gone", backend="o"), "server_error"),
        (errors.UpstreamBusy("busy"), "server_is_overloaded"),
        (errors.Overloaded("full", wait=1), "server_is_overloaded"),
        (errors.ContextTooLong(limit=10, tokens=20), "context_length_exceeded"),
        (errors.RateLimited("slowly", wait=1), "rate_limit_exceeded"),
        (errors.QuotaExceeded(), "insufficient_quota"),
        (errors.Invalid("no"), "invalid_prompt"),
        (errors.Internal("req_1"), "server_error"),
    ],
)
def test_an_error_has_one_of_the_codes_that_responses_have(error: errors.OproxyError, code: str) -> None:
    assert error_of(error) == {"code": code, "message": error.message}
    told = written([Text(0, "x"), Fail(error), Text(0, "y")])
    assert types(told)[-2:] == ["error", "failed"]
    assert told[-2]["error"] == error.body()["error"]
    assert {key: told[-2][key] for key in ("code", "message", "param")} == {
        key: error.body()["error"][key] for key in ("code", "message", "param")
    }
