"""Headers, paths, models and usage of what passes through."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.events import Usage
from ollama_proxy.translate.forward import (
    OBSERVED,
    AnswerObserver,
    answer_headers,
    climbs,
    named_model,
    renamed,
    request_headers,
    usage_of,
)


def test_what_belongs_to_one_connection_or_one_account_stays_here() -> None:
    sent = [
        ("Host", "a"), ("Authorization", "Bearer sk-1"), ("X-API-Key", "sk-1"), ("Cookie", "a=b"),
        ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Transfer-Encoding", "chunked"), ("Origin", "http://a"),
        ("OpenAI-Organization", "org"), ("X-Oproxy-Tag", "t"), ("Sec-WebSocket-Key", "k"), ("X-Tenant", "theirs"),
        ("Content-Type", "text/plain"), ("OpenAI-Beta", "realtime=v1"), ("Range", "bytes=0-1"),
    ]  # fmt: skip
    assert request_headers(sent, {"x-tenant": "ours"}) == {
        "content-type": "text/plain", "openai-beta": "realtime=v1", "range": "bytes=0-1",
    }  # fmt: skip


def test_what_the_backend_says_of_its_connection_and_our_account_stays_here() -> None:
    came = [
        ("Date", "now"), ("Server", "cloudflare"), ("Set-Cookie", "a=b"), ("X-Request-Id", "req_1"),
        ("x-ratelimit-limit-tokens", "5"), ("Access-Control-Allow-Origin", "*"), ("Connection", "close"),
        ("Content-Length", "5"), ("Content-Encoding", "gzip"),
        ("Content-Type", "audio/mpeg"), ("Content-Disposition", "attachment"), ("X-Two", "1"), ("X-Two", "2"),
    ]  # fmt: skip
    kept = [("content-type", "audio/mpeg"), ("content-disposition", "attachment"), ("x-two", "1"), ("x-two", "2")]
    assert answer_headers(came) == kept


@pytest.mark.parametrize(
    "path",
    ["/v1/a/../b", "/v1/a/%2e%2E/b", "/v1/a/..%2fb", "/v1/a/%252e./b", "/v1/a//b", "/v1/a/./b", "/v1/a/..\\b",
     "/v1/a/%5c..%5Cb", "/v1/%25252525252e"],
)  # fmt: skip
def test_a_path_that_climbs_is_seen(path: str) -> None:
    assert climbs(path)


@pytest.mark.parametrize("path", ["/v1/a/b", "/v1/a/b/", "/v1/a..b/c", "/v1/a/%20", "/v1/a/b%3Fc", "/v1/a/..."])
def test_a_path_that_goes_on_down_is_let_through(path: str) -> None:
    assert not climbs(path)


def test_a_models_name_is_read_and_changed_and_all_else_kept() -> None:
    body = b'{ "n" : 1.50, "model":"a", "model": "b", "x": {"model": "c"} }'
    assert named_model(body) == "b"
    assert renamed(body, 'd"') == b'{"n":1.50,"model":"d\\"","x":{"model": "c"}}'
    for odd in (b"", b"[]", b"{", b'{"model": 5}', b'{"model": null}', b"\xff", b"[" * 100_000, b'{"a": 1}'):
        assert named_model(odd) == ""


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_renaming_changes_the_model_alone(fields: dict[str, Any]) -> None:
    body = msgspec.json.encode({**fields, "model": "a"})
    assert json.loads(renamed(body, "b")) == {**fields, "model": "b"}


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"input_tokens": 1, "output_tokens": 2}}, Usage(1, 2)),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}, Usage(1, 2)),
        ({"usage": {"input_tokens": 4}}, Usage(4, 0)),
        (
            {"response": {"usage": {"input_tokens": 4, "input_token_details": {"cached_tokens": 3}}}},
            Usage(4, 0, 3),
        ),
        ({"usage": {"input_tokens": 4, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 3}}},
         Usage(4, 5, 0, 3)),
        ({"usage": {"type": "duration", "seconds": 3}}, None),
        ({"usage": None, "response": None}, None),
        ({"usage": {"input_tokens": True, "output_tokens": -1}}, None),
        ({"usage": {"input_tokens": "4"}}, None),
        ([], None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_is_read_in_all_its_forms(document: Any, usage: Usage | None) -> None:
    assert usage_of(document) == usage


STREAM = (
    b'event: a\ndata: {"type": "a"}\n\ndata: {"usage": {"input_tokens": 1, "output_tokens": 2}}\n\ndata: [DONE]\n\n'
)


def test_a_streams_usage_is_seen_at_every_cut() -> None:
    for cut in range(len(STREAM) + 1):
        observer = AnswerObserver("text/event-stream; charset=utf-8")
        observer.feed(STREAM[:cut])
        observer.feed(STREAM[cut:])
        assert (observer.usage, observer.done, observer.streams) == (Usage(1, 2), True, True)


def test_a_stream_that_is_no_stream_is_not_minded() -> None:
    observer = AnswerObserver("text/event-stream")
    observer.feed(b'data: {"usage": \n\ndata: {"usage"}\n\n')
    observer.feed(b"x" * 20_000_000)
    observer.feed(STREAM)
    assert observer.usage is None


def test_a_whole_answer_is_kept_only_while_it_is_small() -> None:
    small = AnswerObserver("application/json")
    small.feed(b'{"usage": {"input_tokens": 1,')
    small.feed(b'"output_tokens": 2}}')
    assert small.whole() == b'{"usage": {"input_tokens": 1,"output_tokens": 2}}'
    assert small.usage == Usage(1, 2)
    large = AnswerObserver("application/json")
    for _ in range(3):
        large.feed(b" " * (OBSERVED // 2 + 1))
    assert large.whole() == b""
    sound = AnswerObserver("audio/mpeg")
    sound.feed(b"x")
    assert (sound.whole(), sound.usage) == (b"", None)
