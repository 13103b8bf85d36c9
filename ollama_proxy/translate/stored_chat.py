"""Chat completions that are kept for the client (`store: true`): how one is written down, listed and shown.

A kept completion is the answer as the client got it with what was asked for beside it; its messages are those of the
request. Finds nothing and keeps nothing itself.
https://platform.openai.com/docs/api-reference/chat/list
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import NotFound
from ..events import Usage
from ..stored import Piece
from .chat_write import usage_body

__all__ = [
    "complete",
    "deleted",
    "identified",
    "matches",
    "messages",
    "not_found",
    "read",
    "with_metadata",
]

Fields = Mapping[str, Raw]

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_answer = msgspec.json.Decoder(dict[str, Any]).decode
_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)

# What was asked for is shown by these names; those that were not sent are null.
SHOWN = (
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "seed",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)
NULL = Raw(b"null")


# --- keeping ----------------------------------------------------------------------------------------------------------


def identified(body: bytes, id: str) -> bytes:
    """Return a foreign whole answer with our id: what is kept is found by it, and some servers give few ids out."""
    try:
        fields = _fields(body)
    except _BROKEN:
        return body
    return _joined({**fields, "id": Raw(_encode(id))}) if "choices" in fields else body


def read(body: bytes) -> dict[str, Any] | None:
    """Return a foreign whole answer, None if it is no chat completion."""
    try:
        found: dict[str, Any] = _answer(body)
    except _BROKEN:
        return None
    match found:
        case {"choices": [*choices]} if all(
            isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices
        ):
            return found
    return None


def complete(answer: Mapping[str, Any], *, id: str, model: str, created: int, usage: Usage | None) -> bytes:
    """Return a foreign answer, or a foreign stream that was put together, with the keys that OpenAI always sends and
    other servers may leave out."""
    choices = [
        {"index": place, "finish_reason": "stop", "logprobs": None}
        | choice
        | {"message": {"role": "assistant", "content": None, "refusal": None} | (choice.get("message") or {})}
        for place, choice in enumerate(answer.get("choices") or ())
    ]
    body = {"created": created, **answer, "id": id, "object": "chat.completion", "model": model, "choices": choices}
    if body.get("usage") is None:
        body["usage"] = usage_body(usage or Usage(0, 0))
    return _encode(body)


def document(body: bytes, asked: Fields, *, request_id: str) -> bytes:
    """Return what is kept of an answer: itself, and what was asked for."""
    fields: dict[str, Raw] = {"request_id": Raw(_encode(request_id)), "input_user": asked.get("user", NULL)}
    fields |= {name: asked.get(name, NULL) for name in SHOWN}
    metadata = asked.get("metadata", NULL)
    fields["metadata"] = Raw(b"{}") if bytes(metadata) == b"null" else metadata
    return _joined({**_fields(body), **fields})


def messages(asked: Fields, id: str) -> list[Piece]:
    """Return the request's messages as they are listed later, numbered."""
    return [
        Piece(piece, _encode(_message(message, piece)))
        for number, message in enumerate(_messages(asked["messages"]))
        for piece in (f"{id}-{number}",)
    ]


def _message(message: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return a message with all keys that OpenAI lists. Content in parts has a place of its own there."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    if parts is not None:
        content = "".join(part["text"] for part in parts if part.get("type") == "text") or None
    shown = {"id": id, "role": message.get("role"), "content": content, "name": None, "refusal": None}
    return {**shown, **message, "id": id, "content": content, "content_parts": parts}


def with_metadata(data: bytes, metadata: Mapping[str, str] | None) -> bytes:
    """Return a kept document with other metadata."""
    return _joined({**_fields(data), "metadata": Raw(_encode(metadata or {}))})


def _joined(fields: Fields) -> bytes:
    return b"{%b}" % b",".join([_encode(key) + b":" + bytes(value) for key, value in fields.items()])


# --- lists ------------------------------------------------------------------------------------------------------------


def matches(data: bytes, metadata: Mapping[str, str]) -> bool:
    """Return whether a kept document has all of this metadata."""
    if not metadata:
        return True
    have: dict[str, str] = msgspec.json.decode(_fields(data)["metadata"])
    return metadata.items() <= have.items()


def deleted(id: str) -> bytes:
    """Return the answer to a deletion."""
    return _encode({"object": "chat.completion.deleted", "id": id, "deleted": True})


def not_found(id: str) -> NotFound:
    """Return the error for a completion that is not there, or not this caller's."""
    return NotFound(f"Chat completion with id '{id[:100]}' not found.")
