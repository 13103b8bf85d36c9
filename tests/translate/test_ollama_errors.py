"""Ollama's refusals: every recorded one, and what each becomes."""

from __future__ import annotations

import json

import pytest

from ollama_proxy.errors import (
    ClientGone,
    ContextTooLong,
    Invalid,
    ModelNotFound,
    OproxyError,
    Unsupported,
    UpstreamBusy,
    UpstreamFailed,
)
from ollama_proxy.translate.ollama import WIRE
from tests.fakes.ollama import Trace, traces

REFUSALS = [
    pytest.param(trace, id=f"{version}-{trace.name}")
    for version in ("v0.34.4", "v0.24.0")
    for trace in traces(version).values()
    if trace.status >= 400
]


def told(status: int, error: object, param: str = "messages") -> OproxyError:
    body = error.encode() if isinstance(error, str) else json.dumps({"error": error}).encode()
    return WIRE.error(status, body, backend="ollama", model="m", param=param)


def recorded(name: str, version: str = "v0.34.4", param: str = "messages") -> OproxyError:
    trace = traces(version)[name]
    return WIRE.error(trace.status, trace.body, backend="ollama", model="m", param=param)


@pytest.mark.parametrize("trace", REFUSALS)
def test_every_recorded_refusal_is_told_in_plain_words(trace: Trace) -> None:
    error = WIRE.error(trace.status, trace.body, backend="ollama", model="m")
    assert error.message
    assert '{"error"' not in error.message
    assert "\n" not in error.message
    assert error.status in (400, 404, 502, 503)
    if isinstance(error, UpstreamFailed):
        assert error.backend == "ollama"
        assert error.status == 502


@pytest.mark.parametrize(
    ("name", "kind", "param"),
    [
        ("chat-unknown-model", ModelNotFound, None),
        ("embed-unknown-model", ModelNotFound, None),
        ("meta-show-unknown", ModelNotFound, None),
        ("tools-unsupported", Unsupported, "tools"),
        ("generate-suffix-unsupported", Unsupported, "suffix"),
        ("chat-think-true-unsupported", Unsupported, "reasoning_effort"),
        ("chat-embed-model", Unsupported, "model"),
        ("embed-completion-model", Unsupported, "model"),
        ("chat-images-unsupported", Unsupported, "messages"),
        ("chat-native-images", Invalid, "messages"),
        ("chat-images-datauri", Invalid, "messages"),
        ("chat-think-bogus", Invalid, "think"),
        ("chat-think-number", Invalid, "think"),
        ("load-chat-keepalive-badstr", Invalid, "keep_alive"),
        ("load-chat-keepalive-bad", Invalid, "keep_alive"),
        ("chat-top-logprobs-21", Invalid, "top_logprobs"),
        ("tools-native-logprobs-stream", Invalid, "logprobs"),
        ("chat-options-typical-p", Invalid, "options.typical_p"),
        ("chat-options-wrong-type", Invalid, "options.temperature"),
        ("chat-options-string-seed", Invalid, "options.seed"),
        ("chat-stop-string-not-array", Invalid, "options.stop"),
        ("chat-format-xml", Invalid, "response_format"),
        ("chat-format-bad-schema-type", Invalid, "response_format"),
        ("chat-native-format-bad-schema", Invalid, "response_format"),
        ("chat-format-schema-ref-bad", Invalid, "response_format"),
        ("chat-content-array", Invalid, "messages.content"),
        ("tools-bad-tool-param-type", Invalid, "tools.function.parameters"),
        ("dyn-runner-killed-chat-nonstream", UpstreamFailed, None),
        ("dyn-token-repeat-abort-chat-nonstream", UpstreamFailed, None),
        ("chat-cloud-model", UpstreamFailed, None),
        ("meta-foreign-host", UpstreamFailed, None),
        ("meta-404", UpstreamFailed, None),
    ],
)
def test_a_recorded_refusal_names_what_was_wrong(name: str, kind: type[OproxyError], param: str | None) -> None:
    for version in ("v0.34.4", "v0.24.0"):
        if name in traces(version) and traces(version)[name].status >= 400:
            error = recorded(name, version)
            assert type(error) is kind
            assert error.param == param


@pytest.mark.parametrize(
    ("name", "limit", "count"),
    [
        ("ctx-chat-truncate-false", 256, 333),
        ("ctx-chat-truncate-false-stream", 256, 613),
        ("ctx-native-truncate-false", 256, 624),
        ("ctx-chat-30MB-body-truncate-false", 4096, 7500009),
        ("ctx-chat-shift-false", None, None),
        ("embed-toolong-truncate-false", None, None),
        ("embeddings-legacy-toolong", None, None),
    ],
)
def test_a_prompt_that_does_not_fit_is_told_with_its_numbers(name: str, limit: int | None, count: int | None) -> None:
    error = recorded(name, param="prompt")
    assert isinstance(error, ContextTooLong)
    assert (error.limit, error.tokens, error.param) == (limit, count, "prompt")


def test_an_old_server_tells_no_numbers_of_a_prompt_that_does_not_fit() -> None:
    error = recorded("ctx-chat-truncate-false", "v0.24.0")
    assert isinstance(error, ContextTooLong)
    assert (error.limit, error.tokens) == (None, None)


def test_a_missing_model_comes_with_the_command_that_fetches_it() -> None:
    assert "`oproxy models pull nope`" in recorded("chat-unknown-model").message
    assert "`oproxy models pull m`" in told(500, "pull model manifest: file does not exist").message


@pytest.mark.parametrize(
    ("status", "error", "kind", "ours"),
    [
        (503, "server busy, please try again.  maximum pending requests exceeded", UpstreamBusy, 503),
        (429, "slow down", UpstreamBusy, 503),
        (499, "request canceled", ClientGone, 499),
        (401, "unauthorized", UpstreamFailed, 502),
        (403, "", UpstreamFailed, 502),
        (500, "", UpstreamFailed, 502),
        (400, "something else", Invalid, 400),
        (500, {"error": {"code": 400, "message": "bad wish"}}, Invalid, 400),
        (500, {"error": {"code": True, "message": "bad wish"}}, UpstreamFailed, 502),
        (500, "<html>Bad gateway</html>", UpstreamFailed, 502),
    ],
)
def test_a_status_decides_where_the_words_do_not(
    status: int, error: object, kind: type[OproxyError], ours: int
) -> None:
    made = told(status, error)
    assert type(made) is kind
    assert made.status == ours


def test_a_busy_backend_tells_when_to_come_back() -> None:
    assert told(503, {"error": "x"}).headers["retry-after"] == "2"


def test_words_are_found_however_deep_they_are_wrapped() -> None:
    text = "deep"
    for _ in range(3):
        text = json.dumps({"error": text})
    assert told(500, text).message == "The backend 'ollama' failed: deep"


def test_no_path_and_no_stack_of_the_machine_is_told() -> None:
    error = told(
        500,
        {"x": 1}
        | {"error": "open /home/ann/.ollama/models/blobs/sha256-1: no such file\ngoroutine 7 [running]:\nmain.go"},
    )
    assert "ann" not in error.message
    assert "goroutine" not in error.message
    assert "no such file" in error.message


def test_addresses_stay_readable() -> None:
    assert "https://host/v2/library/x/manifests" in told(500, "Get https://host/v2/library/x/manifests: EOF").message
