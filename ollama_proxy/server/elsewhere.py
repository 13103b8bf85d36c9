"""What is OpenAI's but not answered here: sent on to a backend that serves it, or refused in OpenAI's form. One handler
behind all routes of our own; the table of OpenAI's routes is package data, the groups are the settings'.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from ..errors import NotFound
from ..sections import Settings
from ..translate.forward import climbs
from .forward import forward
from .forward_socket import forward_socket
from .groups import BASE, group_of
from .keys import BOOKS, ENGINE
from .row import Handler
from .urls import URLS, Known, invalid_url, methods_of, own_methods

__all__ = ["handler"]

# What OpenAI's API once had, and what took its place. https://developers.openai.com/api/docs/deprecations
REMOVED: Mapping[str, str] = {
    "answers": "/v1/responses",
    "classifications": "/v1/chat/completions",
    "engines": "/v1/models",
    "fine-tunes": "/v1/fine_tuning/jobs",
    "search": "/v1/embeddings",
}
NOT_SERVED = "not_served_here"


def handler() -> Handler:
    """Return the handler of all that is below /v1 and nobody else's."""

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        books, path = request[BOOKS], request.path
        known = None if climbs(request.rel_url.raw_path) else request.app[URLS].openai.find(path)
        # What is no route is no line in the ledger.
        books.endpoint = ""
        method = "GET" if request.method == "HEAD" else request.method
        own = await own_methods(request)
        if (own or known) and method not in (known.methods if known else ()):
            raise web.HTTPMethodNotAllowed(request.method, await methods_of(request))
        group = group_of(path)
        settings = request.app[ENGINE].snapshot.settings
        backends = [name for name, backend in settings.backends.items() if group in backend.serves]
        if known is not None:
            books.endpoint = known.path
        if backends and not climbs(request.rel_url.raw_path):
            # OpenAI may have more below it than we know of.
            books.endpoint = books.endpoint or f"{BASE}{path.split('/')[2]}"
            if "websocket" in request.headers.get("upgrade", "").lower():
                return await forward_socket(request, backends)
            return await forward(request, backends)
        raise refusal(request, known, group, settings)

    return elsewhere


def refusal(request: web.Request, known: Known | None, group: str, settings: Settings) -> NotFound:
    """Say why a path is not answered, and what would have it answered."""
    method, path = request.method, request.path
    if known is None:
        first = path.removeprefix(BASE).partition("/")[0]
        if first in REMOVED:
            return NotFound(
                f"{BASE}{first} was removed from OpenAI's API; use {REMOVED[first]} instead.", code=NOT_SERVED
            )
        return invalid_url(request)
    if not group:
        return NotFound(f"{method} {known.path} is a part of OpenAI's API that oproxy does not have.", code=NOT_SERVED)
    able = [name for name, backend in settings.backends.items() if backend.type == "openai"]
    where = f"[backends.{able[0]}]" if able else 'a backend of type "openai"'
    return NotFound(
        f"{method} {known.path} is not answered by local models, and no backend is configured for it. "
        f'Add serves = ["{group}"] to {where} in the config, and it is forwarded there.',
        code=NOT_SERVED,
    )
