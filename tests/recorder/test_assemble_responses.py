"""Streams of the Responses API become the response they amount to, wherever they are cut."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_proxy.errors import UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.recorder.assemble import assemble
from ollama_proxy.translate.responses_write import ResponseWriter

SAID: list[Event] = [
    Thinking(0, "Hm"),
    Thinking(0, "m."),
    Text(0, "I look "),
    Text(0, "it up."),
    ToolStart(0, 0, "call_1", "f"),
    ToolDelta(0, 0, '{"x"'),
    ToolDelta(0, 0, ":1}"),
    Finish(0, "tool_calls"),
    Usage(9, 3),
]


def frames(events: list[Event], *, summary: bool = False) -> tuple[list[bytes], dict[str, Any]]:
    """Return the events of a stream, and its response."""
    base: dict[str, Any] = {"id": "resp_1", "object": "response", "output": [], "status": "in_progress", "usage": None}
    writer = ResponseWriter(base, clock=lambda: 7.0, summary=summary)
    out = [frame for event in events for frame in writer.feed([event])]
    return [*out, *writer.flush()], writer.response


@pytest.mark.parametrize("summary", [False, True])
def test_a_whole_stream_is_its_last_events_response(summary: bool) -> None:
    sent, response = frames(SAID, summary=summary)
    assembled = assemble(sent)
    assert (assembled.answer, assembled.done) == (response, True)
    # Comments between the events change nothing.
    assert assemble([b": waiting\n\n", *sent]).answer == response


@pytest.mark.parametrize("summary", [False, True])
def test_a_stream_that_broke_off_is_what_came_of_it(summary: bool) -> None:
    sent, _ = frames(SAID, summary=summary)
    data = b"".join(sent)
    for cut in range(len(sent[0]), len(data) - 2):
        assembled = assemble([data[:cut]])
        assert not assembled.done
        assert assembled.answer is not None
    last = assemble([b"".join(sent[:-3])]).answer
    thought, message, call = last["output"]
    assert [thought["summary" if summary else "content"][0]["text"], message["content"][0]["text"]] == [
        "Hmm.", "I look it up."
    ]  # fmt: skip
    assert call["arguments"] == '{"x":1}'


def test_text_in_the_making_is_kept() -> None:
    sent, _ = frames([Text(0, "Hel"), Text(0, "lo")])
    broken = assemble([frame for frame in sent if b"done" not in frame and b"completed" not in frame])
    assert broken.answer["output"][0]["content"] == [{"type": "output_text", "text": "Hello"}]


def test_a_failure_is_the_responses_own() -> None:
    sent, response = frames([Text(0, "Hel"), Fail(UpstreamFailed("out of memory", backend="b"))])
    assembled = assemble(sent)
    assert (assembled.answer, assembled.done) == (response, True)
    assert assembled.answer["error"]["message"] == "out of memory"
    assert assemble(sent[:-1]).answer["error"]["message"] == "out of memory"
