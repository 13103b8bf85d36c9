"""Buckets in a Redis or Valkey that several daemons share. The only module that knows its client; never imported where
no `[limits] url` is set.

A server that is gone is noticed by the request that meets it, said once, and asked again in the background; meanwhile
requests are counted in memory or refused, as `[limits] on_error` says, and none of them waits for it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Literal, NamedTuple, cast

from redis import asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ..errors import Overloaded
from ..policy.backoff import Backoff, Presence
from ..policy.limit import Charge, Verdict, decide
from ..policy.redact import redact_foreign, redact_url, url_secrets
from ..tasks import Tasks
from .memory import MemoryLimiter
from .scripts import ADMIT, RENEW, SETTLE

__all__ = ["RedisLimiter"]

# The braces put all keys of a cluster on one of its nodes, as a script over several keys needs.
PREFIX = "{oproxy}:"
# Seconds to bear a silent server: rate limits are no reason to keep anybody waiting for long.
PATIENCE = 1.0
CONNECTIONS = 32
# Seconds between tries at most: limits are to be shared again soon.
LONGEST = 5.0


class Receipt(NamedTuple):
    """What Redis was charged: the lease, and place and birth of each bucket."""

    lease: str
    places: tuple[tuple[str, str], ...]


class Script(NamedTuple):
    """A script and the name Redis knows it by."""

    text: str
    sha: str


ADMIT_SCRIPT, SETTLE_SCRIPT, RENEW_SCRIPT = (
    Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest()) for text in (ADMIT, SETTLE, RENEW)
)


class RedisLimiter:
    """Buckets that daemons share. `clock` is for what is counted in memory while the server is gone, `say` takes a
    line for the operator. `lease`: seconds a simultaneous request is held for a daemon that no longer answers;
    `again`: seconds before a server that is gone is tried again, and twice as long after each further try; `patience`:
    seconds to bear one that is silent. Raises ValueError for a URL that is none."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        on_error: Literal["allow", "refuse"] = "allow",
        say: Callable[[str], None],
        lease: float = 30.0,
        again: float = 1.0,
        patience: float = PATIENCE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._where, self._secrets = redact_url(url), url_secrets(url)
        pool = client.BlockingConnectionPool.from_url(
            # Valkey speaks the same protocol; the client knows only Redis' names for it.
            f"redis{url.removeprefix('valkey')}" if url.startswith("valkey") else url,
            max_connections=CONNECTIONS,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            # A charge sent twice would count twice.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = client.Redis.from_pool(pool)
        self._memory = MemoryLimiter(clock)
        self._refuse = on_error == "refuse"
        self._say = say
        self._lease, self._again = lease, again
        self._wall = wall
        self._tasks = Tasks()
        self._settling: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._presence = Presence(Backoff(again, max(again, LONGEST)))
        self._name = secrets.token_hex(6)
        self._given = 0
        # The simultaneous requests we hold: the keys of each lease.
        self._held: dict[str, list[str]] = {}

    @property
    def gone(self) -> bool:
        """Whether the server cannot be reached."""
        return self._presence.away

    @property
    def presence(self) -> Presence:
        """Why the server cannot be reached, and since when."""
        return self._presence

    def admit_now(self, charges: Sequence[Charge]) -> Verdict | None:
        if not charges:
            return Verdict(charges, ())
        return self._alone(charges) if self.gone else None

    async def admit(self, charges: Sequence[Charge]) -> Verdict:
        if (verdict := self.admit_now(charges)) is not None:
            return verdict
        self._given += 1
        lease = f"{self._name}:{self._given}"
        numbers = [word for charge in charges for word in (charge.capacity, charge.period, charge.amount)]
        try:
            reply = await self._run(ADMIT_SCRIPT, _keys(charges), *numbers, lease, round(self._lease * 1000))
        except asyncio.CancelledError:
            # Whether it was charged nobody knows. Slots are given back; the rest leaks out.
            self._start_settle([charge for charge in charges if not charge.period], Receipt(lease, ()), None, True)
            raise
        except (RedisError, OSError) as exc:
            self._lost(exc)
            return self._alone(charges)
        fits, *values = [value.decode() for value in cast("list[bytes]", reply)]
        levels = [float(value) for value in values[::3]]
        if fits != "1":
            return decide(charges, levels)
        if held := [PREFIX + charge.bucket for charge in charges if not charge.period]:
            self._hold(lease, held)
        return Verdict(charges, levels, None, 0.0, Receipt(lease, tuple(zip(values[1::3], values[2::3], strict=True))))

    def settle(self, verdict: Verdict, tokens: float | None, *, refund: bool = True) -> None:
        receipt = verdict.receipt
        if not isinstance(receipt, Receipt):
            self._memory.settle(verdict, tokens, refund=refund)
            return
        slots = self._held.pop(receipt.lease, None) is not None
        counted = tokens is not None and any(charge.tokens for charge in verdict.charges)
        if (slots or counted) and not self.gone:
            self._start_settle(verdict.charges, receipt, tokens, refund)

    async def probe(self) -> None:
        """See whether the server answers, before a request depends on it. Never raises."""
        try:
            await cast("Any", self._redis.ping())
        except (RedisError, OSError) as exc:
            self._lost(exc)

    async def settled(self) -> None:
        """Wait until all that was settled so far has arrived."""
        await asyncio.gather(*self._settling, return_exceptions=True)

    async def aclose(self) -> None:
        await self.settled()
        await self._tasks.aclose()
        await self._redis.aclose()

    def _alone(self, charges: Sequence[Charge]) -> Verdict:
        """Do without the server."""
        if self._refuse:
            raise Overloaded("The rate limits cannot be checked at the moment. Please try again.", wait=self._again)
        return self._memory.admit_now(charges)

    def _start_settle(self, charges: Sequence[Charge], receipt: Receipt, tokens: float | None, refund: bool) -> None:
        if not charges:
            return
        task = self._tasks.start(self._settle(charges, receipt, tokens, refund), name="limits: settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, charges: Sequence[Charge], receipt: Receipt, tokens: float | None, refund: bool) -> None:
        numbers: list[Any] = []
        for at, charge in enumerate(charges):
            place, born = receipt.places[at] if receipt.places else ("0", "0")
            actual = tokens if tokens is not None and charge.tokens else charge.amount
            numbers += (charge.capacity, charge.period, charge.amount, actual, place, born)
        try:
            await self._run(SETTLE_SCRIPT, _keys(charges), *numbers, receipt.lease, int(refund))
        except (RedisError, OSError) as exc:
            # Levels leak and leases end by themselves.
            self._lost(exc)

    async def _run(self, script: Script, keys: list[str], *args: Any) -> Any:
        try:
            return await cast("Any", self._redis.evalsha(script.sha, len(keys), *keys, *args))
        except NoScriptError:
            # A fresh server: told once, it knows the script by its name.
            return await cast("Any", self._redis.eval(script.text, len(keys), *keys, *args))

    def _hold(self, lease: str, keys: list[str]) -> None:
        self._held[lease] = keys
        if self._renewing is None or self._renewing.done():
            self._renewing = self._tasks.start(self._renew(), name="limits: renew")

    async def _renew(self) -> None:
        """Say of the running requests that they still run, until there are none."""
        while True:
            await asyncio.sleep(self._lease / 3)
            held = [(key, lease) for lease, keys in self._held.items() for key in keys]
            if not held:
                return
            if self.gone:
                continue
            try:
                await self._run(
                    RENEW_SCRIPT, [key for key, _ in held], round(self._lease * 1000), *[lease for _, lease in held]
                )
            except (RedisError, OSError) as exc:
                self._lost(exc)

    def _lost(self, exc: Exception) -> None:
        if self.gone:
            # Its tries are counted where they are made.
            return
        self._presence.lost(self._reason(exc), self._wall())
        what = "requests are refused" if self._refuse else "limits are counted in memory"
        self._say(f"limits: {self._where} does not answer ({self._reason(exc)}); {what} until it does")
        self._tasks.start(self._return(), name="limits: reconnect")

    def _reason(self, exc: Exception) -> str:
        return redact_foreign(str(exc).rstrip("."), self._secrets) or type(exc).__name__

    async def _return(self) -> None:
        """Ask for the server until it answers."""
        while True:
            await asyncio.sleep(self._presence.pause(self._wall()))
            try:
                await cast("Any", self._redis.ping())
            except (RedisError, OSError) as exc:
                self._presence.lost(self._reason(exc), self._wall())
                continue
            self._presence.back()
            self._say(f"limits: {self._where} answers again")
            return


def _keys(charges: Sequence[Charge]) -> list[str]:
    return [PREFIX + charge.bucket for charge in charges]
