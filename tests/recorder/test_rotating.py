"""Files that rotate themselves, with what others and the disk do to them."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.recorder.rotating import Caps, Rotating, rotated
from tests.conftest import Clock

CAPS = Caps(max_size=100, max_age=1000.0, max_files=5, max_total=10_000)
LINE = b"x" * 39 + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "requests.jsonl"


@pytest.fixture
def file(path: Path, clock: Clock) -> Iterator[Rotating]:
    made = Rotating(path, CAPS, clock)
    yield made
    made.close()


def names(path: Path) -> list[str]:
    return [each.name for each in rotated(path)]


def total(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


def test_a_file_is_rotated_before_it_grows_too_large_and_compressed_afterwards(file: Rotating, path: Path) -> None:
    for _ in range(5):
        assert file.write(LINE)
    assert names(path) == ["requests-19700101T001640Z-0001.jsonl", "requests-19700101T001640Z-0002.jsonl"]
    assert path.read_bytes() == LINE
    for _ in file.chores():
        pass
    assert names(path) == ["requests-19700101T001640Z-0001.jsonl.gz", "requests-19700101T001640Z-0002.jsonl.gz"]
    assert [gzip.decompress(each.read_bytes()) for each in rotated(path)] == [LINE * 2] * 2
    assert file.error == ""


def test_a_file_is_rotated_by_age_counted_from_its_first_line(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"at":"1970-01-01T00:00:01.000Z"}\n')
    file = Rotating(path, CAPS, clock)
    clock.now = 1000.5
    file.write(LINE)
    assert names(path) == []
    clock.now = 1001.0
    file.write(LINE)
    assert len(names(path)) == 1
    assert path.read_bytes() == LINE
    file.close()


def test_files_and_folder_are_for_their_owner_only(file: Rotating, path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    for _ in range(3):
        file.write(LINE)
    for _ in file.chores():
        pass
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_use_too_is_left_as_it_is(file: Rotating, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)
    (path.parent / "syslog").touch()
    file.write(LINE)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_oldest_go_when_there_are_too_many(file: Rotating, path: Path, clock: Clock) -> None:
    for number in range(20):
        clock.forward(1)
        file.write(b"%038d\n" % number)
    assert len(names(path)) == CAPS.max_files
    assert path.read_bytes() == b"%038d\n%038d\n" % (18, 19)
    assert rotated(path)[0].read_bytes() == b"%038d\n%038d\n" % (8, 9)


@given(
    st.lists(st.integers(1, 700), max_size=60),
    st.integers(600, 2000),
    st.integers(50, 400),
    st.booleans(),
)
def test_the_files_never_take_more_than_they_may(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, each: int, pack: bool
) -> None:
    path = tmp_path_factory.mktemp("logs") / "requests.jsonl"
    file = Rotating(path, Caps(max_size=each, max_age=1e9, max_files=1000, max_total=most), lambda: 1000.0)
    for size in sizes:
        written = file.write(os.urandom(size))
        assert written == (size <= most)
        assert total(path.parent) <= most
        if pack:
            for _ in file.chores():
                assert total(path.parent) <= most
    file.close()


@pytest.mark.parametrize("way", ["moved", "deleted", "folder deleted", "emptied"])
def test_a_file_that_others_take_away_is_begun_anew(file: Rotating, path: Path, way: str) -> None:
    file.write(LINE)
    match way:
        case "moved":
            path.rename(path.with_name("requests.jsonl.1"))
        case "deleted":
            path.unlink()
        case "folder deleted":
            path.unlink()
            path.parent.rmdir()
        case "emptied":
            os.truncate(path, 0)
    assert file.write(b"new\n")
    assert path.read_bytes() == b"new\n"


def test_half_a_line_of_a_crash_does_not_swallow_the_next(file: Rotating, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"at":"2026')
    file.write(LINE)
    assert path.read_bytes() == b'{"at":"2026\n' + LINE


def test_a_disk_that_is_full_is_told_and_leaves_no_half_line(path: Path, clock: Clock) -> None:
    resource = pytest.importorskip("resource", reason="file size limits need POSIX")
    signal = pytest.importorskip("signal")
    file = Rotating(path, Caps(max_size=10**6, max_age=1e9, max_files=5, max_total=10**7), clock)
    file.write(LINE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
    try:
        assert not file.write(LINE)
        assert str(path) in file.error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == LINE
    assert file.write(b"again\n")
    assert (path.read_bytes(), file.error) == (LINE + b"again\n", "")
    file.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "logs").write_text("a file")
    file = Rotating(tmp_path / "logs" / "requests.jsonl", CAPS, clock)
    assert not file.write(LINE)
    assert "logs" in file.error


def test_what_a_crash_left_of_compressing_is_cleared_away(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    kept = path.with_name("requests-20260101T000000Z-0001.jsonl")
    kept.write_bytes(LINE)
    kept.with_name(kept.name + ".gz.part").write_bytes(b"half")
    for _ in Rotating(path, CAPS, clock).chores():
        pass
    assert [each.name for each in path.parent.iterdir()] == ["requests-20260101T000000Z-0001.jsonl.gz"]
