"""The form of ids, in OpenAI's words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.ids import ITEMS, check_id, check_items, check_request
from ollama_proxy.translate.responses_items import PREFIXES
from ollama_proxy.translate.shapes_responses import CompactRequest, CountRequest, ResponsesRequest
from ollama_proxy.translate.validate import decode


def refused(**body: Any) -> Invalid:
    shape, _ = decode(json.encode({"model": "m", "input": "x", **body}), ResponsesRequest)
    with pytest.raises(Invalid) as caught:
        check_request(shape)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (
            {"conversation": "foo"},
            "conversation_id",
            "Invalid 'conversation_id': 'foo'. Expected an ID that begins with 'conv'.",
        ),
        (
            {"conversation": {"id": "foo"}},
            "conversation_id",
            "Invalid 'conversation_id': 'foo'. Expected an ID that begins with 'conv'.",
        ),
        (
            {"previous_response_id": "foo bar!"},
            "previous_response_id",
            (
                "Invalid 'previous_response_id': 'foo bar!'. Expected an ID that contains letters, numbers, "
                "underscores, or dashes, but this value contained additional characters."
            ),
        ),
        (
            {"previous_response_id": ""},
            "previous_response_id",
            "Invalid 'previous_response_id': ''. Expected an ID that begins with 'resp'.",
        ),
        (
            {"input": [{"type": "message", "role": "assistant", "content": "x", "id": "chatcmpl-abc"}]},
            "input[0].id",
            "Invalid 'input[0].id': 'chatcmpl-abc'. Expected an ID that begins with 'msg'.",
        ),
        (
            {"input": [{"role": "user", "content": "x"}, {"role": "user", "content": "x", "id": "resp_1"}]},
            "input[1].id",
            "Invalid 'input[1].id': 'resp_1'. Expected an ID that begins with 'msg'.",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "call_1"}]},
            "input[0].id",
            "Invalid 'input[0].id': 'call_1'. Expected an ID that begins with 'fc'.",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [], "id": "msg_1"}]},
            "input[0].id",
            "Invalid 'input[0].id': 'msg_1'. Expected an ID that begins with 'rs'.",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "F0B"}]}]},
            "input[0].content[0].file_id",
            "Invalid 'input[0].content[0].file_id': 'F0B'. Expected an ID that begins with 'file'.",
        ),
        (
            {"input": [{"role": "user", "content": "x", "id": "msg_" + "a" * 61}]},
            "input[0].id",
            (
                "Invalid 'input[0].id': string too long. Expected a string with maximum length 64, but got a "
                "string with length 65 instead."
            ),
        ),
    ],
)
def test_the_form_of_an_id_is_told_in_openais_words(body: dict[str, Any], param: str, message: str) -> None:
    error = refused(**body)
    assert (error.status, error.param, error.message) == (400, param, message)
    assert error.code == ("string_above_max_length" if "too long" in message else "invalid_value")


def test_what_is_right_or_not_known_passes() -> None:
    for shape in (ResponsesRequest, CompactRequest, CountRequest):
        body = {
            "model": "m",
            "previous_response_id": "resp_1",
            "input": [
                {"role": "user", "content": "x", "id": None},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}, 5], "id": "msg_1"},
                {"type": "item_reference", "id": "anything at all"},
                {"type": "brand_new", "id": "!"},
                {"type": 5, "id": 5},
                {"id": "alone"},
            ],
        }
        check_request(decode(json.encode(body), shape)[0])
    check_id("conversation_id", "conv_1")


def test_our_own_ids_are_right() -> None:
    for kind, prefix in ITEMS.items():
        if kind in PREFIXES:
            check_items([{"type": kind, "id": PREFIXES[kind] + "0" * 48}], "input")
            assert PREFIXES[kind].startswith(prefix)


def test_a_long_id_is_not_repeated_at_any_length() -> None:
    with pytest.raises(Invalid) as caught:
        check_id("response_id", "x" * 10_000)
    assert len(caught.value.message) < 250
