"""The decoders of NDJSON and SSE, whole, byte by byte and cut at every byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy import framing
from ollama_proxy.framing import LineDecoder, Overlong, SseDecoder, SseEvent


def run(make: Callable[[], Any], pieces: Iterable[bytes]) -> list[Any]:
    decoder = make()
    out: list[Any] = []
    for piece in pieces:
        out += decoder.feed(piece)
    return out + list(decoder.flush())


def cuts(data: bytes) -> list[list[bytes]]:
    bytewise = [data[i : i + 1] for i in range(len(data))]
    return [[data], bytewise, *([data[:at], data[at:]] for at in range(len(data) + 1))]


LINES = '{"a":1}\n\n  \r\n{"text":"Grüße \u2028 \U0001f600"}\r\n{"error":"no newline at the end"}'.encode()


@pytest.mark.parametrize("pieces", cuts(LINES))
def test_lines_are_the_same_wherever_they_are_cut(pieces: list[bytes]) -> None:
    assert [line.strip() for line in run(LineDecoder, pieces)] == [
        b'{"a":1}',
        '{"text":"Grüße \u2028 \U0001f600"}'.encode(),
        b'{"error":"no newline at the end"}',
    ]


STREAM = (
    b": a comment\n"
    b'data: {"a":1}\n\n'
    b"event: delta\r\ndata: one\r\ndata:two\r\n\r\n"
    b"id: 7\rdata: three\r\r"
    b"event: nothing\n\n"
    b"retry: 10\n\n" + "data: Grüße \u2028\n\n".encode() + b"data: [DONE]\n\n" + b"data: cut off"
)
EVENTS = [
    SseEvent("", b'{"a":1}'),
    SseEvent("delta", b"one\ntwo"),
    SseEvent("", b"three"),
    SseEvent("", "Grüße \u2028".encode()),
    SseEvent("", b"[DONE]"),
    SseEvent("", b"cut off"),
]


@pytest.mark.parametrize("pieces", cuts(STREAM))
def test_events_are_the_same_wherever_they_are_cut(pieces: list[bytes]) -> None:
    assert run(SseDecoder, pieces) == EVENTS


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends_mean_the_same(end: bytes) -> None:
    assert run(SseDecoder, [b"event: x" + end + b"data: 1" + end + end]) == [SseEvent("x", b"1")]


def test_an_empty_feed_between_cr_and_lf_changes_nothing() -> None:
    assert run(SseDecoder, [b"data: 1\r", b"", b"\n\r", b"", b"\n"]) == [SseEvent("", b"1")]


def test_an_event_name_does_not_leak_into_the_next_event() -> None:
    assert run(SseDecoder, [b"event: x\n\ndata: 1\n\n"]) == [SseEvent("", b"1")]


def test_an_event_is_told_as_soon_as_its_empty_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\r\n\r") == [SseEvent("", b"1")]
    assert decoder.feed(b"\ndata: 2\n\n") == [SseEvent("", b"2")]


@pytest.mark.parametrize("make", [LineDecoder, SseDecoder])
def test_a_record_over_the_limit_is_an_error(make: Callable[..., Any]) -> None:
    decoder = make(limit=10)
    decoder.feed(b"12345")
    with pytest.raises(Overlong):
        decoder.feed(b"6789012")


def test_short_lines_never_add_up_to_the_limit() -> None:
    decoder = LineDecoder(limit=10)
    assert [line for _ in range(10) for line in decoder.feed(b"1234567\n12")][:2] == [b"1234567", b"121234567"]


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and not line.isspace())), st.data())
def test_lines_survive_any_cuts(lines: list[bytes], data: st.DataObject) -> None:
    body = b"\n".join(lines)
    places = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    assert run(LineDecoder, pieces) == lines


@given(st.text().filter(lambda text: "\n" not in text and "\r" not in text), st.sampled_from(["", "delta"]))
def test_what_is_framed_comes_back(text: str, name: str) -> None:
    assert run(SseDecoder, [framing.comment("wait"), framing.sse(text.encode(), name)]) == [
        SseEvent(name, text.encode())
    ]


def test_the_end_of_an_openai_stream_is_its_own_event() -> None:
    assert run(SseDecoder, [framing.DONE]) == [SseEvent("", b"[DONE]")]


@pytest.mark.parametrize("make", [LineDecoder, SseDecoder])
def test_a_line_that_comes_in_many_pieces_is_joined_once(make: type[LineDecoder | SseDecoder]) -> None:
    copied = 0

    class Piece(bytes):
        """Bytes that note how much is copied when they are added to others."""

        def __radd__(self, other: bytes) -> bytes:
            nonlocal copied
            copied += len(other) + len(self)
            return other + bytes(self)

    decoder = make()
    for _ in range(1000):
        assert decoder.feed(Piece(b"x" * 10)) == []
    assert copied == 0


def test_an_event_of_many_lines_is_bounded_too() -> None:
    decoder = SseDecoder(limit=100)
    for _ in range(10):
        decoder.feed(b"data: 123456789\n")
    with pytest.raises(Overlong):
        decoder.feed(b"data: 123456789\n" * 2)
    decoder = SseDecoder(limit=100)
    for _ in range(50):
        assert decoder.feed(b"data: 123456789\n\n") == [SseEvent("", b"123456789")]


BREAKS = "\u0085 \u2028 \u2029 é \xc2 \u2027 \u0084 \U0001f600"


def test_characters_that_some_clients_end_a_line_at_are_escaped() -> None:
    document = json.dumps({"text": BREAKS}, ensure_ascii=False).encode()
    escaped = framing.escape_breaks(document)
    assert len(escaped.decode().splitlines()) == 1
    assert json.loads(escaped) == json.loads(document)
    assert framing.line(document) == escaped + b"\n"
    assert framing.escape_breaks(b'{"a":"b"}') == b'{"a":"b"}'


@given(st.binary(max_size=40) | st.text(alphabet="\u2028\u2029\x85é\u20ac", max_size=8).map(str.encode))
def test_nothing_else_is_changed(data: bytes) -> None:
    expected = data
    for break_ in ("\u0085", "\u2028", "\u2029"):
        expected = expected.replace(break_.encode(), f"\\u{ord(break_):04x}".encode())
    assert framing.escape_breaks(data) == expected
