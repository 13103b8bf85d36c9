"""Whose refusals a path speaks: OpenAI's everywhere, but at the neighbours' doors their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import OproxyError

__all__ = ["Dialect", "dialect_of"]


class Dialect(NamedTuple):
    """How one API tells an error: its body, by the error and the request's id, and its status."""

    body: Callable[[OproxyError, str], Any]
    status: Callable[[OproxyError], int]


OPENAI = Dialect(lambda error, _: error.body(), lambda error: error.status)

# By how a path begins; the rest is OpenAI's.
DIALECTS: tuple[tuple[str, Dialect], ...] = ()


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path."""
    for prefix, dialect in DIALECTS:
        if path.startswith(prefix):
            return dialect
    return OPENAI
