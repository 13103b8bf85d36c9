"""How many connections there may be, and which of them have come to a standstill. Pure: times and sizes come in as
numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

__all__ = ["Unsent", "most_connections", "standstills"]

Key = TypeVar("Key", bound=Hashable)

# Open files that are not connections: the database, logs, modules, what uploads are written to.
OTHERS = 128
# Each request may need a connection to a backend beside its own.
EACH = 2
FEWEST = 16


def most_connections(wanted: int, files: int | None) -> int:
    """Return how many connections of clients there may be, where the system lets us open so many files (None: any
    number)."""
    return wanted if files is None else min(wanted, max(FEWEST, (files - OTHERS) // EACH))


class Unsent(NamedTuple):
    """What waits to be sent to a client (bytes), and since when (seconds) it has been exactly so much."""

    size: int
    since: float


def standstills(
    before: Mapping[Key, Unsent], sizes: Mapping[Key, int], now: float, timeout: float
) -> tuple[dict[Key, Unsent], list[Key]]:
    """Return what waits for whom now, and who has taken nothing for `timeout` seconds. `sizes` are the bytes that wait
    for each connection; where none wait there is nothing to take."""
    after: dict[Key, Unsent] = {}
    over: list[Key] = []
    for key, size in sizes.items():
        if not size:
            continue
        known = before.get(key)
        unsent = after[key] = known if known is not None and known.size == size else Unsent(size, now)
        if now - unsent.since >= timeout:
            over.append(key)
    return after, over
