"""Ollama's answers: every recording, whole and cut, and what can go wrong in the middle of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import ContextTooLong, OproxyError, UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Note, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.model import Ask, Completion
from ollama_proxy.translate.ollama import WIRE
from ollama_proxy.translate.wire import Reader
from tests.fakes.ollama import Trace, traces

ALL = [(version, trace) for version in ("v0.34.4", "v0.24.0") for trace in traces(version).values()]
ANSWERS = [
    pytest.param(trace, id=f"{version}-{trace.name}")
    for version, trace in ALL
    if trace.path in ("/api/chat", "/api/generate") and trace.status == 200
]
VECTORS = [
    pytest.param(trace, id=f"{version}-{trace.name}")
    for version, trace in ALL
    if trace.path == "/api/embed" and trace.status == 200
]
# Cut at every byte: short ones of each kind.
CUT = (
    "chat-nonstream", "chat-stream", "chat-stream-length", "chat-multibyte-stream", "chat-logprobs-multibyte",
    "chat-native-stop-sequence-stream", "dyn-runner-killed-chat-stream", "dyn-token-repeat-abort-chat-stream",
    "generate-nonstream", "generate-raw-stream", "load-chat-empty-messages", "think-native-cut-in-thinking",
    "think-native-tools-stream", "think-parser-true-stream", "tools-native-cut-by-length",
    "tools-native-parallel-stream", "tools-native-stream", "tools-rendered-nonstream",
    "tools-rendered-parallel-nonstream", "tools-rendered-stream",
)  # fmt: skip


def reader_of(trace: Trace) -> Reader:
    wants = bool((trace.request or {}).get("logprobs")) if isinstance(trace.request, dict) else False
    if trace.path == "/api/chat":
        return WIRE.chat_reader(Ask(model="m", messages=(), top_logprobs=0 if wants else None), backend="ollama")
    return WIRE.completion_reader(Completion(model="m", prompt="", logprobs=0 if wants else None), backend="ollama")


def read(reader: Reader, pieces: Iterable[bytes]) -> list[Event]:
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.flush()


def chat(*records: Any, logprobs: bool = False) -> list[Event]:
    """Read records, one a line."""
    reader = WIRE.chat_reader(Ask(model="m", messages=(), top_logprobs=0 if logprobs else None), backend="ollama")
    return read(reader, [json.dumps(record).encode() + b"\n" for record in records])


def plain(events: Sequence[Event]) -> list[Any]:
    """Errors by what they say, so that readings can be compared."""
    return [("fail", type(event.error), event.error.message) if isinstance(event, Fail) else event for event in events]


def records_of(trace: Trace) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trace.body.split(b"\n") if line.strip()]


def text_of(events: Sequence[Event], kind: type[Text | Thinking]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


# --- recordings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", ANSWERS)
def test_every_recorded_answer_is_read_to_its_end(trace: Trace) -> None:
    events = read(reader_of(trace), [trace.body])
    records = records_of(trace)
    ends = [event for event in events if isinstance(event, (Finish, Fail))]
    assert len(ends) == 1
    said = [record.get("message") or {"content": record.get("response")} | record for record in records]
    assert text_of(events, Text) == "".join(each.get("content") or "" for each in said)
    assert text_of(events, Thinking) == "".join(each.get("thinking") or "" for each in said)
    calls = [call["function"] for each in said for call in each.get("tool_calls") or ()]
    starts = [event for event in events if isinstance(event, ToolStart)]
    deltas = [event for event in events if isinstance(event, ToolDelta)]
    assert [(start.call, start.name) for start in starts] == [(n, call["name"]) for n, call in enumerate(calls)]
    assert [json.loads(delta.arguments) for delta in deltas] == [call["arguments"] for call in calls]
    assert all(start.id.startswith("call_") for start in starts)
    last = records[-1]
    if last.get("done"):
        usage = next(event for event in events if isinstance(event, Usage))
        assert usage == Usage(
            prompt=last.get("prompt_eval_count", 0),
            completion=last.get("eval_count", 0),
            cached=last.get("prompt_eval_cached_count", 0),
        )
        length = last.get("done_reason") == "length"
        assert ends == [Finish(0, "length" if length else "tool_calls" if calls else "stop")]
    else:
        assert isinstance(ends[0], Fail)
        assert events[-1] is ends[0]


@pytest.mark.parametrize("name", CUT)
def test_a_recorded_answer_reads_the_same_however_it_is_cut(name: str) -> None:
    trace = traces()[name]
    body = trace.body
    wanted = plain(read(reader_of(trace), [body]))
    assert plain(read(reader_of(trace), [body[at : at + 1] for at in range(len(body))])) == wanted
    for at in range(1, len(body)):
        assert plain(read(reader_of(trace), [body[:at], body[at:]])) == wanted


@pytest.mark.parametrize("name", CUT)
def test_a_recorded_answer_that_breaks_off_fails(name: str) -> None:
    trace = traces()[name]
    body = trace.body.rstrip()
    for at in range(0, len(body), 7):
        events = read(reader_of(trace), [body[:at]])
        assert isinstance(events[-1], Fail)
        assert isinstance(events[-1].error, UpstreamFailed)
        assert not any(isinstance(event, (Fail, Finish)) for event in events[:-1])


@pytest.mark.parametrize("trace", VECTORS)
def test_every_recorded_embedding_is_read_in_order(trace: Trace) -> None:
    recorded = trace.json
    vectors = WIRE.read_embeddings(trace.body, backend="ollama")
    assert [list(row) for row in vectors.rows] == recorded["embeddings"]
    assert vectors.tokens == recorded.get("prompt_eval_count")


# --- one kind of record at a time -----------------------------------------------------------------------------------


def test_counters_that_are_left_out_are_zero() -> None:
    events = chat({"message": {"content": "a"}, "done": True, "done_reason": "stop"})
    assert events == [Text(0, "a"), Finish(0, "stop"), Usage(prompt=0, completion=0)]


def test_durations_are_noted_in_seconds() -> None:
    events = chat({"message": {"content": ""}, "done": True, "total_duration": 1_500_000_000, "load_duration": 5})
    note = events[-1]
    assert isinstance(note, Note)
    assert note.values["total_duration"] == 1.5


def test_calls_before_the_end_and_with_it_are_numbered_from_zero() -> None:
    call = {"id": "call_a", "function": {"index": 7, "name": "f", "arguments": {"x": 1}}}
    last = {"id": "Xy", "function": {"index": 7, "name": "g", "arguments": {}}}
    events = chat(
        {"message": {"content": "", "tool_calls": [call]}, "done": False},
        {"message": {"content": "", "tool_calls": [last]}, "done": True, "done_reason": "stop"},
    )
    assert events[:5] == [
        ToolStart(0, 0, "call_a", "f"),
        ToolDelta(0, 0, '{"x":1}'),
        ToolStart(0, 1, "call_Xy", "g"),
        ToolDelta(0, 1, "{}"),
        Finish(0, "tool_calls"),
    ]


def test_a_call_without_an_id_gets_none_here() -> None:
    events = chat({"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, "done": True})
    assert events[:2] == [ToolStart(0, 0, "", "f"), ToolDelta(0, 0, "{}")]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("prediction aborted, token repeat limit reached", UpstreamFailed),
        ({"message": "boom"}, UpstreamFailed),
        ('{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_ctx":8}}', ContextTooLong),
    ],
)
def test_an_error_line_fails_what_follows_it(error: Any, kind: type[OproxyError]) -> None:
    events = chat({"message": {"content": "a"}}, {"error": error}, {"message": {"content": "b"}, "done": True})
    assert events[0] == Text(0, "a")
    assert len(events) == 2
    assert isinstance(events[1], Fail)
    assert isinstance(events[1].error, kind)


def test_nothing_comes_after_the_end() -> None:
    done = {"message": {"content": ""}, "done": True, "done_reason": "stop"}
    assert chat(done, {"message": {"content": "more"}}, done) == chat(done)


@pytest.mark.parametrize(
    "junk", [b"<html>\n", b"[1]\n", b'{"message": 3}\n', b"\xff\xfe\n", b'{"done":"yes"}\n', b"[" * 9999]
)
def test_what_is_no_answer_fails(junk: bytes) -> None:
    events = read(reader_of(traces()["chat-stream"]), [junk])
    assert len(events) == 1
    assert isinstance(events[0], Fail)
    assert isinstance(events[0].error, UpstreamFailed)


def test_a_page_in_place_of_an_answer_points_to_the_url() -> None:
    (event,) = read(reader_of(traces()["chat-stream"]), [b"<html>Sign in</html>\n"])
    assert isinstance(event, Fail)
    assert "it is a page of HTML or XML. Check its url" in event.error.message
    with pytest.raises(UpstreamFailed, match="it is a page of HTML or XML"):
        WIRE.read_embeddings(b"<html>", backend="ollama")


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_end_in_exactly_one_end(pieces: list[bytes]) -> None:
    events = read(reader_of(traces()["chat-stream"]), pieces)
    assert sum(isinstance(event, (Fail, Finish)) for event in events) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"embeddings":[["a"]]}', b"<html>"])
def test_what_is_no_embedding_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        WIRE.read_embeddings(body, backend="ollama")


# --- log probabilities ----------------------------------------------------------------------------------------------


def tokens(*names: str) -> list[dict[str, Any]]:
    return [{"token": name, "logprob": -0.5} for name in names]


def logprobs_of(events: Sequence[Event]) -> list[list[str] | None]:
    return [
        None if event.logprobs is None else [each.token for each in event.logprobs]
        for event in events
        if isinstance(event, Text)
    ]


def test_the_log_probabilities_of_a_thought_are_not_the_texts() -> None:
    trace = traces()["think-native-logprobs-nonstream"]
    assert logprobs_of(read(reader_of(trace), [trace.body])) == [["8"]]
    trace = traces()["think-template-logprobs-stream"]
    assert logprobs_of(read(reader_of(trace), [trace.body])) == [["8"]]


def test_the_log_probabilities_of_a_call_are_not_the_texts() -> None:
    trace = traces()["tools-rendered-logprobs-stream"]
    assert logprobs_of(read(reader_of(trace), [trace.body])) == []


def test_the_log_probabilities_of_text_held_back_come_with_it() -> None:
    events = chat(
        {"message": {"content": ""}, "logprobs": tokens("<too")},
        {"message": {"content": "<tooth"}, "logprobs": tokens("th")},
        {"message": {"content": ""}, "done": True},
        logprobs=True,
    )
    assert logprobs_of(events) == [["<too", "th"]]


def test_tokens_of_split_characters_leave_the_others_in_place() -> None:
    trace = traces()["chat-logprobs-multibyte"]
    events = read(reader_of(trace), [trace.body])
    assert logprobs_of(events) == [["日", "本", " 🙂"]]


def test_log_probabilities_that_were_not_asked_for_are_left_out() -> None:
    events = chat({"message": {"content": "a"}, "logprobs": tokens("a"), "done": True})
    assert events[0] == Text(0, "a")


def test_bytes_of_a_token_are_its_own_or_its_texts() -> None:
    given = [{"token": "é", "logprob": -1, "top_logprobs": [{"token": "e", "logprob": -2, "bytes": [101]}]}]
    events = chat({"message": {"content": "é"}, "logprobs": given, "done": True}, logprobs=True)
    assert isinstance(events[0], Text)
    assert events[0].logprobs is not None
    (token,) = events[0].logprobs
    assert token.bytes == (0xC3, 0xA9)
    assert token.top[0].bytes == (101,)
