"""Which URLs there are: the methods of a path, by our own routes and by OpenAI's, and what is said of a path that is
not there. Never answers a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web

from ..errors import NotFound
from ..policy.urls import hint, meant
from .groups import BASE, group_of
from .keys import ENGINE

__all__ = ["ANY", "URLS", "Known", "Table", "Urls", "invalid_url", "methods_of", "own_methods"]

# A path that is forwarded, and that OpenAI's table does not know, may have any of these.
ANY = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})


class Known(NamedTuple):
    """A path, with the names of its parts, and the methods it has."""

    path: str
    methods: frozenset[str]


class Table:
    """Paths; `rows` are lines of a method, a tab, and a path."""

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


class Urls(NamedTuple):
    """Our own paths and OpenAI's."""

    own: Table
    openai: Table

    def exist(self, path: str) -> bool:
        """Return whether a path is one of either."""
        return (self.own.find(path) or self.openai.find(path)) is not None


URLS = web.AppKey("urls", Urls)


async def methods_of(request: web.Request) -> frozenset[str]:
    """Return the methods of the request's path, empty where there is no such path."""
    found = await own_methods(request)
    if not found and request.path.startswith(BASE):
        known = request.app[URLS].openai.find(request.path)
        group = group_of(request.path)
        backends = request.app[ENGINE].snapshot.settings.backends.values()
        if known is not None:
            found = set(known.methods)
        elif group and any(group in backend.serves for backend in backends):
            found = set(ANY)
    return frozenset(found | ({"HEAD"} if "GET" in found else set()))


async def own_methods(request: web.Request) -> set[str]:
    """Return the methods that routes of our own have at this path."""
    found: set[str] = set()
    for resource in request.app.router.resources():
        # The one behind all others takes every method of every path.
        methods = (await resource.resolve(request))[1]
        found |= methods - {"*"}
    return found


def invalid_url(request: web.Request) -> NotFound:
    """Return the refusal of a path that is not there, with the base URL that may have been meant."""
    text = f"Invalid URL ({request.method} {request.path})"
    found = meant(request.path, request.app[URLS].exist)
    if found is not None:
        text = f"{text}. {hint(found, f'{request.scheme}://{request.host}')}"
    return NotFound(text)
