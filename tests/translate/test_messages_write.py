"""Anthropic's answers: events to its stream and to one message, and both back into the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy import model as hub
from ollama_proxy.errors import Overloaded, UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Note, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.framing import SseDecoder
from ollama_proxy.translate import messages
from ollama_proxy.translate.messages_blocks import signed
from ollama_proxy.translate.messages_write import MessageWriter, Thoughts, whole
from ollama_proxy.translate.sealed import seal

CALL: list[Event] = [ToolStart(0, 0, "call_1", "f"), ToolDelta(0, 0, '{"a"'), ToolDelta(0, 0, ":1}")]
USAGE = Usage(prompt=7, completion=5, cached=2, reasoning=1)


def frames(data: Sequence[bytes]) -> list[dict[str, Any]]:
    """Decode frames; each has the name of its event outside and inside."""
    decoder = SseDecoder()
    out = []
    for event in decoder.feed(b"".join(data)):
        body = json.loads(event.data)
        assert event.event == body["type"]
        out.append(body)
    assert decoder.flush() == []
    return out


def stream(events: Sequence[Event], thoughts: Thoughts = "shown", *, batch: int = 1) -> list[dict[str, Any]]:
    writer = MessageWriter(id="msg_1", model='a "model"', thoughts=thoughts, stops=("END",), request_id="req_1")
    data: list[bytes] = []
    for start in range(0, len(events), batch):
        data += writer.feed(events[start : start + batch])
    return frames([*data, *writer.flush()])


def test_a_stream_begins_with_the_estimate_and_ends_with_the_count() -> None:
    writer = MessageWriter(id="msg_1", model="m")
    writer.prompt = 41
    events = frames([*writer.feed([Text(0, "Hi"), Finish(0, "stop"), Usage(40, 2, cached=30)]), *writer.flush()])
    began, ended = events[0]["message"]["usage"], events[-2]["usage"]
    assert (began["input_tokens"], began["cache_read_input_tokens"], began["output_tokens"]) == (41, 0, 0)
    assert (ended["input_tokens"], ended["cache_read_input_tokens"], ended["output_tokens"]) == (10, 30, 2)


def gathered(events: Sequence[Event], thoughts: Thoughts = "shown") -> dict[str, Any]:
    body: dict[str, Any] = json.loads(whole(events, id="msg_1", model='a "model"', thoughts=thoughts, stops=("END",)))
    return body


def assembled(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put a stream together as a client does, and check on the way that it is one block after the other."""
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    message: dict[str, Any] = events[0]["message"]
    opened: int | None = None
    inputs: dict[int, str] = {}
    for event in events[2:-2]:
        index = event["index"]
        match event["type"]:
            case "content_block_start":
                assert (opened, index) == (None, len(message["content"]))
                opened = index
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert opened == index
                block, delta = message["content"][index], event["delta"]
                match delta["type"]:
                    case "input_json_delta":
                        inputs[index] = inputs.get(index, "") + delta["partial_json"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case kind:
                        name = kind.removesuffix("_delta")
                        block[name] += delta[name]
            case "content_block_stop":
                assert opened == index
                opened = None
                if message["content"][index]["type"] == "tool_use":
                    message["content"][index]["input"] = json.loads(inputs[index])
            case other:
                raise AssertionError(other)
    assert opened is None
    message |= events[-2]["delta"]
    message["usage"] |= events[-2]["usage"]
    return message


def test_a_stream_has_anthropics_exact_sequence() -> None:
    events = stream([Text(0, "Hel"), Text(0, "lo"), *CALL, Finish(0, "tool_calls"), USAGE, Note({})])
    assert events[0]["message"] == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": 'a "model"', "content": [],
        "stop_reason": None, "stop_sequence": None, "stop_details": None,
        "usage": {
            "input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
            "output_tokens_details": {"thinking_tokens": 0}, "server_tool_use": None, "service_tier": "standard",
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        },
    }  # fmt: skip
    tool = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}

    def delta(index: int, kind: str, field: str, text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}}

    assert events[1:] == [
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        delta(0, "text_delta", "text", "Hel"),
        delta(0, "text_delta", "text", "lo"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        delta(1, "input_json_delta", "partial_json", ""),
        delta(1, "input_json_delta", "partial_json", '{"a"'),
        delta(1, "input_json_delta", "partial_json", ":1}"),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None},
            "usage": {
                "input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 1},
            },
        },
        {"type": "message_stop"},
    ]  # fmt: skip


def test_one_message_has_every_field() -> None:
    body = gathered([Thinking(0, "hm"), Text(0, "Hi"), *CALL, Finish(0, "tool_calls"), USAGE])
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": signed("hm")},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]
    assert (body["stop_reason"], body["usage"]["input_tokens"], body["usage"]["cache_read_input_tokens"]) == (
        "tool_use", 5, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("finish", "reason", "stop"),
    [
        (Finish(0, "stop"), "end_turn", None),
        (Finish(0, "length"), "max_tokens", None),
        (Finish(0, "tool_calls"), "tool_use", None),
        (Finish(0, "content_filter"), "refusal", None),
        (Finish(0, "stop", "END"), "stop_sequence", "END"),
        # The backend's own end of turn is no stop sequence of the client's.
        (Finish(0, "stop", "<|im_end|>"), "end_turn", None),
    ],
)
def test_why_an_answer_ends(finish: Finish, reason: str, stop: str | None) -> None:
    for body in (gathered([Text(0, "x"), finish]), assembled(stream([Text(0, "x"), finish]))):
        assert (body["stop_reason"], body["stop_sequence"]) == (reason, stop)


def test_a_refusal_is_text_that_ends_so() -> None:
    body = gathered([Refusal(0, "I "), Refusal(0, "won't"), Finish(0, "stop")])
    assert (body["content"], body["stop_reason"]) == ([{"type": "text", "text": "I won't"}], "refusal")


def test_thoughts_that_nobody_asked_for_are_not_shown() -> None:
    events: list[Event] = [Thinking(0, "hm"), Text(0, "Hi"), Finish(0, "stop"), USAGE]
    for body in (gathered(events, "none"), assembled(stream(events, "none"))):
        assert body["content"] == [{"type": "text", "text": "Hi"}]
        assert body["usage"]["output_tokens"] == 5


def test_hidden_thoughts_are_inside_their_signature() -> None:
    events: list[Event] = [Thinking(0, "secret "), Thinking(0, "plan"), Text(0, "Hi"), Finish(0, "stop")]
    for body in (gathered(events, "omitted"), assembled(stream(events, "omitted"))):
        assert body["content"][0] == {"type": "thinking", "thinking": "", "signature": seal("secret plan")}


def test_a_backends_own_signature_is_kept_and_ends_the_thought() -> None:
    events: list[Event] = [Thinking(0, "a"), Thinking(0, "", "sig"), Thinking(0, "b"), Finish(0, "stop")]
    for body in (gathered(events), assembled(stream(events))):
        assert [block["signature"] for block in body["content"]] == ["sig", signed("b")]


def test_calls_that_take_turns_are_written_one_after_the_other() -> None:
    events: list[Event] = [
        ToolStart(0, 0, "call_a", "f"), ToolDelta(0, 0, '{"x":'), ToolStart(0, 1, "b b", "g"), ToolDelta(0, 1, '{"y"'),
        ToolDelta(0, 0, "1}"), ToolDelta(0, 1, ":2}"), Text(0, "done"), Finish(0, "tool_calls"),
    ]  # fmt: skip
    wanted = [
        {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "toolu_b_b", "name": "g", "input": {"y": 2}},
        {"type": "text", "text": "done"},
    ]
    assert gathered(events)["content"] == wanted
    assert assembled(stream(events))["content"] == wanted


def test_a_call_is_closed_as_soon_as_the_next_begins() -> None:
    writer = MessageWriter(id="msg_1", model="m")
    writer.feed(CALL)
    kinds = [frame["type"] for frame in frames(writer.feed([ToolStart(0, 1, "call_2", "g")]))]
    assert kinds == ["content_block_stop", "content_block_start", "content_block_delta"]


@pytest.mark.parametrize(
    ("arguments", "given"), [("", {}), (" ", {}), ("[1]", {"arguments": [1]}), ("{x", {"arguments": "{x"})]
)
def test_the_input_of_a_call_is_always_an_object(arguments: str, given: Any) -> None:
    events: list[Event] = [ToolStart(0, 0, "call_1", "f"), ToolDelta(0, 0, arguments), Finish(0, "tool_calls")]
    assert gathered(events)["content"][0]["input"] == given
    if not arguments:
        assert assembled(stream(events))["content"][0]["input"] == {}


def test_an_answer_of_nothing_is_a_message_all_the_same() -> None:
    events: list[Event] = [Text(0, ""), Thinking(0, ""), Finish(0, "stop"), USAGE]
    assert gathered(events)["content"] == []
    assert [event["type"] for event in stream(events)] == ["message_start", "ping", "message_delta", "message_stop"]
    assert [event["type"] for event in stream([])] == ["message_start", "ping", "message_delta", "message_stop"]


def test_a_failure_is_an_event_and_the_last_one() -> None:
    writer = MessageWriter(id="msg_1", model="m", request_id="req_1")
    writer.feed([Text(0, "Hel")])
    error = {"type": "overloaded_error", "message": "busy"}
    assert frames(writer.feed([Fail(Overloaded("busy", wait=1)), Text(0, "lo")])) == [
        {"type": "error", "error": error, "request_id": "req_1"}
    ]
    assert writer.feed([Text(0, "lo"), Finish(0, "stop")]) == []
    assert writer.flush() == []


def test_a_failure_of_a_whole_answer_is_raised() -> None:
    error = UpstreamFailed("broken")
    with pytest.raises(UpstreamFailed):
        gathered([Text(0, "a"), Fail(error)])


# --- properties ---------------------------------------------------------------------------------------------------

WORDS = st.text(max_size=12)
OBJECTS = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers(-99, 99) | WORDS | st.lists(WORDS, max_size=2), max_size=3
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Make the events of an answer, with arguments in pieces and calls that take turns."""
    out: list[Event] = []
    calls: list[list[Event]] = []
    for kind in draw(st.lists(st.sampled_from(["text", "thinking", "call"]), max_size=6)):
        if kind == "text":
            out += [Text(0, piece) for piece in draw(st.lists(WORDS, max_size=3))]
        elif kind == "thinking":
            out += [Thinking(0, piece) for piece in draw(st.lists(WORDS, max_size=3))]
        else:
            number, text = len(calls), json.dumps(draw(OBJECTS), ensure_ascii=False)
            cut = draw(st.integers(0, len(text)))
            out += [ToolStart(0, number, f"call_{number}", f"f{number}"), ToolDelta(0, number, text[:cut])]
            calls.append([ToolDelta(0, number, text[cut:])])
            late = draw(st.booleans())
            if not late:
                out += calls[number]
                calls[number] = []
    for rest in calls:
        out += rest
    return [*out, Finish(0, "tool_calls" if calls else "stop"), USAGE]


@given(answers(), st.integers(1, 7), st.sampled_from(["shown", "omitted", "none"]))
def test_a_stream_says_what_the_whole_message_says_however_it_is_batched(
    events: list[Event], batch: int, thoughts: Thoughts
) -> None:
    assert assembled(stream(events, thoughts, batch=batch)) == gathered(events, thoughts)


def said(parts: Sequence[Any]) -> list[Any]:
    """Return text, thoughts and calls in order, neighbours of one kind joined."""
    out: list[Any] = []
    for part in parts:
        match part:
            case hub.Text(text) | Text(_, text):
                found: Any = ["text", text]
            case hub.Thinking(text) | Thinking(_, text):
                found = ["thinking", text]
            case hub.ToolCall(id, name, arguments):
                found = ["call", id, name, json.loads(arguments)]
            case _:
                continue
        if len(found) == 2 and out and out[-1][0] == found[0]:
            out[-1][1] += found[1]
        elif len(found) > 2 or found[1]:
            out.append(found)
    return out


def calls_of(events: Sequence[Event]) -> list[Any]:
    """Return the answer's events with its calls as parts, in the order in which they begin."""
    out: list[Any] = []
    for event in events:
        if isinstance(event, ToolStart):
            pieces = [each.arguments for each in events if isinstance(each, ToolDelta) and each.call == event.call]
            out.append(hub.ToolCall(event.id.replace("call_", "toolu_"), event.name, "".join(pieces)))
        else:
            out.append(event)
    return out


@given(answers(), st.sampled_from(["shown", "omitted"]))
def test_an_answer_that_is_sent_back_loses_nothing(events: list[Event], thoughts: Thoughts) -> None:
    content = gathered(events, thoughts)["content"]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]
    ask = messages.parse(json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode())
    back = [part for message in ask.messages[1:] for part in message.parts]
    assert said(back) == said(calls_of(events))
    signatures = [part.signature for part in back if isinstance(part, hub.Thinking)]
    assert signatures == [block["signature"] for block in content if block["type"] == "thinking"]
