"""Refusals as Anthropic tells them: the form of the body, its types, its statuses and the words its clients look for.

https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ContextTooLong, ModelNotFound, OproxyError, QuotaExceeded, RateLimited
from .organization import ORGANIZATION

__all__ = ["body", "headers", "status"]

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Of a server that has too much to do. https://platform.claude.com/docs/en/api/errors#http-errors
OVERLOADED = 529
# Where the hub's refusals name a place in OpenAI's words.
PLACES: Mapping[str, str] = {".function.parameters": ".input_schema", "response_format": "output_config.format"}
# The tail of our own headers of limits, and of Anthropic's.
LIMITS: Mapping[str, str] = {
    "x-ratelimit-limit-requests": "anthropic-ratelimit-requests-limit",
    "x-ratelimit-remaining-requests": "anthropic-ratelimit-requests-remaining",
    "x-ratelimit-limit-tokens": "anthropic-ratelimit-tokens-limit",
    "x-ratelimit-remaining-tokens": "anthropic-ratelimit-tokens-remaining",
}


def status(error: OproxyError) -> int:
    """Return the HTTP status."""
    if error.status == 415:
        # Anthropic has no status of its own for bodies packed in an unknown way; the details tell it.
        return 400
    return OVERLOADED if error.status == 503 else error.status


def body(error: OproxyError, request_id: str) -> dict[str, Any]:
    """Return the whole answer body; also the data of an `error` event in a stream."""
    kind = TYPES.get(status(error)) or ("invalid_request_error" if error.status < 500 else "api_error")
    told: dict[str, Any] = {"type": kind, "message": _message(error)}
    if error.details is not None:
        told["details"] = dict(error.details)
    return {"type": "error", "error": told, "request_id": request_id}


def headers(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what Anthropic's clients read beside our own headers."""
    out = {"request-id": ours["x-request-id"]}
    out |= {theirs: ours[name] for name, theirs in LIMITS.items() if name in ours}
    return out


def _message(error: OproxyError) -> str:
    if isinstance(error, ContextTooLong):
        # Claude Code shortens its conversation at these words.
        if error.tokens is None or error.limit is None:
            return f"prompt is too long: {error.message}"
        return f"prompt is too long: {error.tokens} tokens > {error.limit} maximum"
    if isinstance(error, ModelNotFound):
        return f"model: {error.shown}. {error.hint}".rstrip() if error.hint else f"model: {error.shown}"
    if isinstance(error, RateLimited) and error.rate:
        return (
            f"This request would exceed the rate limit for your organization ({ORGANIZATION}) of {error.rate}. For "
            "details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for "
            "current usage. Please reduce the prompt length or the maximum tokens requested, or try again later."
        )
    if isinstance(error, QuotaExceeded):
        return f"You have reached your specified API usage limits.{error.message.removeprefix(QuotaExceeded().message)}"
    if error.message == "you must provide a model parameter":
        return "model: Field required"
    if not error.param:
        return error.message
    place = _dotted(error.param)
    if error.code == "missing_required_parameter":
        return f"{place}: Field required"
    return f"{place}: {error.message}"


def _dotted(param: str) -> str:
    """Write a path as Anthropic does: `messages.0.content.1`."""
    if param == "format":
        return "output_config.format"
    for ours, theirs in PLACES.items():
        param = param.replace(ours, theirs)
    return re.sub(r"\[(\d+)\]", r".\1", param)
