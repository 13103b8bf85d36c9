"""Ollama's error answers and error lines, read into our refusals.

An `error` is a string, and that string may be JSON again: what llama-server said, passed on raw.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec

from ..errors import (
    ClientGone,
    ContextTooLong,
    Invalid,
    ModelNotFound,
    OproxyError,
    Unsupported,
    UpstreamBusy,
    UpstreamFailed,
)

__all__ = ["read", "read_text"]

# Every way Ollama says that a prompt does not fit; the numbers, where it gives them, are found separately.
TOO_LONG = (
    "exceeds the available context size",
    "exceed_context_size_error",
    "the prompt is longer than the context length",
    "the input length exceeds the context length",
    "input is too large to process",
)
NUMBERS = re.compile(r"\((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
# What /api/pull says of a name that its registry does not have.
NO_MANIFEST = "pull model manifest: file does not exist"
MISSING = re.compile(r"model ['\"](?P<name>[^'\"]*)['\"] not found")
LACKS = re.compile(
    r"does not support (?P<what>tools|thinking|insert|chat|generate|completion|embeddings?|vision|images?|multimodal)\b"
)
OPTION = re.compile(r"option ['\"](?P<name>\w+)['\"] must be of type (?P<type>\w+)")
# The parameter of OpenAI's that asks for what a model lacks.
PARAMS = {
    "tools": "tools",
    "thinking": "reasoning_effort",
    "insert": "suffix",
    "chat": "model",
    "generate": "model",
    "multimodal": "messages",
    "vision": "messages",
    "image": "messages",
    "images": "messages",
    "completion": "model",
    "embedding": "model",
    "embeddings": "model",
}
# What Ollama's word for an ability means to a client, where it is not plain.
WORDS = {"multimodal": "images", "insert": "filling in text (insert)", "generate": "completions"}
# Refusals of a value that was passed on as the client sent it, and the parameter it came in.
VALUES = (
    ("logprobs is not supported", "logprobs"),
    ("top_logprobs must be", "top_logprobs"),
    ("invalid think value", "think"),
    ("think must be", "think"),
    ("time: invalid duration", "keep_alive"),
    ("time: unknown unit", "keep_alive"),
    ("time: missing unit", "keep_alive"),
    ("Unsupported type:", "keep_alive"),
    ("typical_p is no longer supported", "options.typical_p"),
    ("invalid model name", "model"),
    ("model is required", "model"),
)
# Go's own words for a value of a wrong type; older servers write no dot before the struct's name.
GO_FIELD = re.compile(
    r"cannot unmarshal (\S+) into Go struct field \.?(?:\w+\.)?(?:\w*Request\.)?(?P<field>[\w.]+) of type"
)
SCHEMA = (
    "cannot resolve $ref",
    "unrecognized type",
    "invalid JSON schema",
    "failed to parse grammar",
    "Failed to parse grammar",
    "JSON schema conversion",
    "invalid format:",
    "JSON schema error",
)
IMAGE = ("image input is not supported", "does not support image", "illegal base64", "Failed to load image")


def read(status: int, body: bytes, *, backend: str, model: str, param: str) -> OproxyError:
    """Read an answer with an error status."""
    try:
        value = msgspec.json.decode(body)
        text = value["error"] if isinstance(value, dict) and "error" in value else value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
    return read_text(text, status=status, backend=backend, model=model, param=param)


def read_text(error: Any, *, status: int, backend: str, model: str, param: str = "messages") -> OproxyError:
    """Read what an `error` holds: text, text that is JSON, or an object."""
    text, inner = unwrapped(error)
    text = one_line(text)
    if any(sign in text or sign == inner.get("type") for sign in TOO_LONG):
        found = NUMBERS.search(text)
        tokens = number(inner.get("n_prompt_tokens")) or (int(found[1]) if found else None)
        limit = number(inner.get("n_ctx")) or (int(found[2]) if found else None)
        return ContextTooLong(limit=limit, tokens=tokens, param=param)
    if (found := MISSING.search(text)) or NO_MANIFEST in text:
        name = (found["name"] if found else "") or model
        return ModelNotFound(model, hint=f"To fetch it: `oproxy models pull {shlex.quote(name)}`.")
    if (refusal := of_value(text, model, param)) is not None:
        return refusal
    if status == 500 and (code := number(inner.get("code"))) is not None and 400 <= code < 600:
        # llama-server's own status, which a stream's error line has no other place for.
        status = code
    return by_status(status, text or f"status {status}", backend=backend)


def of_value(text: str, model: str, param: str) -> OproxyError | None:
    """Return the refusal of something that the client sent and Ollama or the model does not take; None for others."""
    if found := LACKS.search(text):
        what = found["what"]
        return Unsupported(f"The model `{model}` does not support {WORDS.get(what, what)}.", param=PARAMS.get(what))
    if found := OPTION.search(text):
        name = found["name"]
        return Invalid(
            f"Invalid type for 'options.{name}': expected {found['type']}.",
            param=f"options.{name}",
            code="invalid_type",
        )
    if found := GO_FIELD.search(text):
        field = found["field"]
        return Invalid(f"Invalid type for '{field}': {found[1]} cannot be used here.", param=field, code="invalid_type")
    for sign, culprit in VALUES:
        if sign in text:
            return Invalid(f"Invalid value for '{culprit}': {text}", param=culprit, code="invalid_value")
    if any(sign in text for sign in SCHEMA):
        return Invalid(
            f"Invalid schema for response_format: {text}", param="response_format", code="invalid_json_schema"
        )
    if "no input provided" in text:
        return Invalid(f"The model `{model}` was left nothing to answer.", param=param, code="invalid_value")
    if any(sign in text for sign in IMAGE):
        return Invalid(f"The model `{model}` could not use an image: {text}", param=param, code="invalid_image")
    return None


def by_status(status: int, text: str, *, backend: str) -> OproxyError:
    if status == 503 or "server busy" in text or "Loading model" in text:
        return UpstreamBusy(f"The backend '{backend}' is busy: {text}", backend=backend)
    if status == 499:
        return ClientGone()
    if status in (400, 422):
        return Invalid(text)
    if status == 429:
        return UpstreamBusy(f"The backend '{backend}' takes no more requests for now: {text}", backend=backend)
    if status in (401, 403):
        # Not the client's key is wrong but the backend's account, so its status must not look like ours. A bare 403
        # is what Ollama answers to a Host that it does not know.
        return UpstreamFailed(f"The backend '{backend}' refused the request ({status}): {text}", backend=backend)
    if status == 501:
        return Unsupported(f"The backend '{backend}' cannot do this: {text}", param="model")
    return UpstreamFailed(f"The backend '{backend}' failed: {text}", backend=backend)


def unwrapped(error: Any) -> tuple[str, dict[str, Any]]:
    """Return the innermost text and the object around it, however deep it is wrapped in JSON."""
    inner: dict[str, Any] = {}
    for _ in range(4):
        if isinstance(error, str) and error.lstrip().startswith("{"):
            try:
                error = msgspec.json.decode(error)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                break
        if isinstance(error, dict):
            if "error" in error:
                error = error["error"]
                continue
            inner = error
            error = error.get("message", "")
            continue
        break
    return (error if isinstance(error, str) else str(error)), inner


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# A path of the machine is nobody's business outside of it.
PATH = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?(?:[/\\][\w.@~-]+){3,}")


def one_line(text: str) -> str:
    # A Go program that panics prints its stack after this word.
    text = text.partition("goroutine ")[0]
    return PATH.sub("…", " ".join(text.split()))[:500]
