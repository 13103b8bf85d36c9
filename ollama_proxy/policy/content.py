"""What of a conversation a model can take: images, sound and files against its capabilities. Pure.

Text files become text under their name; what cannot be taken is refused by name, never left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from msgspec.structs import replace

from ..errors import Invalid
from ..model import Ask, Audio, File, Image, ModelInfo, Part, Text, ToolResult

__all__ = ["settle_content"]

# These name text by their media type; all other files are text if their bytes are.
TEXT_TYPES = (
    "application/json", "application/xml", "application/x-yaml", "application/yaml", "application/toml",
    "application/javascript", "application/x-ndjson", "application/sql", "application/x-sh",
)  # fmt: skip


def settle_content(ask: Ask, info: ModelInfo) -> Ask:
    """Return `ask` with text files inlined. Raises errors.Invalid for a part that the model cannot take."""
    special = (Image, Audio, File, ToolResult)
    if not any(isinstance(part, special) for message in ask.messages for part in message.parts):
        return ask
    return replace(
        ask,
        messages=tuple(
            replace(message, parts=tuple(_part(part, info, ask.model) for part in message.parts))
            for message in ask.messages
        ),
    )


def _part(part: Part, info: ModelInfo, model: str) -> Part:
    match part:
        case Image() if not info.can("vision"):
            raise Invalid(
                f"Invalid content type. image_url is only supported by models that can see, and `{model}` "
                f"({info.id}) cannot.",
                param=part.param,
                code="invalid_content_type",
            )
        case Audio() if info.capabilities is None or "audio" not in info.capabilities:
            raise Invalid(
                f"Invalid content type. input_audio is only supported by models that can hear, and `{model}` "
                f"({info.id}) cannot.",
                param=part.param,
                code="invalid_content_type",
            )
        case File():
            return inlined(part)
        case ToolResult(parts=parts):
            return replace(part, parts=tuple(_results(parts, info, model)))
    return part


def _results(parts: tuple[Text | Image | File, ...], info: ModelInfo, model: str) -> Iterator[Text | Image | File]:
    for part in parts:
        settled = _part(part, info, model)
        if isinstance(settled, Text | Image | File):
            yield settled


def inlined(file: File) -> Text:
    """Return a text file as text with its name above it. Raises errors.Invalid for other files."""
    if file.data is None:
        raise Invalid(
            f"No such File object: {file.file_id}. Files can only be given by content (file_data).",
            param=file.param,
            code="unsupported_file",
        )
    try:
        content = base64.b64decode(file.data, validate=True)
    except (ValueError, binascii.Error):
        raise Invalid("Invalid base64 file_data.", param=file.param, code="invalid_base64") from None
    text = _text(content, (file.media_type or "").partition(";")[0].strip().lower())
    if text is None:
        named = f" '{file.filename}'" if file.filename else ""
        raise Invalid(
            f"Invalid file data: the file{named} ({file.media_type or 'unknown type'}) is no text. "
            "Only text files can be given to a local model; convert it to text first.",
            param=file.param,
            code="unsupported_file",
        )
    heading = f"File: {file.filename}\n\n" if file.filename else ""
    return Text(f"{heading}{text}")


def _text(content: bytes, media_type: str) -> str | None:
    if content.startswith(b"%PDF-") or media_type.startswith(("image/", "audio/", "video/", "application/pdf")):
        return None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        known = media_type.startswith("text/") or media_type in TEXT_TYPES
        # Declared text in an older 8-bit encoding: Windows' own is by far the commonest. https://encoding.spec.whatwg.org/
        return content.decode("cp1252", "replace") if known and b"\0" not in content else None
    return None if "\0" in text else text
