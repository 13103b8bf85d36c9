"""Rows for ledgers in tests: made by hand or by hypothesis, written in one go, and summed the slow way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from ollama_proxy.account import Entry
from ollama_proxy.store import Store, schema
from ollama_proxy.store.fold import SUMS

__all__ = ["BASE", "clear", "entries", "entry", "put", "summed"]

# A whole hour, and a whole day in UTC.
BASE = 20_000 * 86400
NUMBERS = itertools.count()


def entry(at: float = BASE, **fields: Any) -> Entry:
    """Return a request with an id of its own."""
    usual = {"endpoint": "/v1/chat/completions", "status": 200, "asked": "gpt-5", "served": "qwen3:8b", "total": 1.0}
    return Entry(id=f"req_{next(NUMBERS):032x}", at=at, **{**usual, **fields})


def entries(*, hours: int = 5, most: int = 30) -> st.SearchStrategy[list[Entry]]:
    """Requests within some hours, few enough names to meet again."""
    count = st.integers(0, 5000)
    one = st.builds(
        entry,
        at=st.one_of(st.integers(0, hours).map(lambda h: h * 3600.0), st.floats(0, hours * 3600)).map(
            lambda s: BASE + s
        ),
        key=st.sampled_from(["", "key_a", "key_b"]),
        caller=st.sampled_from(["ann", "bob"]),
        tag=st.sampled_from(["", "nightly"]),
        asked=st.sampled_from(["gpt-5", "llama3.2"]),
        status=st.sampled_from([200, 200, 429, 502]),
        stream=st.booleans(),
        first=st.none() | st.sampled_from([0.25, 0.5]),
        total=st.sampled_from([0.5, 1.0, 2.25]),
        prompt=count,
        cached=count,
        completion=count,
        reasoning=count,
        exact=st.booleans(),
        cost=st.none() | count,
        listed=st.none() | st.integers(0, 10**12),
    )
    return st.lists(one, max_size=most)


def put(store: Store, rows: Iterable[Entry]) -> None:
    """Write rows."""
    values = [msgspec.structs.asdict(row) for row in rows]
    if values:
        with store.writing() as connection:
            connection.execute(insert(schema.requests), values)


def clear(store: Store) -> None:
    """Empty the ledger, and forget what is kept for clients."""
    with store.writing() as connection:
        connection.execute(delete(schema.pieces))
        connection.execute(delete(schema.objects))
        connection.execute(delete(schema.requests))
        connection.execute(delete(schema.rollups))
        connection.execute(update(schema.meta).where(schema.meta.c.name == schema.ROLLED).values(value="0"))


def summed(
    rows: Iterable[Entry], by: Callable[[Entry], tuple[Any, ...]] = lambda row: ()
) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return the sums of rows as the roll-ups' columns."""
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return {name: fold(group) for name, group in groups.items()}


def fold(rows: Sequence[Entry]) -> dict[str, float]:
    found: dict[str, float] = {
        "requests": len(rows),
        "errors": sum(row.status >= 400 for row in rows),
        "inexact": sum(not row.exact for row in rows),
        "cost": sum(row.cost or 0 for row in rows),
        "listed": sum(row.listed or 0 for row in rows),
        "unpriced": sum(row.listed is None for row in rows),
        "first_sum": sum(row.first or 0 for row in rows),
        "first_n": sum(row.first is not None for row in rows),
        "total_sum": sum(row.total for row in rows),
    }
    for name in ("prompt", "cached", "completion", "reasoning"):
        found[name] = sum(getattr(row, name) for row in rows)
    return {name: found[name] for name in SUMS}
