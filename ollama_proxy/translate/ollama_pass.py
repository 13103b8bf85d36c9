"""Where client and backend both speak Ollama's API: bytes go through, and only the model's name is exchanged where the
client knows it by another.

A request keeps every value's bytes but the name; of an answer's records the same. What is not understood goes on as it
is. Never delays a byte where there is nothing to exchange.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from ..framing import LineDecoder

__all__ = ["Renamer", "joined", "renamed", "same_name", "with_name"]

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)

# How Ollama begins every record that names a model.
_MODEL = re.compile(rb'\{"model":"(?:[^"\\]|\\.)*"')


def same_name(asked: str, id: str) -> bool:
    """Return whether Ollama knows a model by the name the client has for it: the tag may be left out."""
    return id in (asked, f"{asked}:latest")


def with_name(fields: Mapping[str, Raw], model: str, *keys: str) -> bytes:
    """Return a request body with the backend's name of the model, under the first of `keys` that the client used."""
    changed = {key: value for key, value in fields.items() if key not in keys[1:]}
    changed[keys[0]] = Raw(_encode(model))
    return joined(changed)


def joined(fields: Mapping[str, Raw]) -> bytes:
    """Return the JSON object of these keys, each of them once."""
    return b"{%b}" % b",".join([_encode(key) + b":" + bytes(value) for key, value in fields.items()])


def renamed(record: bytes, name: str) -> bytes:
    """Return a record with `name` for its model; what names none is left alone."""
    written = _encode(name)
    if (head := _MODEL.match(record)) is not None:
        return b'{"model":' + written + record[head.end() :]
    try:
        fields = _fields(record)
    except _BROKEN:
        return record
    if "model" not in fields:
        return record
    return joined({**fields, "model": Raw(written)})


class Renamer:
    """Passes a stream of records on, with `name` for the model (None: as it is)."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._lines = LineDecoder()
        # Whether the last byte passed on ended a line.
        self.whole = True

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to send on. Raises framing.Overlong for an endless line."""
        if self._name is None:
            self.whole = data.endswith(b"\n")
            return data
        return b"".join([renamed(line, self._name) + b"\n" for line in self._lines.feed(data)])

    def flush(self) -> bytes:
        """Return what is left when the backend has closed the stream."""
        if self._name is None:
            return b""
        rest = b"".join([renamed(line, self._name) for line in self._lines.flush()])
        self.whole = not rest
        return rest
