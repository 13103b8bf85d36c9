"""What is kept for a client from one request to the next: responses, conversations, files, batches.

An object belongs to an owner (a key's id, "" where nobody is asked for one) and is a JSON document with what it is
found by beside it; what it holds in order (a conversation's items) are its pieces. Plain values; `store.objects` keeps
them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

__all__ = ["Link", "Page", "Piece", "Stored"]

T = TypeVar("T")


class Stored(Struct, frozen=True, kw_only=True):
    """One object. `created` and `expires` are epoch seconds (None: never), `data` is its JSON. `kind` tells what it is
    ("response", "file" …), `status` and `parent` are whatever a kind is looked for by."""

    id: str
    kind: str
    owner: str
    created: float
    data: bytes
    expires: float | None = None
    status: str = ""
    parent: str = ""


class Piece(Struct, frozen=True):
    """One of the things an object holds in order; `data` is its JSON."""

    id: str
    data: bytes


class Link(Struct, frozen=True):
    """One object of a line in which each names the one before it as its `parent`, with the pieces that it holds."""

    id: str
    parent: str
    status: str
    pieces: tuple[Piece, ...]


class Page(Struct, Generic[T], frozen=True):
    """A part of a list, and whether there is more behind it."""

    data: list[T]
    more: bool
