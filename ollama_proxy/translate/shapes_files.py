"""The requests of files and uploads, declared: validation, documentation and OpenAPI at once. A form's fields are
read as if they were JSON.

https://platform.openai.com/docs/api-reference/files, https://platform.openai.com/docs/api-reference/uploads
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = [
    "PART_MAX",
    "PURPOSES",
    "UPLOAD_MAX",
    "CompleteUploadRequest",
    "CreateFileRequest",
    "CreateUploadRequest",
    "ExpiresAfter",
]

# What a client may say; results of batches and fine-tuning have purposes of their own.
PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
# Checked apart (`files.check_purpose`): it is refused in other words.
Purpose = Annotated[str, Meta(extra_json_schema={"enum": list(PURPOSES)})]
# 8 GB and 64 MB, as the reference says.
UPLOAD_MAX = 8 * 1024**3
PART_MAX = 64 * 1024**2


class ExpiresAfter(Struct, frozen=True, kw_only=True):
    """When a file is to be forgotten: so many seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2592000)]


class CreateFileRequest(Struct, frozen=True, kw_only=True):
    """The form of POST /v1/files, without the file itself."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CreateUploadRequest(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/uploads."""

    filename: Annotated[str, Meta(min_length=1)]
    purpose: Purpose
    bytes: Annotated[int, Meta(ge=1, le=UPLOAD_MAX)]
    mime_type: str
    expires_after: ExpiresAfter | None = None


class CompleteUploadRequest(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/uploads/{upload_id}/complete."""

    part_ids: Annotated[list[str], Meta(min_length=1)]
    md5: str | None = None
