"""The gate before the models: which limits hold for a request, whether it fits them and its budgets, and what it really
took once it has ended. Where buckets are kept is `limits/`' business, what was spent `spend`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from . import tokens
from .limits import Limiter, tiers
from .policy.books import Books
from .policy.limit import Verdict, refusal
from .policy.rates import Planner, Rules, Tier
from .sections import Limits
from .spend import Spend
from .workers import LARGE, Workers

__all__ = ["ORGANIZATION", "Gate", "rules_of"]

# What we call ourselves where OpenAI names the organization.
ORGANIZATION = "org-oproxy"


class Gate:
    """Lets requests in and settles them. `limiter` keeps the buckets, `spend` the budgets."""

    def __init__(self, limiter: Limiter, spend: Spend, settings: Limits, workers: Workers) -> None:
        self.limiter = limiter
        self.spend = spend
        self._workers = workers
        self.configure(settings)

    def configure(self, settings: Limits) -> None:
        """Go by other limits from now on; what is in the buckets stays."""
        self._refund = settings.accounting == "settled"
        self._planner = Planner(rules_of(settings), tiers.load)

    def tier(self, name: str) -> Tier | None:
        """Return a preset by its name."""
        return self._planner.tier(name)

    @property
    def counts_tokens(self) -> bool:
        """Whether the settings limit tokens."""
        return self._planner.by_tokens

    async def admit(self, books: Books, prompt: Callable[[], int], answer: int) -> None:
        """Let a request in, or raise RateLimited or QuotaExceeded. `prompt` counts its prompt's tokens (called only
        where something depends on it), `answer` is the most tokens it asks for (0: it does not say)."""
        caller = books.caller
        if self._planner.free and caller.key is None and not self.spend.counts(caller):
            return
        plan = self._planner.plan(caller, books.asked, books.served)
        size = 0
        if plan.by_tokens or self.spend.counts(caller):
            size = await self._workers.run(books.size if tokens.ready(books.asked, books.served) else LARGE, prompt)
        if plan.fixed or plan.by_tokens:
            charges = plan.charges(size + answer)
            verdict = self.limiter.admit_now(charges) or await self.limiter.admit(charges)
            if verdict.refused is not None:
                raise refusal(verdict, model=books.asked, organization=ORGANIZATION)
            books.limits = verdict
        if self.spend.unread(caller):
            await asyncio.to_thread(self.spend.read, caller)
        books.reserved = self.spend.reserve(caller, books.asked, size, answer)

    def look(self, books: Books) -> Verdict | None:
        """Return how the limits of a request stand that takes nothing from them: one that was refused, or that needs
        no model. None where nothing is limited, or it could only be said by asking another machine."""
        caller = books.caller
        if not books.endpoint or (self._planner.free and caller.key is None):
            return None
        plan = self._planner.plan(caller, books.asked, books.served)
        charges = [msgspec.structs.replace(each, amount=0) for each in (*plan.fixed, *plan.by_tokens) if each.period]
        return self.limiter.admit_now(charges) if charges else None

    def settle(self, books: Books, cost: int | None, listed: int | None) -> None:
        """Take back what a request did not take, and count what it took. Harmless when nothing was taken."""
        usage = books.usage
        tokens = usage.prompt + usage.completion if usage is not None else None
        if books.limits is not None:
            # One that got no answer at all took its prompt's place, but gave nothing for it.
            self.limiter.settle(books.limits, tokens if tokens is not None else 0, refund=self._refund)
        if books.reserved is not None:
            self.spend.settle(books.reserved, cost=cost or 0, listed=listed or 0, tokens=tokens or 0)
            books.reserved = None


def rules_of(settings: Limits) -> Rules:
    """Return [limits] as the plain values that `policy.rates` knows."""
    return msgspec.convert(settings, Rules, from_attributes=True)
