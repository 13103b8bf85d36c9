"""A row of the table of routes. Groups of routes keep their rows beside their handlers; `routes` joins them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from ..translate.openapi import Route

__all__ = ["Handler", "Row"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Row(NamedTuple):
    """One route with its handler. Paths are OpenAPI's; each is served with and without a slash at the end."""

    route: Route
    handler: Handler
