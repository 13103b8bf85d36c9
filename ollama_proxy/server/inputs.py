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

from ..errors import NotFound
from ..model import Ask, File, Part, Text, ToolResult
from ..policy.books import Books
from .files import read_file
from .keys import ENGINE
from .shelf import seen_by

__all__ = ["names_files", "sent_with_files", "with_files"]

Fields = dict[str, msgspec.Raw]


class Reader:
    """Reads files for one request, each once."""

    def __init__(self, app: web.Application, books: Books) -> None:
        self._app = app
        self._owner = seen_by(books.caller)
        # As large as it could be if it stood in the request itself.
        self._most = app[ENGINE].snapshot.settings.server.max_body
        self._read: dict[str, tuple[str, str, str]] = {}

    async def read(self, id: str) -> tuple[str, str, str]:
        """Return a file as base64, with its media type and its name. Raises NotFound and Invalid."""
        if id not in self._read:
            data, name = await read_file(self._app, id, self._owner, self._most)
            type = mimetypes.guess_type(name)[0] or "application/octet-stream"
            self._read[id] = base64.b64encode(data).decode(), type, name
        return self._read[id]


async def with_files(app: web.Application, ask: Ask, books: Books) -> Ask:
    """Return a question with the content of the files it names. Raises NotFound and Invalid."""
    if not names_files(ask):
        return ask
    reader = Reader(app, books)
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
    reader = Reader(app, books)
    messages = msgspec.json.decode(raw)
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
