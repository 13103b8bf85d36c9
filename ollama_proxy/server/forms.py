"""Forms with a file in them, read part by part: the file goes to the disk as it comes, and is never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from ..blobs import GATHERED, Sink
from ..errors import Invalid, OproxyError, TooLarge
from ..translate.files import clean_name, no_content
from .body import Pace, UnpackedContent, body_pieces, packed, take_body
from .keys import BOOKS

__all__ = ["Form", "read_form", "refuse_large"]

# What aiohttp raises for a form that is none, or that is cut off; its warnings, where those are errors.
BROKEN = (
    *(ValueError, AssertionError, RuntimeError, LookupError, BadHttpMessage),
    *(BadContentDispositionHeader, BadContentDispositionParam),
)
CHUNK = 1 << 18
# More than any client sends beside a file.
FIELDS, FIELD = 100, 1 << 16
# What reading a form takes (bytes): a piece of the file as it came and decoded, and what waits to be written.
FORM_MEMORY = GATHERED + 4 * CHUNK
# What a form's boundaries, headers and fields may take beside its file.
SLACK = 1 << 20

Fields = list[tuple[str, str]]


class Form(NamedTuple):
    """What came with a file: the other fields in their order, and the file's own name."""

    fields: Fields
    filename: str


def refuse_large(request: web.Request, most: int, setting: str) -> None:
    """Refuse what says that it is too large before a byte of it is read. Raises TooLarge."""
    if (request.content_length or 0) > most + SLACK:
        raise too_large(most, setting)


async def read_form(
    request: web.Request,
    name: str,
    sink: Sink,
    *,
    most: int,
    setting: str,
    begin: Callable[[Fields, str], None] = lambda fields, filename: None,
) -> Form:
    """Read a form whose field `name` is a file of at most `most` bytes (`setting` says why), and write it to `sink`.
    `begin` gets the fields in front of the file and the file's name, and may refuse it before it comes. Raises Invalid
    and TooLarge; what the sink raises passes."""
    fields: Fields = []
    filename: str | None = None
    pace = Pace(request)
    take_body(request, FORM_MEMORY)
    try:
        async for part, field, file in parts(request, pace):
            if field != name:
                if len(fields) >= FIELDS:
                    raise Invalid(f"The form has more than {FIELDS} fields.")
                text = await text_of(part, field, pace)
                request[BOOKS].hold.take(4 * len(text))
                fields.append((field, text))
                continue
            if filename is not None:
                raise Invalid(f"Duplicate parameter: '{name}'. Send one file a request.", param=name)
            if file is None:
                raise no_content(name, text=True)
            filename = clean_name(file)
            begin(fields, filename)
            async for chunk in chunks(part, pace):
                if sink.size + len(chunk) > most:
                    raise too_large(most, setting)
                await sink.write(chunk)
    except OproxyError as exc:
        # Nobody reads the rest; a client that knows will not use the connection again.
        exc.headers["connection"] = "close"
        raise
    if filename is None:
        raise no_content(name, text=False)
    return Form(fields, filename)


async def parts(request: web.Request, pace: Pace) -> AsyncIterator[tuple[BodyPartReader, str, str | None]]:
    """Yield the parts of a form with their names and the names of their files. Raises Invalid."""
    if request.content_type != "multipart/form-data":
        raise Invalid(
            f"Unsupported content type: '{request.content_type[:100]}'. This API method only accepts "
            f"'multipart/form-data' requests, but you specified the header 'Content-Type: "
            f"{request.content_type[:100]}'. Please try again with a supported content type.",
            code="unsupported_content_type",
        )
    try:
        reader = await request.multipart()
        if packed(request):
            reader = MultipartReader(request.headers, UnpackedContent(request, body_pieces(request)))
        while (part := await pace.wait(reader.next)) is not None:
            if not isinstance(part, BodyPartReader):
                raise malformed()
            field, file = part.name, part.filename
            if field is None:
                raise malformed()
            yield part, clean_name(field), file
    except BROKEN as exc:
        raise malformed() from exc


async def chunks(part: BodyPartReader, pace: Pace) -> AsyncIterator[bytes]:
    """Yield a part's bytes as they come. Raises Invalid where the form breaks off."""
    try:
        while data := await pace.wait(lambda: part.read_chunk(CHUNK)):
            pace.received += len(data)
            yield bytes(part.decode(data))
    except BROKEN as exc:
        raise malformed() from exc


async def text_of(part: BodyPartReader, name: str, pace: Pace) -> str:
    data = b""
    async for chunk in chunks(part, pace):
        data += chunk
        if len(data) > FIELD:
            raise Invalid(f"The field '{name[:100]}' is longer than {FIELD} bytes.", param=name[:100])
    return data.decode("utf-8", "replace")


def malformed() -> Invalid:
    return Invalid(
        "We could not parse the form of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. This endpoint expects a multipart/form-data payload, whole and with its boundary in the header.)"
    )


def too_large(most: int, setting: str) -> TooLarge:
    return TooLarge(f"The file is larger than {most} bytes ({setting}).", headers={"connection": "close"})
