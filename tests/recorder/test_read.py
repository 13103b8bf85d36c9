"""The logs read back: the newest first, by id, and as they grow."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.account import Entry
from ollama_proxy.recorder import Record, Recorder
from ollama_proxy.recorder.read import BLOCK, entries, find, follow, lines
from tests.conftest import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def recorded(folder: Path, clock: Clock, count: int, **options: int) -> None:
    caps = {"max_size": 2000, "max_files": 100, "max_total": 10**8, **options}
    recorder = Recorder(folder, **caps, max_age=1e9, buffer=1000, bodies="all", clock=clock)  # type: ignore[arg-type]
    for number in range(count):
        clock.forward(1)
        entry = Entry(id=f"req_{number:04x}beef", at=clock.now, endpoint="/v1/chat/completions", status=200)
        recorder.record(Record(entry=entry, method="POST", path="/v1/chat/completions", request=b'{"n":%d}' % number))
        recorder.flush()
    recorder.close()


def test_requests_come_newest_first_across_rotated_and_compressed_files(path: Path, clock: Clock) -> None:
    recorded(path.parent, clock, 50)
    # The newest that logrotate took, and the damaged oldest.
    assert len(list(path.parent.glob("requests-*.jsonl.gz"))) > 3
    assert [entry.id for entry, _ in entries(path)] == [f"req_{number:04x}beef" for number in reversed(range(50))]
    path.rename(path.with_name("requests.jsonl.1"))
    assert next(entries(path))[0].id == "req_0031beef"


def test_what_is_broken_is_skipped(path: Path, clock: Clock) -> None:
    recorded(path.parent, clock, 30)
    oldest = min(path.parent.glob("requests-*.jsonl.gz"))
    oldest.write_bytes(oldest.read_bytes()[:-20])
    path.write_bytes(b'{"at":"2026\n' + path.read_bytes() + b'{"at":"x","dropped":3}\n{"at":"2026-')
    found = [entry.id for entry, _ in entries(path)]
    assert found[0] == "req_001dbeef"
    assert 20 < len(found) <= 30


def test_a_request_is_found_by_its_id_a_prefix_or_as_the_last(path: Path, clock: Clock) -> None:
    recorded(path.parent, clock, 20)
    for id in ("req_0002beef", "0002beef", "0002", "req_0002"):
        found = find(path, id)
        assert found is not None
        assert found.request == {"n": 2}
    last = find(path, "last")
    assert last is not None
    assert last.entry.id == "req_0013beef"
    assert find(path, "beef") is None
    assert find(path.with_name("none.jsonl"), "last") is None


@given(st.lists(st.binary(min_size=1, max_size=50).map(lambda b: b.replace(b"\n", b"x")), max_size=30), st.data())
def test_lines_of_any_length_come_back(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("logs") / "requests.jsonl"
    big = data.draw(st.sampled_from([1, 700, BLOCK - 1, BLOCK, BLOCK + 1]))
    found = [each * big if number % 7 == 0 else each for number, each in enumerate(found)]
    path.write_bytes(b"".join(line + b"\n" for line in found))
    assert list(lines(path)) == found[::-1]


def test_a_log_is_followed_across_rotation_and_emptying(path: Path) -> None:
    steps: Iterator[None]

    def written() -> Iterator[None]:
        path.write_bytes(b"one\ntwo\nthr")
        yield
        with path.open("ab") as file:
            file.write(b"ee\nfour\n")
            path.rename(path.with_name("requests.jsonl.1"))
            file.write(b"five\n")
        yield
        path.write_bytes(b"six\n")
        yield
        path.write_bytes(b"")
        yield
        path.write_bytes(b"seven\n")
        yield

    steps = written()
    assert list(islice(follow(path, lambda: next(steps)), 7)) == [
        b"one", b"two", b"three", b"four", b"five", b"six", b"seven",
    ]  # fmt: skip


def test_only_what_is_new_is_followed(path: Path) -> None:
    path.write_bytes(b"old\n")

    def wait() -> None:
        with path.open("ab") as file:
            file.write(b"new\n")

    assert next(follow(path, wait)) == b"new"


def test_a_file_compressed_by_others_is_read(path: Path, clock: Clock) -> None:
    recorded(path.parent, clock, 3, max_size=10**6)
    path.with_name("requests.jsonl.2.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert len(list(entries(path))) == 3
    assert json.loads(next(lines(path)))["request"] == {"n": 2}
