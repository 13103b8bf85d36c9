"""Buckets in memory: no sequence of calls and times passes a limit, and memory stays bounded."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.limits import MemoryLimiter
from ollama_proxy.policy.limit import Charge, Verdict
from tests.conftest import Clock
from tests.limits.conftest import requests, slots, tokens

# Periods to wait, the share of the limit that is estimated, the share of that really used, and after how many further
# calls that is known. Round shares are those by which a wrong refund is found.
CALLS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1.5),
        st.sampled_from([0.1, 0.5, 1.0]) | st.floats(0, 1.1),
        st.sampled_from([0.0, 0.1, 1.0]),
        st.integers(0, 4),
    ),
    max_size=30,
)


class Run:
    """What was let in: when, and what it really took, or may yet take."""

    def __init__(self, capacity: int, period: float) -> None:
        self.capacity, self.period = capacity, period
        self.clock = Clock()
        self.limiter = MemoryLimiter(self.clock)
        self.taken: list[tuple[float, float]] = []
        self.waiting: list[tuple[int, int, Verdict, float]] = []

    def call(self, at: int, part: float, share: float, after: int) -> Verdict:
        amount = part * self.capacity
        verdict = self.limiter.admit_now([Charge("b", "tpm", self.capacity, self.period, amount)])
        if verdict.refused is None:
            self.waiting.append((at + after, len(self.taken), verdict, amount * share))
            self.taken.append((self.clock.now, amount))
        return verdict

    def settle(self, at: int) -> None:
        for due in [one for one in self.waiting if one[0] <= at]:
            self.waiting.remove(due)
            _, place, verdict, actual = due
            self.limiter.settle(verdict, actual)
            self.taken[place] = self.taken[place][0], actual

    def check(self) -> None:
        """Over any time t no more got in than capacity + t * capacity / period."""
        sums = [0.0, *accumulate(amount for _, amount in self.taken)]
        slack = self.capacity * 1e-6
        for i, (begin, _) in enumerate(self.taken):
            for j in range(i, len(self.taken)):
                most = self.capacity + (self.taken[j][0] - begin) * self.capacity / self.period
                assert sums[j + 1] - sums[i] <= most + slack


@given(calls=CALLS, capacity=st.integers(1, 200), period=st.sampled_from([1.0, 60.0]))
def test_no_sequence_of_calls_and_times_passes_a_limit(
    calls: list[tuple[float, float, float, int]], capacity: int, period: float
) -> None:
    run = Run(capacity, period)
    for at, (pause, part, share, after) in enumerate(calls):
        run.clock.forward(pause * period)
        run.call(at, part, share, after)
        run.settle(at)
        run.check()
    run.settle(10**6)
    run.check()


@given(calls=CALLS, capacity=st.integers(1, 200), part=st.floats(0, 1.1))
def test_every_wait_is_true(calls: list[tuple[float, float, float, int]], capacity: int, part: float) -> None:
    run = Run(capacity, 60.0)
    for at, call in enumerate(calls):
        run.clock.forward(call[0] * 60.0)
        run.call(at, *call[1:])
        run.settle(at)
    verdict = run.call(0, part, 1.0, 0)
    if verdict.refused is None or verdict.wait is None:
        assert verdict.refused is None or part > 1
        return
    now = run.clock.now
    run.clock.now = now + max(0.0, verdict.wait - 1e-5)
    assert verdict.wait <= 1e-5 or run.call(0, part, 1.0, 0).refused is not None
    run.clock.now = now + verdict.wait
    assert run.call(0, part, 1.0, 0).refused is None


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 40)), max_size=40))
def test_several_limits_are_charged_all_or_none(calls: list[tuple[int, float]]) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    charges = [requests(3, name="a", period=60.0), tokens(50, 10, name="b", period=60.0), slots(2)]
    open: list[Verdict] = []
    for settle, pause in calls:
        clock.forward(pause)
        before = [limiter.admit_now([Charge(c.bucket, c.kind, c.capacity, c.period, 0)]).levels[0] for c in charges]
        verdict = limiter.admit_now(charges)
        if verdict.refused is not None:
            assert list(verdict.levels) == before
        else:
            assert list(verdict.levels) == [b + c.amount for b, c in zip(before, charges, strict=True)]
            open.append(verdict)
        for done in open[:settle]:
            limiter.settle(done, None)
            open.remove(done)


def test_empty_buckets_are_forgotten(clock: Clock) -> None:
    limiter = MemoryLimiter(clock)
    for n in range(20_000):
        limiter.admit_now([requests(5, name=str(n), period=60.0)])
        clock.forward(0.1)
    # 12 s of 0.1 s steps are not yet empty; the rest is looked through when there are twice as many.
    assert len(limiter) <= 2048


def test_a_flood_of_callers_does_not_fill_the_memory_and_the_fullest_are_kept(clock: Clock) -> None:
    limiter = MemoryLimiter(clock, most=100)
    for _ in range(5):
        limiter.admit_now([requests(5, name="busy", period=60.0)])
    for n in range(1000):
        limiter.admit_now([requests(5, name=str(n), period=60.0)])
    assert len(limiter) <= 101
    assert limiter.admit_now([requests(5, name="busy", period=60.0)]).refused is not None


def test_a_slot_in_use_is_never_forgotten(clock: Clock) -> None:
    limiter = MemoryLimiter(clock, most=100)
    held = limiter.admit_now([slots(1)])
    for n in range(1000):
        limiter.admit_now([requests(5, name=str(n), period=60.0)])
        clock.forward(10.0)
    assert limiter.admit_now([slots(1)]).refused is not None
    limiter.settle(held, None)
    assert limiter.admit_now([slots(1)]).refused is None


def test_a_debt_to_a_forgotten_bucket_is_not_forgotten(clock: Clock) -> None:
    limiter = MemoryLimiter(clock, most=10)
    verdict = limiter.admit_now([tokens(100, 50, period=60.0)])
    clock.forward(60.0)
    for n in range(20):
        limiter.admit_now([requests(5, name=str(n), period=60.0)])
    limiter.settle(verdict, 150)
    assert limiter.admit_now([tokens(100, 0, period=60.0)]).levels[0] == pytest.approx(100)


def test_a_changed_limit_holds_at_once(clock: Clock) -> None:
    limiter = MemoryLimiter(clock)
    for _ in range(5):
        limiter.admit_now([requests(10)])
    assert limiter.admit_now([requests(5)]).refused is not None
    assert limiter.admit_now([requests(20)]).refused is None


async def test_the_memorys_verdict_needs_no_waiting(clock: Clock) -> None:
    limiter = MemoryLimiter(clock)
    assert limiter.admit_now([requests(1)]).refused is None
    assert (await limiter.admit([requests(1)])).refused is not None
    assert not limiter.presence.away
    await limiter.aclose()
    assert len(limiter) == 0
