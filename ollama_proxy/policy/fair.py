"""A waiting room that is fair between lanes: the lanes take turns, and within a lane who came first goes first. Pure:
it holds things in order, and knows neither what they are nor how long they wait.

Room is shared fairly too. When it is used up, a newcomer takes the place of the longest lane's last one, unless its own
lane is (nearly) as long: otherwise whoever sends a hundred requests at once would shut everybody else out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """At most `most` items, each once, waiting in lanes."""

    __slots__ = ("_lane_of", "_lanes", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        # The first lane is the next to go. OrderedDict and not dict: taking from the front of a dict is slow once many
        # have been taken.
        self._lanes: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._lane_of: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, item: T) -> bool:
        return item in self._lane_of

    def __iter__(self) -> Iterator[T]:
        """Yield the items, in the order in which they came."""
        return iter(self._lane_of)

    def push(self, lane: str, item: T) -> T | None:
        """Let `item` wait. Return the one there is no room for: None, another one (which is out now), or `item`."""
        displaced = None
        if len(self._lane_of) >= self.most:
            displaced = self._last_of_longest(lane)
            if displaced is None:
                return item
            self.remove(displaced)
        self._lane_of[item] = lane
        self._lanes.setdefault(lane, OrderedDict())[item] = None
        return displaced

    def pop(self, fits: Callable[[T], bool] | None = None) -> T | None:
        """Take the next one out, of those that fit; None if there is none. A lane that is passed over, because nothing
        of it fits, keeps its place; one that was served goes behind all others."""
        for lane, items in self._lanes.items():
            for item in items:
                if fits is None or fits(item):
                    self.remove(item)
                    if lane in self._lanes:
                        self._lanes.move_to_end(lane)
                    return item
        return None

    def remove(self, item: T) -> bool:
        """Take `item` out, wherever it stands. Return whether it was there."""
        lane = self._lane_of.pop(item, None)
        if lane is None:
            return False
        items = self._lanes[lane]
        del items[item]
        if not items:
            del self._lanes[lane]
        return True

    def trim(self) -> list[T]:
        """Take out those that are more than `most` (it has been lowered): the last ones of the longest lanes."""
        out: list[T] = []
        while len(self._lane_of) > self.most:
            longest = max(self._lanes.values(), key=len)
            item = next(reversed(longest))
            self.remove(item)
            out.append(item)
        return out

    def position(self, item: T) -> int:
        """Return how many are taken out before `item`, if all fit and nobody else comes. Raises KeyError."""
        lane = self._lane_of[item]
        before = 0
        for other in self._lanes[lane]:
            if other == item:
                break
            before += 1
        return self._ahead(lane, before)

    def ahead(self, lane: str) -> int:
        """Return the position that a newcomer of `lane` would have."""
        return self._ahead(lane, len(self._lanes.get(lane, ())))

    def _ahead(self, lane: str, rounds: int) -> int:
        """Return how many go before the one that has `rounds` others of its lane before it."""
        count = rounds
        # A lane in front of ours, by the order of turns, has one turn more by then.
        extra = 1
        for other, items in self._lanes.items():
            if other == lane:
                extra = 0
            else:
                count += min(len(items), rounds + extra)
        return count

    def _last_of_longest(self, lane: str) -> T | None:
        """Return the one that has to make room for a newcomer of `lane`, None if nobody has."""
        longest = max(self._lanes.values(), key=len, default=None)
        own = len(self._lanes.get(lane, ()))
        # Not for a difference of one: the two would only change roles.
        if longest is None or len(longest) <= own + 1:
            return None
        return next(reversed(longest))
