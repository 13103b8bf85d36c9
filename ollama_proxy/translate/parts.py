"""Images and files as clients write them, in whatever wire: URLs, data URIs, base64. Never fetches anything."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from .. import model as hub
from ..errors import Invalid
from .validate import missing

__all__ = ["IMAGE_TYPES", "base64_of", "data_uri", "file", "image"]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def image(url: str, detail: str | None, path: str) -> hub.Image:
    """Return an image that is given by its URL or as a data URI."""
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        media_type, data = data_uri(url, path)
        if media_type not in IMAGE_TYPES:
            raise Invalid(
                "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
                "['png', 'jpeg', 'gif', 'webp'].",
                param=path,
                code="invalid_image_format",
            )
        return hub.Image(data=data, media_type=media_type, detail=detail, param=path)
    if scheme.startswith(("http://", "https://")):
        return hub.Image(url=url, detail=detail, param=path)
    raise Invalid(
        f"Invalid '{path}'. Expected a valid URL, but got a value with an invalid format.",
        param=path,
        code="invalid_value",
    )


def file(content: str | None, id: str | None, name: str | None, path: str) -> hub.File:
    """Return a file that is given by its content (a data URI or base64) or by its id."""
    if content is None:
        if id is None:
            raise missing(f"{path}.file_id")
        return hub.File(file_id=id, filename=name, param=path)
    where = f"{path}.file_data"
    if content[:5].lower() == "data:":
        media_type, data = data_uri(content, where)
    else:
        media_type, data = None, base64_of(content, where)
    return hub.File(data=data, media_type=media_type, filename=name, file_id=id, param=path)


def data_uri(uri: str, path: str) -> tuple[str, str]:
    """Split a data URI into media type and base64. https://www.rfc-editor.org/rfc/rfc2397"""
    head, comma, data = uri[5:].partition(",")
    media_type, *parameters = [part.strip().lower() for part in head.split(";")]
    if not comma:
        raise Invalid(f"Invalid '{path}'. Expected a base64-encoded data URL.", param=path, code="invalid_value")
    if "base64" in parameters:
        data = base64_of(data, path)
    else:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    # image/jpg is not registered, but clients write it.
    return {"image/jpg": "image/jpeg", "": "text/plain"}.get(media_type, media_type), data


def base64_of(data: str, path: str) -> str:
    """Return `data` as strict base64. Percent escapes, line ends and missing padding occur and are mended."""
    if "%" in data:
        data = unquote_to_bytes(data).decode("latin-1")
    if any(space in data for space in "\n\r\t "):
        data = "".join(data.split())
    data += "=" * (-len(data) % 4)
    try:
        decoded = binascii.a2b_base64(data, strict_mode=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if not decoded:
        raise Invalid(f"Invalid base64 in '{path}'.", param=path, code="invalid_base64")
    return data
