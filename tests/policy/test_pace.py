"""How long to wait for the next piece of a body."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.pace import patience


@pytest.mark.parametrize(
    ("received", "waited", "rate", "left"),
    [
        (0, 0.0, 500, 30.0),
        # A byte every few seconds: the time for all runs out.
        (10, 25.0, 500, pytest.approx(5.02)),
        (10, 31.0, 500, pytest.approx(-0.98)),
        # A slow line: 8 KB a second for an hour is fine.
        (8_000 * 3600, 3600.0, 500, 30.0),
        # Any rate will do: only silence counts.
        (1, 10_000.0, 0, 30.0),
    ],
)
def test_patience_ends_with_silence_or_with_a_trickle(received: int, waited: float, rate: int, left: float) -> None:
    assert patience(received, waited, timeout=30.0, rate=rate) == left
