"""Whether the database is open yet. A daemon listens before it is, and only what needs it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import Overloaded
from ..policy.backoff import Backoff, Presence
from ..store import StoreError

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Accounts", "unavailable"]

# Pauses between tries to open a database that cannot be used: it must be noticed within seconds that it is back.
BACKOFF = Backoff(0.2, 5.0)


class Accounts:
    """The database, once it is open, and whether it is; nothing of it is needed to listen.

    `store` is None until then, and where none is needed. `presence` says why it could not be opened and since when.
    `eager`: it is opened at once, else when somebody waits for it first.
    """

    def __init__(self, *, eager: bool) -> None:
        self.store: Store | None = None
        # The same before it is open to all: named, and there to be read.
        self.made: Store | None = None
        self.readable: Store | None = None
        self.presence = Presence(BACKOFF)
        # A plain flag beside the events: it is looked at by every request.
        self.ready = False
        self.wanted = asyncio.Event()
        # Held by whoever opens the database.
        self.opening = asyncio.Lock()
        self._known = asyncio.Event()
        self._usable = asyncio.Event()
        if eager:
            self.wanted.set()

    async def settled(self) -> None:
        """Return when it is known whether the database can be used."""
        self.wanted.set()
        await self._known.wait()

    async def usable(self) -> None:
        """Return when the database is open, or not needed; that may take as long as it is away."""
        await self._usable.wait()

    async def wait(self) -> None:
        """Return when the database is open, or not needed. Raises Overloaded where it cannot be used."""
        await self.settled()
        if not self.ready:
            raise unavailable()

    def lost(self, error: StoreError, now: float) -> bool:
        """Note that the database cannot be opened; return whether that is news."""
        first = self.presence.lost(error.message, now)
        self._known.set()
        return first

    def opened(self) -> None:
        """Note that the database is open, or not needed."""
        self.presence.back()
        self.ready = True
        self._known.set()
        self._usable.set()


def unavailable(*, wait: float = 5.0) -> Overloaded:
    """Return what a client is told: nothing about where the database is, or what it says."""
    return Overloaded(
        "The database cannot be used at the moment. Please try again; `oproxy status` on the machine of the daemon "
        "shows the cause.",
        wait=wait,
        code="store_unavailable",
    )
