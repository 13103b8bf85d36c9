"""Keys and the ledger in SQL, the only SQL in the program: SQLite in a file of ours, or PostgreSQL for a team.

`store.Store` opens, migrates and holds the database, `keys.Keys` is the table of keys, `ledger.Ledger` writes the books
from one thread. Never decides who may what, and never does more for a request than hand over one row.

Importing this package imports nothing of it: SQLAlchemy takes a third of a daemon's start, and is had later.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .error import Missing, StoreError

if TYPE_CHECKING:
    from . import schema
    from .keys import Keys
    from .ledger import Ledger, LedgerState
    from .store import Store

__all__ = ["Keys", "Ledger", "LedgerState", "Missing", "Store", "StoreError", "schema"]

PLACES = {"Keys": "keys", "Ledger": "ledger", "LedgerState": "ledger", "Store": "store"}


def __getattr__(name: str) -> Any:
    if name == "schema":
        return import_module(".schema", __name__)
    if name in PLACES:
        return getattr(import_module(f".{PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
