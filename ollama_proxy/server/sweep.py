"""What is over is forgotten: files that were never finished, objects past their time, and the bytes that hang on them.

Nobody sees them any more already; this gives back the room they take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from ..blobs import Blobs
from ..errors import OproxyError
from ..store import StoreError
from ..stored import Stored
from . import uploads
from .keys import ACCOUNTS, BLOBS

if TYPE_CHECKING:
    from ..store.objects import Objects

__all__ = ["run", "sweep"]

log = logging.getLogger(__name__)

# Seconds between looks.
PERIOD = 60.0


async def run(app: web.Application) -> None:
    """Sweep now and then, until cancelled. Never opens the database; what is kept there waits until somebody has."""
    try:
        if removed := await asyncio.to_thread(app[BLOBS].sweep):
            log.info("%d unfinished files of a killed daemon are removed", removed)
    except OproxyError as exc:
        log.warning("unfinished files could not be removed: %s", exc.message)
    while True:
        await asyncio.sleep(PERIOD)
        try:
            await sweep(app)
        except (StoreError, OproxyError) as exc:
            log.warning("what has expired could not be removed: %s", exc.message)


async def sweep(app: web.Application) -> int:
    """Remove everything whose time is over; returns how many objects there were."""
    store, removed = app[ACCOUNTS].store, 0
    if store is None:
        return 0
    await uploads.expire(app)
    while found := await asyncio.to_thread(store.objects.expired):
        # The bytes first: what is killed in between finds the object again.
        await asyncio.to_thread(drop, app[BLOBS], list(bytes_of(store.objects, found)))
        await asyncio.to_thread(store.objects.forget, [each.id for each in found])
        removed += len(found)
    return removed


def bytes_of(objects: Objects, things: Iterable[Stored]) -> Iterator[str]:
    """Yield the ids of the files that hang on objects."""
    for thing in things:
        match thing.kind:
            case "file":
                yield thing.id
            case "upload":
                yield from (piece.id for piece in objects.pieces(thing.id))


def drop(blobs: Blobs, ids: Iterable[str]) -> None:
    for id in ids:
        blobs.remove(id)
