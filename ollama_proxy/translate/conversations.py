"""Conversations and their items on the wire: items checked and brought into the form they are kept in, and what is
answered.

The items are the Responses API's (`responses_items`). Finds nothing and keeps nothing itself.
https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import Invalid, NotFound
from ..stored import Piece
from . import responses_items, shapes_responses
from .paging import write_page
from .validate import convert, wrong_type

__all__ = [
    "deleted",
    "document",
    "duplicate",
    "item_not_found",
    "new_items",
    "not_found",
    "pieces_of",
    "with_metadata",
    "write_items",
]

Item = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
# Ids are made by us or by OpenAI; no longer one is worth a row.
LONGEST_ID = 512


# --- conversations ----------------------------------------------------------------------------------------------------


def document(id: str, created: float, metadata: Mapping[str, str] | None) -> bytes:
    """Return a conversation as JSON, which is also how it is kept."""
    return _encode(
        {"id": id, "object": "conversation", "created_at": int(created), "metadata": dict(metadata or {})},
    )


def with_metadata(data: bytes, metadata: Mapping[str, str] | None) -> bytes:
    """Return a kept conversation with other metadata."""
    return _encode({**_fields(data), "metadata": dict(metadata or {})})


def deleted(id: str) -> bytes:
    """Return the answer to a deletion."""
    return _encode({"id": id, "object": "conversation.deleted", "deleted": True})


def not_found(id: str) -> NotFound:
    """Return the error for a conversation that is not there, or not this caller's."""
    return NotFound(f"Conversation with id '{id[:100]}' not found.")


# --- items ------------------------------------------------------------------------------------------------------------


def new_items(items: Sequence[Item], new_id: Callable[[str], str]) -> list[Piece]:
    """Check items that a client adds, and return them as they are kept. Raises errors.Invalid, and NotFound for a
    reference: there is nothing to refer to but what is in the conversation already."""
    for place, item in enumerate(items):
        _check(item, f"items[{place}]")
    pieces = pieces_of(responses_items.canonical(items, new_id))
    seen: set[str] = set()
    for piece in pieces:
        if piece.id in seen:
            raise duplicate(piece.id)
        seen.add(piece.id)
    return pieces


def _check(item: Item, path: str) -> None:
    kind = responses_items.kind_of(item, path)
    if kind in shapes_responses.ITEMS:
        convert(item, shapes_responses.ITEMS[kind], path)
    id = item.get("id")
    if kind == "item_reference":
        raise NotFound(f"Item with id '{str(id)[:100]}' not found.")
    if id is not None and not isinstance(id, str):
        raise wrong_type(f"{path}.id", "a string", id)
    if id is not None and "\0" in id:
        raise Invalid(
            f"Invalid '{path}.id': string does not match pattern. Expected a string without NUL characters.",
            param=f"{path}.id",
            code="invalid_value",
        )
    if id is not None and len(id) > LONGEST_ID:
        raise Invalid(
            f"Invalid '{path}.id': string too long. Expected a string with maximum length {LONGEST_ID}, but got a "
            f"string with length {len(id)} instead.",
            param=f"{path}.id",
            code="string_above_max_length",
        )


def pieces_of(items: Iterable[Item]) -> list[Piece]:
    """Return canonical items as pieces."""
    return [Piece(item["id"], _encode(item)) for item in items]


def write_items(pieces: Sequence[Piece], *, more: bool = False) -> bytes:
    """Return a list of items."""
    return write_page([piece.data for piece in pieces], [piece.id for piece in pieces], more=more)


def duplicate(id: str) -> Invalid:
    """Return OpenAI's error for an item that comes twice, or is there already."""
    return Invalid(
        f"Duplicate item found with id {id[:100]}. Remove duplicate items from your input and try again.",
        param="items",
    )


def item_not_found(id: str, conversation: str) -> NotFound:
    """Return the error for an item that is not in the conversation."""
    return NotFound(f"Item with id '{id[:100]}' not found in conversation '{conversation[:100]}'.")
