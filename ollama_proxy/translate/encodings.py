"""Content-Encodings of request bodies: which there are, and bodies unpacked piece by piece.

Pieces are about as large as PIECE at most, however well a body was packed. Never reads, never counts what it makes.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..errors import Invalid, UnsupportedEncoding

__all__ = ["SUPPORTED", "Unpacker", "parse_encodings"]


def _library(*names: str) -> Any:
    """Return the first of these modules that is installed, None for none of them."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


brotli = _library("brotlicffi", "brotli")
zstd = _library("compression.zstd", "backports.zstd")

# The largest piece of unpacked bytes.
PIECE = 256 * 1024
# More encodings on top of each other are an attack, not a client.
MOST = 3
# https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3
OLDER: Mapping[str, str] = {"x-gzip": "gzip"}
# Two of them where their libraries are installed.
SUPPORTED: tuple[str, ...] = (
    "gzip",
    "deflate",
    *(("br",) if brotli is not None else ()),
    *(("zstd",) if zstd is not None else ()),
)


def parse_encodings(header: str) -> tuple[str, ...]:
    """Return the encodings of a `Content-Encoding` in the order they were applied. Raises UnsupportedEncoding."""
    names = [name.strip().lower() for name in header.split(",")]
    found = tuple(OLDER.get(name, name) for name in names if name not in ("", "identity"))
    unknown = [name for name in found if name not in SUPPORTED]
    if unknown or len(found) > MOST:
        shown = ascii(header[:60])
        raise UnsupportedEncoding(
            f"The Content-Encoding {shown} of the request is not supported. Send the body as it is, or packed with "
            f"one of: {', '.join(SUPPORTED)}.",
            supported=SUPPORTED,
        )
    return found


class _Packed(Protocol):
    """One encoding. `complete`: the bytes so far are whole."""

    complete: bool

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    """gzip (of one or more members) and deflate, with the header of zlib or, as some clients send it, without."""

    def __init__(self, name: str) -> None:
        self._gzip = name == "gzip"
        self._inner: Any = None
        self.complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner is None:
                wbits = 31 if self._gzip else 15 if data[0] & 0x0F == 8 else -15
                self._inner, self.complete = zlib.decompressobj(wbits), False
            out = self._inner.decompress(data, PIECE)
            while out:
                yield out
                out = self._inner.decompress(self._inner.unconsumed_tail, PIECE)
            data = b""
            if self._inner.eof:
                data, self.complete = self._inner.unused_data, True
                if data and not self._gzip:
                    raise ValueError("bytes after the end")
                self._inner = None


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self.complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.complete and data:
            raise ValueError("bytes after the end")
        while out := self._inner.process(data, output_buffer_limit=PIECE):
            # Its limit is about: a piece may be twice as large.
            yield out
            data = b""
        self.complete = self._inner.is_finished()


class _Zstd:
    """zstd of one or more frames. The window is what browsers allow: https://www.rfc-editor.org/rfc/rfc9659"""

    def __init__(self) -> None:
        self._inner: Any = None
        self.complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner is None:
                options = {zstd.DecompressionParameter.window_log_max: 23}
                self._inner, self.complete = zstd.ZstdDecompressor(options=options), False
            yield self._inner.decompress(data, PIECE)
            while not self._inner.eof and not self._inner.needs_input:
                yield self._inner.decompress(b"", PIECE)
            data = b""
            if self._inner.eof:
                data, self.complete, self._inner = self._inner.unused_data, True, None


def _packed(name: str) -> _Packed:
    match name:
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
    return _Zlib(name)


class Unpacker:
    """Unpacks a body that `encodings` were applied to, in this order."""

    def __init__(self, encodings: Sequence[str]) -> None:
        self._names = ", ".join(encodings)
        self._layers = [_packed(name) for name in reversed(encodings)]
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` amounts to, in bounded pieces. Raises errors.Invalid for what is not packed so."""
        self._begun = self._begun or bool(data)
        try:
            yield from self._through(data, 0)
        except Invalid:
            raise
        except Exception as exc:
            # Each library has errors of its own.
            raise self._broken() from exc

    def _through(self, data: bytes, layer: int) -> Iterator[bytes]:
        if layer == len(self._layers):
            if data:
                yield data
            return
        for piece in self._layers[layer].feed(data):
            yield from self._through(piece, layer + 1)

    def flush(self) -> None:
        """Check that the body was whole. Raises errors.Invalid."""
        if self._begun and not all(layer.complete for layer in self._layers):
            raise self._broken()

    def _broken(self) -> Invalid:
        return Invalid(
            f"The request body could not be read: it is cut off, or not encoded as its Content-Encoding says "
            f"({self._names}).",
            details={"error_code": "request_body_encoding_invalid"},
            headers={"connection": "close"},
        )
