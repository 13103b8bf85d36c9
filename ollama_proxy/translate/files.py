"""Files and uploads: the fields of their forms, the objects that clients see, and OpenAI's words for what is wrong.

Never sees a byte of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from ..errors import Invalid, NotFound
from .shapes_files import PURPOSES, CreateFileRequest, ExpiresAfter
from .validate import decode, missing, wrong_type

__all__ = [
    "BATCH_MAX",
    "MONTH",
    "PURPOSES",
    "check_begun",
    "check_file",
    "check_purpose",
    "clean_name",
    "disposition",
    "expiry",
    "no_content",
    "no_file",
    "no_upload",
    "parse_form",
    "write_deleted",
    "write_file",
    "write_part",
    "write_upload",
]

Record = dict[str, Any]

# The largest input of a batch.
BATCH_MAX = 200 * 1024**2
MONTH = 30 * 86400
# How many characters of an id that is not there are repeated.
SHOWN = 100
INTEGER = re.compile(r"-?[0-9]{1,18}")


# --- what is asked for ----------------------------------------------------------------------------------------------


def parse_form(fields: Iterable[tuple[str, str]]) -> tuple[CreateFileRequest, tuple[str, ...]]:
    """Read a form's fields but for the file; returns also the names of those that have no meaning. What is said in
    brackets (`expires_after[seconds]`) is an object's. Raises errors.Invalid."""
    said: Record = {}
    unknown: list[str] = []
    for name, value in fields:
        outer, bracket, inner = name.partition("[")
        if name == "purpose":
            said["purpose"] = value
        elif outer == "expires_after" and bracket and inner.endswith("]"):
            part = said.setdefault("expires_after", {})
            if isinstance(part, dict):
                part[inner[:-1]] = number(value) if inner == "seconds]" else value
        elif name == "expires_after":
            # Some send objects in a form as JSON.
            said["expires_after"] = json_of(value)
        else:
            unknown.append(name[:SHOWN])
    shape, _ = decode(msgspec.json.encode(said), CreateFileRequest)
    check_purpose(shape.purpose)
    return shape, tuple(dict.fromkeys(unknown))


def number(text: str) -> int | str:
    return int(text) if INTEGER.fullmatch(text) else text


def json_of(text: str) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return text


def check_purpose(purpose: str) -> None:
    """Raise errors.Invalid for a purpose that clients cannot give."""
    if purpose not in PURPOSES:
        supported = ", ".join(f"'{each}'" for each in PURPOSES)
        raise Invalid(f"'{purpose[:SHOWN]}' is not one of [{supported}] - 'purpose'", param="purpose")


def check_file(purpose: str, filename: str, size: int) -> None:
    """Raise errors.Invalid for a file that its purpose does not allow."""
    if purpose != "batch":
        return
    if not filename.lower().endswith(".jsonl"):
        raise Invalid("Invalid file format for Batch API. Must be .jsonl", param="file")
    if size > BATCH_MAX:
        raise Invalid(
            f"The file is too large for Batch API: it has {size} bytes, and may have {BATCH_MAX}.",
            param="file",
            code="file_too_large",
        )


def check_begun(fields: Iterable[tuple[str, str]], filename: str) -> None:
    """Raise errors.Invalid for a file that is not worth waiting for, by the fields in front of it."""
    for name, value in fields:
        if name == "purpose":
            check_purpose(value)
            check_file(value, filename, 0)


def clean_name(name: str) -> str:
    """Return a file's name as text that can be kept and sent: what is no Unicode as question marks."""
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def expiry(purpose: str, after: ExpiresAfter | None, now: int) -> int | None:
    """Return when a file made now is forgotten (epoch seconds; None: never): those of batches after a month."""
    if after is not None:
        return now + after.seconds
    return now + MONTH if purpose == "batch" else None


# --- what is told ---------------------------------------------------------------------------------------------------


def write_file(*, id: str, size: int, created: int, expires: int | None, filename: str, purpose: str) -> Record:
    """Return the object of a file."""
    return {
        "id": id,
        "object": "file",
        "bytes": size,
        "created_at": created,
        "expires_at": expires,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }


def write_deleted(id: str) -> Record:
    return {"id": id, "object": "file", "deleted": True}


def write_upload(upload: Mapping[str, Any], *, status: str, file: Mapping[str, Any] | None = None) -> Record:
    """Return the object of an upload from what is kept of it."""
    return {
        "id": upload["id"],
        "object": "upload",
        "bytes": upload["bytes"],
        "created_at": upload["created_at"],
        "expires_at": upload["expires_at"],
        "filename": upload["filename"],
        "purpose": upload["purpose"],
        "status": status,
        "file": file,
    }


def write_part(*, id: str, upload: str, created: int) -> Record:
    return {"id": id, "object": "upload.part", "created_at": created, "upload_id": upload}


def no_file(id: str) -> NotFound:
    return NotFound(f"No such File object: {id[:SHOWN]}", param="id")


def no_upload(id: str) -> NotFound:
    return NotFound(f"No such Upload object: {id[:SHOWN]}", param="upload_id")


def no_content(name: str, *, text: bool) -> Invalid:
    """Return the error for a form whose file is missing, or is a text field."""
    return wrong_type(name, "a file", "") if text else missing(name)


def disposition(filename: str) -> str:
    """Return the header that names a download. https://www.rfc-editor.org/rfc/rfc6266#section-4.1"""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/' else "_" for c in filename)[:200]
    head = f'attachment; filename="{plain}"'
    return head if plain == filename else f"{head}; filename*=UTF-8''{quote(filename[:200], safe='')}"
