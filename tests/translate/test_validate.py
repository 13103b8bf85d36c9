"""Request validation: the wording, the path, the code, and that nothing but Invalid ever comes out."""

# The wording is easier to compare on one line.
# ruff: noqa: E501

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate import chat, validate
from ollama_proxy.translate.shapes import ChatRequest, CompletionRequest, EmbeddingRequest
from ollama_proxy.translate.shapes_batches import BatchRequest, OutputExpiry
from ollama_proxy.translate.shapes_messages import MessagesRequest
from ollama_proxy.translate.shapes_ollama import OllamaChatRequest
from ollama_proxy.translate.shapes_responses import MessageItem
from ollama_proxy.translate.validate import BAD_JSON, convert, decode, ignored_keys
from tests.shapes import properties

BATCH = {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "24h"}
EXPIRES = {"anchor": "created_at", "seconds": 3600.0}
HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: bytes | dict[str, Any], struct: type[msgspec.Struct] = ChatRequest) -> Invalid:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Invalid) as caught:
        decode(data, struct)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nope",
        b'{"model":',
        b'{"model":"m"} x',
        b'{"model":NaN}',
        b'{"model":"\xff"}',
        b'{"unknown":"\xff","model":"m","messages":[{"role":"user","content":"hi"}]}',
        b'{"model":"\\ud800","messages":[]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_is_told_in_openais_words(body: bytes) -> None:
    error = refusal(body)
    assert (error.message, error.param, error.code) == (BAD_JSON, None, None)


@pytest.mark.parametrize(
    ("body", "got"), [(b"[]", "an array"), (b'"x"', "a string"), (b"null", "null"), (b"1", "an integer")]
)
def test_a_body_must_be_an_object(body: bytes, got: str) -> None:
    assert refusal(body).message == f"Invalid body: expected an object, but got {got} instead."


@pytest.mark.parametrize("model", [{}, {"model": None}, {"model": ""}])
@pytest.mark.parametrize("struct", [ChatRequest, CompletionRequest, EmbeddingRequest])
def test_no_model_is_told_before_everything_else(model: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    error = refusal({**model, "temperature": 9}, struct)
    assert (error.message, error.param, error.code) == ("you must provide a model parameter", None, None)


MESSAGE = [
    (
        [],
        "messages",
        "empty_array",
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ),
    (
        "x",
        "messages",
        "invalid_type",
        "Invalid type for 'messages': expected an array of objects, but got a string instead.",
    ),
    (
        None,
        "messages",
        "invalid_type",
        "Invalid type for 'messages': expected an array of objects, but got null instead.",
    ),
    (
        [1],
        "messages[0]",
        "invalid_type",
        "Invalid type for 'messages[0]': expected an object, but got an integer instead.",
    ),
    (
        [{"content": "x"}],
        "messages[0].role",
        "missing_required_parameter",
        "Missing required parameter: 'messages[0].role'.",
    ),
    (
        [{"role": 1}],
        "messages[0].role",
        "invalid_type",
        "Invalid type for 'messages[0].role': expected a string, but got an integer instead.",
    ),
    (
        [{"role": "robot", "content": "x"}],
        "messages[0].role",
        "invalid_value",
        "Invalid value: 'robot'. Supported values are: 'system', 'developer', 'user', 'assistant', 'tool', and 'function'.",
    ),
    (
        [{"role": "user", "content": "x"}, {"role": "user", "content": {}}],
        "messages[1].content",
        "invalid_type",
        "Invalid type for 'messages[1].content': expected one of a string or array of objects, but got an object instead.",
    ),
    (
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "video"}]}],
        "messages[0].content[1].type",
        "invalid_value",
        "Invalid value: 'video'. Supported values are: 'text', 'image_url', 'input_audio', 'file', and 'refusal'.",
    ),
    (
        [{"role": "user", "content": [{"type": "text"}]}],
        "messages[0].content[0].text",
        "missing_required_parameter",
        None,
    ),
    ([{"role": "user", "content": []}], "messages[0].content", "empty_array", None),
    (
        [{"role": "user"}],
        "messages[0].content",
        "missing_required_parameter",
        "Missing required parameter: 'messages[0].content'.",
    ),
    ([{"role": "user", "content": "x", "name": "a b"}], "messages[0].name", "invalid_value", None),
    ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id", "missing_required_parameter", None),
    (
        [
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}],
            }
        ],
        "messages[0].tool_calls[0].function.arguments",
        "invalid_type",
        None,
    ),
]


@pytest.mark.parametrize(("messages", "param", "code", "text"), MESSAGE)
def test_a_wrong_message_is_told_with_its_path(messages: Any, param: str, code: str, text: str | None) -> None:
    error = refusal({"model": "m", "messages": messages})
    assert (error.param, error.code) == (param, code)
    if text is not None:
        assert error.message == text


FIELDS = [
    ("temperature", 200, "decimal_above_max_value", "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 200 instead."),
    ("temperature", -0.5, "decimal_below_min_value", "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -0.5 instead."),
    ("temperature", "1", "invalid_type", "Invalid type for 'temperature': expected a decimal, but got a string instead."),
    ("temperature", True, "invalid_type", "Invalid type for 'temperature': expected a decimal, but got a boolean instead."),
    ("n", 129, "integer_above_max_value", "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead."),
    ("n", 0, "integer_below_min_value", "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead."),
    ("n", 1.5, "invalid_type", "Invalid type for 'n': expected an integer, but got a decimal number instead."),
    ("max_tokens", 0, "integer_below_min_value", None),
    ("max_completion_tokens", 2**40, "integer_above_max_value", None),
    ("seed", 10**30, "integer_above_max_value", None),
    ("top_p", 1.01, "decimal_above_max_value", None),
    ("presence_penalty", -3, "decimal_below_min_value", None),
    ("top_logprobs", 21, "integer_above_max_value", None),
    ("stop", list("abcde"), "array_above_max_length", "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead."),
    ("stop", 1, "invalid_type", "Invalid type for 'stop': expected one of a string or array of strings, but got an integer instead."),
    ("stream", "yes", "invalid_type", "Invalid type for 'stream': expected a boolean, but got a string instead."),
    ("safety_identifier", "a" * 129, "string_above_max_length", "Invalid 'safety_identifier': string too long. Expected a string with maximum length 128, but got a string with length 129 instead."),
    ("metadata", {str(i): "" for i in range(17)}, "object_above_max_properties", None),
    ("reasoning_effort", "huge", "invalid_value", "Invalid value: 'huge'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'."),
    ("response_format", "json", "invalid_type", None),
    ("tool_choice", "always", "invalid_value", "Invalid value: 'always'. Supported values are: 'none', 'auto', and 'required'."),
    ("num_ctx", 1, "integer_below_min_value", None),
    ("keep_alive", [], "invalid_type", "Invalid type for 'keep_alive': expected one of a string, integer, or decimal, but got an array instead."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "code", "text"), FIELDS, ids=lambda value: str(value)[:20])
def test_a_wrong_parameter_is_told_in_openais_words(name: str, value: Any, code: str, text: str | None) -> None:
    error = refusal({**HI, name: value})
    assert (error.param, error.code) == (name, code)
    if text is not None:
        assert error.message == text


DEEP = [
    ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
    ({"metadata": {"k" * 65: "v"}}, "metadata", "string_above_max_length"),
    ({"logit_bias": {"50256": 101}}, "logit_bias.50256", "integer_above_max_value"),
    ({"logit_bias": {"50256": 1.5}}, "logit_bias.50256", "invalid_type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name", "empty_string"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type", "missing_required_parameter"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"options": {"temperature": "hot"}}, "options.temperature", "invalid_type"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
]


@pytest.mark.parametrize(("fields", "param", "code"), DEEP)
def test_the_path_leads_to_the_culprit(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal({**HI, **fields})
    assert (error.param, error.code) == (param, code)


def test_a_wrong_embedding_input_names_all_the_types_it_takes() -> None:
    assert refusal({"model": "m", "input": {}}, EmbeddingRequest).message == (
        "Invalid type for 'input': expected one of a string or array of strings, integers, or integer arrays, "
        "but got an object instead."
    )


def test_the_first_of_two_duplicate_keys_is_checked_too() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"n":0,"n":1}'
    assert refusal(body).code == "invalid_type"


@pytest.mark.parametrize("struct", [ChatRequest, CompletionRequest, EmbeddingRequest])
def test_an_explicit_null_is_as_good_as_no_parameter(struct: type[msgspec.Struct]) -> None:
    required: dict[str, Any] = {"model": "m", "messages": HI["messages"], "input": "x"}
    known = msgspec.structs.fields(struct)
    plain = {field.name: required[field.name] for field in known if field.required}
    nulls = {field.name: None for field in known if not field.required}
    assert decode(json.dumps({**nulls, **plain}).encode(), struct)[0] == decode(json.dumps(plain).encode(), struct)[0]


@pytest.mark.parametrize(
    ("struct", "shape"),
    [
        (ChatRequest, "CreateChatCompletionRequest"),
        (CompletionRequest, "CreateCompletionRequest"),
        (EmbeddingRequest, "CreateEmbeddingRequest"),
    ],
)
def test_every_parameter_of_openai_is_declared(struct: type[msgspec.Struct], shape: str) -> None:
    assert properties(shape) - set(struct.__struct_encode_fields__) == set()


def test_unknown_keys_are_accepted_and_named_unless_null() -> None:
    _, fields = decode(
        json.dumps({"client_metadata": {}, **HI, "provider": None, "generate": False}).encode(), ChatRequest
    )
    assert ignored_keys(fields, ChatRequest) == ("client_metadata", "generate")


# --- whatever bytes come in -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FULL: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"1": 2},
    "metadata": {"a": "b"},
    "options": {"seed": 1},
    "temperature": 0.5,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [place for key, item in value.items() for place in places(item, (*path, key))]
    elif isinstance(value, list):
        inner = [place for index, item in enumerate(value) for place in places(item, (*path, index))]
    return [path, *inner] if path else inner


def taken(body: bytes) -> None:
    """Parse; an Invalid is fine, anything else fails the test."""
    with contextlib.suppress(Invalid):
        chat.parse(body)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_taken_or_refused(body: bytes) -> None:
    taken(body)


@given(JSON)
def test_arbitrary_json_is_taken_or_refused(value: Any) -> None:
    taken(json.dumps(value).encode())


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(FULL)), JSON, st.booleans())
def test_a_request_with_one_wrong_place_is_taken_or_refused_with_a_path(
    place: tuple[Any, ...], value: Any, drop: bool
) -> None:
    body = copy.deepcopy(FULL)
    inner: Any = body
    for step in place[:-1]:
        inner = inner[step]
    if drop:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    taken(json.dumps(body).encode())


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_request_with_one_wrong_byte_is_taken_or_refused(at: int, byte: int) -> None:
    body = bytearray(json.dumps(FULL).encode())
    body[at % len(body)] = byte
    taken(bytes(body))


def test_a_request_that_names_no_model_is_not_told_to_name_one() -> None:
    class Update(msgspec.Struct):
        metadata: dict[str, str]

    assert refusal(b"{}", Update).message == "Missing required parameter: 'metadata'."


@pytest.mark.parametrize(
    ("struct", "body", "path", "expected"),
    [
        (ChatRequest, {**HI, "n": 2.0}, "n", 2),
        (ChatRequest, {**HI, "max_completion_tokens": 1e3}, "max_completion_tokens", 1000),
        (ChatRequest, {**HI, "top_k": 10587.0}, "top_k", 10587),
        (ChatRequest, {**HI, "seed": -0.0}, "seed", 0),
        (ChatRequest, {**HI, "logit_bias": {"5": 1.0}}, "logit_bias", {"5": 1}),
        (ChatRequest, {**HI, "options": {"num_ctx": 4096.0, "temperature": 1.0}}, "options.num_ctx", 4096),
        # Where decimals are taken too, they stay decimals.
        (ChatRequest, {**HI, "temperature": 1.0, "n": 1.0}, "temperature", 1.0),
        (ChatRequest, {**HI, "keep_alive": 5.0, "n": 1.0}, "keep_alive", 5.0),
        (CompletionRequest, {"model": "m", "prompt": [1.0, 2.0]}, "prompt", [1, 2]),
        (EmbeddingRequest, {"model": "m", "input": [[1.0], [2]]}, "input", [[1], [2]]),
        (MessagesRequest, {**HI, "max_tokens": 64.0}, "max_tokens", 64),
        (
            MessagesRequest,
            {**HI, "max_tokens": 1, "thinking": {"type": "enabled", "budget_tokens": 2e3}},
            "thinking.budget_tokens",
            2000,
        ),
        (OllamaChatRequest, {**HI, "top_logprobs": 3.0}, "top_logprobs", 3),
        (BatchRequest, {**BATCH, "output_expires_after": EXPIRES}, "output_expires_after.seconds", 3600),
    ],
)
def test_whole_numbers_may_be_written_as_decimals(
    struct: type[msgspec.Struct], body: dict[str, Any], path: str, expected: Any
) -> None:
    shape, fields = decode(json.dumps(body).encode(), struct)
    first, *rest = path.split(".")
    found: Any = shape
    sent: Any = {name: msgspec.json.decode(raw) for name, raw in fields.items()}
    for name in (first, *rest):
        found, sent = getattr(found, name), sent[name]
    # What is passed on to a backend has it as an integer too.
    assert repr(found) == repr(expected) == repr(sent)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"n": 2.5}, "Invalid type for 'n': expected an integer, but got a decimal number instead."),
        ({"n": 129.0}, "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead."),
        ({"n": 2.0, "temperature": 3}, "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."),
        ({"n": 1e300}, None),
        ({"seed": 2.0**64}, None),
        ({"stop": 2.0}, "Invalid type for 'stop': expected one of a string or array of strings, but got a decimal number instead."),
    ],
)  # fmt: skip
def test_other_decimals_are_refused_as_before(more: dict[str, Any], message: str | None) -> None:
    error = refusal({**HI, **more})
    assert message is None or error.message == message
    assert error.code in ("invalid_type", "integer_above_max_value", "decimal_above_max_value")


def test_what_belongs_to_the_client_is_not_changed() -> None:
    item = {"role": "user", "content": "x", "status": 1.0}
    schema = {"type": "object", "properties": {"a": {"minimum": 1.0}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    _, fields = decode(json.dumps({**HI, "n": 1.0, "tools": [tool]}).encode(), ChatRequest)
    assert repr(msgspec.json.decode(fields["tools"])[0]["function"]["parameters"]) == repr(schema)
    before = copy.deepcopy(item)
    convert(item, MessageItem, "input[0]")
    assert item == before
    expires = dict(EXPIRES)
    assert convert(expires, OutputExpiry, "x").seconds == 3600
    assert repr(expires["seconds"]) == "3600.0"


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    globs: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


def test_a_closed_shape_names_what_it_does_not_know() -> None:
    error = refusal({"name": "a", "extra": 1}, Closed)
    assert (error.message, error.param, error.code) == ("Unknown parameter: 'extra'.", "extra", "unknown_parameter")
    error = refusal({"name": "a", "globs": "x"}, Closed)
    assert error.message == "Invalid type for 'globs': expected an array of strings, but got a string instead."
    assert decode(b'{"name": "a", "globs": ["x"]}', Closed)[0].globs == ("x",)


PADDING = b',"padding":"' + b"x" * validate.LARGE + b'"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":5.0}',
        b'{"model":"m","messages":[{"role":"user","content":7}]}',
        b'{"model":"m","messages":[{"role":"nobody","content":"Hi"}]}',
        b'{"model":"m","messages":[]}',
        b'{"model":"m"}',
        b'{"messages":[{"role":"user","content":"Hi"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stop":["a","b","c","d","e"]}',
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"temperature":3}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}]]}',
    ],
)
def test_a_large_body_is_judged_like_a_small_one(body: bytes) -> None:
    def judged(body: bytes) -> object:
        try:
            shape, fields = validate.decode(body, ChatRequest)
        except Invalid as exc:
            return exc.message, exc.param, exc.code
        fields.pop("padding", None)
        return shape, {name: bytes(raw) for name, raw in fields.items()}

    assert judged(body[:-1] + PADDING) == judged(body)
