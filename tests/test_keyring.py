"""The keys in force: the database's, the environment's, the daemon's own word."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_proxy.account import Key
from ollama_proxy.errors import Unauthorized
from ollama_proxy.keyring import CONTROL, Keyring
from ollama_proxy.policy.credentials import digest
from ollama_proxy.store import Store
from tests.conftest import Clock

SECRET = "sk-oproxy-" + "a" * 40


def key(**more: object) -> Key:
    made = {"id": "key_1", "name": "one", "digest": digest(SECRET), "shown": "s", "created": 1.0, **more}
    return Key(**made)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open("", folder=tmp_path, on_change=print)


def test_a_stored_key_is_found_by_what_was_sent(store: Store, clock: Clock) -> None:
    store.keys.add(key(tags=("x",), admin=True))
    ring = Keyring(store.keys, wall=clock)
    ring.read()

    caller = ring.caller(SECRET, "127.0.0.1")

    assert caller is not None
    assert (caller.name, caller.id, caller.admin, caller.address) == ("one", "key_1", True, "127.0.0.1")
    assert ring.caller("sk-other", "") is None
    assert ring.caller(None, "") is None
    assert ring.caller("", "") is None


def test_a_change_by_another_process_is_seen_by_the_next_reading(store: Store, clock: Clock) -> None:
    ring = Keyring(store.keys, wall=clock)
    ring.read()
    assert ring.caller(SECRET, "") is None

    store.keys.add(key())
    assert ring.read()
    assert ring.caller(SECRET, "") is not None
    assert not ring.read()

    store.keys.remove("key_1")
    assert ring.read()
    assert ring.caller(SECRET, "") is None


def test_an_expired_or_revoked_key_is_refused_with_the_reason(store: Store, clock: Clock) -> None:
    store.keys.add(key(expires=clock.now + 10))
    ring = Keyring(store.keys, wall=clock)
    ring.read()
    assert ring.caller(SECRET, "") is not None

    clock.forward(10)
    with pytest.raises(Unauthorized, match="has expired") as caught:
        ring.caller(SECRET, "")
    assert SECRET not in caught.value.message

    store.keys.change("key_1", expires=None, revoked=clock.now)
    ring.read()
    with pytest.raises(Unauthorized, match="has been revoked"):
        ring.caller(SECRET, "")


def test_the_keys_of_the_environment_need_no_database(clock: Clock) -> None:
    ring = Keyring(None, wall=clock, given={"ci": "sk-env"})

    caller = ring.caller("sk-env", "")

    assert caller is not None
    assert (caller.name, caller.id, caller.admin) == ("ci", "key_env_ci", False)
    assert not ring.read()
    ring.give({})
    assert ring.caller("sk-env", "") is None


def test_the_daemons_own_word_makes_an_administrator(clock: Clock) -> None:
    ring = Keyring(None, wall=clock, control="word")

    caller = ring.caller("word", "")
    assert caller is not None
    assert (caller.name, caller.admin, caller.key) == (CONTROL, True, None)
    assert ring.caller("worx", "") is None
    assert Keyring(None, wall=clock).caller("", "") is None
