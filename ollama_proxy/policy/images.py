"""Images in a request: data URIs decoded, formats told by their first bytes, those to be fetched found and put back.
Pure; never fetches anything.

What a client or a server says about the type of an image is not believed.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from msgspec.structs import replace

from ..errors import Invalid
from ..model import Ask, Image, Part, ToolResult

__all__ = [
    "check_images",
    "map_images",
    "occurrences",
    "parse_data_uri",
    "remote_images",
    "settle_data_uris",
    "sniff",
    "too_many_bytes",
    "unsupported",
    "with_fetched",
]

# Base64 of so many characters holds every signature below.
HEAD = 64


def sniff(data: bytes) -> str | None:
    """Return the media type of an image we take, by its signature; None for all else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return None


def unsupported(param: str | None) -> Invalid:
    """Return OpenAI's refusal of an image of another kind."""
    return Invalid(
        "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
        "['png', 'jpeg', 'gif', 'webp'].",
        param=param,
        code="invalid_image_format",
    )


def parse_data_uri(url: str, param: str | None) -> Image:
    """Decode `data:image/png;base64,…`. Raises errors.Invalid. https://www.rfc-editor.org/rfc/rfc2397"""
    head, comma, body = url[5:].partition(",")
    if url[:5].lower() != "data:" or not comma:
        raise Invalid("Invalid image_url: expected a data URL with base64 data.", param=param, code="invalid_image_url")
    if any(word.strip().lower() == "base64" for word in head.split(";")[1:]):
        data = "".join(unquote_to_bytes(body).decode("latin-1").split() if "%" in body else body.split())
        data += "=" * (-len(data) % 4)
    else:
        data = base64.b64encode(unquote_to_bytes(body)).decode()
    try:
        content = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        content = b""
    if not content:
        raise Invalid("Invalid base64 image_url.", param=param, code="invalid_base64")
    return Image(data=data, media_type=_type_of(content, param), param=param)


def settle_data_uris(ask: Ask) -> Ask:
    """Return `ask` with the data URIs of its images decoded and the types of all images told by their bytes.

    Raises errors.Invalid. Images that have to be fetched stay as they are.
    """
    return map_images(ask, _settle)


def remote_images(asks: Sequence[Ask]) -> dict[str, Image]:
    """Return the images that have to be fetched, wherever in the conversations they are, by URL: the same picture in
    several turns is fetched once. The first place of each is the one that an error names."""
    found: dict[str, Image] = {}
    for image in images_of(asks):
        if image.data is None and image.url is not None:
            found.setdefault(image.url, image)
    return found


def check_images(asks: Sequence[Ask], *, most: int, total: int) -> int:
    """Return the bytes of the images that are in the questions of one request already. Raises errors.Invalid for more
    than `most` images, fetched ones included, and for more than `total` bytes."""
    size = 0
    for count, image in enumerate(images_of(asks), 1):
        if image.data is not None:
            size += len(image.data) * 3 // 4
        if count > most:
            raise Invalid(
                f"Too many images: a request may have {most} (images_max under [server]).",
                param=image.param,
                code="too_many_images",
            )
        if size > total:
            raise too_many_bytes(total, image.param)
    return size


def too_many_bytes(total: int, param: str | None) -> Invalid:
    """Return the refusal of images that are too large together."""
    return Invalid(
        f"The images of the request are larger than {total} bytes together (images_max_bytes under [server]).",
        param=param,
        code="images_too_large",
    )


def occurrences(asks: Sequence[Ask]) -> Counter[str]:
    """Return how often each image that has to be fetched occurs: in what is sent to the model it is there as often."""
    return Counter(image.url for image in images_of(asks) if image.data is None and image.url is not None)


def images_of(asks: Sequence[Ask]) -> Iterator[Image]:
    """Yield every image, also those in tool results."""
    for ask in asks:
        for message in ask.messages:
            for part in message.parts:
                for each in part.parts if isinstance(part, ToolResult) else (part,):
                    if isinstance(each, Image):
                        yield each


def with_fetched(ask: Ask, fetched: Mapping[str, Image]) -> Ask:
    """Return `ask` with the bytes of the images of `remote_images` in all their places."""

    def one(image: Image) -> Image:
        got = fetched.get(image.url) if image.data is None and image.url is not None else None
        return replace(image, data=got.data, media_type=got.media_type, url=None) if got is not None else image

    return map_images(ask, one) if fetched else ask


def map_images(ask: Ask, change: Callable[[Image], Image]) -> Ask:
    """Return `ask` with every image changed, also those in tool results; `ask` itself where there are none."""

    def one(part: Part) -> Part:
        match part:
            case Image():
                return change(part)
            case ToolResult(parts=parts) if any(isinstance(each, Image) for each in parts):
                return replace(part, parts=tuple(change(e) if isinstance(e, Image) else e for e in parts))
        return part

    if not any(isinstance(part, Image | ToolResult) for message in ask.messages for part in message.parts):
        return ask
    return replace(
        ask, messages=tuple(replace(message, parts=tuple(map(one, message.parts))) for message in ask.messages)
    )


def _settle(image: Image) -> Image:
    if image.data is None:
        if image.url is None or image.url[:5].lower() != "data:":
            return image
        return replace(parse_data_uri(image.url, image.param), detail=image.detail)
    try:
        head = binascii.a2b_base64(image.data[:HEAD])
    except ValueError:
        raise Invalid("Invalid base64 image_url.", param=image.param, code="invalid_base64") from None
    return replace(image, media_type=_type_of(head, image.param))


def _type_of(content: bytes, param: str | None) -> str:
    found = sniff(content)
    if found is None:
        raise unsupported(param)
    return found
