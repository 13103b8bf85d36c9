"""How late a timer fires: the last minute, the worst ever, and which delays are worth a warning."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.lag import Lag, LagMeter, Warner


def meter(*delays: tuple[float, float], most: int = 1024) -> LagMeter:
    made = LagMeter(window=60.0, most=most)
    for now, delay in delays:
        made.add(now, delay)
    return made


@pytest.mark.parametrize(
    ("delays", "now", "want"),
    [
        ([], 0.0, Lag(0.0, 0.0, 0.0, None)),
        ([(1.0, 0.0)], 1.0, Lag(0.0, 0.0, 0.0, 1.0)),
        ([(1.0, 0.5), (2.0, 0.1)], 2.0, Lag(0.5, 0.5, 0.5, 1.0)),
        # A timer that fires early is not late by less than nothing.
        ([(1.0, -0.001)], 1.0, Lag(0.0, 0.0, 0.0, 1.0)),
        # After a minute only the worst is remembered, with its time.
        ([(1.0, 0.5), (100.0, 0.1)], 100.0, Lag(0.1, 0.1, 0.5, 1.0)),
        ([(1.0, 0.5)], 100.0, Lag(0.0, 0.0, 0.5, 1.0)),
        # Of equals the first one is the worst.
        ([(1.0, 0.5), (2.0, 0.5)], 2.0, Lag(0.5, 0.5, 0.5, 1.0)),
    ],
)
def test_the_last_minute_and_the_worst(delays: list[tuple[float, float]], now: float, want: Lag) -> None:
    assert meter(*delays).read(now) == want


def test_one_delay_in_a_hundred_is_above_the_high_percentile() -> None:
    lag = meter(*((number / 10, 1.0 if number == 7 else 0.01) for number in range(200))).read(20.0)
    assert (lag.high, lag.most) == (0.01, 1.0)


def test_what_is_kept_is_bounded_in_number_too() -> None:
    lag = meter(*((0.0, float(number)) for number in range(100_000, 0, -1)), most=10).read(0.0)
    assert (lag.most, lag.worst) == (10.0, 100_000.0)


def test_warnings_are_for_long_delays_and_come_seldom() -> None:
    warner = Warner(above=0.25, quiet=60.0)
    seen = [warner.see(now, delay) for now, delay in [(0, 0.25), (1, 0.3), (2, 0.1), (3, 9.0), (4, 0.3), (61, 0.3)]]
    assert seen == [None, 0, None, None, None, 2]
    assert warner.see(200, 0.3) == 0
