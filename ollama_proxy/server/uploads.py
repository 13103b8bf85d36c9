"""The handlers of uploads: big files that come in parts.

A part is kept as it comes, on the disk under an id of its own; completing an upload joins the parts into a file there.
What is not completed in an hour is over, and its parts go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from ..errors import Invalid, OproxyError
from ..stored import Piece, Stored
from ..translate import files, validate
from ..translate.openapi import Route
from ..translate.shapes_files import PART_MAX, CompleteUploadRequest, CreateUploadRequest, ExpiresAfter
from .files import keep_sink, refuse_full
from .forms import read_form, refuse_large
from .generate import body_of
from .keys import BLOBS, BOOKS, ENGINE, TASKS, UPLOADS, WALL
from .reply import json_bytes
from .row import Row
from .shelf import kept, new_id, owner_of, sees

__all__ = ["ROWS", "expire"]

Record = dict[str, Any]

PENDING, COMPLETED, CANCELLED, EXPIRED = "pending", "completed", "cancelled", "expired"
# Nobody is told this as a status: it soon has another.
BUSY = "being completed or cancelled"
# Seconds an upload may take.
TIME = 3600
# Seconds it is remembered after that, so that who comes late is told what became of it.
REMEMBERED = 86400
PART_LIMIT = "the most that a part may have"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an upload. `file` is its file's object, when it is completed."""

    id: str
    owner: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    mime_type: str
    expires_after: ExpiresAfter | None = None
    file: Record | None = None


class Part(msgspec.Struct, frozen=True):
    """What is kept of a part."""

    size: int


async def create_upload(request: web.Request) -> web.Response:
    """POST /v1/uploads"""
    app = request.app
    asked, fields = validate.decode(await body_of(request), CreateUploadRequest)
    request[BOOKS].ignored = validate.ignored_keys(fields, CreateUploadRequest)
    files.check_purpose(asked.purpose)
    files.check_file(asked.purpose, asked.filename, asked.bytes)
    await refuse_full(app, asked.bytes)
    now = app[WALL]()
    upload = Upload(
        id=new_id(app, "upload_", 24),
        owner=owner_of(request[BOOKS].caller),
        bytes=asked.bytes,
        created_at=int(now),
        expires_at=int(now) + TIME,
        filename=files.clean_name(asked.filename),
        purpose=asked.purpose,
        mime_type=asked.mime_type,
        expires_after=asked.expires_after,
    )
    thing = Stored(
        id=upload.id,
        kind="upload",
        owner=upload.owner,
        created=now,
        data=msgspec.json.encode(upload),
        expires=now + TIME + REMEMBERED,
        status=PENDING,
    )
    await kept(app, lambda objects: objects.add(thing))
    return answer(upload, PENDING)


async def add_part(request: web.Request) -> web.Response:
    """POST /v1/uploads/{upload_id}/parts"""
    app = request.app
    upload = await pending(request)
    if upload.id in app[UPLOADS]:
        raise over(upload.id, BUSY)
    refuse_large(request, PART_MAX, PART_LIMIT)
    total = app[ENGINE].snapshot.settings.files.max_total
    id, now = new_id(app, "part_", 24), int(app[WALL]())
    async with app[BLOBS].open_new(id, total=total) as sink:
        form = await read_form(request, "data", sink, most=PART_MAX, setting=PART_LIMIT)
        request[BOOKS].ignored = tuple(dict.fromkeys(name for name, _ in form.fields))
        if not sink.size:
            raise Invalid("Part is empty.", param="data", code="empty_part")
        piece = Piece(id, msgspec.json.encode(Part(sink.size)))
        # The record first: bytes without one would never be found again.
        if not await change(app, upload, pieces=[piece]):
            raise over(upload.id, "over")
        await sink.close()
    return json_bytes(msgspec.json.encode(files.write_part(id=id, upload=upload.id, created=now)))


async def complete_upload(request: web.Request) -> web.Response:
    """POST /v1/uploads/{upload_id}/complete"""
    asked, fields = validate.decode(await body_of(request), CompleteUploadRequest)
    request[BOOKS].ignored = validate.ignored_keys(fields, CompleteUploadRequest)
    done = await alone(request, lambda upload: complete(request.app, upload, asked))
    return answer(done, COMPLETED)


async def cancel_upload(request: web.Request) -> web.Response:
    """POST /v1/uploads/{upload_id}/cancel"""
    return answer(await alone(request, lambda upload: cancel(request.app, upload)), CANCELLED)


async def alone(request: web.Request, work: Callable[[Upload], Awaitable[Upload]]) -> Upload:
    """Do something with the upload that the URL names while nobody else does. It is done to the end even if the client
    leaves: it would find an upload that is neither here nor there. Raises what `work` raises, NotFound and Invalid."""
    busy, id = request.app[UPLOADS], request.match_info["upload_id"]

    async def run() -> Upload | OproxyError:
        if id in busy:
            return over(id, BUSY)
        busy.add(id)
        try:
            return await work(await pending(request))
        except OproxyError as exc:
            return exc
        finally:
            busy.discard(id)

    task: asyncio.Task[Upload | OproxyError] = request.app[TASKS].start(run(), name=f"upload-{id[:40]}")
    done = await asyncio.shield(task)
    if isinstance(done, OproxyError):
        raise done
    return done


async def complete(app: web.Application, upload: Upload, asked: CompleteUploadRequest) -> Upload:
    """Make a file of the parts. Where that fails, the upload stays as it was."""
    pieces = await kept(app, lambda objects: objects.pieces(upload.id))
    check_parts(upload, asked.part_ids, {piece.id: msgspec.json.decode(piece.data, type=Part) for piece in pieces})
    done = await joined(app, upload, asked)
    await drop_parts(app, upload)
    return done


async def cancel(app: web.Application, upload: Upload) -> Upload:
    if not await change(app, upload, status=CANCELLED):
        raise over(upload.id, "over")
    await drop_parts(app, upload)
    return upload


async def pending(request: web.Request) -> Upload:
    """Return the upload that the URL names, if something can still be done with it. Raises NotFound and Invalid."""
    app, id, owner = request.app, request.match_info["upload_id"], sees(request)
    thing = await kept(app, lambda objects: objects.get(id, kind="upload", owner=owner))
    if thing is None:
        raise files.no_upload(id)
    upload = msgspec.json.decode(thing.data, type=Upload)
    if thing.status != PENDING:
        raise over(id, thing.status)
    if upload.expires_at <= app[WALL]():
        raise over(id, EXPIRED)
    return upload


def over(id: str, status: str) -> Invalid:
    return Invalid(
        f"Upload '{id[:100]}' is {status}: it cannot be changed any more.",
        param="upload_id",
        code="invalid_upload_status",
    )


def check_parts(upload: Upload, ids: Sequence[str], parts: dict[str, Part]) -> None:
    """Raise Invalid unless the parts are the upload's own, each once, and make as many bytes as were announced."""
    for place, id in enumerate(ids):
        if id not in parts:
            raise Invalid(
                f"No such part of upload '{upload.id}': '{id[:100]}'.",
                param=f"part_ids[{place}]",
                code="part_not_found",
            )
    if len(set(ids)) < len(ids):
        raise Invalid("A part is listed more than once.", param="part_ids", code="duplicate_part")
    size = sum(parts[id].size for id in ids)
    if size != upload.bytes:
        raise Invalid(
            f"The parts have {size} bytes together, but the upload was created for {upload.bytes} bytes.",
            param="part_ids",
            code="upload_size_mismatch",
        )


async def joined(app: web.Application, upload: Upload, asked: CompleteUploadRequest) -> Upload:
    """Join the parts that are asked for, and note what has become of the upload."""
    blobs, id = app[BLOBS], new_id(app, "file-", 24)
    async with blobs.open_new(id, digest=asked.md5 is not None) as sink:
        for part in asked.part_ids:
            await sink.append(blobs.path(part))
        if asked.md5 is not None and sink.md5 != asked.md5.strip().lower():
            raise Invalid(
                f"The MD5 sum of the parts is '{sink.md5}', not '{asked.md5[:100]}'.",
                param="md5",
                code="checksum_mismatch",
            )
        record = await keep_sink(
            app,
            sink,
            id=id,
            owner=upload.owner,
            filename=upload.filename,
            purpose=upload.purpose,
            expires=files.expiry(upload.purpose, upload.expires_after, int(app[WALL]())),
        )
    done = msgspec.structs.replace(upload, file=record)
    if not await change(app, done, status=COMPLETED, data=msgspec.json.encode(done)):
        # Cancelled by another daemon on the same database.
        await drop(app, [id])
        await kept(app, lambda objects: objects.forget([id]))
        raise over(upload.id, "over")
    return done


async def change(app: web.Application, upload: Upload, **fields: Any) -> bool:
    """Change an upload that is pending; returns whether it still was."""
    return await kept(
        app, lambda objects: objects.change(upload.id, kind="upload", owner=upload.owner, only=(PENDING,), **fields)
    )


async def drop(app: web.Application, ids: Sequence[str]) -> None:
    """Remove bytes."""

    def remove() -> None:
        for id in ids:
            app[BLOBS].remove(id)

    await asyncio.to_thread(remove)


async def expire(app: web.Application) -> None:
    """Give back the room of uploads that were not completed in their time."""
    now = app[WALL]()
    page = await kept(
        app, lambda objects: objects.page("upload", owner=None, limit=1000, ascending=True, statuses=(PENDING,))
    )
    for thing in page.data if page is not None else ():
        upload = msgspec.json.decode(thing.data, type=Upload)
        if upload.expires_at <= now and upload.id not in app[UPLOADS] and await change(app, upload, status=EXPIRED):
            await drop_parts(app, upload)


async def drop_parts(app: web.Application, upload: Upload) -> None:
    pieces = await kept(app, lambda objects: objects.pieces(upload.id))
    await drop(app, [piece.id for piece in pieces])


def answer(upload: Upload, status: str) -> web.Response:
    record = files.write_upload(msgspec.structs.asdict(upload), status=status, file=upload.file)
    return json_bytes(msgspec.json.encode(record))


ROWS: tuple[Row, ...] = (
    Row(
        Route("POST", "/v1/uploads", "Begin an upload in parts", CreateUploadRequest, "Uploads", more=(507,)),
        create_upload,
    ),
    Row(
        Route("POST", "/v1/uploads/{upload_id}/parts", "Add a part", None, "Uploads", file="data", more=(507,)),
        add_part,
    ),
    Row(
        Route(
            "POST",
            "/v1/uploads/{upload_id}/complete",
            "Make a file of the parts",
            CompleteUploadRequest,
            "Uploads",
            more=(507,),
        ),
        complete_upload,
    ),
    Row(Route("POST", "/v1/uploads/{upload_id}/cancel", "Give an upload up", None, "Uploads"), cancel_upload),
)
