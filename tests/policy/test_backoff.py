"""Pauses between tries, and what is known of a thing that is away."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.backoff import Backoff, Presence


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(0, 0.2), (1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 3.2), (6, 5.0), (7, 5.0), (100_000, 5.0)],
)
def test_a_pause_doubles_up_to_the_longest(failures: int, pause: float) -> None:
    assert Backoff(0.2, 5.0).pause(failures) == pause


def test_a_first_pause_above_the_longest_is_cut() -> None:
    assert Backoff(10.0, 5.0).pause(1) == 5.0


def test_a_thing_that_goes_away_is_said_once_and_its_next_tries_move_apart() -> None:
    thing = Presence(Backoff(1.0, 4.0))
    assert not thing.away

    assert thing.lost("refused", 100.0)
    assert not thing.lost("no such host", 101.0)

    assert (thing.away, thing.since, thing.error, thing.failures) == (True, 100.0, "no such host", 2)
    assert thing.next_try == 103.0
    assert thing.pause(102.5) == 0.5
    assert thing.pause(104.0) == 0.0


def test_a_thing_that_is_back_is_said_once_and_begins_with_the_first_pause_when_it_goes_away_again() -> None:
    thing = Presence(Backoff(1.0, 4.0))
    for now in (100.0, 101.0, 103.0):
        thing.lost("refused", now)

    assert thing.back()
    assert not thing.back()
    assert (thing.away, thing.since, thing.error, thing.pause(200.0)) == (False, None, "", 0.0)

    assert thing.lost("refused", 200.0)
    assert thing.next_try == 201.0


def test_a_clock_that_is_set_back_does_not_keep_a_try_off() -> None:
    thing = Presence(Backoff(1.0, 4.0))
    thing.lost("refused", 1000.0)

    assert thing.pause(0.0) == 4.0
