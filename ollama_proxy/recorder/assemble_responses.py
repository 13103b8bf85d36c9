"""A stream of the Responses API as the response it amounts to: its last event holds it whole. Never raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["is_response", "last_response", "response"]

START = b"event: response.created\n"
LAST = b"\nevent: response."
ENDS = ("response.completed", "response.incomplete", "response.failed")
# The field of an item that each kind of delta makes longer.
GROWS = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


def last_response(data: bytes) -> dict[str, Any] | None:
    """Return the response in the last event of a whole stream, without reading the others; None if it is not whole."""
    place = data.rfind(LAST) if data.startswith(START) else -1
    if place < 0:
        return None
    name, _, document = data[place + 1 :].partition(b"\ndata: ")
    if name.removeprefix(b"event: ").decode("ascii", "replace") not in ENDS:
        return None
    try:
        found: dict[str, Any] = msgspec.json.decode(document)["response"]
    except (*UNREADABLE, KeyError, TypeError):
        return None
    return found


def is_response(documents: Sequence[Any]) -> bool:
    """Tell whether these are the events of such a stream."""
    match documents:
        case [{"type": "response.created", "response": dict()}, *_]:
            return all(isinstance(each, dict) for each in documents)
    return False


def response(documents: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Return the response as far as it came, and whether it came to its end."""
    whole: dict[str, Any] = dict(documents[0]["response"])
    items: dict[Any, dict[str, Any]] = {}
    for document in documents[1:]:
        match document:
            case {"type": kind, "response": dict(last)} if kind in ENDS:
                return last, True
            case {"type": "response.output_item.added" | "response.output_item.done", "item": dict(item)}:
                items[str(document.get("output_index"))] = dict(item)
            case {"type": str(kind), "delta": str(text)}:
                grow(items.get(str(document.get("output_index"))), kind, text)
            case {"type": "error", "error": error}:
                whole["error"] = error
    whole["output"] = list(items.values())
    return whole, False


def grow(item: dict[str, Any] | None, kind: str, text: str) -> None:
    """Add a piece to an item that is not complete."""
    if item is None:
        return
    if (name := GROWS.get(kind)) is not None:
        item[name] = str(item.get(name) or "") + text
        return
    part = "summary_text" if "summary" in kind else kind.removeprefix("response.").removesuffix(".delta")
    place = "summary" if part == "summary_text" else "content"
    parts = item.get(place)
    if not isinstance(parts, list) or not parts:
        parts = item[place] = [{"type": part, "text": ""}]
    elif parts[-1].get("type") != part:
        item[place] = parts = [*parts, {"type": part, "text": ""}]
    parts[-1]["text"] += text
