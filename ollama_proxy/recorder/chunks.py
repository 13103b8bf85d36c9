"""The pieces of a stream that the recorder keeps until the request has ended: never more than it could write, and only
as long as there is memory for them. What does not fit is dropped, but for the last piece, which tells how it ended.
"""

from __future__ import annotations

from ..policy.memory import Hold

__all__ = ["MOST", "Chunks"]

# Bytes of a stream that are kept. Around each token stand some 200 bytes of JSON, so this is more than a megabyte of
# text, which is what the log takes of a body.
MOST = 8 * 1024 * 1024
# What a piece takes beside its bytes: a tuple, a number, an object.
OVERHEAD = 120
# Memory is taken ahead in steps.
STEP = 16 * 1024


class Chunks:
    """The pieces of one stream with their times (the clock's seconds). `size` is what they take in memory, `count` how
    many there were, `cut` whether some are missing."""

    __slots__ = ("_hold", "_paid", "count", "cut", "last", "pieces", "size")

    def __init__(self, hold: Hold) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.last: tuple[float, bytes] | None = None
        self.count = self.size = self._paid = 0
        self.cut = False
        self._hold = hold

    def append(self, at: float, data: bytes) -> None:
        """Keep a piece, if it fits."""
        self.count += 1
        size = self.size + len(data) + OVERHEAD
        if not self.cut and (size <= self._paid or self._pay(size)):
            self.size = size
            self.pieces.append((at, data))
        else:
            self.cut = True
            self.last = (at, data)

    def _pay(self, size: int) -> bool:
        """Take memory for pieces of `size` bytes; return whether there is some."""
        more = max(size - self._paid, STEP)
        if size > MOST or not self._hold.spare(more):
            return False
        self._hold.drop = self.drop
        self._paid += more
        return True

    def drop(self) -> None:
        """Let go of all pieces: the answer itself needs the memory."""
        self.pieces = []
        self.cut = True
        self._hold.give(self._paid)
        self.size = self._paid = 0

    def all(self) -> list[tuple[float, bytes]]:
        """Return the pieces that were kept."""
        return self.pieces if self.last is None else [*self.pieces, self.last]
