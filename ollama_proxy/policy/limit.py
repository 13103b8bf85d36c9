"""Leaking buckets: what fits a rate limit, how long to wait, and OpenAI's words for it. Pure: the clock comes in as a
number of seconds; where buckets are kept is `limits/`' business.

A bucket is a level that leaks capacity / period a second; a charge fits where level + amount stays within the capacity.
So over any time t no more than capacity + t * capacity / period gets in: continuous refill, not windows, as OpenAI's
x-ratelimit-reset headers show (1 of 15000 a minute used: "4ms" until full again).

Tokens are charged by estimate and settled later. What was charged too much may have leaked out already; giving that
back again would let more through than the limit. So each charge remembers its place in the flow: `passed` counts all
that ever left the bucket, by leaking or by being given back, and what passed beyond the place of a charge is no longer
its own to give back. With that the bound above holds for the true amounts too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from ..errors import RateLimited

__all__ = [
    "TOKENS",
    "Bucket",
    "Charge",
    "Kind",
    "State",
    "Verdict",
    "decide",
    "duration",
    "headers",
    "refusal",
    "settled",
]

Kind = Literal["rpm", "rpd", "tpm", "tpd", "concurrent"]

# Levels are sums of floats. A billionth of a limit, 60 ns of a minute, keeps rounding from refusing what just fits.
SLACK = 1e-9
# Nobody knows when a running request ends; this is when to look again, in seconds.
BUSY_WAIT = 1.0
# The kinds that count tokens.
TOKENS = frozenset({"tpm", "tpd"})
WORDS: dict[str, str] = {
    "rpm": "requests per min (RPM)",
    "rpd": "requests per day (RPD)",
    "tpm": "tokens per min (TPM)",
    "tpd": "tokens per day (TPD)",
    "concurrent": "concurrent requests",
}
RATES: dict[str, str] = {
    "rpm": "requests per minute",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "tpd": "tokens per day",
    "concurrent": "concurrent requests",
}
MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."


class Charge(Struct, frozen=True, gc=False):
    """What one request takes from one bucket.

    `bucket` is its unique name, `period` seconds (60, 86400; 0 for simultaneous requests, which are given back and do
    not leak), `subject` whom the limit is on where that is not the model ("address 10.0.0.7").
    """

    bucket: str
    kind: Kind
    capacity: int
    period: float
    amount: float
    subject: str = ""

    @property
    def tokens(self) -> bool:
        """Whether tokens are counted, not requests."""
        return self.kind in TOKENS


class State(Struct, frozen=True):
    """A bucket after a verdict: whole numbers of what is left of `limit`, and seconds until it is full again."""

    kind: Kind
    limit: int
    remaining: int
    reset: float


class Verdict(Struct, frozen=True):
    """Whether `charges` are let in, all or none.

    `levels` are those of the buckets now, in the order of the charges. `refused` is the charge that has to wait
    longest and `wait` how long in seconds, None where it never fits. `receipt` is for the limiter that gave it.
    """

    charges: Sequence[Charge]
    levels: Sequence[float]
    refused: Charge | None = None
    wait: float | None = 0.0
    receipt: Any = None

    @property
    def states(self) -> tuple[State, ...]:
        return tuple(map(state, self.charges, self.levels))


class Bucket:
    """One bucket in memory. `level` is what is in it at `stamp`, `passed` all that ever left it, `rate` its leak."""

    __slots__ = ("level", "passed", "rate", "stamp")

    def __init__(self, now: float) -> None:
        self.level = 0.0
        self.passed = 0.0
        self.rate = 0.0
        self.stamp = now

    def leak(self, now: float, rate: float) -> float:
        """Let time pass and return the level. A clock that goes back lets nothing leak."""
        self.rate = rate
        if now > self.stamp:
            gone = min(self.level, (now - self.stamp) * rate)
            self.level -= gone
            self.passed += gone
            self.stamp = now
        return self.level

    def add(self, amount: float) -> float:
        """Take an amount in and return its place in the flow."""
        place = self.passed + self.level
        self.level += amount
        return place

    def settle(self, charged: float, actual: float, place: float | None, *, refund: bool) -> None:
        """Put the true amount in the place of what was charged at `place`; None: that has all leaked out."""
        if actual >= charged:
            self.level += actual - charged
        elif refund and place is not None:
            back = min(self.level, settled(charged, actual, self.passed - place))
            self.level -= back
            self.passed += back


def settled(charged: float, actual: float, past: float) -> float:
    """Return how much of a charge is given back when it was really less and `past` of the flow went by since."""
    return max(0.0, charged - max(actual, past))


def decide(charges: Sequence[Charge], levels: Sequence[float]) -> Verdict:
    """Decide whether charges fit buckets at these levels. Of several that do not, the longest wait is told, so that
    after it all of them fit."""
    refused: Charge | None = None
    longest: float | None = -1.0
    for charge, level in zip(charges, levels, strict=True):
        over = level + charge.amount - charge.capacity
        if over <= charge.capacity * SLACK:
            continue
        wait = waiting(charge, over)
        if longest is not None and (wait is None or wait > longest):
            refused, longest = charge, wait
    return Verdict(charges, levels, refused, longest if refused is not None else 0.0)


def waiting(charge: Charge, over: float) -> float | None:
    """Return the seconds until `over` has leaked out; None where the charge is larger than the whole limit."""
    if charge.amount > charge.capacity:
        return None
    return over * charge.period / charge.capacity if charge.period else BUSY_WAIT


def state(charge: Charge, level: float) -> State:
    """Return what clients are told of a bucket. What is left is rounded down, never promised too early."""
    left = charge.capacity - used(charge, level)
    return State(charge.kind, charge.capacity, max(0, left), max(0.0, level) * charge.period / charge.capacity)


def used(charge: Charge, level: float) -> int:
    return math.ceil(level - charge.capacity * SLACK) if level > 0 else 0


def duration(seconds: float) -> str:
    """Return a time as OpenAI prints it, in Go's style to the millisecond, rounded up: "120ms", "8.64s", "6m0s"."""
    # Floats are off by less than this nanosecond; without it what should be 120 ms may print as 121.
    ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    rest = f"{ms // 1000}.{ms % 1000:03}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return rest
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}"


NAMES = tuple(
    (word == "tokens", tuple(f"x-ratelimit-{what}-{word}" for what in ("limit", "remaining", "reset")))
    for word in ("requests", "tokens")
)


def headers(verdict: Verdict) -> dict[str, str]:
    """Return OpenAI's x-ratelimit headers: of each sort the tightest limit. A day's is told only where less is left of
    it than of the minute's, so a free account sees its 200 a day run out."""
    best: dict[bool, tuple[int, float, Charge, float]] = {}
    for charge, level in zip(verdict.charges, verdict.levels, strict=True):
        period = charge.period
        if period:
            left = charge.capacity - used(charge, level)
            tokens = charge.kind in TOKENS
            known = best.get(tokens)
            if known is None or left < known[0] or (left == known[0] and period < known[1]):
                best[tokens] = left, period, charge, level
    out: dict[str, str] = {}
    for tokens, (limit, remaining, reset) in NAMES:
        if (found := best.get(tokens)) is not None:
            left, period, charge, level = found
            out[limit] = str(charge.capacity)
            out[remaining] = str(left) if left > 0 else "0"
            out[reset] = duration(level * period / charge.capacity)
    return out


def refusal(verdict: Verdict, *, model: str, organization: str) -> RateLimited:
    """Return the refusal of a verdict in OpenAI's words, with its headers. `verdict.refused` must not be None."""
    charge = verdict.refused
    if charge is None:
        raise ValueError("the verdict lets the request in")
    level = verdict.levels[verdict.charges.index(charge)]
    where = f"{charge.subject or model} in organization {organization} on {WORDS[charge.kind]}"
    asked = math.ceil(charge.amount)
    if verdict.wait is None:
        what = "The input or output tokens must be reduced in order to run successfully. " if charge.tokens else ""
        text = f"Request too large for {where}: Limit {charge.capacity}, Requested {asked}. {what}{MORE}"
    else:
        text = (
            f"Rate limit reached for {where}: Limit {charge.capacity}, Used {used(charge, level)}, Requested {asked}. "
            f"Please try again in {duration(verdict.wait)}. {MORE}"
        )
    kind = "tokens" if charge.tokens else "requests"
    error = RateLimited(text, type=kind, wait=verdict.wait, rate=f"{charge.capacity:,} {RATES[charge.kind]}")
    error.headers |= headers(verdict)
    return error
