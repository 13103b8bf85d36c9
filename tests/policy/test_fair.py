from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ollama_proxy.policy.fair import FairQueue


def filled(most: int = 1000, **lanes: int) -> FairQueue[str]:
    """Return a queue with so many items of each lane: a0, a1 …"""
    queue: FairQueue[str] = FairQueue(most)
    for lane, count in lanes.items():
        for n in range(count):
            assert queue.push(lane, f"{lane}{n}") is None
    return queue


def emptied(queue: FairQueue[str]) -> list[str]:
    out = []
    while (item := queue.pop()) is not None:
        out.append(item)
    return out


def test_lanes_take_turns_and_within_a_lane_who_came_first_goes_first() -> None:
    assert emptied(filled(a=3, b=1, c=2)) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_a_lane_with_a_hundred_waiting_delays_anothers_first_by_one_turn() -> None:
    queue = filled(a=100)
    queue.pop()
    queue.push("b", "b0")

    assert [queue.pop(), queue.pop()] == ["a1", "b0"]


def test_a_lane_that_was_served_goes_behind_one_that_came_later() -> None:
    queue = filled(a=2, b=2)
    assert queue.pop() == "a0"

    queue.push("c", "c0")

    assert emptied(queue) == ["b0", "a1", "c0", "b1"]


def test_an_empty_queue_has_nothing_to_give() -> None:
    queue = filled()

    assert queue.pop() is None
    assert len(queue) == 0


def test_one_that_does_not_fit_lets_those_behind_it_pass_and_keeps_its_place() -> None:
    queue = filled(a=2, b=2)

    assert queue.pop(lambda item: item != "a0") == "a1"
    assert queue.pop(lambda item: not item.startswith("a")) == "b0"
    # The lane was passed over, so it is still its turn.
    assert queue.pop() == "a0"
    assert queue.pop() == "b1"


def test_nothing_is_taken_out_when_nothing_fits() -> None:
    queue = filled(a=2, b=2)

    assert queue.pop(lambda item: False) is None
    assert emptied(queue) == ["a0", "b0", "a1", "b1"]


def test_one_that_leaves_is_gone_and_cannot_leave_twice() -> None:
    queue = filled(a=3, b=1)

    assert queue.remove("a1")
    assert not queue.remove("a1")
    assert queue.remove("b0")
    assert "b0" not in queue
    assert emptied(queue) == ["a0", "a2"]


def test_a_full_queue_refuses_the_only_lanes_next() -> None:
    queue = filled(most=3, a=3)

    assert queue.push("a", "late") == "late"
    assert emptied(queue) == ["a0", "a1", "a2"]


def test_in_a_full_queue_a_newcomer_takes_the_place_of_the_longest_lanes_last() -> None:
    queue = filled(most=5, a=4, b=1)

    assert queue.push("c", "c0") == "a3"
    assert queue.push("c", "c1") == "a2"
    # Two, two and one: nobody has more than his share.
    assert queue.push("c", "c2") == "c2"
    assert queue.push("d", "d0") == "a1"
    assert emptied(queue) == ["a0", "b0", "c0", "d0", "c1"]


def test_a_queue_without_room_refuses_everybody() -> None:
    assert filled(most=0).push("a", "a0") == "a0"


def test_a_queue_made_smaller_gives_out_the_last_of_the_longest_lanes() -> None:
    queue = filled(a=4, b=2)
    queue.most = 3

    assert queue.trim() == ["a3", "a2", "a1"]
    assert emptied(queue) == ["a0", "b0", "b1"]


def test_the_position_of_a_stranger_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        filled(a=1).position("b0")


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(0, 20), st.sampled_from("abcde"))
def test_the_position_is_how_many_go_before(lanes: list[str], served: int, newcomer: str) -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for n, lane in enumerate(lanes):
        queue.push(lane, f"{lane}{n}")
    for _ in range(served):
        queue.pop()
    said = queue.ahead(newcomer)
    queue.push(newcomer, "new")
    positions = {item: queue.position(item) for item in queue}

    order = emptied(queue)

    assert [positions[item] for item in order] == list(range(len(order)))
    assert order.index("new") == said


@given(st.lists(st.sampled_from("aaaabc"), min_size=1, max_size=60))
def test_no_lane_is_served_twice_while_another_waits_unserved(lanes: list[str]) -> None:
    queue: FairQueue[int] = FairQueue(1000)
    for n, lane in enumerate(lanes):
        queue.push(lane, n)
    left, served = Counter(lanes), Counter[str]()
    while (item := queue.pop()) is not None:
        left[lanes[item]] -= 1
        served[lanes[item]] += 1
        waiting = [served[lane] for lane in left if left[lane]]
        assert not waiting or served[lanes[item]] - min(waiting) <= 1


class Against(RuleBasedStateMachine):
    """The queue against lists: nobody is lost, nobody is there twice, each lane keeps its order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(6)
        self.lanes: dict[str, list[int]] = {lane: [] for lane in "abc"}
        self.count = 0

    @rule(lane=st.sampled_from("abc"))
    def push(self, lane: str) -> None:
        self.count += 1
        longest = max(map(len, self.lanes.values()))
        out = self.queue.push(lane, self.count)
        if out is not None and out != self.count:
            # Of several that are as long, any.
            fullest = next(each for each in self.lanes.values() if each and each[-1] == out)
            assert len(fullest) == longest
            fullest.pop()
        if out != self.count:
            self.lanes[lane].append(self.count)
            assert out is None or len(fullest) >= len(self.lanes[lane])

    @rule(odd=st.booleans())
    def pop(self, odd: bool) -> None:
        item = self.queue.pop(lambda each: each % 2 == odd)
        fitting = [[each for each in lane if each % 2 == odd] for lane in self.lanes.values()]
        if item is None:
            assert not any(fitting)
            return
        assert item in [lane[0] for lane in fitting if lane]
        next(lane for lane in self.lanes.values() if item in lane).remove(item)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.count + 1))
        owner = next((lane for lane in self.lanes.values() if item in lane), None)
        assert self.queue.remove(item) is (owner is not None)
        if owner is not None:
            owner.remove(item)

    @rule(most=st.integers(0, 8))
    def resize(self, most: int) -> None:
        self.queue.most = most
        for item in self.queue.trim():
            next(lane for lane in self.lanes.values() if item in lane).remove(item)

    @invariant()
    def nobody_is_lost(self) -> None:
        assert sorted(self.queue) == sorted(item for lane in self.lanes.values() for item in lane)
        assert len(self.queue) <= max(self.queue.most, 0)


TestAgainst = Against.TestCase
