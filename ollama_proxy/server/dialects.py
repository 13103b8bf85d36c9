"""Whose form a refusal has: OpenAI's, but Ollama's below /api, and Anthropic's below /v1/messages and wherever a client
says that it is one of Anthropic's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import OproxyError
from ..translate import messages_errors, ollama_front_write

__all__ = ["RESPONSES", "VERSION", "Dialect", "dialect_of"]


class Dialect(NamedTuple):
    """How one API tells an error: its body, by the error and the request's id, and its status; and what its answers
    carry beside our own headers."""

    body: Callable[[OproxyError, str], Any]
    status: Callable[[OproxyError], int]
    headers: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None


OPENAI = Dialect(lambda error, _: error.body(), lambda error: error.status)
OLLAMA = Dialect(lambda error, _: ollama_front_write.error_body(error), lambda error: error.status)

ANTHROPIC = Dialect(messages_errors.body, messages_errors.status, messages_errors.headers)

# The header that Anthropic requires of every request, and by which its clients are known on paths that others have too.
# https://platform.claude.com/docs/en/api/versioning
VERSION = "anthropic-version"


def responses_body(error: OproxyError, _: str) -> Any:
    """Return a refusal with its place named as the Responses API calls it."""
    body = error.body()
    if error.param == "response_format":
        body["error"]["param"] = "text.format.schema"
    elif error.param is not None and error.param.startswith("tools["):
        body["error"]["param"] = error.param.replace(".function.parameters", ".parameters")
    return body


RESPONSES = Dialect(responses_body, lambda error: error.status)


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Return the dialect of a request."""
    if path.startswith("/api/"):
        return OLLAMA
    if path.startswith("/v1/messages") or VERSION in headers:
        return ANTHROPIC
    if path.startswith("/v1/responses"):
        return RESPONSES
    return OPENAI
