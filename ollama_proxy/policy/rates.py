"""Which limits hold for one request: of its key, its address, the model, and the key on the model. Pure: settings come
in as plain values; where nothing is limited there is nothing to charge.

What a key may do is looked up kind by kind: what the key itself says, else its own tier; a key without a tier is under
what [limits] says, else the default tier. Limits by model are those of the first pattern that fits, in the order they
are written; each model they fit has a bucket of its own, which all names that lead to it share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from ..account import Caller, Key, Rates
from .limit import Charge, Kind

__all__ = ["Plan", "Planner", "Rules", "Tier"]

MINUTE, DAY = 60.0, 86400.0
KINDS: tuple[tuple[str, Kind, float], ...] = (
    ("requests_per_minute", "rpm", MINUTE),
    ("requests_per_day", "rpd", DAY),
    ("tokens_per_minute", "tpm", MINUTE),
    ("tokens_per_day", "tpd", DAY),
    ("concurrent", "concurrent", 0.0),
)
# Plans kept at most; a plan is a few hundred bytes, and making one takes some microseconds.
KEPT = 4096


class Tier(Rates, frozen=True, kw_only=True):
    """A preset: limits of a key, and of a key on models by name or glob."""

    models: Mapping[str, Rates] = {}


class Rules(Rates, frozen=True, kw_only=True):
    """What [limits] says, field by field of the same name."""

    tier: str = ""
    address: Rates = Rates()
    models: Mapping[str, Rates] = {}
    key_models: Mapping[str, Rates] = {}
    tiers: Mapping[str, Tier] = {}


class Plan(Struct, frozen=True):
    """The limits of one caller on one model: `fixed` charges, and those whose amount is the request's tokens."""

    fixed: tuple[Charge, ...] = ()
    by_tokens: tuple[Charge, ...] = ()

    def charges(self, tokens: float) -> tuple[Charge, ...]:
        """Return what a request of so many tokens takes; empty where nothing is limited."""
        if not self.by_tokens:
            return self.fixed
        return (
            *self.fixed,
            *[Charge(c.bucket, c.kind, c.capacity, c.period, tokens, c.subject) for c in self.by_tokens],
        )


class Planner:
    """The plans under one set of rules. `presets` gives the tiers that are built in; it is called only when a tier is
    named that the rules do not have. A tier nobody knows counts as none."""

    def __init__(self, rules: Rules, presets: Callable[[], Mapping[str, Tier]] = dict) -> None:
        self._rules = rules
        self._presets = presets
        # Whether a caller without a key of ours is limited by nothing.
        self.free = rules == Rules(tiers=rules.tiers)
        # Whether anything in the rules limits tokens; a tier does.
        said = (rules, rules.address, *rules.models.values(), *rules.key_models.values())
        self.by_tokens = bool(rules.tier) or any(r.tokens_per_minute or r.tokens_per_day for r in said)
        self._plans: dict[tuple[str, str, str, str, str], tuple[Key | None, Plan]] = {}

    def plan(self, caller: Caller, asked: str, served: str = "") -> Plan:
        """Return the limits of a caller on a model, by the name it asked for and the name of the model behind it."""
        key = caller.key
        where = (key.id if key is not None else "", caller.name, caller.address, asked, served)
        known = self._plans.get(where)
        if known is not None and (known[0] is key or known[0] == key):
            return known[1]
        if len(self._plans) >= KEPT:
            self._plans.clear()
        plan = self._make(caller, asked, served or asked)
        self._plans[where] = key, plan
        return plan

    def tier(self, name: str) -> Tier | None:
        """Return a tier by its name, one's own before OpenAI's."""
        if not name:
            return None
        return self._rules.tiers.get(name) or self._presets().get(name)

    def _make(self, caller: Caller, asked: str, served: str) -> Plan:
        charges = list(self._all(caller, asked, served))
        return Plan(
            tuple(charge for charge in charges if not charge.tokens),
            tuple(charge for charge in charges if charge.tokens),
        )

    def _all(self, caller: Caller, asked: str, served: str) -> Iterator[Charge]:
        rules, key = self._rules, caller.key
        own = self.tier(key.tier) if key is not None else None
        default = self.tier(rules.tier)
        said: tuple[Rates | None, ...] = (key.rates if key is not None else None, own or rules, own or default)
        who = f"key:{key.id}" if key is not None else f"name:{caller.name}" if caller.name else f"at:{caller.address}"
        yield from _charges(said, who)
        yield from _charges((rules.address,), f"address:{caller.address}", subject=f"address {caller.address}")
        if found := _first(rules.models, asked, served):
            yield from _charges((found[1],), f"model:{found[0]}:{served}")
        found = _first(rules.key_models, asked, served)
        if found is None and (tier := own or default):
            found = _first(tier.models, asked, served)
        if found:
            yield from _charges((found[1],), f"{who}:{found[0]}:{served}")


def _charges(said: tuple[Rates | None, ...], name: str, *, subject: str = "") -> Iterator[Charge]:
    """Yield a charge for each kind of limit, by the first that says something of it."""
    for field, kind, period in KINDS:
        limits = (getattr(rates, field) for rates in said if rates is not None)
        if (limit := next((limit for limit in limits if limit is not None), None)) is not None:
            yield Charge(f"{kind}:{name}", kind, limit, period, 1, subject)


def _first(patterns: Mapping[str, Rates], asked: str, served: str) -> tuple[str, Rates] | None:
    """Return the first pattern that fits the name asked for or the model's own."""
    for pattern, rates in patterns.items():
        if fnmatchcase(asked, pattern) or fnmatchcase(served, pattern):
            return pattern, rates
    return None
