"""Where the buckets of the rate limits are kept: in memory, or in a Redis or Valkey that several daemons share. What
fits a bucket is `policy/limit`'s business, which buckets there are `policy/rates`'. Never decides whom to limit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from ..policy.backoff import Presence
from ..policy.limit import Charge, Verdict
from ..policy.redact import redact_foreign, url_secrets
from .memory import MemoryLimiter

__all__ = ["Limiter", "LimitsError", "MemoryLimiter", "OnError", "open_limiter"]

OnError = Literal["allow", "refuse"]


class LimitsError(Exception):
    """The limiter cannot be opened. `message` says why, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Limiter(Protocol):
    """Keeper of buckets. Each verdict that lets a request in is settled once, whatever became of the request."""

    @property
    def presence(self) -> Presence:
        """Whether the server that keeps the buckets can be reached."""
        ...

    async def probe(self) -> None:
        """See whether that server answers. Never raises."""
        ...

    def admit_now(self, charges: Sequence[Charge]) -> Verdict | None:
        """Take all charges, or none, without waiting; None where `admit` has to be awaited for it."""
        ...

    async def admit(self, charges: Sequence[Charge]) -> Verdict:
        """Take all charges, or none; no two of them are on the same bucket. Raises Overloaded where the buckets cannot
        be reached and nobody may pass uncounted."""
        ...

    def settle(self, verdict: Verdict, tokens: float | None, *, refund: bool = True) -> None:
        """End an admitted request: it really took `tokens` (None: as charged), and its slots are free again. Without
        `refund` nothing is given back of what was charged too much. Never waits, never raises."""
        ...

    async def aclose(self) -> None:
        """Finish what was settled, and let go."""
        ...


def open_limiter(url: str, *, clock: Callable[[], float], on_error: OnError, say: Callable[[str], None]) -> Limiter:
    """Return the limiter for `[limits] url`; `clock` gives monotonic seconds, `say` takes a line for the operator.

    The client of Redis is only imported where a URL is set. Raises LimitsError where it is not installed or the URL is
    no URL of it; that nobody answers there is no error.
    """
    if not url:
        return MemoryLimiter(clock)
    try:
        shared = importlib.import_module(".shared", __package__)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.split(".")[0] != "redis":
            raise
        raise LimitsError(
            "[limits] url needs the Redis client, which is not installed: pip install 'ollama-proxy[redis]'"
        ) from exc
    try:
        limiter: Limiter = shared.RedisLimiter(url, clock=clock, on_error=on_error, say=say)
    except ValueError as exc:
        why = redact_foreign(str(exc), url_secrets(url))
        raise LimitsError(f"[limits] url is not a URL of Redis or Valkey: {why}") from exc
    return limiter
