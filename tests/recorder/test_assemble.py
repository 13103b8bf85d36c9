"""Streams become the whole answers they amount to, wherever they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.recorder.assemble import assemble

DONE = b"data: [DONE]\n\n"


def sse(*documents: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in documents)


def chunk(delta: dict[str, Any] | None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-4o"}
    return {**head, "choices": [choice] if delta is not None else [], **more}


TOOLS = [
    chunk({"role": "assistant", "content": None, "reasoning": "Let "}),
    chunk({"reasoning": "me."}),
    chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", "type": "custom", "custom": {"name": "g", "input": "y"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}, {"index": 1, "custom": {"input": "z"}}]}),
    chunk({}, "tool_calls"),
    chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
]
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning": "Let me.",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                    {"id": "b", "type": "custom", "custom": {"name": "g", "input": "yz"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_tool_calls_and_thoughts_grow_together_at_every_cut(end: bytes) -> None:
    data = (b": waiting\n\n" + sse(*TOOLS) + DONE).replace(b"\n", end)
    for cut in range(len(data)):
        found = assemble([data[:cut], data[cut:]])
        assert (found.answer, found.done) == (WHOLE, True)
    assert assemble([bytes((byte,)) for byte in data]).answer == WHOLE


def test_a_stream_that_breaks_off_is_what_had_come_by_then() -> None:
    data = sse(*TOOLS) + DONE
    for cut in range(len(data)):
        found = assemble([data[:cut]])
        assert not found.done or cut >= len(data) - 2
        assert found.answer is None or found.answer["object"] == "chat.completion"


def test_choices_and_their_logprobs_are_kept_apart() -> None:
    def said(text: str, index: int) -> dict[str, Any]:
        made = chunk({"content": text}, index=index)
        made["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.5}], "refusal": None}
        return made

    found = assemble(
        [sse(said("b", 1), said("a", 0), said("B", 1), chunk({}, "stop", 1), chunk({}, "length", 0)), DONE]
    )
    assert [each["message"]["content"] for each in found.answer["choices"]] == ["a", "bB"]
    assert [each["finish_reason"] for each in found.answer["choices"]] == ["length", "stop"]
    assert [each["token"] for each in found.answer["choices"][1]["logprobs"]["content"]] == ["b", "B"]


def test_completions_are_merged_too() -> None:
    def piece(text: str, finish: str | None = None) -> dict[str, Any]:
        logprobs = {"tokens": [text], "token_logprobs": [-1.0]}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [choice]}

    (choice,) = assemble([sse(piece("a"), piece("b", "stop")), DONE]).answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("ab", "stop")
    assert choice["logprobs"]["tokens"] == ["a", "b"]


def test_an_error_in_the_stream_is_kept_beside_what_came_before() -> None:
    found = assemble([sse(chunk({"content": "Hel"}), {"error": {"message": "gone"}})])
    assert found.answer["error"] == {"message": "gone"}
    assert found.answer["choices"][0]["message"]["content"] == "Hel"
    assert not found.done


def test_streams_of_another_shape_are_lists_of_their_documents() -> None:
    data = (
        b'event: a\ndata: {"type":"a"}\n\nevent: b\ndata: {"type":\ndata: "b"}\n\ndata: words\n\ndata: {"type":"c"}\n\n'
    )
    assert assemble([data]).answer == [{"type": "a"}, {"type": "b"}, "words", {"type": "c"}]


def test_nothing_is_nothing() -> None:
    assert assemble([]).answer is None
    assert assemble([b": waiting\n\n"]).answer is None


@given(st.lists(st.text(), max_size=20))
def test_text_is_the_sum_of_its_pieces(pieces: list[str]) -> None:
    found = assemble([sse(chunk({"role": "assistant", "content": ""}), *(chunk({"content": each}) for each in pieces))])
    assert found.answer["choices"][0]["message"]["content"] == "".join(pieces)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda e: st.lists(e) | st.dictionaries(st.text(), e)))
def test_any_document_can_be_assembled(value: Any) -> None:
    assemble([sse(value, {"choices": [value]}, {"choices": [{"delta": value}]}, {"choices": [{"index": value}]})])
    assemble(
        [sse({"choices": [{"index": 0, "delta": {"a": value}}]}, {"choices": [{"delta": {"a": [value], "b": value}}]})]
    )


@given(st.binary())
def test_any_bytes_can_be_assembled(data: bytes) -> None:
    assemble([data])
    assemble([b"data: " + data, b"\n\n"])


LINES = [
    {"model": "m", "created_at": "1", "message": {"role": "assistant", "content": "", "thinking": "Hm"}, "done": False},
    {"model": "m", "created_at": "2", "message": {"role": "assistant", "content": "Hel"}, "done": False},
    {
        "model": "m",
        "created_at": "3",
        "message": {"role": "assistant", "content": "lo", "tool_calls": [1]},
        "done": False,
    },
    {"model": "m", "created_at": "4", "message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 3},
]


def test_a_stream_of_ollamas_lines_is_merged() -> None:
    data = b"".join(json.dumps(each).encode() + b"\n" for each in LINES)
    message = {"role": "assistant", "content": "Hello", "thinking": "Hm", "tool_calls": [1]}
    found = assemble([data])
    assert found.answer == {"model": "m", "created_at": "4", "message": message, "done": True, "eval_count": 3}
    assert found.done


def test_a_stream_of_ollamas_lines_that_broke_off_is_not_done_wherever_it_was_cut() -> None:
    data = b"".join(json.dumps(each).encode() + b"\n" for each in LINES)
    for at in range(1, len(data) - 1):
        assert not assemble([data[:at]]).done or data[at:] == b"\n"
        assert assemble([data[:at], data[at:]]) == assemble([data])
    broken = assemble([data[:250], b'\n{"error":"gone"}\n'])
    assert broken.done is False


def test_generated_text_is_merged_too_and_an_error_is_kept() -> None:
    records: list[Any] = [{"response": "a", "done": False}, {"response": "b", "done": False}, {"error": "gone"}]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in records)
    assert assemble([data]).answer == {"response": "ab", "done": False, "error": "gone"}


def test_thousands_of_tool_calls_are_merged_by_their_index() -> None:
    order = [*range(3000), *reversed(range(3000))]
    calls = [chunk({"tool_calls": [{"index": each, "function": {"arguments": f"{each};"}}]}) for each in order]
    made = assemble([sse(call) for call in calls]).answer["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in made] == [f"{each};{each};" for each in range(3000)]
