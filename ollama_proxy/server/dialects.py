"""Whose refusals a path speaks: OpenAI's everywhere, but at the neighbours' doors their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import OproxyError
from ..translate import messages_errors, ollama_front_write

__all__ = ["Dialect", "dialect_of"]


class Dialect(NamedTuple):
    """How one API tells an error: its body, by the error and the request's id, and its status; and what its answers
    carry beside our own headers."""

    body: Callable[[OproxyError, str], Any]
    status: Callable[[OproxyError], int]
    headers: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None


OPENAI = Dialect(lambda error, _: error.body(), lambda error: error.status)
OLLAMA = Dialect(lambda error, _: ollama_front_write.error_body(error), lambda error: error.status)

# By how a path begins; the rest is OpenAI's.
DIALECTS: tuple[tuple[str, Dialect], ...] = (
    ("/v1/messages", Dialect(messages_errors.body, messages_errors.status, messages_errors.headers)),
    ("/api/", OLLAMA),
)


OTHERS = tuple(prefix for prefix, _ in DIALECTS)


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path."""
    # One look for all of them: every answer is asked about.
    if not path.startswith(OTHERS):
        return OPENAI
    for prefix, dialect in DIALECTS:
        if path.startswith(prefix):
            return dialect
    return OPENAI
