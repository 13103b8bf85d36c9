"""Closing the books: what an ended request cost, its place in limits and budgets settled, its row in the ledger. Called
once for each request, before the last byte of its answer. Never decides what a client gets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .account import Entry
from .errors import Overloaded
from .gate import Gate
from .policy.books import Books, entry_of
from .pricing import Prices
from .sections import BackendSettings, Settings

if TYPE_CHECKING:
    from .store import Ledger

__all__ = ["Clerk"]


class Clerk:
    """Closes books. `clock` gives the seconds that books are kept in; `opening` returns when the ledger is open, if it
    can be."""

    def __init__(
        self,
        gate: Gate,
        settings: Settings,
        *,
        clock: Callable[[], float],
        opening: Callable[[], Awaitable[None]],
    ) -> None:
        self.gate = gate
        # None where none is kept, and as long as it is not begun.
        self.ledger: Ledger | None = None
        # Rows of requests that ended before the ledger was begun, and how many of them found no room.
        self.early: list[Entry] = []
        self.dropped = 0
        # Why no ledger can be begun; rows wait as long as it cannot.
        self.fault = ""
        self.keeps = settings.store.ledger
        self._opening: Callable[[], Awaitable[None]] | None = opening if self.keeps else None
        # Whether anybody reads the rows: the ledger, or the recorder.
        self._kept = settings.store.ledger or settings.logs.requests
        self._clock = clock
        self.prices: Prices
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Go by other prices and rules from now on."""
        self.prices = Prices(settings.prices)
        self._backends = settings.backends
        self._store = settings.store
        self._refuse = settings.store.on_error == "refuse"
        if self.ledger is not None:
            self.ledger.durability = settings.store.durability
            self.ledger.buffer = settings.store.buffer

    def begin(self, ledger: Ledger) -> None:
        """Write to this ledger from now on, and what waited for it first."""
        ledger.durability, ledger.buffer = self._store.durability, self._store.buffer
        self.ledger, self.fault = ledger, ""
        early, self.early = self.early, []
        for entry in early:
            ledger.write_later(entry)

    @property
    def failing(self) -> bool:
        """Whether rows cannot be written now."""
        return bool(self.fault) if self.ledger is None else self.ledger.failing

    def ready(self) -> None:
        """Refuse work that could not be booked, if that is wanted. Raises Overloaded."""
        if self._refuse and self.failing:
            raise Overloaded(
                "The ledger cannot be written, and [store] on_error says to refuse requests then. "
                "`oproxy status` shows the cause.",
                wait=5.0,
                code="ledger_unavailable",
            )

    async def close(self, books: Books) -> None:
        """Close the books and return when the row is committed (at once, where the settings or a failing database say
        so)."""
        if (entry := self._closed(books)) is None:
            return
        if self._opening is not None:
            # A first answer may be there before the database is; its row is what it waits for.
            await self._opening()
            self._opening = None
        if self.ledger is not None:
            await self.ledger.write(entry)
        else:
            self._hold(entry)

    def close_now(self, books: Books) -> None:
        """The same without waiting, for a request that nobody waits for any more."""
        if (entry := self._closed(books)) is None:
            return
        if self.ledger is not None:
            self.ledger.write_later(entry)
        else:
            self._hold(entry)

    def _hold(self, entry: Entry) -> None:
        """Keep a row until the ledger is begun."""
        if not self.keeps:
            return
        if len(self.early) < self._store.buffer:
            self.early.append(entry)
        else:
            self.dropped += 1

    def _closed(self, books: Books) -> Entry | None:
        if books.closed:
            return None
        books.closed = True
        if not (self._kept or books.limits is not None or books.reserved is not None):
            return None
        cost, listed = self._money(books)
        self.gate.settle(books, cost, listed)
        if books.endpoint:
            books.entry = entry_of(books, cost=cost, listed=listed, now=self._clock())
        return books.entry

    def _money(self, books: Books) -> tuple[int | None, int | None]:
        """Return what the tokens cost here, and on the model that was asked for (nano-dollars)."""
        usage = books.usage
        if usage is None:
            return 0, 0
        backend = self._backends.get(books.backend) or BackendSettings(type="ollama")
        seconds = (books.ended if books.ended is not None else self._clock()) - books.started
        cost = self.prices.cost(backend.type, backend.url, books.served, usage, seconds)
        return cost, self.prices.list_price(books.asked, usage)
