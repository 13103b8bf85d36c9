"""How much memory requests may hold together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import AnswerTooLarge, OproxyError, Overloaded, TooLarge
from ollama_proxy.policy.memory import MIB, Arriving, Hold, Memory, Unsent, answer_cost, body_cost, default_budget

STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["take", "attempt", "give", "release"]), st.integers(0, 3000))
)


@given(total=st.integers(0, 20_000), steps=STEPS)
def test_what_is_held_is_never_negative_never_over_the_budget_and_all_given_back(
    total: int, steps: list[tuple[int, str, int]]
) -> None:
    memory = Memory(total)
    holds = [Hold(memory) for _ in range(5)]
    for who, what, size in steps:
        hold = holds[who]
        try:
            hold.release() if what == "release" else getattr(hold, what)(size)
        except OproxyError:
            assert what == "take"
        assert hold.held >= 0
        assert memory.held == sum(each.held for each in holds)
        assert 0 <= memory.held <= total
    for hold in holds:
        hold.release()
        hold.release()
    assert memory.held == 0


@given(total=st.integers(64 * MIB, 4096 * MIB), sizes=st.lists(st.integers(1, 64 * MIB), max_size=80))
def test_a_small_request_fits_however_much_the_large_ones_take(total: int, sizes: list[int]) -> None:
    memory = Memory(total)
    for size in sizes:
        Hold(memory).attempt(max(size, memory.small + 1))
    assert Hold(memory).attempt(body_cost(b"x" * 2048))


def test_a_request_that_was_small_and_grows_is_a_large_one() -> None:
    memory = Memory(64_000)
    Hold(memory).take(memory.large)
    hold = Hold(memory)
    hold.take(memory.small)
    with pytest.raises(Overloaded):
        hold.take(1)


def test_a_refusal_says_whether_trying_again_helps() -> None:
    memory = Memory(8000)
    alone, other = Hold(memory), Hold(memory)
    with pytest.raises(TooLarge, match="memory under"):
        alone.take(7001)
    with pytest.raises(AnswerTooLarge):
        alone.take_answer(7001)
    other.take(6000)
    with pytest.raises(Overloaded) as caught:
        alone.take(2000)
    assert caught.value.headers["retry-after"] == "1"
    with pytest.raises(Overloaded):
        alone.check(2000)
    assert (memory.held, memory.refused, alone.held) == (6000, 4, 0)


def test_leaving_the_context_gives_everything_back() -> None:
    memory = Memory(8000)
    with Hold(memory) as hold:
        hold.take(3000)
    assert memory.held == 0


def test_a_hold_without_a_budget_takes_any_amount() -> None:
    hold = Hold()
    hold.take(2**60)
    hold.check(2**60)
    hold.give(2**61)
    assert hold.held == 0


def test_a_smaller_budget_takes_effect_at_once_and_takes_nothing_away() -> None:
    memory = Memory(8000)
    hold = Hold(memory)
    hold.take(6000)
    memory.resize(4000)
    assert not Hold(memory).attempt(100)
    hold.release()
    assert Hold(memory).attempt(100)


@pytest.mark.parametrize(
    ("machine", "budget"),
    [
        (None, 512 * MIB),
        (100 * MIB, 50 * MIB),
        (512 * MIB, 128 * MIB),
        (8192 * MIB, 1024 * MIB),
        (2**50, 2048 * MIB),
    ],
)
def test_the_default_is_a_share_of_the_machine(machine: int | None, budget: int) -> None:
    assert default_budget(machine) == budget


def test_many_small_values_cost_more_than_one_long_text() -> None:
    text, values = b"x" * 100_000, b"[1]," * 25_000
    assert body_cost(text) == 500_000
    assert body_cost(values) == 500_000 + 160 * 25_000
    assert answer_cost(values) == 300_000 + 40 * 25_000


def test_what_cannot_be_passed_on_yet_is_counted_until_it_is() -> None:
    memory = Memory(1000)
    with Hold(memory) as hold:
        unsent = Unsent(hold)
        unsent.add(100)
        unsent.add(50)
        assert memory.held == 450
        unsent.clear()
        unsent.clear()
        assert memory.held == 0
        unsent.add(100)
        with pytest.raises(AnswerTooLarge):
            unsent.add(200)
    assert memory.held == 0


def test_a_body_of_which_half_has_come_is_read_to_its_end() -> None:
    memory = Memory(8 * 1000 * 1000)
    with Hold(memory) as first, Hold(memory) as second:
        # 5 MB each, of 7.
        old, new = Arriving(first, 1_000_000), Arriving(second, 1_000_000)
        old.take(b"a" * 250_000)
        assert memory.held == 2 * 5 * 250_000
        new.take(b"a" * 10_000)
        old.take(b"a" * 250_000)
        assert first.held == 5 * 1_000_000
        with pytest.raises(Overloaded):
            new.take(b"a" * 600_000)
        second.release()
        old.take(b"a" * 500_000)
        old.end()
        assert (first.held, old.ahead) == (5 * 1_000_000, 0)
    assert memory.held == 0


@given(total=st.integers(100_000, 10**7), pieces=st.lists(st.integers(1, 100_000)), length=st.integers(0, 10**6))
def test_what_is_reserved_is_never_more_than_what_has_come_and_all_given_back(
    total: int, pieces: list[int], length: int
) -> None:
    memory = Memory(total)
    with Hold(memory) as hold:
        arriving, costs = Arriving(hold, length), 0
        try:
            for size in pieces:
                arriving.take(b"a" * size)
                costs += body_cost(b"a" * size)
                assert costs + arriving.ahead == hold.held == memory.held <= memory.total
                assert 0 <= arriving.ahead <= 5 * max(arriving.size, size)
        except (Overloaded, TooLarge):
            pass
        else:
            arriving.end()
            assert hold.held == costs
    assert memory.held == 0
