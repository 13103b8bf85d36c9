"""The table of keys: every field comes back, and every change is noticed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.account import Budget, Key, Rates
from ollama_proxy.store import Missing, StoreError
from tests.store import databases, fresh
from tests.store.fresh import Spot

server, spot = databases.server, fresh.spot


def key(number: int = 1, **fields: Any) -> Key:
    usual = {"name": f"key {number}", "digest": f"{number:064x}", "shown": "sk-oproxy-…abcd", "created": 1000.5}
    return Key(id=f"key_{number}", **{**usual, **fields})


FULL = key(
    2,
    created=2000.25,
    expires=3000.0,
    revoked=2500.0,
    models=("gpt-*", "“quoted”"),
    endpoints=("/v1/chat/*",),
    tier="tier1",
    rates=Rates(requests_per_minute=3, concurrent=1),
    budget=Budget(money_per_day=0.25, tokens_per_month=10**12),
    tags=("a", "b"),
    admin=True,
)


def test_every_field_of_a_key_comes_back(spot: Spot) -> None:
    store = spot.open()
    store.keys.add(FULL)
    store.keys.add(key())

    assert store.keys.all() == [key(), FULL]
    assert store.keys.by_digest(FULL.digest) == FULL
    assert store.keys.by_digest("f" * 64) is None


def test_a_key_is_changed_by_the_names_of_its_fields(spot: Spot) -> None:
    store = spot.open()
    store.keys.add(key())

    changed = store.keys.change("key_1", revoked=5.0, models=("x",), rates=Rates(tokens_per_day=7), admin=True)

    assert changed == msgspec.structs.replace(
        key(), revoked=5.0, models=("x",), rates=Rates(tokens_per_day=7), admin=True
    )
    assert store.keys.all() == [changed]


def test_every_change_by_anyone_is_seen_in_the_version(spot: Spot) -> None:
    store, other = spot.open(), spot.open()
    versions = [store.keys.version()]

    other.keys.add(key())
    versions.append(store.keys.version())
    other.keys.change("key_1", name="another")
    versions.append(store.keys.version())
    other.keys.remove("key_1")
    versions.append(store.keys.version())

    assert versions == sorted(set(versions))


def test_a_key_that_is_not_there_is_missing_and_nothing_changes(spot: Spot) -> None:
    store = spot.open()
    before = store.keys.version()

    with pytest.raises(Missing, match="no key key_9"):
        store.keys.change("key_9", name="x")
    with pytest.raises(Missing, match="no key key_9"):
        store.keys.remove("key_9")
    assert store.keys.version() == before


@pytest.mark.parametrize("twin", [key(1, digest="0" * 64), key(2, digest=key(1).digest)])
def test_the_same_key_is_not_kept_twice(spot: Spot, twin: Key) -> None:
    store = spot.open()
    store.keys.add(key())
    before = store.keys.version()

    with pytest.raises(StoreError, match="already"):
        store.keys.add(twin)
    assert store.keys.all() == [key()]
    assert store.keys.version() == before
