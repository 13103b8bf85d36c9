"""`oproxy usage prune`: deletes old rows of the ledger, after their sums have been kept."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ..store import Store
from ..store.rollup import roll_up
from .failure import Failure
from .plain import confirm, tell
from .usage_read import folder, store_url

__all__ = ["prune"]


def prune(config: Path | None, before: float, *, yes: bool) -> None:
    """Delete the rows of before a time, and say how many there were."""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(before))
    if not yes:
        if not sys.stdin.isatty():
            raise Failure("Deleting rows of the ledger needs a yes: call it with --yes.")
        confirm(f"Delete all rows of the ledger before {day} for good? Their hourly sums stay.", abort=True)
    store = Store.open(store_url(config), folder=folder(), on_change=tell)
    try:
        roll_up(store)
        count = store.prune(before)
    finally:
        store.close()
    tell(f"{count} {'row' if count == 1 else 'rows'} of before {day} deleted; their hourly sums stay.")
