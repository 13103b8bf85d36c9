"""Files that a conversation names by id: what is in them is put in their place, before a model is asked.

Only for the model: what is kept and recorded of a request stays as the client wrote it.
"""

from __future__ import annotations

import base64
import mimetypes
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from ..backends.images import COST
from ..errors import Invalid, NotFound
from ..model import Ask, File, Part, Text, ToolResult
from ..policy.books import Books
from ..translate.piecewise import decode_pieces
from .files import read_file
from .keys import ENGINE, WORKERS
from .shelf import seen_by

__all__ = ["Reader", "names_files", "sent_with_files", "with_files"]

Fields = dict[str, msgspec.Raw]


class Reader:
    """Reads the `owner`'s files (None: anybody's) for one request, each once."""

    def __init__(self, app: web.Application, books: Books, owner: str | None) -> None:
        self._app = app
        self._owner = owner
        # All together as large as they could be if they stood in the request itself.
        self._left = self._most = app[ENGINE].snapshot.settings.server.max_body
        self._hold = books.hold
        self._read: dict[str, tuple[str, str, str]] = {}

    async def read(self, id: str) -> tuple[str, str, str]:
        """Return a file as base64, with its media type and its name. It counts as often as it is asked for. Raises
        NotFound, Invalid, Overloaded and TooLarge."""
        known = self._read.get(id)
        if known is not None:
            self._take(len(known[0]) * 3 // 4)
            return known
        data, name = await read_file(self._app, id, self._owner, self._most, self._take)
        type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        known = self._read[id] = base64.b64encode(data).decode(), type, name
        return known

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Invalid(
                f"The files of the request are larger than {self._most} bytes together (max_body under [server]).",
                param="file_id",
                code="file_too_large",
            )
        self._hold.take(COST * size)


async def with_files(app: web.Application, ask: Ask, books: Books) -> Ask:
    """Return a question with the content of the files it names. Raises NotFound and Invalid."""
    if not names_files(ask):
        return ask
    reader = Reader(app, books, seen_by(books.caller))
    messages = [
        replace(message, parts=tuple([await filled(reader, part) for part in message.parts]))
        for message in ask.messages
    ]
    return replace(ask, messages=tuple(messages))


def names_files(ask: Ask) -> bool:
    """Return whether a question names files. Loops, since every request is looked through."""
    for message in ask.messages:
        for part in message.parts:
            if type(part) is not Text and named(part):
                return True
    return False


def named(part: Part) -> bool:
    """Return whether a part is a file, or has one in it, that is given by its id alone."""
    match part:
        case File(data=None, file_id=str()):
            return True
        case ToolResult(parts=parts):
            return any(named(each) for each in parts)
    return False


async def filled(reader: Reader, part: Any) -> Any:
    match part:
        case File(data=None, file_id=str() as id):
            data, type, name = await reader.read(id)
            return replace(part, data=data, media_type=type, filename=part.filename or name)
        case ToolResult(parts=parts):
            return replace(part, parts=tuple([await filled(reader, each) for each in parts]))
    return part


async def sent_with_files(app: web.Application, fields: Fields, books: Books) -> Fields:
    """Return the fields of a chat request that is passed on, with the content of our files in it. An id that is none of
    ours may be one of the server's."""
    raw = bytes(fields.get("messages", b""))
    if b'"file_id"' not in raw:
        return fields
    reader = Reader(app, books, seen_by(books.caller))
    messages = await app[WORKERS].run(len(raw), decode_pieces, raw, Any)
    changed = False
    for message in messages:
        parts = message.get("content")
        for part in parts if isinstance(parts, list) else ():
            file = part.get("file")
            if part.get("type") == "file" and isinstance(id := file.get("file_id"), str) and not file.get("file_data"):
                try:
                    data, type, name = await reader.read(id)
                except NotFound:
                    continue
                del file["file_id"]
                file["file_data"] = f"data:{type};base64,{data}"
                file["filename"] = file.get("filename") or name
                changed = True
    return {**fields, "messages": msgspec.Raw(msgspec.json.encode(messages))} if changed else fields
