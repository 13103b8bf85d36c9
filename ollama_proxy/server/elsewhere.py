"""What is OpenAI's but not answered here: sent on to a backend that serves it, or refused in OpenAI's form. One handler
behind all routes of our own; the table of OpenAI's routes is package data, the groups are the settings'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiohttp import web

from .. import assets
from ..errors import NotFound
from ..sections import Settings
from ..translate.forward import climbs
from .forward import forward
from .forward_socket import forward_socket
from .groups import BASE, group_of
from .keys import BOOKS, ENGINE
from .row import Handler

__all__ = ["Known", "Table", "handler"]

# What OpenAI's API once had, and what took its place. https://developers.openai.com/api/docs/deprecations
REMOVED: Mapping[str, str] = {
    "answers": "/v1/responses",
    "classifications": "/v1/chat/completions",
    "engines": "/v1/models",
    "fine-tunes": "/v1/fine_tuning/jobs",
    "search": "/v1/embeddings",
}
NOT_SERVED = "not_served_here"


class Known(NamedTuple):
    """One of OpenAI's paths, with the names of its parts, and the methods it has."""

    path: str
    methods: frozenset[str]


class Table:
    """OpenAI's paths; `rows` are lines of a method, a tab, and a path."""

    def __init__(self, rows: Iterable[str]) -> None:
        methods: dict[str, set[str]] = {}
        for row in rows:
            method, path = row.split("\t")
            methods.setdefault(path, set()).add(method)
        self._by_length: dict[int, list[tuple[tuple[str, ...], Known]]] = {}
        for path in sorted(methods, key=by_names):
            steps = tuple(path.split("/"))
            self._by_length.setdefault(len(steps), []).append((steps, Known(path, frozenset(methods[path]))))

    def find(self, path: str) -> Known | None:
        """Return the route of a path, with or without a slash at its end; words come before names."""
        steps = path.rstrip("/").split("/")
        for known_steps, known in self._by_length.get(len(steps), ()):
            if all(
                known == step or (known[:1] == "{" and step) for known, step in zip(known_steps, steps, strict=True)
            ):
                return known
        return None


def by_names(path: str) -> tuple[bool, ...]:
    """Order paths so that a word comes before a name at the same place."""
    return tuple(step.startswith("{") for step in path.split("/"))


def handler() -> Handler:
    """Return the handler of all that is below /v1 and nobody else's."""
    table = Table(assets.openai_routes())

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        books, path = request[BOOKS], request.path
        known = None if climbs(request.rel_url.raw_path) else table.find(path)
        # What is no route is no line in the ledger.
        books.endpoint = ""
        method = "GET" if request.method == "HEAD" else request.method
        own = await own_methods(request)
        if (own or known) and method not in (known.methods if known else ()):
            raise web.HTTPMethodNotAllowed(request.method, own or sorted(known.methods if known else ()))
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
        raise refusal(request.method, path, known, group, settings)

    return elsewhere


async def own_methods(request: web.Request) -> set[str]:
    """Return the methods that routes of our own have at this path."""
    found: set[str] = set()
    mine = request.match_info.route.resource
    for resource in request.app.router.resources():
        if resource is not mine:
            found |= (await resource.resolve(request))[1]
    return found


def refusal(method: str, path: str, known: Known | None, group: str, settings: Settings) -> NotFound:
    """Say why a path is not answered, and what would have it answered."""
    if known is None:
        first = path.removeprefix(BASE).partition("/")[0]
        if first in REMOVED:
            return NotFound(
                f"{BASE}{first} was removed from OpenAI's API; use {REMOVED[first]} instead.", code=NOT_SERVED
            )
        return NotFound(f"Invalid URL ({method} {path})")
    if not group:
        return NotFound(f"{method} {known.path} is a part of OpenAI's API that oproxy does not have.", code=NOT_SERVED)
    able = [name for name, backend in settings.backends.items() if backend.type == "openai"]
    where = f"[backends.{able[0]}]" if able else 'a backend of type "openai"'
    return NotFound(
        f"{method} {known.path} is not answered by local models, and no backend is configured for it. "
        f'Add serves = ["{group}"] to {where} in the config, and it is forwarded there.',
        code=NOT_SERVED,
    )
