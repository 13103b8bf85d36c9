"""How much memory requests may hold together. Pure: counts bytes that it is told of, never looks at the machine.

`Memory` is the one budget of a daemon, `Hold` is one request's part of it. Taking and giving back are additions: no
locks, no waits, so they cost a request next to nothing. A share of the budget is only for requests that hold little:
however many large ones there are, a small one is still served.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from ..errors import AnswerTooLarge, OproxyError, Overloaded, TooLarge

__all__ = ["Arriving", "Hold", "Memory", "Unsent", "answer_cost", "body_cost", "default_budget", "items_cost"]

MIB = 1024 * 1024
# One in so many bytes of the budget is for small requests.
RESERVE = 8
# One in so many bytes of that reserve is what a small request may hold: 256 KiB of the smallest default.
SMALL = 64
# Seconds after which a refused client should try again.
WAIT = 1.0

# What reading, decoding and translating a body costs, measured over all fronts: the bytes themselves, once more while
# their pieces are joined, as strings, and in the backend's request; a base64 image is copied most often.
BODY = 5
# And for each value in it: most objects that JSON makes are behind a comma (148 bytes for a message, 154 for a key).
VALUE = 160
# An item of a conversation of Responses takes so much whatever is in it: it is decoded, brought into the form in which
# it is kept, translated for the model, and encoded for the database (1.9 KiB for a message of one word).
ITEM = 2048
# A body of up to so many bytes costs at most so much for each; looking for commas would cost more than it tells.
SHORT, SHORT_BODY = 4096, 16
# The same for a backend's whole answer, whose values are mostly numbers and strings.
ANSWER, ANSWER_VALUE = 3, 40

# The default budget: one in so many bytes of the machine's memory, within limits.
SHARE, LEAST, MOST = 8, 128 * MIB, 2048 * MIB


def default_budget(machine: int | None) -> int:
    """Return the default budget for a machine (or container) with so many bytes of memory; None where unknown."""
    if machine is None:
        return 512 * MIB
    return min(max(machine // SHARE, min(LEAST, machine // 2)), MOST)


def body_cost(data: bytes) -> int:
    """Return the bytes of memory that a request's body, or a piece of it, takes until the request has ended."""
    size = len(data)
    return SHORT_BODY * size if size <= SHORT else BODY * size + VALUE * data.count(b",")


def items_cost(count: int) -> int:
    """Return the bytes of memory that so many items of a conversation take, beside those of the body."""
    return ITEM * count


def answer_cost(data: bytes) -> int:
    """Return the same for a whole answer of a backend, or a piece of it."""
    return ANSWER * len(data) + ANSWER_VALUE * data.count(b",")


class Memory:
    """A budget in bytes. `held` is what all requests hold now, `refused` counts the refusals since the start."""

    __slots__ = ("held", "large", "refused", "small", "total")

    def __init__(self, total: int) -> None:
        self.held = self.refused = 0
        self.resize(total)

    def resize(self, total: int) -> None:
        """Change the budget. What is held stays held."""
        self.total = total
        # What large requests may take together, and what makes a request a small one.
        self.large = total - total // RESERVE
        self.small = total // RESERVE // SMALL

    def room(self, size: int, mine: int = 0) -> bool:
        """Return whether a request that holds `mine` bytes could take `size` more now."""
        return self.held + size <= (self.total if mine + size <= self.small else self.large)

    def take(self, size: int, mine: int = 0) -> bool:
        """Take `size` bytes for a request that holds `mine` already; return False, having taken none, where there is
        no room."""
        if self.held + size > (self.total if mine + size <= self.small else self.large):
            self.refused += 1
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Give `size` bytes back."""
        self.held -= size


class Hold:
    """What one request holds of the budget (None: any amount). Leaving its context gives everything back."""

    __slots__ = ("drop", "held", "memory")

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory
        self.held = 0
        # Gives back what the request can do without; called before an answer is refused.
        self.drop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def attempt(self, size: int) -> bool:
        """Take `size` bytes; return whether there was room."""
        if self.memory is not None and not self.memory.take(size, self.held):
            return False
        self.held += size
        return True

    def spare(self, size: int) -> bool:
        """Take `size` bytes for what can be done without: only while less than half of the budget is held."""
        memory = self.memory
        return (memory is None or memory.held + size <= memory.total // 2) and self.attempt(size)

    def take(self, size: int) -> None:
        """Take `size` bytes for what the client sends. Raises TooLarge where this request alone is too large for the
        budget, Overloaded where others hold the rest."""
        if not self.attempt(size):
            raise self.refusal(size)

    def take_answer(self, size: int) -> None:
        """Take `size` bytes for what a backend sends. Raises AnswerTooLarge and Overloaded."""
        if self.drop is not None and self.memory is not None and not self.memory.room(size, self.held):
            self.drop()
            self.drop = None
        if not self.attempt(size):
            raise self.refusal(size, answer=True)

    def check(self, size: int) -> None:
        """Refuse, as `take` does, what there would be no room for now; takes nothing."""
        if self.memory is not None and not self.memory.room(size, self.held):
            self.memory.refused += 1
            raise self.refusal(size)

    def refusal(self, size: int, *, answer: bool = False) -> OproxyError:
        """Return the error for `size` bytes that there was no room for."""
        assert self.memory is not None
        if self.held + size <= max(self.memory.large, self.memory.small):
            return Overloaded(
                "The server is handling other large requests and has no memory left for this one "
                f"(memory under [server]). Please try again in {WAIT:g} s.",
                wait=WAIT,
            )
        if answer:
            return AnswerTooLarge(
                f"The answer needs more than the {self.memory.large} bytes of memory that a request may take "
                "(memory under [server])."
            )
        return TooLarge(
            f"The request needs about {self.held + size} bytes of memory to be handled, and may take "
            f"{self.memory.large} (memory under [server])."
        )

    def give(self, size: int) -> None:
        """Give some of it back, at most what is held."""
        size = min(size, self.held)
        self.held -= size
        if self.memory is not None:
            self.memory.give(size)

    def release(self) -> None:
        """Give back all that is held. Calling it again does nothing."""
        if self.held and self.memory is not None:
            self.memory.give(self.held)
        self.held = 0


class Arriving:
    """A body of `length` bytes (0: unknown) that comes in pieces. As much as has come is reserved for what is still to
    come, where there is room: a body of which half is here is read to its end, and new ones are refused before they are
    read, rather than all of them half-way. Who sends little reserves little, whatever was announced."""

    __slots__ = ("ahead", "hold", "length", "size")

    def __init__(self, hold: Hold, length: int) -> None:
        self.hold, self.length = hold, length
        # Bytes that have come, and bytes of memory that are reserved.
        self.size = self.ahead = 0

    def take(self, data: bytes) -> None:
        """Take the memory for a piece. Raises Overloaded and TooLarge."""
        self.size += len(data)
        cost = body_cost(data)
        if cost > self.ahead:
            self.hold.take(cost - self.ahead)
            self.ahead = 0
        else:
            self.ahead -= cost
        more = BODY * min(self.size, self.length - self.size) - self.ahead
        memory = self.hold.memory
        if more > 0 and memory is not None and memory.room(more, self.hold.held) and self.hold.attempt(more):
            self.ahead += more

    def end(self) -> None:
        """Give back what was reserved and not needed."""
        self.hold.give(self.ahead)
        self.ahead = 0


class Unsent:
    """What has come of a stream and cannot be passed on yet: an event, a line or a document that is not whole."""

    __slots__ = ("hold", "size")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.size = 0

    def add(self, size: int) -> None:
        """Count `size` more bytes. Raises AnswerTooLarge and Overloaded."""
        self.hold.take_answer(ANSWER * size)
        self.size += ANSWER * size

    def clear(self) -> None:
        """Give back what was counted: it has been passed on."""
        if self.size:
            self.hold.give(self.size)
            self.size = 0
