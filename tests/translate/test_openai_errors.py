"""Foreign errors: kept as they came, but for those that need another reaction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import ContextTooLong, ModelNotFound, OproxyError, UpstreamBusy, UpstreamFailed
from ollama_proxy.translate.openai import WIRE
from ollama_proxy.translate.openai_errors import stream_error

RECORDINGS = Path(__file__).parents[1] / "backends" / "llamacpp"


def read(status: int, body: Any, *, param: str = "messages", headers: dict[str, str] | None = None) -> OproxyError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WIRE.error(status, data, backend="lab", model="asked", param=param, headers=headers)


def openai(message: str, code: str | None = None, type: str = "invalid_request_error", param: str | None = None) -> Any:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def test_an_error_of_openais_is_kept_word_for_word() -> None:
    body = openai("Invalid 'n'.", "integer_above_max_value", param="n")
    error = read(400, body)
    assert isinstance(error, UpstreamFailed)
    assert (error.status, error.body(), error.backend) == (400, body, "lab")


def test_a_null_code_stays_null() -> None:
    assert read(400, openai("no")).body() == openai("no")
    assert read(500, openai("oops", type="server_error")).body() == openai("oops", type="server_error")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "Unexpected endpoint"}, "Unexpected endpoint"),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, "bad"),
        ({"detail": "Method not allowed"}, "Method not allowed"),
        ({"detail": [{"loc": ["n"]}]}, '[{"loc":["n"]}]'),
        ([{"error": {"message": "from a list", "code": 400}}], "from a list"),
        ({"message": "plain"}, "plain"),
        ({"error": {"code": "odd"}}, '{"code":"odd"}'),
    ],
)
def test_the_words_are_found_wherever_a_server_puts_them(body: Any, message: str) -> None:
    error = read(422, body)
    assert (error.status, error.message) == (422, message)


@pytest.mark.parametrize("body", [b"", b"<html><h1>Bad gateway</h1></html>", b"[]", b"{}", b"null"])
def test_an_error_without_words_names_backend_and_status(body: bytes) -> None:
    error = read(502, body)
    assert error.message.startswith("The backend 'lab' answered with status 502")
    assert "html" not in error.message


def test_plain_text_is_shown() -> None:
    assert read(500, b"upstream died").message == "The backend 'lab' answered with status 500: upstream died"


def test_a_number_for_a_code_that_only_repeats_the_status_is_no_code() -> None:
    body = {"error": {"code": 500, "message": "x", "type": "server_error"}}
    assert read(500, body).body()["error"] == {"message": "x", "type": "server_error", "param": None, "code": None}
    assert read(400, {"error": {"code": 20015, "message": "x"}}).code == "20015"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_ours_and_the_config_is_named(status: int) -> None:
    error = read(status, openai("Incorrect API key provided.", "invalid_api_key"))
    assert isinstance(error, UpstreamFailed)
    assert error.status == 502
    for words in ("Incorrect API key provided.", "[backends.lab]", "api_key"):
        assert words in error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, openai("The model `x` does not exist or you do not have access to it.", "model_not_found")),
        (400, openai("Model is not there.", "model_not_found")),
        (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
        (404, {"error": "model 'x' not found"}),
        (404, {"error": {"message": "No such model"}}),
    ],
)
def test_a_model_that_the_backend_lacks_is_not_found_by_the_name_asked_for(status: int, body: Any) -> None:
    error = read(status, body)
    assert isinstance(error, ModelNotFound)
    assert "`asked`" in error.message
    assert "'lab'" in error.message


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "Not Found"},
        {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}},
        {"error": "404 page not found"},
        {"message": "Cannot POST /chat/completions"},
        b"404 page not found\n",
        b"<!doctype html><h1>Not Found</h1>",
        b"",
    ],
)
def test_a_route_that_the_backend_has_not_is_no_missing_model(body: Any) -> None:
    error = read(404, body)
    assert isinstance(error, UpstreamFailed)
    assert (error.status, error.code) == (502, "backend_error")
    assert "Check url under [backends.lab]" in error.message
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert WIRE.error(404, data, backend="lab", model="").status == 404


def test_another_404_is_kept() -> None:
    error = read(404, {"error": {"message": "No such adapter", "type": "not_found_error", "code": 404}})
    assert isinstance(error, UpstreamFailed)
    assert (error.status, error.type) == (404, "not_found_error")


def test_too_many_requests_keeps_what_says_when_to_come_again() -> None:
    headers = {"Retry-After": "7", "x-ratelimit-remaining-requests": "0", "set-cookie": "secret", "server": "x"}
    error = read(429, openai("Slow down", "rate_limit_exceeded", "requests"), headers=headers)
    assert (error.status, error.type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.headers == {"retry-after": "7", "x-ratelimit-remaining-requests": "0"}


def test_a_server_that_loads_or_is_full_is_busy_and_says_when_to_retry() -> None:
    loading = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
    error = read(503, loading)
    assert isinstance(error, UpstreamBusy)
    assert (error.message, error.headers) == ("Loading model", {"retry-after": "2"})
    assert read(503, loading, headers={"retry-after": "30"}).headers == {"retry-after": "30"}
    assert read(503, loading, headers={"retry-after": "Wed, 21 Oct 2026"}).headers == {"retry-after": "2"}


OPENAIS = "This model's maximum context length is 10 tokens. However, "
OVERFLOWS = [
    (400, openai(f"{OPENAIS}your messages resulted in 12 tokens.", "context_length_exceeded"), 10, 12),
    (400, openai(f"{OPENAIS}you requested 12 tokens (2 in the messages, 10 in the completion)."), 10, 12),
    (400, openai("This model's maximum context length is 10 tokens, however you requested 12 tokens (12 in your "
                 "prompt; 0 for the completion)."), 10, 12),
    (400, openai(f"{OPENAIS}your request has 12 input tokens. Please reduce it."), 10, 12),
    (400, openai("Please reduce the length.", "context_length_exceeded"), None, None),
    (400, openai("This endpoint's maximum context length is 10 tokens. However, you requested about 12"), 10, 12),
    (400, {"object": "error", "message": "The prompt (length 12) is longer than the maximum model length of 10."},
     10, 12),
    (400, openai("The input (12 tokens) is longer than the model's context length (10 tokens)."), 10, 12),
    (400, openai("Requested token count exceeds the model's maximum context length of 10 tokens. You requested a total "
                 "of 12 tokens: 2 from the input"), 10, 12),
    (400, {"error": "Trying to keep the first 12 tokens when context the overflows. However, the model is loaded with "
                    "context length of only 10 tokens, which is not enough."}, 10, 12),
    (400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."},
     None, None),
    (400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length "
                    "(n_keep: 12>= n_ctx: 10)"}, 10, 12),
    (500, {"error": "Reached context length of 10 tokens with this model."}, 10, None),
    (422, {"error": "Input validation error: `inputs` must have less than 10 tokens. Given: 12", "error_type": "v"},
     10, 12),
    (400, {"object": "error", "message": "Prompt contains 12 tokens and 0 draft tokens, too large for model with 10 "
                                         "maximum context length"}, 10, 12),
    (500, {"error": {"message": "the request exceeds the available context size. try increasing it"}}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "limit", "tokens"), OVERFLOWS)
def test_every_way_to_say_too_long_is_one_error_with_its_numbers(
    status: int, body: Any, limit: int | None, tokens: int | None
) -> None:
    error = read(status, body)
    assert isinstance(error, ContextTooLong)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert (error.limit, error.tokens) == (limit, tokens)
    for number in (limit, tokens):
        assert number is None or str(number) in error.message


def test_openais_own_sentence_stays() -> None:
    words = f"{OPENAIS}you requested 12 tokens (2 in the messages, 10 in the completion)."
    assert read(400, openai(words)).message == words == str(read(400, openai(words)))


def test_room_that_is_lacking_for_the_answer_only_is_no_fault_of_the_prompt() -> None:
    words = (
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
        "tokens and your request has 20 input tokens (5000 > 4096 - 20)."
    )
    error = read(400, openai(words, param="max_tokens"))
    assert isinstance(error, UpstreamFailed)
    assert (error.message, error.param) == (words, "max_tokens")


@pytest.mark.parametrize(
    ("name", "param", "limit", "tokens"),
    [
        ("overflow", "messages", 1024, 1231),
        ("overflow_stream", "messages", 1024, 1231),
        ("embeddings_too_long", "input", 512, 602),
    ],
)
def test_what_llamacpp_was_recorded_to_say_of_too_much_is_understood(
    name: str, param: str, limit: int, tokens: int
) -> None:
    case = json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))
    error = read(case["status"], case["answer"].encode(), param=param)
    assert isinstance(error, ContextTooLong)
    assert (error.limit, error.tokens, error.param) == (limit, tokens, param)


@pytest.mark.parametrize("name", ["bad_schema", "bad_type", "custom_tool", "embeddings_empty", "image", "no_messages"])
def test_what_else_llamacpp_was_recorded_to_say_is_kept(name: str) -> None:
    case = json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))
    error = read(case["status"], case["answer"].encode())
    told = json.loads(case["answer"])["error"]
    assert (error.status, error.message, error.type) == (case["status"], told["message"], told["type"])
    assert error.code is None


def test_a_record_without_an_error_holds_none() -> None:
    records: list[Any] = [{"choices": []}, {"error": None}, {"error": ""}, {"error": {}}, [], "x", None]
    for record in records:
        assert stream_error(record, backend="b", model="m") is None


@given(st.integers(400, 599), st.binary(max_size=60))
def test_any_bytes_with_any_error_status_are_an_error_of_ours(status: int, body: bytes) -> None:
    assert isinstance(read(status, body), OproxyError)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "detail"]), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_any_json_with_an_error_status_is_an_error_with_a_whole_body(value: Any) -> None:
    error = read(400, value)
    fields = error.body()["error"]
    assert isinstance(fields["message"], str)
    assert all(fields[key] is None or isinstance(fields[key], str) for key in ("type", "code", "param"))
