"""Streams of Anthropic's messages become the messages they amount to, wherever they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.recorder.assemble import assemble
from ollama_proxy.translate.messages_write import PING, MessageWriter, whole

EVENTS: list[Event] = [
    Thinking(0, "Let "), Thinking(0, "me."), Text(0, "I look"), Text(0, "."), ToolStart(0, 0, "call_1", "f"),
    ToolDelta(0, 0, '{"a":'), ToolDelta(0, 0, "1}"), ToolStart(0, 1, "call_2", "g"), Finish(0, "tool_calls"),
    Usage(prompt=7, completion=5, cached=2),
]  # fmt: skip


def stream(events: list[Event]) -> bytes:
    writer = MessageWriter(id="msg_1", model="m", thoughts="shown")
    return PING + b"".join([*writer.feed(events), *writer.flush()])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_stream_is_the_message_that_would_have_been_given_whole(end: bytes) -> None:
    data = stream(EVENTS).replace(b"\n", end)
    wanted = json.loads(whole(EVENTS, id="msg_1", model="m", thoughts="shown"))
    for cut in range(0, len(data), 7):
        found = assemble([data[:cut], data[cut:]])
        assert (found.answer, found.done) == (wanted, True)


def test_a_stream_that_breaks_off_is_what_had_come_by_then() -> None:
    data = stream(EVENTS)
    for cut in range(len(data)):
        found = assemble([data[:cut]])
        assert not found.done or cut >= len(data) - 2
    half = assemble([data[: data.index(b'"1}"')]]).answer
    assert half["content"][1] == {"type": "text", "text": "I look."}
    assert half["content"][2]["input"] in ({}, '{"a":')


def test_an_error_that_ends_a_stream_is_kept_beside_what_came() -> None:
    found = assemble([stream([Text(0, "Hi"), Fail(UpstreamFailed("broken"))])])
    assert found.answer["content"] == [{"type": "text", "text": "Hi"}]
    assert found.answer["error"] == {"type": "api_error", "message": "broken"}
    assert not found.done


@pytest.mark.parametrize(
    "documents",
    [
        [{"type": "message_start"}, {"type": "content_block_delta"}, {"type": "message_delta", "delta": 5}],
        [{"type": "message_start", "message": {"usage": 5}}, {"type": "message_delta", "delta": {}, "usage": []}],
        [{"type": "message_start"}, {"type": "content_block_start", "index": [], "content_block": {}},
         {"type": "content_block_delta", "index": [], "delta": {"type": "text_delta", "text": None}}],
        [{"type": "message_start"}, {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}],
    ],
)  # fmt: skip
def test_odd_documents_do_no_harm(documents: list[Any]) -> None:
    data = b"".join(b"event: x\ndata: " + json.dumps(each).encode() + b"\n\n" for each in documents)
    assert assemble([data]).answer["content"] is not None
