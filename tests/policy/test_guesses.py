"""How many keys an address may try, and that a right guess cannot be told while it waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy import guesses as module
from ollama_proxy.policy.guesses import Guesses, place_of


def tried(guesses: Guesses, count: int, *, address: str = "10.0.0.7", start: int = 0, limit: int = 3) -> list[float]:
    return [guesses.wrong(address, f"wrong-{n}", limit=limit, now=0.0) for n in range(start, start + count)]


def test_so_many_different_keys_are_judged_and_then_none() -> None:
    guesses = Guesses()
    assert tried(guesses, 5) == [0, 0, 0, 20, 20]
    assert guesses.right("10.0.0.7", "mine", limit=3, now=0.0) == 20
    assert tried(guesses, 1, address="10.0.0.8", start=9) == [0]
    # One more each twenty seconds, for whoever comes first.
    assert guesses.right("10.0.0.7", "mine", limit=3, now=19.9) == pytest.approx(0.1)
    assert guesses.right("10.0.0.7", "mine", limit=3, now=20.0) == 0


def test_what_waited_is_not_counted_and_not_remembered() -> None:
    guesses = Guesses()
    tried(guesses, 100)
    assert guesses.wrong("10.0.0.7", "new", limit=3, now=20.0) == 0
    assert guesses.wrong("10.0.0.7", "wrong-50", limit=3, now=20.0) == 20
    assert guesses.right("10.0.0.7", "wrong-50", limit=3, now=20.0) == 20


def test_the_same_wrong_key_again_is_no_new_guess() -> None:
    guesses = Guesses()
    assert [guesses.wrong("10.0.0.7", "old", limit=3, now=0.0) for _ in range(100)] == [0] * 100
    assert tried(guesses, 3) == [0, 0, 20]
    assert guesses.wrong("10.0.0.7", "old", limit=3, now=0.0) == 0


def test_a_key_that_has_worked_from_there_goes_on_to_work() -> None:
    guesses = Guesses()
    assert guesses.right("10.0.0.7", "mine", limit=3, now=0.0) == 0
    tried(guesses, 50)
    assert guesses.right("10.0.0.7", "mine", limit=3, now=0.0) == 0
    assert guesses.right("10.0.0.7", "other", limit=3, now=0.0) == 20
    tried(guesses, 50, address="10.0.0.8")
    assert guesses.right("10.0.0.8", "mine", limit=3, now=0.0) == 20, "it has worked elsewhere, which a guesser may use"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.floats(0, 30)), max_size=200), st.integers(1, 10))
def test_a_right_guess_and_a_wrong_one_wait_alike(steps: list[tuple[bool, int, float]], limit: int) -> None:
    """Two that send the same, one with the right key among them, are told to wait for as long."""
    one, other = Guesses(), Guesses()
    now = 0.0
    for wrong, number, pause in steps:
        now += pause
        if wrong:
            name = f"key-{number}"
            assert one.wrong("a", name, limit=limit, now=now) == other.wrong("a", name, limit=limit, now=now)
    assert one._wait("a", limit, now) == other.wrong("a", "never tried", limit=limit, now=now)


@given(st.lists(st.floats(0, 10), max_size=300), st.integers(1, 20))
def test_no_more_are_judged_than_the_limit_says(pauses: list[float], limit: int) -> None:
    guesses, now, judged = Guesses(), 0.0, 0
    for number, pause in enumerate(pauses):
        now += pause
        judged += not guesses.wrong("a", str(number), limit=limit, now=now)
    assert judged <= limit + now * limit / 60 + 1e-6


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 100)
    guesses = Guesses()
    tried(guesses, 50, address="guesser")
    for number in range(1000):
        guesses.wrong(f"host-{number}", "x", limit=3, now=0.0)
        guesses.right(f"host-{number}", "y", limit=3, now=0.0)
    assert len(guesses._buckets) <= 100
    assert (len(guesses._tried), len(guesses._worked)) == (100, 100)
    assert tried(guesses, 1, address="guesser", start=99) == [20], "who has tried the most is not forgotten"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.7", "10.0.0.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.8", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", False),
        ("", "10.0.0.7", False),
    ],
)
def test_an_address_is_what_one_user_has(one: str, other: str, same: bool) -> None:
    assert (place_of(one) == place_of(other)) is same
