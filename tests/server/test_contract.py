"""What a real client sees, byte for byte: the wording of refusals, the order of chunks, the headers of every answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import HELLO, Setup

ABOVE = "Invalid '{0}': {1} above maximum value. Expected a value <= {2}, but got {3} instead."
BELOW = "Invalid '{0}': {1} below minimum value. Expected a value >= {2}, but got {3} instead."
TYPE = "Invalid type for '{0}': expected {1}, but got {2} instead."


def above(name: str, word: str, limit: int, got: object) -> tuple[str, str, str]:
    return name, f"{word}_above_max_value", ABOVE.format(name, word, limit, got)


def below(name: str, word: str, limit: int, got: object) -> tuple[str, str, str]:
    return name, f"{word}_below_min_value", BELOW.format(name, word, limit, got)


def wrong(name: str, wanted: str, got: str) -> tuple[str, str, str]:
    return name, "invalid_type", TYPE.format(name, wanted, got)


# What is sent besides model and messages; the param, the code and the whole message that come back.
CHAT: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"temperature": 200}, above("temperature", "decimal", 2, 200)),
    ({"temperature": -0.1}, below("temperature", "decimal", 0, -0.1)),
    ({"temperature": True}, wrong("temperature", "a decimal", "a boolean")),
    ({"top_p": 1.1}, above("top_p", "decimal", 1, 1.1)),
    ({"n": 0}, below("n", "integer", 1, 0)),
    ({"n": 129}, above("n", "integer", 128, 129)),
    ({"n": 1.5}, wrong("n", "an integer", "a decimal number")),
    ({"top_logprobs": 21, "logprobs": True}, above("top_logprobs", "integer", 20, 21)),
    ({"logprobs": 5}, wrong("logprobs", "a boolean", "an integer")),
    ({"frequency_penalty": 2.1}, above("frequency_penalty", "decimal", 2, 2.1)),
    ({"presence_penalty": -2.1}, below("presence_penalty", "decimal", -2, -2.1)),
    ({"seed": 2**63}, above("seed", "integer", 2**63 - 1, 2**63)),
    ({"stop": [1]}, wrong("stop[0]", "a string", "an integer")),
    ({"stop": {}}, wrong("stop", "one of a string or array of strings", "an object")),
    ({"stream": "true"}, wrong("stream", "a boolean", "a string")),
    ({"tools": "x"}, wrong("tools", "an array of objects", "a string")),
    ({"metadata": {"a": 1}}, wrong("metadata.a", "a string", "an integer")),
    ({"user": 1}, wrong("user", "a string", "an integer")),
    (
        {"response_format": {"type": "json_schema"}},
        (
            "response_format.json_schema",
            "missing_required_parameter",
            "Missing required parameter: 'response_format.json_schema'.",
        ),
    ),
    (
        {"tools": [{"type": "function"}]},
        ("tools[0].function", "missing_required_parameter", "Missing required parameter: 'tools[0].function'."),
    ),
    (
        {"stop": ["a"] * 5},
        (
            "stop",
            "array_above_max_length",
            (
                "Invalid 'stop': array too long. Expected an array with maximum length 4, "
                "but got an array with length 5 instead."
            ),
        ),
    ),
]


@pytest.mark.parametrize(("sent", "expected"), CHAT, ids=[json.dumps(sent)[:40] for sent, _ in CHAT])
async def test_a_parameter_that_does_not_fit_is_refused_in_openais_words(
    setup: Setup, sent: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    status, body, _ = await setup.chat(**sent)

    param, code, message = expected
    assert status == 400
    assert body == {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


LIMITS: list[dict[str, Any]] = [
    {"temperature": 0, "top_p": 0, "frequency_penalty": -2, "presence_penalty": -2},
    {"temperature": 2, "top_p": 1, "frequency_penalty": 2, "presence_penalty": 2},
    {"seed": 2**63 - 1, "stop": ["a", "b", "c", "d"], "n": 1, "safety_identifier": "x" * 128},
    {"seed": -(2**63), "metadata": {"k" * 64: "v" * 512} | {str(n): "" for n in range(15)}},
    {"logprobs": True, "top_logprobs": 20, "tools": [], "functions": [], "logit_bias": {}},
]


@pytest.mark.parametrize("sent", LIMITS, ids=range(len(LIMITS)))
async def test_values_at_their_limits_are_taken(setup: Setup, sent: dict[str, Any]) -> None:
    status, body, _ = await setup.chat(**sent)

    assert status == 200, body


async def test_every_optional_parameter_may_be_null(setup: Setup) -> None:
    names = (
        "temperature top_p n max_tokens max_completion_tokens logprobs top_logprobs logit_bias stop seed "
        "frequency_penalty presence_penalty stream stream_options response_format tools tool_choice "
        "parallel_tool_calls functions function_call reasoning_effort verbosity modalities audio prediction "
        "service_tier store metadata user safety_identifier prompt_cache_key prompt_cache_retention "
        "prompt_cache_options web_search_options moderation"
    )

    status, body, headers = await setup.chat(**dict.fromkeys(names.split()))

    assert status == 200, body
    assert "x-oproxy-ignored" not in headers


async def test_a_stream_has_the_recorded_order_and_the_same_head_on_every_chunk(setup: Setup) -> None:
    status, data = await setup.stream(stream_options={"include_usage": True})

    lines = data.decode().split("\n\n")
    assert (status, lines[-2:]) == (200, ["data: [DONE]", ""])
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert len({(c["id"], c["object"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}) == 1
    first, *deltas, finish, usage = chunks
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert deltas
    assert all(list(chunk["choices"][0]["delta"]) == ["content"] for chunk in deltas)
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_without_include_usage_no_chunk_speaks_of_usage(setup: Setup) -> None:
    _, data = await setup.stream()

    assert b'"usage"' not in data


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/v1/foo", 404),
        ("GET", "/v1/embeddings", 405),
        ("OPTIONS", "/v1/chat/completions", 204),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/models/nope", 404),
    ],
)
async def test_every_answer_has_an_id_the_time_and_the_version(
    setup: Setup, method: str, path: str, status: int
) -> None:
    async with setup.http.request(method, path, data=b"" if method == "POST" else None) as answer:
        assert answer.status == status
        kind, _, number = answer.headers["x-request-id"].partition("_")
        assert (kind, len(number)) == ("req", 32)
        assert int(number, 16) >= 0
        assert answer.headers["openai-processing-ms"].isdigit()
        assert answer.headers["openai-version"] == "2020-10-01"


async def test_token_embeddings_of_nothing_known_name_what_was_wrong(setup: Setup) -> None:
    status, body, _ = await setup.post("/v1/embeddings", {"model": "all-minilm", "input": [10**9]})

    assert (status, body["error"]["param"]) == (400, "input")
    assert body["error"]["message"].startswith("Invalid 'input': ")


async def test_n_choices_of_a_stream_each_begin_and_end(setup: Setup) -> None:
    _, data = await setup.stream(n=3)

    chunks = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line.startswith("data: {")]
    for index in range(3):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert mine[-1]["finish_reason"] == "stop"
        assert all(choice["finish_reason"] is None for choice in mine[:-1])


async def test_an_id_with_a_slash_is_found_whichever_way_it_is_written(setup: Setup) -> None:
    setup.ollama.models.append({**setup.ollama.models[0], "name": "hf.co/a/b:c", "model": "hf.co/a/b:c"})

    for path in ("/v1/models/hf.co/a/b:c", "/v1/models/hf.co%2Fa%2Fb:c"):
        async with setup.http.get(path) as answer:
            assert (answer.status, (await answer.json())["id"]) == (200, "hf.co/a/b:c")


async def test_a_message_without_text_is_refused_with_its_path(setup: Setup) -> None:
    messages = [*HELLO, {"role": "user", "content": {}}]

    _, body, _ = await setup.chat(messages=messages)

    assert body["error"]["param"] == "messages[1].content"
    assert body["error"]["message"] == (
        "Invalid type for 'messages[1].content': expected one of a string or array of objects, "
        "but got an object instead."
    )
