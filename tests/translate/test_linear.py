"""What takes time in proportion to its input: twice the input is twice the work. Counted, never timed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ollama_proxy.model import Message, Text
from ollama_proxy.translate import forward, ollama, passthrough
from ollama_proxy.translate.forward import EventGuard
from ollama_proxy.translate.multipart import FieldFinder
from ollama_proxy.translate.passthrough import StreamObserver

PIECE = b'data: "' + b"x" * 2000 + b'",\n'
Feeder = EventGuard | StreamObserver


class Scans:
    """A pattern that counts the bytes it is given."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.bytes = 0

    def search(self, data: bytes) -> Any:
        self.bytes += len(data)
        return self._pattern.search(data)

    def finditer(self, data: bytes) -> Any:
        self.bytes += len(data)
        return self._pattern.finditer(data)


def observer() -> StreamObserver:
    return StreamObserver(asked="m", strip_usage=False)


@pytest.mark.parametrize(("make", "module"), [(EventGuard, forward), (observer, passthrough)])
def test_a_long_event_of_many_lines_is_looked_through_once(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Feeder], module: Any
) -> None:
    scanned = []
    for count in (500, 1000):
        scans = Scans(module._EVENT_END)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_EVENT_END", scans)
            feeder = make()
            for _ in range(count):
                assert feeder.feed(PIECE) == b""
            assert feeder.held == count * len(PIECE)
        scanned.append(scans.bytes)
    assert scanned[1] < 2.1 * scanned[0]


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n"])
@pytest.mark.parametrize("make", [EventGuard, observer])
def test_an_event_ends_wherever_its_bytes_are_cut(make: Callable[[], Feeder], end: bytes) -> None:
    one = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}'
    stream = (b": beat" + end + one + end) * 2
    whole = make().feed(stream)
    assert whole.count(b"content") == 2
    for size in range(1, len(stream)):
        feeder = make()
        assert b"".join(feeder.feed(stream[at : at + size]) for at in range(0, len(stream), size)) == whole
        assert feeder.held == 0


# --- forms ------------------------------------------------------------------------------------------------------------


class Copied(bytes):
    """Bytes that count, for the class, what is copied out of them and joined with them."""

    total = 0

    def __radd__(self, before: bytes) -> Copied:
        Copied.total += len(before) + len(self)
        return Copied(bytes(before) + bytes(self))

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(found, bytes):
            Copied.total += len(found)
            return Copied(found)
        return found


def test_a_form_of_many_parts_is_copied_once() -> None:
    copied = []
    for count in (500, 1000):
        part = b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\nvalue\r\n'
        finder = FieldFinder(b"b", "model")
        Copied.total = 0
        finder.feed(Copied(part * count + b"--b--\r\n"))
        assert finder.ended
        copied.append(Copied.total)
    assert copied[0] > 0
    assert copied[1] < 2.1 * copied[0]


# --- conversations ----------------------------------------------------------------------------------------------------


class Gap(str):
    """A separator that counts the characters it joins."""

    joined = 0

    def join(self, parts: Iterable[str], /) -> str:
        whole = super().join(parts)
        Gap.joined += len(whole)
        return whole


def test_neighbours_of_one_role_are_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "TURN_GAP", Gap(ollama.TURN_GAP))
    joined = []
    for count in (500, 1000):
        Gap.joined = 0
        (message,) = ollama.messages([Message("user", (Text(f"turn {number}"),)) for number in range(count)])
        assert Gap.joined >= len(message["content"]) > 6 * count
        joined.append(Gap.joined)
    assert joined[1] < 2.1 * joined[0]
