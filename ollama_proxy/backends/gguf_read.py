"""What a GGUF file says of itself: its metadata, read from the head of the file without any library.

Reads the key-value part only, never the tensors, and keeps no long arrays (a vocabulary is only counted).
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["FILE_TYPES", "NotGguf", "read_metadata"]

# Scalar value types by number; 8 is a string, 9 an array.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# A string longer than this is a broken file; chat templates have tens of kilobytes.
_LONGEST = 1 << 24
# `general.file_type`, as llama.cpp counts it (enum llama_ftype).
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


class NotGguf(Exception):
    """The file is no GGUF file, or a broken one."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file: numbers, truths and strings; an array as its length. Raises NotGguf, OSError."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise NotGguf(f"{path} is no GGUF file")
        try:
            version, _, count = struct.unpack("<IQQ", file.read(20))
            if version < 2:
                raise NotGguf(f"{path} has the GGUF version {version}, which is too old")
            return {_string(file): _value(file, _number(file, "<I")) for _ in range(count)}
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as exc:
            raise NotGguf(f"{path} is a broken GGUF file") from exc


def _number(file: BinaryIO, format: str) -> Any:
    return struct.unpack(format, file.read(struct.calcsize(format)))[0]


def _string(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > _LONGEST:
        raise struct.error("a string without an end")
    data = file.read(length)
    if len(data) < length:
        raise struct.error("the file ends in a string")
    return data.decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        return _skip_array(file)
    return _number(file, _SCALARS[kind])


def _skip_array(file: BinaryIO) -> int:
    kind, length = _number(file, "<I"), int(_number(file, "<Q"))
    if kind in _SCALARS:
        file.seek(length * struct.calcsize(_SCALARS[kind]), 1)
    else:
        for _ in range(length):
            if kind == _STRING:
                file.seek(_number(file, "<Q"), 1)
            else:
                _value(file, kind)
    return length
