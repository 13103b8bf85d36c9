"""Decoding and checking the bodies of requests: small ones at once, large ones in a thread."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from ..policy.books import Books
from ..translate import validate
from .keys import WORKERS

__all__ = ["decode_body"]

S = TypeVar("S", bound=msgspec.Struct)


async def decode_body(
    app: web.Application, body: bytes, shape: type[S], books: Books
) -> tuple[S, dict[str, msgspec.Raw]]:
    """Decode a body, and also its top-level keys; note its size in the books, by which later steps know whether their
    work belongs in a thread. Raises errors.Invalid."""
    books.size = size = len(body)
    return await app[WORKERS].run(size, validate.decode, body, shape)
