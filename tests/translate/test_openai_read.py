"""Answers of OpenAI-compatible servers: recorded ones of llama.cpp, and the odd ways of others, cut at every byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import ContextTooLong, UpstreamDown, UpstreamFailed
from ollama_proxy.events import (
    Event,
    Fail,
    Finish,
    Logprob,
    Refusal,
    Text,
    Thinking,
    ToolDelta,
    ToolStart,
    Usage,
)
from ollama_proxy.model import Ask, Completion
from ollama_proxy.translate.openai import LLAMACPP, WIRE
from ollama_proxy.translate.wire import Reader

RECORDINGS = Path(__file__).parents[1] / "backends" / "llamacpp"


def reader(top_logprobs: int | None = None) -> Reader:
    return WIRE.chat_reader(Ask(model="m", messages=(), top_logprobs=top_logprobs), backend="b")


def completion_reader(logprobs: int | None = None) -> Reader:
    return LLAMACPP.completion_reader(Completion(model="m", prompt="p", logprobs=logprobs), backend="b")


def run(made: Reader, *pieces: bytes) -> list[Event]:
    out: list[Event] = []
    for piece in pieces:
        out += made.feed(piece)
    return out + made.flush()


def stream(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True, usage: Any = None) -> bytes:
    """Return a stream of these deltas, each a choice's `delta`."""
    records: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish is not None:
        records.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        records.append({"choices": [], "usage": usage})
    return sse(*records) + (b"data: [DONE]\n\n" if done else b"")


def sse(*records: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(record).encode() + b"\n\n" for record in records)


def whole(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}).encode()


def failed(events: list[Event]) -> Exception:
    last = events[-1]
    assert isinstance(last, Fail)
    return last.error


def entry(index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    """Return one entry of `tool_calls`, with only what is given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made: dict[str, Any] = {"function": function}
    if index is not None:
        made["index"] = index
    if id is not None:
        made["id"] = id
    return made


def calls(events: list[Event]) -> list[tuple[str, str, str]]:
    """Return (id, name, arguments) of the calls."""
    starts = [event for event in events if isinstance(event, ToolStart)]
    pieces = [event for event in events if isinstance(event, ToolDelta)]
    return [
        (start.id, start.name, "".join(piece.arguments for piece in pieces if piece.call == start.call))
        for start in starts
    ]


# --- what llama.cpp answers ---------------------------------------------------------------------------------------


def recording(name: str) -> tuple[bytes, int | None]:
    case = json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))
    asked = case["body"].get("top_logprobs") if case["body"].get("logprobs") else None
    return case["answer"].encode(), asked


RECORDED = [
    path.stem
    for path in sorted(RECORDINGS.glob("*.json"))
    if json.loads(path.read_text("utf-8"))["status"] == 200 and path.stem.startswith(("chat", "tools", "schema"))
]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_answer_ends_in_one_finish_and_its_usage(name: str) -> None:
    answer, asked = recording(name)
    events = run(reader(asked), answer)
    assert sum(isinstance(event, Finish) for event in events) == 1
    assert isinstance(events[-1], Usage)
    assert events[-1].prompt > 0
    assert events[-1].completion > 0


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "tools_stream"])
def test_a_recorded_answer_reads_the_same_cut_at_every_byte(name: str) -> None:
    answer, asked = recording(name)
    expected = run(reader(asked), answer)
    assert run(reader(asked), *(answer[i : i + 1] for i in range(len(answer)))) == expected
    for cut in range(1, len(answer)):
        assert run(reader(asked), answer[:cut], answer[cut:]) == expected


def test_a_recorded_stream_of_a_call_has_its_arguments_in_pieces() -> None:
    answer, _ = recording("tools_stream")
    events = run(reader(), *(answer[i : i + 1] for i in range(len(answer))))
    assert events == run(reader(), answer)
    ((id, name, arguments),) = calls(events)
    assert id.startswith("call_")
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert Finish(0, "tool_calls") in events
    assert sum(isinstance(event, ToolDelta) for event in events) > 2


def test_a_recorded_whole_call_is_a_start_and_its_arguments() -> None:
    events = run(reader(), recording("tools")[0])
    ((_, name, arguments),) = calls(events)
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert not any(isinstance(event, Text) for event in events)


def test_recorded_logprobs_keep_tokens_bytes_and_the_likeliest() -> None:
    first = run(reader(2), recording("chat_logprobs")[0])[0]
    assert isinstance(first, Text)
    assert first.text == "I'm"
    assert first.logprobs is not None
    assert [item.token for item in first.logprobs] == ["I", "'m"]
    assert first.logprobs[0].bytes == (73,)
    assert [other.token for other in first.logprobs[0].top] == ["I", "Hello"]


def test_likeliest_tokens_that_nobody_asked_for_are_left_out_again() -> None:
    first = run(reader(0), recording("chat_logprobs")[0])[0]
    assert isinstance(first, Text)
    assert first.logprobs is not None
    assert [item.top for item in first.logprobs] == [(), ()]


def test_a_recorded_completion_has_logprobs_as_a_chat_has_them() -> None:
    answer = recording("completion")[0]
    text, finish, usage = run(completion_reader(1), answer)
    assert isinstance(text, Text)
    assert text.logprobs is not None
    assert text.text == " Paris.\n" == "".join(item.token for item in text.logprobs)
    assert (finish, usage) == (Finish(0, "length"), Usage(5, 3))


def test_a_recorded_streamed_completion_has_its_usage_beside_the_finish() -> None:
    answer = recording("completion_stream")[0]
    expected = [Text(0, " Paris"), Text(0, "."), Text(0, "\n"), Finish(0, "length"), Usage(5, 3, cached=4)]
    for cut in range(len(answer)):
        assert run(completion_reader(), answer[:cut], answer[cut:]) == expected


# --- streams ------------------------------------------------------------------------------------------------------

EVERYTHING = sse({"choices": [], "prompt_filter_results": []}) + stream(
    {"role": "assistant", "content": ""},
    {"reasoning_content": "hm"},
    {"reasoning": " so"},
    {"content": "é€"},
    {"refusal": "no"},
    {"content": None, "tool_calls": [entry(0, "call_a", "get", "")]},
    {"tool_calls": [entry(0, None, None, '{"x":'), entry(1, "b", "now", "{}")]},
    {"tool_calls": [entry(0, None, None, "1}")]},
    finish="tool_calls",
    usage={
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
)
ALL_EVENTS = [
    Thinking(0, "hm"),
    Thinking(0, " so"),
    Text(0, "é€"),
    Refusal(0, "no"),
    ToolStart(0, 0, "call_a", "get"),
    ToolDelta(0, 0, '{"x":'),
    ToolStart(0, 1, "call_b", "now"),
    ToolDelta(0, 1, "{}"),
    ToolDelta(0, 0, "1}"),
    Finish(0, "tool_calls"),
    Usage(5, 7, cached=2, reasoning=3),
]


def test_a_stream_of_everything_reads_the_same_at_every_cut() -> None:
    assert run(reader(), EVERYTHING) == ALL_EVENTS
    for cut in range(len(EVERYTHING)):
        assert run(reader(), EVERYTHING[:cut], EVERYTHING[cut:]) == ALL_EVENTS
    assert run(reader(), *(EVERYTHING[i : i + 1] for i in range(len(EVERYTHING)))) == ALL_EVENTS


def test_crlf_and_comments_and_event_names_change_nothing() -> None:
    noisy = b": ping\r\n\r\nevent: message\r\n" + EVERYTHING.replace(b"\n", b"\r\n")
    assert run(reader(), noisy) == ALL_EVENTS


def test_every_stream_broken_off_before_its_finish_fails_and_says_who() -> None:
    end = EVERYTHING.index(b'"finish_reason": "tool_calls"')
    for cut in range(end):
        error = failed(run(reader(), EVERYTHING[:cut]))
        assert isinstance(error, UpstreamDown | UpstreamFailed)
        assert "'b'" in str(error)


def test_the_end_without_the_mark_is_well_after_a_finish_and_a_torn_usage_is_no_loss() -> None:
    assert run(reader(), stream({"content": "a"}, done=False)) == [Text(0, "a"), Finish(0, "stop")]
    torn = stream({"content": "a"}, done=False) + b'data: {"choices":[],"usa'
    assert run(reader(), torn) == [Text(0, "a"), Finish(0, "stop")]


def test_the_mark_without_a_finish_is_a_failure() -> None:
    assert isinstance(failed(run(reader(), stream({"content": "a"}, finish=None))), UpstreamDown)


def test_nothing_at_all_is_a_failure() -> None:
    assert isinstance(failed(run(reader())), UpstreamDown)
    assert isinstance(failed(run(reader(), b" \n")), UpstreamDown)


def test_nothing_comes_after_the_end_or_a_failure() -> None:
    done = reader()
    done.feed(stream({"content": "a"}))
    assert done.feed(stream({"content": "b"})) == []
    assert done.flush() == []
    broken = reader()
    assert isinstance(failed(broken.feed(b"data: {nonsense\n\n")), UpstreamFailed)
    assert broken.feed(stream({"content": "b"})) == []
    assert broken.flush() == []


def test_only_the_last_of_running_usages_counts() -> None:
    records = [
        {"choices": [{"index": 0, "delta": {"content": c}}], "usage": {"prompt_tokens": 4, "completion_tokens": i}}
        for i, c in enumerate("ab", 1)
    ]
    answer = sse(*records) + stream()
    assert run(reader(), answer) == [Text(0, "a"), Text(0, "b"), Finish(0, "stop"), Usage(4, 2)]


def test_groqs_usage_is_found_and_a_missing_completion_is_the_difference() -> None:
    answer = stream({"content": "a"}, done=False) + sse({"choices": [], "x_groq": {"usage": {"prompt_tokens": 3}}})
    assert run(reader(), answer)[-1] == Usage(3, 0)
    answer = stream({"content": "a"}, usage={"prompt_tokens": 3, "total_tokens": 8})
    assert run(reader(), answer)[-1] == Usage(3, 5)


def test_other_choices_than_ours_are_left_out() -> None:
    record = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]}
    assert run(reader(), sse(record) + stream({"content": "a"})) == [Text(0, "a"), Finish(0, "stop")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        ("limit", "length"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
    ],
)
def test_reasons_of_other_servers_are_openais(reason: str, expected: str) -> None:
    finish = run(reader(), stream({"content": "a"}, finish=reason))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == expected


def test_a_stop_after_calls_is_tool_calls_but_a_cut_stays_a_cut() -> None:
    called = {"tool_calls": [entry(0, "call_1", "get", "{}")]}
    assert run(reader(), stream(called, finish="stop"))[-1] == Finish(0, "tool_calls")
    assert run(reader(), stream(called, finish="length"))[-1] == Finish(0, "length")


def test_the_sequence_that_stopped_it_is_told_where_the_server_tells() -> None:
    record = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "\n"}]}
    assert run(reader(), sse(record)) == [Finish(0, "stop", "\n")]


# --- failures in the stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"error": {"message": "CUDA out of memory", "type": "server_error", "code": 500}}, "CUDA out of memory"),
        ({"error": "it broke"}, "it broke"),
        ({"object": "error", "message": "bad thing", "code": 400}, "bad thing"),
        ({"error": {"nothing": "known"}}, "does not name"),
    ],
)
def test_an_error_in_the_stream_keeps_its_words_and_ends_it(record: Any, words: str) -> None:
    answer = stream({"content": "a"}, finish=None, done=False) + sse(record) + stream({"content": "b"})
    events = run(reader(), answer)
    assert events[0] == Text(0, "a")
    assert len(events) == 2
    assert words in str(failed(events))


def test_an_overflow_in_the_stream_is_told_with_its_numbers() -> None:
    record = {"error": {"message": "x", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}}
    error = failed(run(reader(), sse(record)))
    assert isinstance(error, ContextTooLong)
    assert (error.limit, error.tokens) == (4, 9)


def test_an_error_reason_is_a_failure() -> None:
    assert isinstance(failed(run(reader(), stream({"content": "a"}, finish="error"))), UpstreamFailed)


@pytest.mark.parametrize(
    "answer", [b"data: [1]\n\n", b"data: nonsense\n\n", b"<html>502</html>", b"{", b"[]", b'{"x":1}']
)
def test_what_cannot_be_read_is_a_failure(answer: bytes) -> None:
    assert isinstance(failed(run(reader(), answer)), UpstreamFailed | UpstreamDown)


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"\n<!doctype html>", b'<?xml version="1.0"?><Error/>'])
def test_a_page_in_place_of_an_answer_points_to_the_url(page: bytes) -> None:
    error = failed(run(reader(), page))
    assert isinstance(error, UpstreamFailed)
    assert error.message == (
        "The backend 'b' sent an answer that cannot be read: it is a page of HTML or XML. "
        "Check its url in the config, and whether it asks for a login."
    )


def test_odd_values_in_a_choice_are_a_failure_not_a_crash() -> None:
    for delta in ({"tool_calls": [5]}, {"content": [1]}, {"tool_calls": 5}, {"function_call": "x"}):
        assert isinstance(failed(run(reader(), stream(delta))), UpstreamFailed)


# --- calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[entry(0, "call_a", "f", "")], [entry(0, None, None, '{"a":1}')]], id="as openai"),
        pytest.param([[entry(0, "call_a", "f", '{"a"')], [entry(0, "call_a", "f", ":1}")]], id="all repeated"),
        pytest.param([[entry(0, "call_a", "f", '{"a"')], [entry(0, "xyz", None, ":1}")]], id="id changes"),
        pytest.param([[entry(None, "call_a", "f", '{"a"')], [entry(None, None, None, ":1}")]], id="no index"),
        pytest.param([[entry(None, "call_a", "f", '{"a"')], [entry(None, "call_a", "", ":1}")]], id="id only"),
        pytest.param(
            [[entry(0, "call_a")], [entry(0, None, "f", '{"a"')], [entry(0, None, None, ":1}")]], id="name late"
        ),
        pytest.param([[entry(0, "call_a", "f", {"a": 1})]], id="an object"),
    ],
)
def test_one_call_is_put_together_however_it_is_cut(deltas: list[Any]) -> None:
    ((id, name, arguments),) = calls(run(reader(), stream(*({"tool_calls": d} for d in deltas))))
    assert (id, name, json.loads(arguments)) == ("call_a", "f", {"a": 1})


def test_a_name_repeated_without_id_and_index_goes_on_until_the_arguments_are_complete() -> None:
    deltas = [[entry(None, None, "f", '{"a"')], [entry(None, None, "f", ":1}")], [entry(None, None, "f", "{}")]]
    assert calls(run(reader(), stream(*({"tool_calls": d} for d in deltas)))) == [("", "f", '{"a":1}'), ("", "f", "{}")]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry(0, "call_a", "f", "1"), entry(1, "call_b", "f", "2")], id="as openai"),
        pytest.param([entry(0, "call_a", "f", "1"), entry(0, "call_b", "f", "2")], id="all at index 0"),
        pytest.param([entry(None, "call_a", "f", "1"), entry(None, "call_b", "f", "2")], id="no index"),
    ],
)
def test_two_calls_stay_two_in_one_delta_or_in_two(entries: list[Any]) -> None:
    expected = [("call_a", "f", "1"), ("call_b", "f", "2")]
    assert calls(run(reader(), stream({"tool_calls": entries}))) == expected
    assert calls(run(reader(), stream(*({"tool_calls": [e]} for e in entries)))) == expected


def test_whole_calls_are_as_many_as_there_are_entries() -> None:
    entries = [entry(None, None, "f", ""), entry(None, None, "f", ""), entry(None, "call_c", "g", "{}")]
    events = run(reader(), whole({"content": None, "tool_calls": entries}))
    assert calls(events) == [("", "f", ""), ("", "f", ""), ("call_c", "g", "{}")]
    assert events[-1] == Finish(0, "tool_calls")


def test_ids_begin_with_call_and_an_id_given_twice_is_left_to_us() -> None:
    entries = [entry(None, "7", "f", "{}"), entry(None, "7", "g", "{}")]
    assert [id for id, _, _ in calls(run(reader(), whole({"tool_calls": entries})))] == ["call_7", ""]


def test_a_custom_call_has_its_input() -> None:
    call = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    events = run(reader(), stream({"tool_calls": [call]}))
    assert events[:2] == [ToolStart(0, 0, "call_1", "run", "custom"), ToolDelta(0, 0, "ls")]


def test_the_old_function_call_is_a_call_without_id() -> None:
    streamed = stream({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    assert calls(run(reader(), streamed)) == [("", "f", "{}")]
    events = run(reader(), whole({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"))
    assert calls(events) == [("", "f", "{}")]
    assert events[-1] == Finish(0, "tool_calls")


# --- whole bodies and small things --------------------------------------------------------------------------------


def test_a_whole_answer_without_a_reason_is_complete() -> None:
    assert run(reader(), whole({"content": "a"}, None)) == [Text(0, "a"), Finish(0, "stop")]


def test_content_in_parts_is_their_text() -> None:
    content = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert run(reader(), whole({"content": content}))[0] == Text(0, "ab")


def test_bytes_that_a_server_leaves_out_are_the_tokens_own() -> None:
    choice = {"index": 0, "delta": {"content": "é"}, "logprobs": {"content": [{"token": "é", "logprob": None}]}}
    events = run(reader(0), sse({"choices": [choice]}) + stream())
    assert events[0] == Text(0, "é", (Logprob("é", -9999.0, (195, 169)),))


def test_logprobs_of_an_old_completion_are_read_from_their_lists() -> None:
    told = {
        "tokens": [" a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"b": -0.5, "c": -1.0}],
        "text_offset": [0, 2],
    }
    body = json.dumps({"choices": [{"index": 0, "text": " ab", "logprobs": told, "finish_reason": "stop"}]}).encode()
    assert run(completion_reader(1), body)[0] == Text(
        0, " ab", (Logprob(" a", -9999.0, (32, 97)), Logprob("b", -0.5, (98,), (Logprob("b", -0.5, (98,)),)))
    )
    assert run(completion_reader(), body)[0] == Text(0, " ab")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "message", "content", "tool_calls", "function", "usage", "error", "index",
                         "name", "arguments", "id", "logprobs", "finish_reason", "text", "x_groq"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(json_values, max_size=3))
def test_whatever_comes_an_answer_ends_in_a_finish_or_a_failure(records: list[Any]) -> None:
    for made in (reader(2), completion_reader(2)):
        events = run(made, sse(*records))
        assert any(isinstance(event, Finish | Fail) for event in events)
        assert not any(isinstance(event, Fail) for event in events[:-1])
    for record in records:
        assert any(isinstance(event, Finish | Fail) for event in run(reader(2), json.dumps(record).encode()))
