"""The states of a batch, whose line is next, and when a line is tried again."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import (
    AnswerTooLarge,
    Conflict,
    Invalid,
    ModelNotFound,
    OproxyError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    UpstreamBusy,
    UpstreamDown,
    UpstreamFailed,
    UpstreamSlow,
)
from ollama_proxy.policy.batch import (
    LONGEST,
    MOST_PARKED,
    NEXT,
    OVER,
    Batch,
    Lines,
    Retry,
    Status,
    Usage,
    again,
    cancelled,
    moved,
)

STATES: tuple[Status, ...] = (
    *("validating", "in_progress", "finalizing", "cancelling"),
    *("completed", "failed", "expired", "cancelled"),
)


def batch(status: Status = "validating") -> Batch:
    return Batch(
        id="batch_1", endpoint="/v1/embeddings", input_file_id="file-1", created_at=1, expires_at=2, status=status
    )


# --- states -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATES, STATES)))
def test_only_a_state_that_may_follow_does_and_its_time_is_noted(before: Status, after: Status) -> None:
    if after not in NEXT.get(before, ()):
        with pytest.raises(ValueError, match=after):
            moved(batch(before), after, 7.9)
        return
    new = moved(batch(before), after, 7.9)
    assert new.status == after
    assert getattr(new, f"{after}_at") == 7


def test_every_state_leads_to_an_end() -> None:
    reached = {"validating"}
    for _ in STATES:
        reached |= {after for state in reached for after in NEXT.get(state, ())}
    assert reached == set(STATES)
    assert not OVER & set(NEXT)


@pytest.mark.parametrize("status", ["validating", "in_progress"])
def test_a_batch_that_runs_can_be_cancelled(status: Status) -> None:
    new = cancelled(batch(status), 5)
    assert (new.status, new.cancelling_at) == ("cancelling", 5)


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
def test_cancelling_twice_changes_nothing(status: Status) -> None:
    before = batch(status)
    assert cancelled(before, 5) is before


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "finalizing"])
def test_what_is_over_cannot_be_cancelled(status: Status) -> None:
    with pytest.raises(Conflict) as caught:
        cancelled(batch(status), 5)
    assert caught.value.status == 409
    assert caught.value.message == f"Cannot cancel a batch with status '{status}'."


def test_usage_adds_up() -> None:
    total = Usage().plus(10, 4, 3, 1).plus(1, 0, 2, 0)
    assert total.total_tokens == 16
    assert (total.input_tokens, total.input_tokens_details.cached_tokens) == (11, 4)
    assert (total.output_tokens, total.output_tokens_details.reasoning_tokens) == (5, 1)


# --- trying again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        Invalid("no"),
        ModelNotFound("x"),
        QuotaExceeded(),
        RateLimited("larger than the limit", wait=None),
        UpstreamFailed("wrong", status=400),
        UpstreamFailed("no such model", status=404),
    ],
)
def test_what_would_be_refused_again_is_not_tried_again(error: OproxyError) -> None:
    assert again(error, 0, most=3) is None


def test_our_own_limits_are_waited_for_as_often_as_it_takes() -> None:
    for tries in (0, 99):
        assert again(RateLimited("slow down", wait=12.5), tries, most=3) == Retry(12.5, counts=False, hold=True)
        assert again(Overloaded("full", wait=2.0), tries, most=3) == Retry(2.0, counts=False, hold=True)


@pytest.mark.parametrize(
    "error", [UpstreamDown("gone"), UpstreamSlow("late"), UpstreamFailed("boom", status=500), UpstreamBusy("full")]
)
def test_a_backend_that_fails_is_tried_again_after_ever_longer_waits_and_then_no_more(error: OproxyError) -> None:
    waits = [again(error, tries, most=5, first=3.0) for tries in range(5)]
    assert [retry.wait for retry in waits if retry is not None] == [3.0, 12.0, 48.0, LONGEST]
    assert waits[-1] is None
    assert all(retry.counts for retry in waits if retry is not None)
    assert again(error, 0, most=1) is None


def test_a_backend_that_says_how_long_is_left_alone_so_long() -> None:
    retry = again(UpstreamBusy("full", retry_after=30), 0, most=3)
    assert retry is not None
    assert retry.wait == 30.0
    strange = UpstreamFailed("full", status=503, headers={"retry-after": "Sat, 21 Nov 2026 12:00:00 GMT"})
    assert again(strange, 0, most=3) == Retry(1.0, counts=True, hold=False)


# --- lines --------------------------------------------------------------------------------------------------------


def test_lines_come_in_their_order_and_none_twice() -> None:
    lines = Lines(3)
    assert [lines.take(0.0), lines.take(0.0), lines.take(0.0), lines.take(0.0)] == [(0, 0), (1, 0), (2, 0), None]
    assert lines.due() is None


def test_what_was_answered_before_is_passed_over() -> None:
    # Numbers that no line has are of no account.
    lines = Lines(4, [0, 2, 2, 99])
    assert lines.left == 2
    assert [lines.take(0.0), lines.take(0.0), lines.take(0.0)] == [(1, 0), (3, 0), None]
    assert list(lines.unanswered()) == [1, 3]


def test_a_line_that_waits_goes_first_when_its_time_has_come() -> None:
    lines = Lines(3)
    lines.take(0.0)
    lines.park(0, Retry(5.0, counts=True, hold=False), 0.0)
    assert lines.take(4.9) == (1, 0)
    assert lines.take(5.0) == (0, 1)
    assert lines.take(5.0) == (2, 0)


def test_nothing_new_is_begun_while_the_limits_hold() -> None:
    lines = Lines(2)
    lines.take(0.0)
    lines.park(0, Retry(5.0, counts=False, hold=True), 0.0)
    assert lines.take(4.9) is None
    assert lines.due() == 5.0
    assert [lines.take(5.0), lines.take(5.0)] == [(0, 0), (1, 0)]


def test_only_so_many_lines_wait_for_another_try() -> None:
    lines = Lines(MOST_PARKED + 5)
    for number in range(MOST_PARKED):
        assert lines.take(0.0) == (number, 0)
        lines.park(number, Retry(10.0, counts=True, hold=False), 0.0)
    assert lines.take(0.0) is None
    assert lines.due() == 10.0
    assert lines.take(10.0) == (0, 1)
    assert lines.due() == 0.0


@given(st.integers(0, 30), st.lists(st.integers(0, 29)), st.integers(0, 2**32))
def test_in_whatever_order_lines_end_each_is_answered_exactly_once(total: int, done: list[int], seed: int) -> None:
    # Thousands of choices: more than hypothesis draws one by one.
    dice = random.Random(seed)
    lines = Lines(total, done)
    answered = {number for number in done if number < total}
    running: set[int] = set()
    now = 0.0
    while lines.left:
        step = dice.choice(["take", "finish", "park"] if running else ["take"])
        if step == "take":
            taken = lines.take(now)
            if taken is None:
                due = lines.due()
                assert running or due is not None, "nothing runs and nothing is left to begin"
                now = max(now, due) if due is not None else now
                continue
            assert taken[0] not in answered | running
            running.add(taken[0])
        else:
            number = dice.choice(sorted(running))
            running.remove(number)
            if step == "finish":
                answered.add(number)
                lines.finish(number)
            else:
                later = Retry(dice.uniform(0.0, 5.0), counts=dice.random() < 0.5, hold=dice.random() < 0.5)
                lines.park(number, later, now)
        assert lines.left == total - len(answered)
        assert set(lines.unanswered()) == set(range(total)) - answered
    assert answered == set(range(total))
    assert lines.take(now + 99.0) is None


def test_a_line_whose_answer_is_too_large_is_not_asked_again() -> None:
    assert again(AnswerTooLarge("too large"), 0, most=5) is None
