"""Errors of OpenAI-compatible servers: their words are kept, and what needs another reaction than theirs is told apart.

The wordings are tables. Never invents a cause: what is in no table goes on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..errors import ContextTooLong, ModelNotFound, OproxyError, UpstreamBusy, UpstreamFailed

__all__ = ["Words", "read_error", "stream_error", "unreadable"]

# So much of a body that is no JSON is repeated: of an error, and of what should have been an answer (bytes).
SHOWN = 300
SHOWN_ANSWER = 120
# OpenAI's clients wait as these say. https://platform.openai.com/docs/guides/rate-limits
KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
LIMIT_HEADERS = "x-ratelimit-"

# How servers say that a prompt does not fit; `limit` and `tokens` are what they count.
_OVERFLOWS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # vLLM, when it is only the answer's room that is lacking: not the prompt's fault, so it is none of these.
        r"(?P<other>max_(?:completion_)?tokens'? is too large)",
        # OpenAI, vLLM, OpenRouter
        (
            r"maximum context length is (?P<limit>\d+) tokens.{0,80}?"
            r"(?:requested(?: about)?|resulted in|has|contains at least) (?P<tokens>\d+)"
        ),
        # SGLang
        r"input \((?P<tokens>\d+) tokens\) is longer than the model's context length \((?P<limit>\d+) tokens\)",
        r"maximum context length of (?P<limit>\d+) tokens.{0,40}?total of (?P<tokens>\d+) tokens",
        # vLLM, engine side
        r"prompt \(length (?P<tokens>\d+)\) is longer than the maximum model length of (?P<limit>\d+)",
        # llama.cpp: chat, then embeddings
        r"\((?P<tokens>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tokens\)",
        (
            r"input \((?P<tokens>\d+) tokens\) is (?:too large to process|larger than the max context size)"
            r"(?:.*?size: (?P<limit>\d+))?"
        ),
        r"exceeds the available context size",
        # LM Studio
        r"keep the first (?P<tokens>\d+) tokens.*context length of only (?P<limit>\d+) tokens",
        (
            r"tokens to keep from the initial prompt is greater than the context length"
            r"(?:.*n_keep: (?P<tokens>\d+) ?>= ?n_ctx: (?P<limit>\d+))?"
        ),
        r"reached context length of (?P<limit>\d+) tokens",
        # text-generation-inference
        r"inputs` must have less than (?P<limit>\d+) tokens. Given: (?P<tokens>\d+)",
        # Mistral
        r"prompt contains (?P<tokens>\d+) tokens.*model with (?P<limit>\d+) maximum context length",
        r"maximum context length is (?P<limit>\d+) tokens",
    )
)
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# OpenAI's own sentence says more than ours (how much the answer was to have), so it stays.
_OPENAIS = "This model's maximum context length is "
_UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.*\b(?:not (?:found|exist)|does ?n[o']t exist|no such|unknown)\b|\bno such model\b", re.I | re.S
)
_HTML = re.compile(r"^\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


class Words(NamedTuple):
    """What a foreign error says; `fields` is the object it came in."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    fields: Mapping[str, Any] = {}


# What web frameworks answer where they have no such route: FastAPI (vLLM), llama.cpp, Express, Go.
_NO_ROUTE = re.compile(r"(?:404 )?(?:(?:file|page) )?not found\.?|cannot post \S+", re.IGNORECASE)


def read_error(
    status: int,
    body: bytes,
    *,
    backend: str,
    model: str,
    param: str = "messages",
    headers: Mapping[str, str] | None = None,
) -> OproxyError:
    """Read an answer with an error status. `model` is the name the client asked for, `param` names the prompt."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        value = None
    words = _words(value) if value else None
    if words is None:
        text = body[:SHOWN].decode("utf-8", "replace").strip()
        page = not text or bool(_HTML.match(text))
        if status == 404 and (page or _NO_ROUTE.fullmatch(text)):
            words = Words("Not Found" if page else text)
        else:
            words = Words(f"The backend '{backend}' answered with status {status}{'.' if page else f': {text}'}")
    return _sorted_out(words, status, backend=backend, model=model, param=param, headers=headers)


def stream_error(value: Any, *, backend: str, model: str, param: str = "messages") -> OproxyError | None:
    """Return the error that a record of a running stream or a body with status 200 holds, None if it holds none."""
    if not isinstance(value, dict):
        return None
    if not (value.get("error") or value.get("object") == "error"):
        return None
    words = _words(value)
    if words is None:
        words = Words(f"The backend '{backend}' broke off with an error it does not name.")
    return _sorted_out(words, words.status or 502, backend=backend, model=model, param=param, headers=None)


def unreadable(body: bytes, backend: str) -> UpstreamFailed:
    """Return the error for an answer that is none. Of a page only its kind is told: it may be long."""
    shown = body[:SHOWN_ANSWER].decode("utf-8", "replace").strip()
    if shown.startswith("<"):
        said = ": it is a page of HTML or XML. Check its url in the config, and whether it asks for a login."
    else:
        said = f": {shown}" if shown else ": it is empty."
    return UpstreamFailed(f"The backend '{backend}' sent an answer that cannot be read{said}", backend=backend)


def _sorted_out(
    words: Words, status: int, *, backend: str, model: str, param: str, headers: Mapping[str, str] | None
) -> OproxyError:
    if (overflow := _overflow(words, status, param)) is not None:
        return overflow
    if status in (401, 403):
        # It is our key that it refused; the client's own key never leaves this program.
        return UpstreamFailed(
            f"The backend '{backend}' refused our key (status {status}): {words.message} "
            f"Check api_key or api_key_env under [backends.{backend}].",
            backend=backend,
        )
    if words.code == "model_not_found" or (status == 404 and _UNKNOWN_MODEL.search(words.message)):
        return ModelNotFound(model, hint=f"The backend '{backend}' does not have it." if backend else "")
    if status == 404 and model and _NO_ROUTE.fullmatch(words.message):
        # As it is, clients would take it for a model that does not exist. Without a model, it may be an object.
        return UpstreamFailed(
            f"The backend '{backend}' has nothing at the address it was asked at (status 404: {words.message}). "
            f"Check url under [backends.{backend}], and whether its server offers this endpoint.",
            backend=backend,
        )
    kept = dict(_kept(headers or {}))
    if status == 503:
        after = kept.get("retry-after", "")
        return UpstreamBusy(words.message, backend=backend, retry_after=int(after) if after.isdecimal() else 2)
    failed: OproxyError = UpstreamFailed(
        words.message,
        backend=backend,
        status=status,
        type=words.type or ("server_error" if status >= 500 else "invalid_request_error"),
        param=words.param,
        headers=kept,
    )
    # As it came, even where it came as null.
    failed.code = words.code
    return failed


def _overflow(words: Words, status: int, param: str) -> ContextTooLong | None:
    coded = words.code in _OVERFLOW_CODES or words.type in _OVERFLOW_CODES
    if not coded and status in (401, 403, 404, 429):
        return None
    limit, tokens = _whole(words.fields.get("n_ctx")), _whole(words.fields.get("n_prompt_tokens"))
    for pattern in _OVERFLOWS:
        if found := pattern.search(words.message):
            numbers = found.groupdict()
            if "other" in numbers:
                break
            limit = limit or _whole(numbers.get("limit"))
            tokens = tokens or _whole(numbers.get("tokens"))
            coded = True
            break
    if not coded:
        return None
    error = ContextTooLong(limit=limit, tokens=tokens, param=param)
    if words.message.startswith(_OPENAIS):
        error.message = words.message
        error.args = (words.message,)
    return error


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _words(value: Any) -> Words | None:
    """Find the words in a body: `{"error": {…}}`, `{"error": "…"}`, `{"object": "error", "message": …}` (vLLM),
    `{"detail": …}` (FastAPI), any of them in a list (Gemini)."""
    if isinstance(value, list):
        return _words(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    held = value.get("error")
    if isinstance(held, str) and held:
        return _of(value, held)
    if isinstance(held, dict):
        return _of(held, held.get("message"))
    return _of(value, value.get("message") or value.get("detail"))


def _of(fields: Mapping[str, Any], message: Any) -> Words | None:
    if not message and not any(fields.get(key) for key in ("type", "code")):
        return None
    text = message if isinstance(message, str) else msgspec.json.encode(message or dict(fields)).decode()
    code, status = fields.get("code"), _whole(fields.get("code"))
    if status is not None and not 400 <= status < 600:
        status = None
    return Words(
        message=text,
        type=_text(fields.get("type") or fields.get("error_type")),
        # llama.cpp and vLLM repeat the status here, which is no code of OpenAI's.
        code=_text(code) if status is None else None,
        param=_text(fields.get("param")),
        status=status,
        fields=fields,
    )


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _kept(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name, value in headers.items():
        lower = name.lower()
        if lower in KEPT_HEADERS or lower.startswith(LIMIT_HEADERS):
            yield lower, value
