"""Chat answers: events to chunks and to one body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.events import (
    Event,
    Fail,
    Finish,
    Logprob,
    Note,
    Refusal,
    Text,
    Thinking,
    ToolDelta,
    ToolStart,
    Usage,
)
from ollama_proxy.translate.chat_write import FINGERPRINT, ChunkWriter, whole
from tests.shapes import check

HEAD = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": 'a "model"',
    "service_tier": "default",
    "system_fingerprint": FINGERPRINT,
}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 1,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CALL: list[Event] = [
    ToolStart(0, 0, "call_1", "f"),
    ToolDelta(0, 0, '{"a"'),
    ToolDelta(0, 0, ":1}"),
    Finish(0, "tool_calls"),
]
CUSTOM: list[Event] = [ToolStart(0, 0, "call_1", "c", "custom"), ToolDelta(0, 0, "x"), Finish(0, "tool_calls")]


def stream(events: Sequence[Any], **options: bool) -> list[dict[str, Any]]:
    writer = ChunkWriter(id="chatcmpl-1", created=1700000000, model='a "model"', **options)
    chunks = [json.loads(chunk) for chunk in [*writer.feed(events), *writer.flush()]]
    for chunk in chunks:
        check("ErrorResponse" if "error" in chunk else "CreateChatCompletionStreamResponse", chunk)
    return chunks


def deltas(events: Sequence[Any], **options: bool) -> list[tuple[Any, Any]]:
    return [(c["choices"][0]["delta"], c["choices"][0]["finish_reason"]) for c in stream(events, **options)]


def body(events: Sequence[Any], *, legacy: bool = False) -> dict[str, Any]:
    data = whole(events, id="chatcmpl-1", created=1700000000, model="m", legacy_functions=legacy)
    check("CreateChatCompletionResponse", data)
    answer: dict[str, Any] = json.loads(data)
    return answer


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**HEAD, "choices": [choice]}


OPENING = {"role": "assistant", "content": "", "refusal": None}


def test_a_stream_is_openais_sequence() -> None:
    assert stream([Text(0, "The"), Text(0, " end\u2028"), Finish(0, "stop"), Usage(7, 5, 2, 1)]) == [
        chunk(OPENING),
        chunk({"content": "The"}),
        chunk({"content": " end\u2028"}),
        chunk({}, "stop"),
    ]


def test_usage_is_a_last_chunk_without_choices_and_null_before() -> None:
    *chunks, last = stream([Usage(7, 5, 2, 1), Text(0, "a"), Text(0, "b"), Finish(0, "stop")], include_usage=True)
    assert last == {**HEAD, "choices": [], "usage": USAGE}
    assert [chunk["usage"] for chunk in chunks] == [None] * 4


def test_usage_of_several_calls_is_summed() -> None:
    *_, last = stream([Finish(0, "stop"), Usage(1, 2), Finish(1, "stop"), Usage(3, 4)], include_usage=True)
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (4, 6)


def test_a_tool_call_comes_with_the_role() -> None:
    def piece(**fields: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, **fields}]}

    first = piece(id="call_1", type="function", function={"name": "f", "arguments": ""})
    assert deltas(CALL) == [
        ({"role": "assistant", "content": None, **first, "refusal": None}, None),
        (piece(function={"arguments": '{"a"'}), None),
        (piece(function={"arguments": ":1}"}), None),
        ({}, "tool_calls"),
    ]


def test_a_custom_tools_input_is_streamed_as_such() -> None:
    (first, _), (second, _), _ = deltas(CUSTOM)
    assert first["tool_calls"] == [{"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "c", "input": ""}}]
    assert second["tool_calls"] == [{"index": 0, "custom": {"input": "x"}}]


def test_arguments_are_json_even_when_none_came() -> None:
    events = [ToolStart(0, 0, "call_1", "f"), ToolDelta(0, 0, ""), Finish(0, "tool_calls")]
    assert deltas(events)[1] == ({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, None)
    assert body(events)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert body([ToolStart(0, 0, "call_1", "c", "custom"), Finish(0, "tool_calls")])["choices"][0]["message"][
        "tool_calls"
    ] == [{"id": "call_1", "type": "custom", "custom": {"name": "c", "input": ""}}]


def test_deprecated_functions_get_one_function_call() -> None:
    events = [*CALL[:3], ToolStart(0, 1, "call_2", "g"), ToolDelta(0, 1, "{}"), Finish(0, "tool_calls")]
    assert deltas(events, legacy_functions=True) == [
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}, "refusal": None},
            None,
        ),
        ({"function_call": {"arguments": '{"a"'}}, None),
        ({"function_call": {"arguments": ":1}"}}, None),
        ({}, "function_call"),
    ]
    choice = body(events, legacy=True)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"


def test_thinking_has_both_of_its_usual_names() -> None:
    events = [Thinking(0, "h"), Thinking(0, "m"), Thinking(0, "", "signature"), Text(0, "a"), Finish(0, "length")]
    assert deltas(events) == [
        (OPENING, None),
        ({"reasoning_content": "h", "reasoning": "h"}, None),
        ({"reasoning_content": "m", "reasoning": "m"}, None),
        ({"content": "a"}, None),
        ({}, "length"),
    ]
    message = body(events)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["reasoning"]) == ("a", "hm", "hm")


def test_refusals_are_streamed_and_gathered() -> None:
    events = [Refusal(0, "I "), Refusal(0, "won't"), Finish(0, "stop")]
    assert deltas(events)[1:3] == [({"refusal": "I "}, None), ({"refusal": "won't"}, None)]
    message = body(events)["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I won't")


LOGPROB = Logprob("a", -0.5, (97,), (Logprob("a", -0.5, (97,)), Logprob("\ufffd", float("-inf"))))
LOGPROB_JSON = {
    "token": "a",
    "logprob": -0.5,
    "bytes": [97],
    "top_logprobs": [
        {"token": "a", "logprob": -0.5, "bytes": [97]},
        {"token": "\ufffd", "logprob": -9999.0, "bytes": None},
    ],
}


def test_logprobs_ride_on_their_text_even_when_it_is_empty() -> None:
    events = [Text(0, "a", (LOGPROB,)), Text(0, "", (LOGPROB,)), Text(0, "", ()), Finish(0, "stop")]
    wanted = {"content": [LOGPROB_JSON], "refusal": None}
    assert [c["choices"][0]["logprobs"] for c in stream(events)] == [None, wanted, wanted, None]
    assert body(events)["choices"][0]["logprobs"] == {"content": [LOGPROB_JSON, LOGPROB_JSON], "refusal": None}


def test_choices_begin_and_end_for_themselves() -> None:
    events = [Text(1, "b"), Text(0, "a"), Text(1, "d"), Finish(1, "stop"), Text(0, "c"), Finish(0, "length")]
    told = [(c["choices"][0]["index"], c["choices"][0]["delta"].get("content")) for c in stream(events)]
    assert told == [(1, ""), (1, "b"), (0, ""), (0, "a"), (1, "d"), (1, None), (0, "c"), (0, None)]
    choices = body(events)["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "ac", "length"),
        (1, "bd", "stop"),
    ]


def test_an_answer_without_text_still_has_its_role_and_an_end() -> None:
    assert deltas([Text(0, ""), Finish(0, "stop")]) == [(OPENING, None), ({}, "stop")]
    assert body([Finish(0, "stop")])["choices"][0]["message"]["content"] == ""


def test_a_failure_is_the_last_word() -> None:
    error = UpstreamFailed("it broke", backend="ollama")
    chunks = stream(
        [Text(0, "a"), Text(0, "b"), Fail(error), Text(0, "c"), Usage(1, 1), Finish(0, "stop")], include_usage=True
    )
    assert [chunk.get("error", {}).get("message") for chunk in chunks] == [None, None, None, "it broke"]
    with pytest.raises(UpstreamFailed) as caught:
        body([Text(0, "a"), Fail(error)])
    assert caught.value is error


def test_notes_are_for_the_books_only() -> None:
    assert stream([Note({"x": 1})]) == []


def test_a_whole_answer_has_every_key_openai_sends() -> None:
    assert body([Text(0, "a"), Text(0, "b"), Finish(0, "stop"), Usage(7, 5, 2, 1)]) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def test_calls_alone_leave_the_content_null() -> None:
    message = body(CALL)["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert body([Text(0, "x"), *CALL])["choices"][0]["message"]["content"] == "x"


@pytest.mark.parametrize("text", ["", "a", "longer text", "ü" * 20])
def test_padded_chunks_come_in_few_sizes(text: str) -> None:
    writer = ChunkWriter(id="x", created=1, model="m", include_obfuscation=True)
    pieces = writer.feed([Text(0, "x"), Text(0, text + "!"), Finish(0, "stop")])
    for piece in pieces[:-1]:
        check("CreateChatCompletionStreamResponse", piece)
        assert json.loads(piece)["obfuscation"]
    assert len({len(piece) % 16 for piece in pieces[:-1]}) == 1
    assert "obfuscation" not in json.loads(pieces[-1])


EVENTS = st.lists(
    st.builds(Text, st.integers(0, 2), st.text(max_size=5))
    | st.builds(Thinking, st.integers(0, 2), st.text(max_size=5))
    | st.builds(Refusal, st.integers(0, 2), st.text(min_size=1, max_size=5))
    | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    max_size=12,
)


@given(EVENTS, st.booleans())
def test_a_stream_and_a_whole_answer_say_the_same(events: list[Event], padded: bool) -> None:
    events = [*events, *(Finish(index, "stop") for index in range(3))]
    gathered: dict[int, dict[str, str]] = {index: {} for index in range(3)}
    for piece in stream(events, include_obfuscation=padded):
        for choice in piece["choices"]:
            for name in ("content", "reasoning", "refusal"):
                old = gathered[choice["index"]].get(name, "")
                gathered[choice["index"]][name] = old + (choice["delta"].get(name) or "")
    for choice in body(events)["choices"]:
        for name, text in gathered[choice["index"]].items():
            assert (choice["message"].get(name) or "") == text
