"""A body as it is put into a line of the log: JSON as it came where nothing has to be taken out of it, else text.

What was done to it is named: `media` replaced, `redacted`, `cut`, or no JSON (`text`). Only a body to which none of it
was done can be sent again.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ..policy.redact import has_escapes, redact_json, unescaped
from .media import described, without_media
from .patterns import Patterns

__all__ = ["LARGEST", "Body", "kept"]

# Bytes of a body that are kept.
LARGEST = 1024 * 1024
# Bytes beyond that are looked through too: a key may lie across the cut.
MARGIN = 64 * 1024

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Body(msgspec.Struct, frozen=True):
    """`json` is the body as JSON on one line, `done` what was done to it."""

    json: bytes
    done: tuple[str, ...] = ()


def kept(data: bytes, patterns: Patterns, largest: int = LARGEST, *, clean: bool = False) -> Body:
    """Return a body as it may be written down. `clean`: whoever calls has seen that it holds no keys, or will."""
    done = []
    if has_escapes(data):
        # The same JSON, in which media and keys are seen.
        data = unescaped(data)
    if (smaller := without_media(data)) is not data:
        data = smaller
        done.append("media")
    cut = False
    if not patterns and len(data) > largest + MARGIN:
        # What comes after is not kept: it need not be looked through for keys, which takes seconds for a large body.
        data, cut = data[: largest + MARGIN], True
    if patterns or not clean:
        if (blank := blanked(data, patterns)) is None:
            return Body(b'"[redacted]"', (*done, "redacted"))
        if blank != data:
            data = blank
            done.append("redacted")
    if cut:
        # The end may hold half a key that the other half would have given away.
        largest = min(largest, len(data) - MARGIN)
    if cut or len(data) > largest:
        return Body(text(data[:largest]), (*done, "cut"))
    try:
        if data.find(b"\n") >= 0 or data.find(b"\r") >= 0:
            data = msgspec.json.format(data, indent=-1)
        else:
            msgspec.json.decode(data, type=msgspec.Raw)
        if not data.isascii():
            data.decode()
    except UNREADABLE:
        return Body(text(data), (*done, "text"))
    return Body(data, tuple(done))


def blanked(data: bytes, patterns: Patterns) -> bytes | None:
    """Return the body without secrets; None where the patterns cannot be applied."""
    # Twice, because a pattern's work is decoded and encoded again, which may bring a key to light.
    data = redact_json(data)
    if not patterns:
        return data
    if len(data) > 2 * LARGEST:
        return None
    try:
        value: Any = msgspec.json.decode(data)
    except UNREADABLE:
        return redact_json(patterns.text(data.decode("utf-8", "replace")).encode())
    found = patterns.value(value)
    return data if found == value else redact_json(msgspec.json.encode(found))


def text(data: bytes) -> bytes:
    """Return what is no JSON as a JSON string; what is no text either by its size and hash."""
    if b"\0" in data:
        return described(hashlib.sha256(data).hexdigest(), len(data), "application/octet-stream")
    return msgspec.json.encode(data.decode("utf-8", "replace"))
