"""Bodies unpacked: every encoding, one on top of another, in any pieces; what is broken, cut or too well packed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from ollama_proxy.errors import Invalid, UnsupportedEncoding
from ollama_proxy.translate import encodings
from ollama_proxy.translate.encodings import PIECE, SUPPORTED, Unpacker, parse_encodings

TEXT = b'{"model": "m", "messages": []}' * 2000


def _raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
if encodings.brotli is not None:
    PACK["br"] = encodings.brotli.compress
if encodings.zstd is not None:
    PACK["zstd"] = encodings.zstd.compress


def unpack(names: tuple[str, ...], data: bytes, size: int = 1 << 20) -> bytes:
    unpacker = Unpacker(names)
    pieces = [piece for at in range(0, len(data), size) for piece in unpacker.feed(data[at : at + size])]
    unpacker.flush()
    assert all(0 < len(piece) <= 2 * PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_packed_is_unpacked_in_any_pieces(name: str, size: int) -> None:
    for data in (TEXT, b"x", b"\n" * 5 * PIECE):
        assert unpack((name,), PACK[name](data), size) == data


@pytest.mark.parametrize("first", PACK)
@pytest.mark.parametrize("second", PACK)
def test_encodings_on_top_of_each_other(first: str, second: str) -> None:
    data = PACK[second](PACK[first](TEXT))
    for size in (11, 1 << 20):
        assert unpack((first, second), data, size) == TEXT


def test_members_frames_and_deflate_without_its_header() -> None:
    assert unpack(("gzip",), gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    assert unpack(("deflate",), _raw(TEXT)) == TEXT
    if "zstd" in PACK:
        assert unpack(("zstd",), PACK["zstd"](b"a") + PACK["zstd"](b"b")) == b"ab"


@pytest.mark.parametrize("name", PACK)
def test_what_is_cut_or_broken_is_refused(name: str) -> None:
    packed = PACK[name](TEXT)
    for data in (packed[:-1], packed[: len(packed) // 2], packed[:1], b"{}{}{}{}{}", b"\xff" * 100, TEXT):
        with pytest.raises(Invalid, match="cut off, or not encoded") as refused:
            unpack((name,), data)
        assert refused.value.status == 400
    if name in ("deflate", "br"):
        with pytest.raises(Invalid):
            unpack((name,), packed + b"more")


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_comes_in_small_pieces_and_can_be_left_at_any_of_them(name: str) -> None:
    bomb = PACK[name](bytes(64 << 20))
    taken = 0
    for piece in Unpacker((name,)).feed(bomb):
        assert len(piece) <= 2 * PIECE
        taken += len(piece)
        if taken > 1 << 20:
            break
    assert taken <= (1 << 20) + 2 * PIECE


def test_a_window_that_needs_much_memory_is_refused() -> None:
    if encodings.zstd is None:
        pytest.skip("zstd is not installed")
    options = {encodings.zstd.CompressionParameter.window_log: 27}
    packed = encodings.zstd.compress(bytes(200 << 20), options=options)
    with pytest.raises(Invalid):
        list(Unpacker(("zstd",)).feed(packed))


@pytest.mark.parametrize(
    ("header", "names"),
    [
        *(("", ()), ("identity", ()), (" , identity", ()), ("GZip", ("gzip",)), ("x-gzip", ("gzip",))),
        ("deflate, gzip", ("deflate", "gzip")),
        ("gzip,identity , X-GZIP", ("gzip", "gzip")),
    ],
)
def test_a_header_names_encodings(header: str, names: tuple[str, ...]) -> None:
    assert parse_encodings(header) == names


@pytest.mark.parametrize("header", ["compress", "gzip, lzma", "gzip" + ", gzip" * 3, "ü" * 9999, "aes128gcm"])
def test_other_encodings_are_refused_and_those_that_are_known_named(header: str) -> None:
    with pytest.raises(UnsupportedEncoding) as refused:
        parse_encodings(header)
    assert (refused.value.status, refused.value.headers["accept-encoding"]) == (415, ", ".join(SUPPORTED))
    assert len(refused.value.message) < 600
    assert "install" not in refused.value.message
