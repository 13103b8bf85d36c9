"""Work that no request waits for: its books opened, closed and recorded as the middleware does it for requests, and
whose work it is found out anew.
"""

from __future__ import annotations

import logging

from aiohttp import web

from ..account import Caller
from ..errors import Unauthorized
from ..policy.books import Books
from ..recorder import Record
from ..recorder.daemonlog import request_id
from .keys import CLERK, CLOCK, KEYRING, MEMORY, NEW_ID, RECORDER, SAY, WALL
from .line import request_line

__all__ = ["caller_again", "close_books", "open_books"]

log = logging.getLogger(__name__)


def open_books(app: web.Application, endpoint: str, *, id: str = "") -> Books:
    """Return the books of a piece of work. `id`: it goes by that request's id. Whoever opens them releases what they
    hold."""
    books = Books(app[CLOCK](), id=id or f"req_{app[NEW_ID]()[:32]}", at=app[WALL](), memory=app[MEMORY])
    books.endpoint = endpoint
    request_id.set(books.id)
    return books


async def close_books(
    app: web.Application, books: Books, status: int, body: bytes, answer: bytes, *, aloud: bool = True
) -> None:
    """Close the books of work that has ended, and record it. `aloud`: say its line, as of a request."""
    books.status, books.ended = status, app[CLOCK]()
    await app[CLERK].close(books)
    if books.entry is not None and (recorder := app.get(RECORDER)) is not None:
        headers = {"user-agent": books.agent} if books.agent else {}
        recorder.record(
            Record(books.entry, "POST", books.endpoint, body, answer=answer, ignored=books.ignored, headers=headers)
        )
    if aloud:
        try:
            app[SAY](request_line("POST", books.endpoint, books, app[WALL]()))
        except Exception:
            log.exception("the line of %s could not be printed", books.id)


def caller_again(app: web.Application, owner: str, before: Caller) -> Caller:
    """Return who asked: the key `owner` as it is now. Raises Unauthorized once it opens nothing."""
    if not owner:
        return before
    now = app[WALL]()
    for key in app[KEYRING].all():
        if key.id == owner and key.revoked is None and (key.expires is None or key.expires > now):
            return Caller(name=key.name, key=key, address=before.address, admin=key.admin)
    raise Unauthorized("The API key that asked for this is not valid any more.", code="invalid_api_key")
