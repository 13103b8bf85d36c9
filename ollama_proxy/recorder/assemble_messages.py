"""A stream of Anthropic's messages as the message it amounts to. Never raises, whatever the documents are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["is_messages", "message"]

# The text of each kind of delta, and the field of the block that it makes longer.
GROWS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


def is_messages(documents: Sequence[Any]) -> bool:
    """Tell whether these are the events of such a stream."""
    kinds = [document.get("type") if isinstance(document, dict) else None for document in documents]
    return "message_start" in kinds and all(isinstance(kind, str) for kind in kinds)


def message(documents: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Return the message as far as it came, with the error that ended it, and whether it came to its end."""
    whole: dict[str, Any] = {}
    blocks: dict[Any, dict[str, Any]] = {}
    pieces: dict[Any, dict[str, list[str]]] = {}
    done = False
    for document in documents:
        index = str(document.get("index"))
        match document:
            case {"type": "message_start", "message": dict(start)}:
                whole |= start
            case {"type": "content_block_start", "content_block": dict(block)}:
                blocks[index] = dict(block)
            case {"type": "content_block_delta", "delta": dict(delta)} if index in blocks:
                grow(blocks[index], pieces.setdefault(index, {}), delta)
            case {"type": "message_delta", "delta": dict(delta)}:
                whole |= delta
                whole["usage"] = {**fields(whole.get("usage")), **fields(document.get("usage"))}
            case {"type": "error", "error": error}:
                whole["error"] = error
            case {"type": "message_stop"}:
                done = True
    whole["content"] = [finished(block, pieces.get(index, {})) for index, block in blocks.items()]
    return whole, done


def fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def grow(block: dict[str, Any], pieces: dict[str, list[str]], delta: dict[str, Any]) -> None:
    match delta:
        case {"type": "signature_delta", "signature": str(signature)}:
            block["signature"] = signature
        case {"type": str(kind)} if kind in GROWS and isinstance(text := delta.get(GROWS[kind]), str):
            pieces.setdefault(GROWS[kind], []).append(text)


def finished(block: dict[str, Any], pieces: dict[str, list[str]]) -> dict[str, Any]:
    for name, texts in pieces.items():
        text = "".join(texts)
        if name != "partial_json":
            block[name] = text
        elif text:
            try:
                block["input"] = msgspec.json.decode(text)
            except UNREADABLE:
                # The stream broke off inside it.
                block["input"] = text
    return block
