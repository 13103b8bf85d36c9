"""Answers that do not finish within the grace time: they end with an error in their API's form, and are booked as what
they are, not as a client that left. Never decides when that is; `run` does.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from aiohttp import web

from ..errors import ServerShutdown
from .keys import CUT

__all__ = ["ending", "is_cut"]


def is_cut(app: web.Application) -> bool:
    """Return whether the grace time is over."""
    return app[CUT].is_set()


class ending:  # noqa: N801
    """Raises ServerShutdown in place of the cancellation that cuts an answer at the end of the grace time. A class and
    not a generator, for it stands on the way of every stream."""

    __slots__ = ("_app",)

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(value, asyncio.CancelledError) and is_cut(self._app):
            if (task := asyncio.current_task()) is not None:
                # It goes on, to tell its client.
                task.uncancel()
            raise ServerShutdown() from value
