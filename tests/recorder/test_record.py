"""The recorder: what a line of the log says of a request, and what happens when it cannot be written."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.account import Entry
from ollama_proxy.recorder import Record, Recorder
from ollama_proxy.recorder.body import LARGEST
from ollama_proxy.recorder.pump import Pump
from tests.conftest import Clock

OPTIONS: dict[str, Any] = {
    "max_size": 10**7, "max_age": 1e9, "max_files": 5, "max_total": 10**8, "buffer": 100, "bodies": "all",
}  # fmt: skip
ENTRY = Entry(id="req_1", at=1000.25, endpoint="/v1/chat/completions", status=200, asked="gpt-4o", served="m")


def item(request: Any = None, answer: Any = None, **more: Any) -> Record:
    request = request if isinstance(request, bytes) else json.dumps(request or {"model": "gpt-4o"}).encode()
    answer = answer if isinstance(answer, bytes) or answer is None else json.dumps(answer).encode()
    return Record(entry=ENTRY, method="POST", path="/v1/chat/completions", request=request, answer=answer, **more)


class Log:
    """Recorders into one folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.made: list[Recorder] = []

    def __call__(self, **options: Any) -> Recorder:
        self.made.append(Recorder(self.folder, **{**OPTIONS, "clock": self.clock, **options}))
        return self.made[-1]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "requests.jsonl").read_text().splitlines()]

    def of(self, *items: Record, **options: Any) -> dict[str, Any]:
        """Return the line of the last item."""
        recorder = self(**options)
        for each in items:
            recorder.record(each)
        recorder.close()
        return self.lines[-1]


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[Log]:
    made = Log(tmp_path / "logs", clock)
    yield made
    for recorder in made.made:
        recorder.close()


def test_a_line_tells_all_of_a_request(log: Log) -> None:
    line = log.of(item({"a": [1, "ä"]}, {"b": None}, ignored=("seed",), headers={"user-agent": "x"}))
    assert line == {
        "at": "1970-01-01T00:16:40.250Z",
        "entry": json.loads(json.dumps(line["entry"])),
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": {"user-agent": "x"},
        "ignored": ["seed"],
        "request": {"a": [1, "ä"]},
        "answer": {"b": None},
    }
    assert line["entry"]["id"] == "req_1"


def test_json_over_many_lines_becomes_one(log: Log) -> None:
    assert log.of(item(b'{\n  "a": "b c",\r\n "d": 1.50\n}'))["request"] == {"a": "b c", "d": 1.5}
    assert len(log.lines) == 1


@pytest.mark.parametrize("data", [b"{broken", b"a\nb", b"[" * 5000, b"{} {}", b'{"a":\n', b'"\xff"', b"{\x0c}"])
def test_what_is_no_json_is_kept_as_text(log: Log, data: bytes) -> None:
    line = log.of(item(data, data))
    assert line["request"] == line["answer"] == data.decode("utf-8", "replace")
    assert line["altered"] == {"request": ["text"], "answer": ["text"]}


def test_what_is_no_text_is_kept_as_size_and_hash(log: Log) -> None:
    data = b"RIFF\0\0\xff"
    assert log.of(item(data))["request"] == {
        "sha256": hashlib.sha256(data).hexdigest(), "bytes": 7, "type": "application/octet-stream",
    }  # fmt: skip


def test_a_body_too_large_is_cut_and_says_so(log: Log) -> None:
    line = log.of(item({"a": "x" * (LARGEST + 1)}))
    assert len(line["request"]) == LARGEST
    assert line["altered"]["request"] == ["cut"]


def test_bodies_are_left_out_on_demand(log: Log) -> None:
    line = log.of(item({"secret": 1}, {"secret": 2}), bodies="none")
    assert "request" not in line
    assert "answer" not in line
    assert line["altered"] == {"request": ["none"]}


def test_a_stream_is_one_answer_with_its_times(log: Log) -> None:
    def said(text: str) -> bytes:
        chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    chunks = [(number / 100, said(f"{number} ")) for number in range(1000)] + [(10.0, b"data: [DONE]\n\n")]
    line = log.of(item(chunks=chunks))
    text = "".join(f"{number} " for number in range(1000))
    assert line["answer"] == {
        "id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": text}}],
    }  # fmt: skip
    offsets = line["timing"].pop("offsets")
    assert line["timing"] == {"first": 0.0, "last": 10.0, "count": 1001, "done": True}
    assert len(offsets) <= 200
    assert offsets == sorted(offsets)


PICTURE = os.urandom(3000)
BASE64 = base64.b64encode(PICTURE).decode()
KEPT = {"sha256": hashlib.sha256(PICTURE).hexdigest(), "bytes": 3000}


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"url": f"data:image/png;base64,{BASE64}"}, {"url": {**KEPT, "type": "image/png"}}),
        ({"data": BASE64, "format": "wav"}, {"data": {**KEPT, "type": "data"}, "format": "wav"}),
        ({"b64_json": BASE64}, {"b64_json": {**KEPT, "type": "b64_json"}}),
        ({"file_data": f"data:application/pdf;base64,{BASE64}"}, {"file_data": {**KEPT, "type": "application/pdf"}}),
        (
            {"content": f"![](data:image/gif;base64,{BASE64}) and"},
            {"content": f"![]([image/gif, 3000 bytes, sha256 {KEPT['sha256']}]) and"},
        ),
        (
            {"images": [BASE64, "short", BASE64], "content": '"images": ["x"]'},
            {"images": [{**KEPT, "type": "image"}, "short", {**KEPT, "type": "image"}], "content": '"images": ["x"]'},
        ),
        ({"images": [{"url": "x"}, 1, []]}, {"images": [{"url": "x"}, 1, []]}),
        ({"data": "words " * 100}, {"data": "words " * 100}),
        ({"data": "short"}, {"data": "short"}),
        ({"a": "data:image/png;base64,"}, {"a": "data:image/png;base64,"}),
    ],
)
def test_media_is_kept_as_size_and_hash(log: Log, value: Any, want: Any) -> None:
    body = {"x": [value, value], "y": 1}
    line = log.of(item(body), item(json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()))
    assert [each["request"] for each in log.lines] == [{"x": [want, want], "y": 1}] * 2
    assert ("media" in line.get("altered", {}).get("request", [])) == (value != want)


def test_keys_are_nowhere_in_a_line(log: Log) -> None:
    key = "sk-proj-abcdefgh12345678"
    data = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "say sk-pro"}}]}).encode() + b"\n\n"
    rest = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": key[6:]}}]}).encode() + b"\n\n"
    line = log.of(
        item({"a": key, "b": f"Bearer {key}"}, chunks=[(0.0, data), (0.1, rest)], headers={"user-agent": key})
    )
    assert "abcdefgh" not in json.dumps(line)
    assert line["altered"]["request"] == ["redacted"]
    assert line["answer"]["choices"][0]["message"]["content"] == "say sk-[redacted]"


@pytest.mark.parametrize(
    ("fields", "altered"),
    [
        ({"request": {"a": "sk-abcdefgh12345678"}, "answer": {"b": 1}}, {"request": ["redacted"]}),
        ({"request": {"a": 1}, "answer": {"api_key": "abcdefgh12345678"}}, {"answer": ["redacted"]}),
        ({"request": b'{"api_key":"abcdefgh12345678"'}, {"request": ["redacted", "text"]}),
        ({"request": b'{"a":"\\u0073k-abcdefgh12345678"}'}, {"request": ["redacted"]}),
        ({"request": {"a": "x" * 2**20 + "sk-abcdefgh12345678"}}, {"request": ["cut"]}),
        ({"request": {"model": 1}, "headers": {"x-oproxy-tag": "sk-abcdefgh12345678"}}, None),
    ],
)  # fmt: skip
def test_which_part_held_a_key_is_told(log: Log, fields: dict[str, Any], altered: dict[str, list[str]] | None) -> None:
    line = log.of(item(**fields))
    assert "abcdefgh" not in json.dumps(line)
    assert line.get("altered") == altered


def test_patterns_blank_what_they_match_in_any_string(log: Log) -> None:
    body = {"a": ["card 4111 1111 1111 1111", {"4111 1111 1111 1111": "x"}], "n": 4111}
    line = log.of(item(body, b"text 4111 1111 1111 1111"), redact=(r"\d{4}( \d{4}){3}",))
    assert line["request"] == {"a": ["card [redacted]", {"[redacted]": "x"}], "n": 4111}
    assert line["answer"] == "text [redacted]"


def test_a_pattern_that_takes_for_ever_blanks_the_string(log: Log) -> None:
    line = log.of(item({"a": "x" * 5000 + "b", "c": "d"}), redact=("(x+)+$",))
    assert line["request"] == {"a": "[redacted]", "c": "d"}


def test_a_pattern_that_is_none_keeps_bodies_out_and_is_told(log: Log) -> None:
    recorder = log(redact=("(",))
    recorder.record(item({"a": 1}))
    recorder.flush()
    assert "request" not in log.lines[-1]
    assert "regular expression" in recorder.state.error
    recorder.configure(**OPTIONS)
    recorder.record(item({"a": 1}))
    recorder.close()
    assert log.lines[-1]["request"] == {"a": 1}
    assert recorder.state == (2, 0, 0, "")


def test_requests_wait_while_the_folder_cannot_be_used_and_are_written_when_it_can(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.folder.write_text("in the way")
    recorder = log()
    recorder.record(item())
    recorder.record(item())
    assert not recorder.flush(), "they are not written"
    state = recorder.state
    assert (state.written, state.dropped, state.waiting) == (0, 0, 2)
    assert str(log.folder) in state.error
    log.folder.unlink()
    log.clock.now += 10
    recorder.record(item())
    assert recorder.flush()
    assert [line["entry"]["id"] for line in log.lines] == ["req_1"] * 3
    assert recorder.state == (3, 0, 0, "")
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be written" in line for line in said) == 1
    assert sum("is written again" in line for line in said) == 1


def test_requests_that_find_no_room_while_they_wait_are_counted_and_later_said_in_the_log(log: Log) -> None:
    log.folder.write_text("in the way")
    recorder = log(buffer=2)
    for _ in range(5):
        recorder.record(item())
        recorder.flush()
    assert recorder.state[:3] == (0, 3, 2)
    log.folder.unlink()
    log.clock.now += 10
    recorder.record(item())
    recorder.close()
    assert [line.get("dropped") for line in log.lines] == [None, None, 4]
    assert recorder.state == (2, 4, 0, "")


def test_what_waits_when_the_recorder_ends_is_tried_once_more_and_else_counted(log: Log) -> None:
    log.folder.write_text("in the way")
    first, second = log(), log()
    for recorder in (first, second):
        recorder.record(item())
        recorder.flush()
    first.close()
    assert first.state[:3] == (0, 1, 0)
    log.folder.unlink()
    second.close()
    assert second.state[:3] == (1, 0, 0)


def test_a_line_larger_than_all_logs_together_keeps_no_other_out(log: Log) -> None:
    recorder = log(max_total=3000)
    recorder.record(item({"a": "x" * 5000}))
    recorder.record(item())
    recorder.close()
    assert recorder.state[:3] == (1, 1, 0)


def test_a_pump_works_again_after_a_pause_though_nothing_comes() -> None:
    worked, again = threading.Event(), threading.Event()

    def work(batch: Iterator[int]) -> None:
        if list(batch):
            worked.set()
        elif worked.is_set():
            again.set()

    pump: Pump[int] = Pump(work, buffer=10, name="test", pause=lambda: 0.01 if not again.is_set() else None)
    pump.put(1)
    assert again.wait(10)
    pump.close()


def test_a_file_moved_away_is_begun_anew(log: Log) -> None:
    recorder = log()
    recorder.record(item())
    recorder.flush()
    (log.folder / "requests.jsonl").rename(log.folder / "requests.jsonl.1")
    recorder.reopen()
    recorder.record(item())
    recorder.close()
    assert len(log.lines) == 1


class Held:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.seen: list[int] = []

    def __call__(self, batch: Iterator[int]) -> None:
        self.begun.set()
        self.go.wait(10)
        self.seen += batch


@pytest.fixture
def held() -> Iterator[tuple[Held, Callable[..., Pump[int]]]]:
    work = Held()
    pumps: list[Pump[int]] = []

    def make(**options: Any) -> Pump[int]:
        pumps.append(Pump(work, **{"buffer": 3, "name": "test", **options}))
        return pumps[-1]

    yield work, make
    work.go.set()
    for pump in pumps:
        pump.close()


def test_what_does_not_fit_is_dropped_and_counted(held: tuple[Held, Callable[..., Pump[int]]]) -> None:
    work, make = held
    pump = make()
    assert [pump.put(number) for number in range(5)] == [True, True, True, False, False]
    assert (pump.waiting, pump.dropped) == (3, 2)
    work.go.set()
    assert pump.flush()
    assert (work.seen, pump.waiting) == ([0, 1, 2], 0)
    assert pump.put(9)
    pump.close()
    assert work.seen == [0, 1, 2, 9]
    assert not pump.put(10)


def test_what_is_too_heavy_together_is_dropped_too(held: tuple[Held, Callable[..., Pump[int]]]) -> None:
    pump = held[1]()
    assert pump.put(1, 40 * 2**20)
    assert not pump.put(2, 40 * 2**20)
    assert pump.put(3, 1000)


def test_work_that_fails_ends_neither_the_thread_nor_the_count() -> None:
    seen = []

    def work(batch: Iterator[int]) -> None:
        for number in batch:
            if number == 1:
                raise ValueError("one")
            seen.append(number)

    pump: Pump[int] = Pump(work, buffer=10, name="test")
    for number in range(4):
        pump.put(number)
    pump.flush()
    pump.put(5)
    pump.close()
    assert (seen[-1], pump.waiting) == (5, 0)


# --- whatever comes -----------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
BYTES = st.binary(max_size=60) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
ODD = st.floats() | st.integers(-(2**70), 2**70)
RECORDS = st.builds(
    Record,
    entry=st.builds(
        Entry, id=TEXT, at=ODD, endpoint=TEXT, status=st.integers(-(2**70), 2**70), asked=TEXT, served=TEXT, tag=TEXT,
        caller=TEXT, client=TEXT, code=st.none() | TEXT, total=ODD, first=st.none() | ODD, prompt=st.integers(0, 2**70),
    ),
    method=TEXT,
    path=TEXT,
    request=BYTES,
    answer=st.none() | BYTES,
    chunks=st.lists(st.tuples(ODD, BYTES), max_size=3),
    ignored=st.lists(TEXT, max_size=2).map(tuple),
    headers=st.dictionaries(TEXT, TEXT, max_size=2),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_every_request_is_a_line_of_the_log_whatever_is_in_it(items: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), **OPTIONS)
        for each in items:
            recorder.record(each)
        recorder.record(item())
        recorder.close()
        lines = (Path(folder) / "requests.jsonl").read_bytes().decode().split("\n")
        assert recorder.state.dropped == 0
        assert recorder.state.written == len(items) + 1
        assert len([json.loads(line) for line in lines if line]) == len(items) + 1


def test_a_request_that_cannot_be_recorded_whole_is_recorded_without_its_bodies(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = log()
    odd = item(headers={"user-agent": "x\udcff"})
    recorder.record(odd)
    recorder.record(odd)
    recorder.record(item())
    recorder.close()
    first, _, last = log.lines
    assert first["entry"]["id"] == "req_1"
    assert first["altered"] == {"request": ["none", "UnicodeEncodeError"], "answer": ["none", "UnicodeEncodeError"]}
    assert last["request"] == {"model": "gpt-4o"}
    assert recorder.state == (3, 0, 0, "")
    assert recorder.reduced == {"UnicodeEncodeError": 2}
    # Told once, in a line.
    assert [each.exc_info for each in caplog.records] == [None]


def test_a_log_that_cannot_be_looked_after_is_still_written() -> None:
    taken: list[int] = []

    def chores() -> Iterator[None]:
        yield from ()
        raise RuntimeError("no")

    pump: Pump[int] = Pump(taken.extend, buffer=10, name="test", chores=chores)
    for number in range(3):
        assert pump.put(number)
        assert pump.flush()
    pump.close()
    assert taken == [0, 1, 2]
