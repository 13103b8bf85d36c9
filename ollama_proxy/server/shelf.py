"""What clients keep with us, for handlers: the store's objects without blocking, whose they are, ids and pages.

The database is opened when it is first needed, also where no ledger is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from ..account import Caller
from ..store import StoreError
from .accounting import open_store
from .accounts import unavailable
from .keys import ACCOUNTS, BOOKS, NEW_ID

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = ["kept", "new_id", "owner_of", "seen_by", "sees"]

log = logging.getLogger(__name__)

T = TypeVar("T")


async def kept(app: web.Application, call: Callable[[Objects], T]) -> T:
    """Return what `call` makes of the store's objects, in a thread: `await kept(app, lambda objects: objects.get(…))`.
    Raises Overloaded where the database cannot be used."""
    accounts = app[ACCOUNTS]
    await accounts.wait()
    try:
        store = accounts.store or await open_store(app)
        return await asyncio.to_thread(call, store.objects)
    except StoreError as exc:
        log.warning("what is kept for clients cannot be written or read: %s", exc.message)
        raise unavailable() from exc


def owner_of(caller: Caller) -> str:
    """Return whose the objects are that a caller makes: the key's, or everybody's where none was asked for."""
    return caller.key.id if caller.key is not None else ""


def sees(request: web.Request) -> str | None:
    """Return whose objects a request sees: its own, or all (None) for this machine's own commands."""
    return seen_by(request[BOOKS].caller)


def seen_by(caller: Caller) -> str | None:
    """The same by its caller."""
    if caller.key is None and caller.admin:
        return None
    return owner_of(caller)


def new_id(app: web.Application, prefix: str, length: int = 48) -> str:
    """Return an id in OpenAI's form: a prefix and hex digits."""
    make = app[NEW_ID]
    return prefix + (make() + make())[:length]
