"""What a key, or all together, used since a time: for budgets, and for the end of a run. Only reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .fold import HOUR
from .usage import Row, query

if TYPE_CHECKING:
    from .store import Store

__all__ = ["spent", "used_by"]

# Rows that are in the roll-ups begin at the first of the hour's; where no hour is, only those beyond count.
SLOWEST = """
    SELECT max("total") FROM requests WHERE "key" = :key AND "at" >= :since AND seq >= coalesce(
        (SELECT min(low) FROM rollups WHERE hour >= :hour),
        (SELECT CAST(value AS BIGINT) + 1 FROM meta WHERE name = 'rolled'))
"""


def spent(store: Store, key: str, since: float) -> tuple[int, int, int]:
    """Return cost, list cost (nano-dollars) and tokens of a key ("": of all) since epoch seconds. Raises StoreError."""
    with store.reading() as reader:
        row = one(query(reader, since, time.time() + 1, only={"key_id": [key]} if key else None))
    return row.cost, row.listed, row.prompt + row.completion


def used_by(store: Store, key: str, since: float) -> dict[str, Any]:
    """Return the sums of one key since epoch seconds, `slowest` in seconds (None: no request). `listed` is None where
    no list price is known of anything. Raises StoreError."""
    with store.reading() as reader:
        row = one(query(reader, since, time.time() + 1, only={"key_id": [key]}))
        slowest = reader.rows(SLOWEST, {"key": key, "since": since, "hour": int(since // HOUR)})
    return {
        "requests": row.requests,
        "errors": row.errors,
        "prompt": row.prompt,
        "cached": row.cached,
        "completion": row.completion,
        "reasoning": row.reasoning,
        "cost": row.cost,
        "listed": None if row.requests and row.unpriced == row.requests else row.listed,
        "slowest": slowest[0][0] if slowest else None,
    }


def one(rows: list[Row]) -> Row:
    return rows[0] if rows else Row()
