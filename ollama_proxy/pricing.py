"""What tokens cost: at the list prices of OpenAI, Anthropic and the others (genai-prices, from the data in its
package), and really, by the backend that made them.

A price is looked up once for each model and then kept as whole numbers, so that a request costs microseconds. Never
asks the network: genai-prices fetches only where its updater is started, and nobody starts it here.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .account import NANO
from .events import Usage
from .policy.address import public_address
from .sections import BackendSettings, PriceSettings
from .sections import Prices as PriceSection

__all__ = ["Prices", "costs_money"]

# A rate is whole femto-dollars (1e-15 USD) a token, a million to the nano-dollar: exact for prices with nine digits.
FEMTO = 1_000_000
# Femto-dollars a token for a dollar a million tokens.
PER_MILLION = 10**15 // 10**6
# Names are the clients' to choose.
KEPT = 4096
# Providers whose own names are understood without a prefix, where genai-prices knows no provider for a name.
USUAL = ("openai", "anthropic", "google")
# Some prices depend on the time of day; they are looked up again when a minute is over.
MINUTE = 60
FREE = PriceSection()


class Tier(NamedTuple):
    """Femto-dollars a token, and a request."""

    input: int
    cached: int
    output: int
    reasoning: int
    request: int = 0

    def of(self, usage: Usage) -> int:
        """Return what that is in nano-dollars, rounded to the nearest."""
        # What a backend says may be inconsistent; a price never gets negative by it.
        cached, reasoning = min(usage.cached, usage.prompt), min(usage.reasoning, usage.completion)
        femto = (
            (usage.prompt - cached) * self.input
            + cached * self.cached
            + (usage.completion - reasoning) * self.output
            + reasoning * self.reasoning
            + self.request
        )
        return (femto + FEMTO // 2) // FEMTO


class Rates(NamedTuple):
    """The rates of a model. `starts` are prompt lengths; a prompt longer than one is all paid by the tier behind it."""

    starts: tuple[int, ...]
    tiers: tuple[Tier, ...]

    def of(self, usage: Usage) -> int:
        return self.tiers[bisect_left(self.starts, usage.prompt)].of(usage)


class Kept(NamedTuple):
    """What was found for a model, and the minute it holds for (None: for good)."""

    rates: Rates | None
    minute: int | None


class Prices:
    """Prices under the settings of one moment. Used from any thread. `wall` gives epoch seconds."""

    def __init__(self, settings: PriceSection = FREE, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._own = tuple((pattern, own_rates(price)) for pattern, price in settings.models.items())
        # Femto-dollars a second: dollars a kWh times watts, over a kilowatt and an hour's seconds.
        self._second = round(Decimal(str(settings.kwh)) * Decimal(str(settings.watts)) / 3_600_000 * 10**15)
        self._listed: dict[str, Kept] = {}
        self._paid: dict[tuple[str, str, str], tuple[bool, Kept]] = {}

    def warm(self) -> None:
        """Import the prices, 150 ms or more: to be called in a thread, before the first request asks."""
        snapshot()

    def list_price(self, model: str, usage: Usage) -> int | None:
        """Return what these tokens cost at the list price of a model, in nano-dollars; None if it has none that we
        know. Understands dated names and names with a provider (`openai/gpt-5`)."""
        kept = self._listed.get(model)
        if kept is None or (kept.minute is not None and kept.minute != int(self._wall() // MINUTE)):
            kept = self._find(model, None)
            room(self._listed)[model] = kept
        return kept.rates.of(usage) if kept.rates is not None else None

    def base_price(self, model: str, usage: Usage) -> int | None:
        """Return the same for sums over many requests: by the tier of short prompts, and without what is paid for each
        request."""
        rates = self._find(model, None).rates
        return rates.tiers[0]._replace(request=0).of(usage) if rates is not None else None

    def cost(self, kind: str, url: str, model: str, usage: Usage, seconds: float) -> int | None:
        """Return what an answer really cost, in nano-dollars; None if that is not known.

        `kind` and `url` are the backend's, `model` the one that answered, `seconds` how long it took. A price in the
        settings counts first; then a public provider's list price; a machine of one's own costs its electricity.
        """
        key = (kind, url, model)
        found = self._paid.get(key)
        if found is None or (found[1].minute is not None and found[1].minute != int(self._wall() // MINUTE)):
            found = self._price_of(kind, url, model)
            room(self._paid)[key] = found
        local, kept = found
        if kept.rates is not None:
            return kept.rates.of(usage)
        return (round(seconds * self._second) + FEMTO // 2) // FEMTO if local else None

    def _price_of(self, kind: str, url: str, model: str) -> tuple[bool, Kept]:
        for pattern, rates in self._own:
            if fits(pattern, model):
                return False, Kept(rates, None)
        if kind != "openai" or is_local(url):
            return True, Kept(None, None)
        return False, self._find(model, url)

    def _find(self, model: str, url: str | None) -> Kept:
        now = self._wall()
        info = by_url(model, url) if url is not None else by_name(model)
        if info is None:
            return Kept(None, None)
        price = info.get_prices(datetime.fromtimestamp(now, tz=UTC))
        return Kept(rates_of(price), int(now // MINUTE) if isinstance(info.prices, list) else None)


def room(cache: dict[Any, Any]) -> dict[Any, Any]:
    """Empty a cache that has grown too large, and return it."""
    if len(cache) >= KEPT:
        cache.clear()
    return cache


def costs_money(prices: PriceSection, backends: Mapping[str, BackendSettings]) -> bool:
    """Return whether an answer can cost anything under these settings: a price or electricity is set, or a backend is
    not on a machine of one's own. Where it cannot, a budget in dollars fills only if it counts list prices."""
    if prices.models or (prices.kwh and prices.watts):
        return True
    return any(backend.type == "openai" and not is_local(backend.url) for backend in backends.values())


# --- the settings' own prices -------------------------------------------------------------------------------------


def own_rates(price: PriceSettings) -> Rates:
    cached = price.input if price.cached is None else price.cached
    input, cached, output = (femto(Decimal(str(value))) for value in (price.input, cached, price.output))
    return Rates((), (Tier(input, cached, output, output),))


def fits(pattern: str, model: str) -> bool:
    """Return whether a name or glob of the settings means a model; `:latest` may be left out."""
    return any(fnmatchcase(name, pattern) for name in (model, model.removesuffix(":latest")))


def is_local(url: str) -> bool:
    """Return whether a server is on this machine or in one's own network, as far as its name tells."""
    host = urlsplit(url).hostname or ""
    if "." not in host and ":" not in host:
        return True
    if host.endswith((".localhost", ".local", ".lan", ".internal", ".home.arpa")):
        return True
    is_address = ":" in host or host.replace(".", "").isdigit()
    return is_address and not public_address(host)


# --- genai-prices -------------------------------------------------------------------------------------------------

LOCK = threading.Lock()


def snapshot() -> Any:
    """Return the prices that are bundled with genai-prices. Imported at first need, by one thread."""
    # By name: the import takes longer than all else that a daemon does to start.
    with LOCK:
        return import_module("genai_prices.data_snapshot").get_snapshot()


def by_url(model: str, url: str) -> Any:
    """Return a model of the provider behind a URL, None if there is none."""
    try:
        return snapshot().find_provider_model(model, None, None, url)[1]
    except LookupError:
        return None


def by_name(model: str) -> Any:
    """Return the model that a name means, None if no provider sells it under that name."""
    prices = snapshot()
    for provider, name in readings(model):
        try:
            return prices.find_provider_model(name, None, provider, None)[1]
        except LookupError:
            continue
    return None


def readings(model: str) -> Iterator[tuple[str | None, str]]:
    """Yield how a name may be read: (provider, or None to find it by the name; the name there)."""
    name = model.removesuffix(":latest")
    tag = name.rpartition(":")[2] if ":" in name else ""
    if tag and not tag.isdigit() and not name.startswith("ft:"):
        # An Ollama tag, `deepseek-r1:7b`: that is not what the provider sells as deepseek-r1.
        return
    prefix, slash, rest = name.partition("/")
    if not slash:
        yield None, name
        for provider in USUAL:
            yield provider, name
        return
    if any(provider.id == prefix for provider in snapshot().providers):
        yield prefix, rest
    # The names with a slash that the others know are OpenRouter's.
    yield "openrouter", name


def rates_of(price: Any) -> Rates | None:
    """Return a genai-prices ModelPrice as whole numbers; None where tokens have no price."""
    input, output = price.input_mtok, price.output_mtok
    if input is None and output is None:
        return None
    cached = input if price.cache_read_mtok is None else price.cache_read_mtok
    reasoning = output if price.output_reasoning_mtok is None else price.output_reasoning_mtok
    starts = sorted({tier.start for each in (input, cached, output, reasoning) for tier in getattr(each, "tiers", ())})
    # Dollars for a thousand requests.
    fee = int(at(price.requests_kcount, 0) * NANO * FEMTO / 1000)
    tiers = []
    for prompt in (0, *(start + 1 for start in starts)):
        now = [femto(at(each, prompt)) for each in (input, cached, output, reasoning)]
        tiers.append(Tier(now[0], now[1], now[2], now[3], fee))
    return Rates(tuple(starts), tuple(tiers))


def at(price: Any, prompt: int) -> Decimal:
    """Return a price (a number, tiers or None) for a prompt of so many tokens."""
    if price is None:
        return Decimal(0)
    if isinstance(price, Decimal):
        return price
    dollars = price.base
    for tier in price.tiers:
        if prompt > tier.start:
            dollars = tier.price
    return Decimal(dollars)


def femto(dollars: Decimal) -> int:
    """Return dollars a million tokens as femto-dollars a token."""
    return round(dollars * PER_MILLION)
