"""The values of an account: a key and what it may, limits, budgets, and one request's line in the ledger. Pure: holds,
never decides, never reads a clock.

Money is a whole number of nano-dollars (1e-9 USD), so that sums are exact; a time of day is epoch seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["NANO", "Budget", "Caller", "Entry", "Key", "Rates"]

# Nano-dollars in a dollar.
NANO = 1_000_000_000


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much may be asked for; None: no limit of this kind."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may be spent. Money in dollars; days and months are the calendar's, in UTC as OpenAI's are. `count` is how
    money is counted: by what answers cost, or by the list price of the model asked for; None: as [budget] says."""

    money_per_day: float | None = None
    money_per_month: float | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    count: Literal["cost", "list"] | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as we keep it: never the key itself, only its digest (SHA-256, hex) and what is shown of it.

    Empty tuples allow everything: `models` are globs over the model asked for, `endpoints` globs over the path. `model`
    answers whatever name is asked for ("": the name decides).
    """

    id: str
    name: str
    digest: str
    shown: str
    created: float
    expires: float | None = None
    revoked: float | None = None
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    tier: str = ""
    rates: Rates = Rates()
    budget: Budget = Budget()
    tags: tuple[str, ...] = ()
    model: str = ""
    admin: bool = False


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `key` is None for a caller without a key of ours; `name` is then what was sent, masked, or ""."""

    name: str = ""
    key: Key | None = None
    address: str = ""
    admin: bool = False

    @property
    def id(self) -> str:
        """The key's id; "" for a caller without."""
        return self.key.id if self.key is not None else ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request in the ledger. Durations are seconds; None where it did not come to that.

    `asked` and `served` are the model's names, `prompt` and `completion` the tokens of which `cached` and `reasoning`
    are a part; `exact`: counted by the backend, not estimated. `cost` is what it cost, `listed` what the same tokens
    cost on the model asked for, both in nano-dollars (None: no price is known). `tries` counts calls to backends.
    """

    id: str
    at: float
    endpoint: str
    status: int
    key: str = ""
    caller: str = ""
    tag: str = ""
    address: str = ""
    client: str = ""
    asked: str = ""
    served: str = ""
    backend: str = ""
    code: str | None = None
    stream: bool = False
    queued: float | None = None
    first: float | None = None
    total: float = 0.0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    exact: bool = True
    cost: int | None = 0
    listed: int | None = None
    tries: int = 1
