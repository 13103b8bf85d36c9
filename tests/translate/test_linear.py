"""What takes time in proportion to its input: twice the input is twice the work. Counted, never timed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ollama_proxy.translate import forward, passthrough
from ollama_proxy.translate.forward import EventGuard
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
