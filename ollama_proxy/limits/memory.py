"""Buckets in this process. Never waits, and never grows without bound: empty buckets are forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..policy.backoff import Backoff, Presence
from ..policy.limit import SLACK, TOKENS, Bucket, Charge, Verdict, decide

__all__ = ["MemoryLimiter"]

# Below this many buckets nobody looks for empty ones.
FEW = 1024


class MemoryLimiter:
    """Buckets of one process. `clock` gives seconds that never go back; at most `most` buckets are kept."""

    def __init__(self, clock: Callable[[], float], *, most: int = 100_000) -> None:
        self._clock = clock
        self._most = most
        self._look = min(FEW, most)
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def presence(self) -> Presence:
        """That of a server, which is never away where there is none."""
        return Presence(Backoff(1.0, 1.0))

    async def probe(self) -> None:
        """Nobody has to answer."""

    def admit_now(self, charges: Sequence[Charge]) -> Verdict:
        now = self._clock()
        fits = True
        found: list[Bucket] = []
        levels: list[float] = []
        for charge in charges:
            capacity, period = charge.capacity, charge.period
            bucket = self._buckets.get(charge.bucket) or Bucket(now)
            level = bucket.leak(now, capacity / period if period else 0.0)
            fits = fits and level + charge.amount - capacity <= capacity * SLACK
            found.append(bucket)
            levels.append(level)
        if not fits:
            return decide(charges, levels)
        receipt: list[tuple[Bucket, float]] = []
        for at, charge in enumerate(charges):
            bucket = found[at]
            receipt.append((bucket, bucket.add(charge.amount)))
            levels[at] = bucket.level
            self._buckets[charge.bucket] = bucket
        if len(self._buckets) > self._look:
            self._forget(now)
        return Verdict(charges, levels, None, 0.0, receipt)

    async def admit(self, charges: Sequence[Charge]) -> Verdict:
        return self.admit_now(charges)

    def settle(self, verdict: Verdict, tokens: float | None, *, refund: bool = True) -> None:
        receipt: list[tuple[Bucket, float]] | None = verdict.receipt
        if not receipt:
            return
        now = self._clock()
        for charge, (bucket, place) in zip(verdict.charges, receipt, strict=True):
            if not charge.period:
                bucket.level = max(0.0, bucket.level - charge.amount)
            elif tokens is not None and charge.kind in TOKENS:
                kept = self._buckets.setdefault(charge.bucket, bucket)
                kept.leak(now, charge.capacity / charge.period)
                # A bucket that was forgotten meanwhile was empty: all of the charge had leaked out of it.
                kept.settle(charge.amount, tokens, place if kept is bucket else None, refund=refund)
        # Settled once: the same slots are not given back again.
        receipt.clear()

    async def aclose(self) -> None:
        self._buckets.clear()

    def _forget(self, now: float) -> None:
        """Forget the empty buckets; where that leaves too many, also those that are empty soonest."""
        left: list[tuple[float, str]] = []
        for name, bucket in list(self._buckets.items()):
            if bucket.leak(now, bucket.rate) <= 0:
                del self._buckets[name]
            else:
                left.append((bucket.level / bucket.rate if bucket.rate else float("inf"), name))
        if len(left) > self._most:
            for _, name in sorted(left)[: len(left) - self._most * 9 // 10]:
                del self._buckets[name]
        # Looking costs one pass over all; twice as many must come before the next.
        self._look = min(self._most, max(FEW, 2 * len(self._buckets)))
