"""The lines of a batch: what is told of wrong ones, and what answered ones say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate.batches import (
    EXPIRED,
    Checked,
    Checker,
    Problem,
    Tokens,
    ask_of,
    compact,
    number_of,
    tokens_in,
    write_line,
    write_unanswered,
)

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": []}
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}


def check(line: Any, endpoint: str = CHAT) -> Checked:
    return Checker(endpoint).check(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")


def told(line: Any, endpoint: str = CHAT) -> list[tuple[str, str, str | None]]:
    return [tuple(problem) for problem in check(line, endpoint).problems]  # type: ignore[misc]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in LINE.items() if name not in names}


def body(**fields: Any) -> dict[str, Any]:
    return {**LINE, "body": {name: value for name, value in {**BODY, **fields}.items() if value is not ...}}


def test_a_right_line_has_a_model_and_no_problem() -> None:
    assert check(LINE) == Checked("m")


@pytest.mark.parametrize(
    "line", [b"{", b"\xff{}", b'{"a": 1} {"b": 2}', b"\xef\xbb\xbf{}", b'{"custom_id": "\xff"}', b"["]
)
def test_what_is_no_json_is_told_so(line: bytes) -> None:
    problem = Problem("invalid_json_line", "This line is not parseable as valid JSON.")
    assert check(line).problems == (problem,)


@pytest.mark.parametrize("line", [b"[]", b"1", b'"text"', b"null"])
def test_a_line_must_be_an_object(line: bytes) -> None:
    assert told(line) == [("invalid_request", "Each line must be a JSON object.", None)]


@pytest.mark.parametrize("name", ["custom_id", "method", "url", "body"])
@pytest.mark.parametrize("how", ["missing", "null"])
def test_what_is_missing_is_named(name: str, how: str) -> None:
    line = without(name) if how == "missing" else {**LINE, name: None}
    assert told(line) == [("missing_required_parameter", f"Missing required parameter: '{name}'.", name)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("custom_id", 7, "Invalid type for 'custom_id': expected a string, but got an integer instead."),
        ("method", ["POST"], "Invalid type for 'method': expected a string, but got an array instead."),
        ("url", {}, "Invalid type for 'url': expected a string, but got an object instead."),
        ("body", "{}", "Invalid type for 'body': expected an object, but got a string instead."),
    ],
)
def test_a_wrong_type_is_named(name: str, value: Any, message: str) -> None:
    assert told({**LINE, name: value}) == [("invalid_type", message, name)]


def test_each_line_is_a_post_to_the_endpoint_of_the_batch() -> None:
    assert told({**LINE, "method": "GET", "url": "/v1/embeddings"}) == [
        ("invalid_method", "Invalid value: 'GET'. Supported values are: 'POST'.", "method"),
        ("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url"),
    ]


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (body(model=...), ("invalid_request", "Model parameter is required.", "body.model")),
        (body(model=None), ("invalid_request", "Model parameter is required.", "body.model")),
        (body(model=""), ("invalid_request", "Model parameter is required.", "body.model")),
        (body(messages=...), ("invalid_request", "Messages parameter is required.", "body.messages")),
        (
            body(model=3),
            (
                "invalid_type",
                "Invalid type for 'body.model': expected a string, but got an integer instead.",
                "body.model",
            ),
        ),
        (
            body(stream=True),
            (
                "streaming_unsupported",
                "Chat Completions: Streaming is not supported in the Batch API.",
                "body.stream",
            ),
        ),
    ],
)
def test_a_body_is_looked_into_as_far_as_openai_does(line: Any, want: tuple[str, str, str]) -> None:
    assert told(line) == [want]


def test_a_stream_that_is_not_wanted_is_none() -> None:
    assert told(body(stream=False)) == told(body(stream=None)) == []


def test_a_response_may_go_on_without_input_and_a_moderation_without_a_model() -> None:
    responses = {**LINE, "url": "/v1/responses"}
    assert told({**responses, "body": {"model": "m", "previous_response_id": "resp_1"}}, "/v1/responses") == []
    assert [each[1] for each in told({**responses, "body": {"model": "m"}}, "/v1/responses")] == [
        "Input parameter is required."
    ]
    assert told({**LINE, "url": "/v1/moderations", "body": {"input": "x"}}, "/v1/moderations") == []


def test_a_custom_id_is_used_once() -> None:
    checker = Checker(CHAT)
    lines = [json.dumps({**LINE, "custom_id": id}).encode() for id in ("a", "b", "a", "A")]
    codes = [[problem.code for problem in checker.check(line).problems] for line in lines]
    assert codes == [[], [], ["duplicate_custom_id"], []]


def test_embeddings_have_at_most_fifty_thousand_inputs_together() -> None:
    checker = Checker("/v1/embeddings")

    def ask(id: int, value: Any) -> list[str]:
        line = {"custom_id": str(id), "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": value}}
        return [problem.code for problem in checker.check(json.dumps(line).encode()).problems]

    assert ask(1, ["x"] * 49_997) == []
    # A list of tokens is one input, and so is a text.
    assert ask(2, [1, 2, 3, 4]) == []
    assert ask(3, [[1, 2], [3]]) == []
    assert ask(4, "one too many") == ["too_many_inputs"]
    assert ask(5, "and told once") == []


@given(st.binary(max_size=200))
def test_whatever_a_line_is_it_is_told_and_never_a_failure(line: bytes) -> None:
    assert check(line).problems


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*LINE, "more"]), JSON, max_size=5))
def test_whatever_stands_in_a_line_it_is_right_or_told(line: dict[str, Any]) -> None:
    encoded = json.dumps(line).encode()
    if not check(encoded).problems:
        ask_of(encoded)


def test_a_line_gives_its_custom_id_and_its_body_as_it_came() -> None:
    assert ask_of(b'{"body" : {"a": 1.50},  "custom_id":"x","more":[]}\n') == ("x", b'{"a": 1.50}')
    with pytest.raises(Invalid):
        ask_of(b'{"custom_id":"x"')


# --- answers ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.text(max_size=40))
def test_an_answered_line_tells_its_number_and_none_of_its_beginnings_does(number: int, custom_id: str) -> None:
    line = write_line(number, "ab" * 16, custom_id, status=200, request_id="req_1", body=b'{"x":{}}')
    assert number_of(line) == number
    assert json.loads(line)["custom_id"] == custom_id
    for end in range(len(line)):
        assert number_of(line[:end]) is None


def test_an_answered_line_has_openais_form() -> None:
    line = json.loads(write_line(7, "ab" * 16, "a", status=200, request_id="req_1", body=b'{"x":1}'))
    assert line == {
        "id": f"batch_req_{'ab' * 12}00000007",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req_1", "body": {"x": 1}},
        "error": None,
    }


def test_an_unanswered_line_says_why() -> None:
    line = write_unanswered(7, "ab" * 16, "a", EXPIRED)
    assert number_of(line) == 7
    assert json.loads(line)["response"] is None
    assert json.loads(line)["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }


@pytest.mark.parametrize(
    ("usage", "want"),
    [
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Tokens(9, 4, 5, 3),
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            Tokens(9, 4, 5, 3),
        ),
        ({"prompt_tokens": 9, "total_tokens": 9}, Tokens(9)),
        ({"prompt_tokens": "many"}, Tokens()),
        (None, Tokens()),
    ],
)
def test_what_an_answer_took_is_read_from_it_and_from_its_line(usage: Any, want: Tokens) -> None:
    answer = json.dumps({"usage": usage}).encode()
    found = compact(answer)
    assert found is not None
    assert found[1] == want
    line = write_line(0, "ab" * 16, "a", status=200, request_id="r", body=found[0])
    assert tokens_in(line) == want


def test_an_answer_is_one_line_whatever_it_looked_like() -> None:
    pretty = json.dumps({"text": "two\nlines", "n": [1, 2]}, indent=2).encode()
    found = compact(pretty)
    assert found is not None
    assert b"\n" not in found[0]
    assert json.loads(found[0]) == json.loads(pretty)


@pytest.mark.parametrize("body", [b"", b"Bad Gateway", b"{", b"\xff"])
def test_an_answer_that_is_no_json_is_none(body: bytes) -> None:
    assert compact(body) is None
