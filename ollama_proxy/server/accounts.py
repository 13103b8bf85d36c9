"""Whether the database is open yet. A daemon listens before it is, and only what needs it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import Overloaded
from ..store import StoreError

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Accounts"]


class Accounts:
    """The database, once it is open, and whether it is; nothing of it is needed to listen.

    `store` is None until then, and where none is kept. `error` is why it cannot be used. `eager`: it is opened at once,
    else when somebody waits for it first.
    """

    def __init__(self, *, eager: bool) -> None:
        self.store: Store | None = None
        self.error: StoreError | None = None
        # A plain flag beside the events: it is looked at by every request.
        self.ready = False
        self.wanted = asyncio.Event()
        # Held by whoever opens the database.
        self.opening = asyncio.Lock()
        self._done = asyncio.Event()
        if eager:
            self.wanted.set()

    async def settled(self) -> None:
        """Return when it is known whether the database can be used."""
        self.wanted.set()
        await self._done.wait()

    async def wait(self) -> None:
        """Return when the database is open, or not needed. Raises Overloaded where it cannot be used."""
        await self.settled()
        if self.error is not None:
            raise Overloaded(f"The database cannot be used: {self.error.message}", wait=30.0, code="store_unavailable")

    def opened(self) -> None:
        self.ready = self.error is None
        self._done.set()
