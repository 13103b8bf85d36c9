"""A batch: what is known of it, which state follows which, which of its lines comes next, and when one is tried again.

Pure: lines are numbers, times come in, nothing is read or asked. `Batch` has OpenAI's own fields in their order, so
that it is written as it is. https://platform.openai.com/docs/api-reference/batch/object
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from ..errors import AnswerTooLarge, BackendError, Conflict, OproxyError, Overloaded, RateLimited, UpstreamDown

__all__ = [
    "ACTIVE",
    "OVER",
    "Batch",
    "Counts",
    "Creator",
    "Fault",
    "Faults",
    "Kept",
    "Lines",
    "Retry",
    "Status",
    "Usage",
    "again",
    "cancelled",
    "moved",
]

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]

NEXT: Mapping[str, frozenset[str]] = {
    "validating": frozenset({"in_progress", "failed", "cancelling"}),
    # It fails also half-way, when its input is taken away.
    "in_progress": frozenset({"finalizing", "failed", "expired", "cancelling"}),
    "finalizing": frozenset({"completed"}),
    "cancelling": frozenset({"cancelled"}),
}
ACTIVE = tuple(NEXT)
OVER = frozenset({"completed", "failed", "expired", "cancelled"})

# A backend that answers so may answer otherwise a moment later.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
# Between two tries of a line (seconds): four times as long each time, but not longer than this.
LONGEST = 60.0
# Lines that wait for another try; with more, no new line is begun.
MOST_PARKED = 100


class Fault(Struct, frozen=True, kw_only=True):
    """What is wrong with the input, at its line (from 1)."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Faults(Struct, frozen=True, kw_only=True):
    """A list of them, as OpenAI has lists."""

    data: tuple[Fault, ...]
    object: str = "list"


class Counts(Struct, frozen=True, kw_only=True):
    """How many lines there are, and how many are answered."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputDetails(Struct, frozen=True):
    cached_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int = 0


class Usage(Struct, frozen=True):
    """The tokens of all answers together."""

    input_tokens: int = 0
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int = 0

    def plus(self, prompt: int, cached: int, answer: int, reasoning: int) -> Usage:
        """Return the sum with another answer's."""
        return Usage(
            self.input_tokens + prompt,
            InputDetails(self.input_tokens_details.cached_tokens + cached),
            self.output_tokens + answer,
            OutputDetails(self.output_tokens_details.reasoning_tokens + reasoning),
            self.total_tokens + prompt + answer,
        )


class Batch(Struct, frozen=True, kw_only=True):
    """A batch as OpenAI shows it. Times are epoch seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None = None
    errors: Faults | None = None
    input_file_id: str
    completion_window: str = "24h"
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    usage: Usage = Usage()
    metadata: dict[str, str] | None = None


class Creator(Struct, frozen=True, kw_only=True):
    """Who made a batch, beside the key that owns it, for the ledger."""

    name: str = ""
    address: str = ""
    agent: str = ""
    admin: bool = False


class Kept(Struct, frozen=True, kw_only=True):
    """A batch as it is kept. `output` and `errors` are the ids that its results will have, `lifetime` the seconds they
    are kept (None: for ever). `fault` is what makes it fail before a line is read. `ending` is the state it comes to
    once all its lines are written; then nothing is asked any more, whatever happens in between."""

    batch: Batch
    owner: str
    creator: Creator = Creator()
    output: str
    errors: str
    lifetime: int | None = None
    fault: Fault | None = None
    ending: Literal["", "completed", "expired", "cancelled", "failed"] = ""


def moved(batch: Batch, status: Status, at: float, **fields: Any) -> Batch:
    """Return the batch in its next state, with the time noted. ValueError where that state cannot follow."""
    if status not in NEXT.get(batch.status, ()):
        raise ValueError(f"a batch that is {batch.status} does not become {status}")
    return msgspec.structs.replace(batch, status=status, **{f"{status}_at": int(at)}, **fields)


def cancelled(batch: Batch, at: float) -> Batch:
    """Return the batch as somebody wants it who cancels it. Raises Conflict where it is too late."""
    if batch.status in ("cancelling", "cancelled"):
        return batch
    if "cancelling" not in NEXT.get(batch.status, ()):
        raise Conflict(f"Cannot cancel a batch with status '{batch.status}'.")
    return moved(batch, "cancelling", at)


class Retry(NamedTuple):
    """A line is to be tried again in `wait` seconds. `counts`: it was one of its tries; `hold`: the others need not
    even try until then."""

    wait: float
    counts: bool
    hold: bool


def again(error: OproxyError, tries: int, *, most: int, first: float = 1.0) -> Retry | None:
    """Return whether a refused line is tried again. `tries` are those that counted, without this one; of `most` there
    are after the first `first` seconds, and then ever longer."""
    match error:
        case RateLimited(wait=wait) if wait is not None:
            return Retry(max(wait, 0.01), counts=False, hold=True)
        case Overloaded(wait=wait):
            return Retry(wait, counts=False, hold=True)
        case AnswerTooLarge():
            # It would be as large again.
            return None
        case BackendError() if error.status in PASSING and tries + 1 < most:
            wait = max(first * 4**tries, asked_wait(error))
            return Retry(min(wait, LONGEST), counts=True, hold=isinstance(error, UpstreamDown))
    return None


def asked_wait(error: OproxyError) -> float:
    """Return the seconds a backend wants to be left alone."""
    try:
        return float(error.headers.get("retry-after", 0))
    except ValueError:
        return 0.0


class Lines:
    """Which lines of a batch are to be answered, by their numbers from 0: each is answered once. What waits for
    another try goes before what was never tried."""

    def __init__(self, total: int, done: Iterable[int] = ()) -> None:
        self.total = total
        self.left = total
        self._done = bytearray(total)
        self._running: dict[int, int] = {}
        # (not before, number, tries)
        self._parked: list[tuple[float, int, int]] = []
        self._fresh = 0
        self._held = 0.0
        for number in done:
            if 0 <= number < total and not self._done[number]:
                self._done[number] = 1
                self.left -= 1

    def look(self, now: float) -> int | None:
        """Return the line that comes next, None if none may be begun now."""
        if self._parked and self._parked[0][0] <= now:
            return self._parked[0][1]
        if len(self._parked) >= MOST_PARKED or now < self._held:
            return None
        while self._fresh < self.total and self._done[self._fresh]:
            self._fresh += 1
        return self._fresh if self._fresh < self.total else None

    def due(self) -> float | None:
        """Return when a line may be begun that may not be now; None if there is none."""
        times = [self._parked[0][0]] if self._parked else []
        if self._fresh < self.total and len(self._parked) < MOST_PARKED:
            times.append(self._held)
        return min(times, default=None)

    def take(self, now: float) -> tuple[int, int] | None:
        """Begin the line that comes next; return its number and how often it was tried."""
        number = self.look(now)
        if number is None:
            return None
        tries = 0
        if self._parked and self._parked[0][0] <= now:
            _, number, tries = heapq.heappop(self._parked)
        else:
            self._fresh += 1
        self._running[number] = tries
        return number, tries

    def park(self, number: int, retry: Retry, now: float) -> None:
        """Put a line back that is to be tried again."""
        tries = self._running.pop(number) + retry.counts
        heapq.heappush(self._parked, (now + retry.wait, number, tries))
        if retry.hold:
            self._held = max(self._held, now + retry.wait)

    def finish(self, number: int) -> None:
        """Note that a line's answer is written."""
        del self._running[number]
        self._done[number] = 1
        self.left -= 1

    def unanswered(self) -> Iterator[int]:
        """Yield the lines without an answer, those under way too."""
        return (number for number in range(self.total) if not self._done[number])
