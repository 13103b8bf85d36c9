"""How rows of the ledger become sums: the columns that are kept apart, and what is summed. Said once, for the roll-ups
and for whoever sums the rows that are not in them yet.

Text and nothing else: SQLite's and PostgreSQL's common SQL. Imports no library, so that reading the ledger costs
little.
"""

from __future__ import annotations

__all__ = ["GROUPS", "HOUR", "SUMS", "hour_of"]

# Seconds.
HOUR = 3600

# What the roll-ups keep apart, beside the hour.
GROUPS = ("key", "caller", "tag", "backend", "endpoint", "client", "asked", "served", "status", "stream")

# What they sum: the roll-up's column, and its value over rows of the ledger.
SUMS: dict[str, str] = {
    "requests": "count(*)",
    "errors": "sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END)",
    "prompt": "sum(prompt)",
    "cached": "sum(cached)",
    "completion": "sum(completion)",
    "reasoning": "sum(reasoning)",
    "inexact": "sum(CASE WHEN exact THEN 0 ELSE 1 END)",
    "cost": "coalesce(sum(cost), 0)",
    "listed": "coalesce(sum(listed), 0)",
    "unpriced": "sum(CASE WHEN listed IS NULL THEN 1 ELSE 0 END)",
    "first_sum": 'coalesce(sum("first"), 0)',
    "first_n": 'count("first")',
    "total_sum": "sum(total)",
}


def hour_of(*, server: bool, seconds: int = HOUR) -> str:
    """Return the number of the hour (or of another piece of time) that a row's `at` lies in, in SQL.

    PostgreSQL's CAST rounds to the nearest, SQLite's cuts off; SQLite has floor() only where it was built with it.
    """
    return f"CAST(floor(at / {seconds}) AS BIGINT)" if server else f"CAST(at / {seconds} AS INTEGER)"
