"""What a response object is made of: a text with its tokens, its usage, its error. The items and events are
`responses_write`'s; never changes what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ContextTooLong, OproxyError, Overloaded, QuotaExceeded, RateLimited, UpstreamBusy
from ..events import Logprob, Usage

__all__ = ["error_of", "text_part", "token_of", "usage_of"]

# What OpenAI writes for a token it gives no chance; JSON has no minus infinity.
LOWEST = -9999.0

Json = dict[str, Any]


def text_part(text: str, logprobs: Sequence[Json] = ()) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def token_of(item: Logprob) -> Json:
    return {**plain(item), "top_logprobs": [plain(other) for other in item.top]}


def plain(item: Logprob) -> Json:
    logprob = item.logprob if math.isfinite(item.logprob) else LOWEST
    bytes_of = item.bytes if item.bytes is not None else tuple(item.token.encode("utf-8", "replace"))
    return {"token": item.token, "bytes": bytes_of, "logprob": logprob}


def usage_of(usage: Usage) -> Json:
    """Return `usage` with every key that OpenAI sends."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def error_of(error: OproxyError) -> Json:
    """Return an error as a response object holds it, with one of the codes it may have."""
    match error:
        case RateLimited():
            code = "rate_limit_exceeded"
        case QuotaExceeded():
            # Trying again does not help, which the code of the limits would mean to a client.
            code = "insufficient_quota"
        case UpstreamBusy() | Overloaded():
            code = "server_is_overloaded"
        case ContextTooLong():
            code = "context_length_exceeded"
        case _ if error.status < 500:
            code = "invalid_prompt"
        case _:
            code = "server_error"
    return {"code": code, "message": error.message}
