"""The handlers of files: taken in, listed, sent out, deleted. And what other parts want of them.

A file is its object in the store and its bytes in `blobs`, by the same id. The object of a file that is being taken in
is hidden and expires soon, so that whatever is killed half-way is forgotten with its bytes.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from aiohttp import web

from ..blobs import Sink
from ..errors import InsufficientStorage, Invalid, NotFound, Overloaded
from ..stored import Page, Stored
from ..translate import files, paging, query
from ..translate.openapi import Route
from ..translate.shapes_files import CreateFileRequest
from ..translate.shapes_queries import FilesQuery
from .forms import read_form, refuse_large
from .keys import BLOBS, BOOKS, ENGINE, WALL
from .reply import json_bytes
from .row import Row
from .shelf import kept, new_id, owner_of, sees

__all__ = ["ROWS", "file_of", "folder_of", "keep_file", "keep_sink", "read_file", "refuse_full"]

Record = dict[str, Any]

# The statuses of what is kept: hidden until its bytes lie there.
NEW, READY = "new", "processed"
# Seconds after which a file that is still hidden is forgotten.
HIDDEN = 3600.0


def folder_of(configured: str) -> Path:
    """Return the folder of the files: the one that [files] folder names, or one in the data folder."""
    return Path(configured).expanduser() if configured else Path(platformdirs.user_data_path("oproxy")) / "files"


# --- for other parts --------------------------------------------------------------------------------------------------


async def keep_file(
    app: web.Application, *, id: str, owner: str, filename: str, purpose: str, expires: float | None = None
) -> Record:
    """Make a file of bytes that already lie at `blobs.path(id)`; returns its object. `expires` is in epoch seconds."""
    size = await asyncio.to_thread(lambda: app[BLOBS].path(id).stat().st_size)
    thing, record = object_of(app, id, owner, filename, purpose, size, expires)
    await kept(app, lambda objects: objects.add(thing))
    return record


async def keep_sink(
    app: web.Application,
    sink: Sink,
    *,
    id: str,
    owner: str,
    filename: str,
    purpose: str,
    expires: float | None = None,
) -> Record:
    """Finish what was written to a sink, and make a file of it; returns its object."""
    thing, record = object_of(app, id, owner, filename, purpose, sink.size, expires)
    hidden = msgspec.structs.replace(thing, status=NEW, expires=thing.created + HIDDEN)
    await kept(app, lambda objects: objects.add(hidden))
    await sink.close()
    if not await kept(app, lambda objects: objects.change(id, kind="file", owner=owner, status=READY, expires=expires)):
        raise Overloaded("The file could not be kept.", wait=1.0, code="store_unavailable")
    return record


def object_of(
    app: web.Application, id: str, owner: str, filename: str, purpose: str, size: int, expires: float | None
) -> tuple[Stored, Record]:
    now = app[WALL]()
    until = int(expires) if expires is not None else None
    record = files.write_file(id=id, size=size, created=int(now), expires=until, filename=filename, purpose=purpose)
    thing = Stored(
        id=id,
        kind="file",
        owner=owner,
        created=now,
        data=msgspec.json.encode(record),
        expires=expires,
        status=READY,
        parent=purpose,
    )
    return thing, record


async def file_of(app: web.Application, id: str, owner: str | None) -> Record | None:
    """Return a file's object, or None if this owner (None: anybody) has no such file."""
    thing = await kept(app, lambda objects: objects.get(id, kind="file", owner=owner))
    if thing is None or thing.status != READY:
        return None
    record: Record = msgspec.json.decode(thing.data)
    return record


async def read_file(
    app: web.Application, id: str, owner: str | None, most: int, take: Callable[[int], None] = lambda size: None
) -> tuple[bytes, str]:
    """Return a file's bytes and its name, to be given to a model; `take` gets its size before it is read, and may
    refuse it. Raises NotFound, and Invalid for more than `most` bytes."""
    record = await file_of(app, id, owner)
    if record is None:
        raise files.no_file(id)
    if record["bytes"] > most:
        raise Invalid(
            f"The file {id} is too large to be read by a model: it has {record['bytes']} bytes, and may have {most}.",
            param="file_id",
            code="file_too_large",
        )
    take(record["bytes"])
    try:
        data = await asyncio.to_thread(app[BLOBS].path(id).read_bytes)
    except FileNotFoundError:
        raise files.no_file(id) from None
    return data, record["filename"]


async def refuse_full(app: web.Application, size: int) -> None:
    """Refuse what would not fit beside the other files. Raises InsufficientStorage."""
    total = app[ENGINE].snapshot.settings.files.max_total
    used = await asyncio.to_thread(app[BLOBS].size)
    if used + size > total:
        raise InsufficientStorage(
            f"There is no room for this file: it has {size} bytes, {used} are taken, and all files together may take "
            f"{total} (max_total under [files]). Delete some, or raise it.",
            code="storage_limit_exceeded",
        )


# --- handlers ---------------------------------------------------------------------------------------------------------


async def create_file(request: web.Request) -> web.Response:
    """POST /v1/files"""
    app = request.app
    limits = app[ENGINE].snapshot.settings.files
    refuse_large(request, limits.max_size, "max_size under [files]")
    await refuse_full(app, request.content_length or 0)
    id = new_id(app, "file-", 24)
    async with app[BLOBS].open_new(id, total=limits.max_total) as sink:
        form = await read_form(
            request,
            "file",
            sink,
            most=limits.max_size,
            setting="max_size under [files]",
            begin=files.check_begun,
        )
        asked, request[BOOKS].ignored = files.parse_form(form.fields)
        if not sink.size:
            raise Invalid("File is empty.", param="file", code="empty_file")
        files.check_file(asked.purpose, form.filename, sink.size)
        owner = owner_of(request[BOOKS].caller)
        until = files.expiry(asked.purpose, asked.expires_after, int(app[WALL]()))
        record = await keep_sink(
            app, sink, id=id, owner=owner, filename=form.filename, purpose=asked.purpose, expires=until
        )
    return json_bytes(msgspec.json.encode(record))


async def list_files(request: web.Request) -> web.Response:
    """GET /v1/files"""
    asked, request[BOOKS].ignored = query.parse(request.query.items(), FilesQuery)
    owner = sees(request)

    page: Page[Stored] | None = await kept(
        request.app,
        lambda objects: objects.page(
            "file",
            owner=owner,
            after=asked.after,
            before=asked.before,
            limit=asked.limit,
            ascending=asked.ascending,
            statuses=(READY,),
            parent=asked.purpose or None,
        ),
    )
    if page is None:
        raise paging.unknown_cursor(asked)
    return json_bytes(
        paging.write_page([each.data for each in page.data], [each.id for each in page.data], more=page.more)
    )


async def found(request: web.Request) -> Record:
    """Return the object of the file that the URL names. Raises NotFound."""
    id = request.match_info["file_id"]
    record = await file_of(request.app, id, sees(request))
    if record is None:
        raise files.no_file(id)
    return record


async def retrieve_file(request: web.Request) -> web.Response:
    """GET /v1/files/{file_id}"""
    return json_bytes(msgspec.json.encode(await found(request)))


async def delete_file(request: web.Request) -> web.Response:
    """DELETE /v1/files/{file_id}"""
    app, id, owner = request.app, request.match_info["file_id"], sees(request)
    now = app[WALL]()
    # Over first, which of two who delete it only one can make it; then as whatever is over.
    if not await kept(app, lambda objects: objects.change(id, kind="file", owner=owner, only=(READY,), expires=now)):
        raise files.no_file(id)
    await asyncio.to_thread(app[BLOBS].remove, id)
    await kept(app, lambda objects: objects.forget([id]))
    return json_bytes(msgspec.json.encode(files.write_deleted(id)))


async def file_content(request: web.Request) -> web.StreamResponse:
    """GET /v1/files/{file_id}/content"""
    record = await found(request)
    path = request.app[BLOBS].path(record["id"])
    if not await asyncio.to_thread(path.is_file):
        # Daemons may share a database, but each keeps its bytes on its own disk.
        raise NotFound(
            f"The content of '{record['id']}' is not kept on this machine. Ask the daemon that it was uploaded to.",
            param="id",
        )
    headers = {
        "content-type": "application/octet-stream",
        "content-disposition": files.disposition(record["filename"]),
        # What is in it is a client's; no browser shall take it for a page of ours.
        "x-content-type-options": "nosniff",
    }
    return web.FileResponse(path, headers=headers)


def media_type(filename: str) -> str | None:
    """Return what the name of a file says of its type."""
    return mimetypes.guess_type(filename)[0]


ROWS: tuple[Row, ...] = (
    Row(
        Route("POST", "/v1/files", "Upload a file", None, "Files", form=CreateFileRequest, file="file", more=(507,)),
        create_file,
    ),
    Row(Route("GET", "/v1/files", "List the files", None, "Files", query=FilesQuery), list_files),
    Row(Route("GET", "/v1/files/{file_id}", "Describe a file", None, "Files"), retrieve_file),
    Row(Route("DELETE", "/v1/files/{file_id}", "Delete a file", None, "Files"), delete_file),
    Row(Route("GET", "/v1/files/{file_id}/content", "Download a file", None, "Files"), file_content),
)
