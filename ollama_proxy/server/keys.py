"""The names under which the parts of the application find each other. Nothing but names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..engine import Engine
from ..jobs import Reloader
from ..policy.meter import Books
from ..tasks import Tasks

__all__ = ["BOOKS", "CLOCK", "ENGINE", "NEW_ID", "RELOADER", "REQUEST_ID", "SAY", "STARTED", "TASKS", "WALL"]

ENGINE = web.AppKey("engine", Engine)
TASKS = web.AppKey("tasks", Tasks)
RELOADER = web.AppKey("reloader", Reloader)
SAY: web.AppKey[Callable[[str], None]] = web.AppKey("say")
# Seconds that only go forward, for durations.
CLOCK: web.AppKey[Callable[[], float]] = web.AppKey("clock")
# Epoch seconds, for `created`.
WALL: web.AppKey[Callable[[], float]] = web.AppKey("wall")
# Random letters and digits, 32 of them, for ids.
NEW_ID: web.AppKey[Callable[[], str]] = web.AppKey("new_id")
# What happened when, for `status`: {"started": epoch seconds, …}
STARTED: web.AppKey[dict[str, Any]] = web.AppKey("started")

BOOKS = web.RequestKey("books", Books)
REQUEST_ID = web.RequestKey("request_id", str)
