"""Where client and backend both speak Ollama's API: bytes go through, and only the model's name is exchanged where the
client knows it by another.

A request keeps every value's bytes but the name; of an answer's records the same. A field that is not understood goes
on as it is. A line is passed on when all of it is there, so that what is said after it is a line of its own; what is no
record at all is never passed on, because clients fail at it in ways no program expects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from ..framing import BOM, LineDecoder
from .openai_errors import unreadable

__all__ = [
    "Renamer",
    "answers",
    "describes",
    "ends_progress",
    "has_error",
    "is_record",
    "joined",
    "one_record",
    "renamed",
    "same_name",
    "with_name",
]

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_record = msgspec.json.Decoder(dict[str, Any]).decode
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


class _Object(Struct):
    """Any object: all of it is skipped."""


_object = msgspec.json.Decoder(_Object).decode


def is_record(data: bytes) -> bool:
    """Return whether bytes are a JSON object."""
    try:
        if not data.isascii():
            data.decode()  # what is skipped is not looked at
        _object(data)
    except _BROKEN:
        return False
    return True


class _Answer(Struct):
    message: dict[str, Raw] | None = None
    response: str | None = None
    debug: Raw | UnsetType = field(name="_debug_info", default=UNSET)
    error: Any = None


def answers(record: bytes) -> bool:
    """Return whether a record of a chat or a generation says something, be it that Ollama gave up in its middle: a
    model that repeats itself ends in a whole answer that is not done."""
    try:
        found = msgspec.json.decode(record, type=_Answer)
    except _BROKEN:
        return False
    said = found.message is not None or found.response is not None or found.debug is not UNSET
    return said and found.error is None


def one_record(body: bytes, backend: str) -> bytes:
    """Return the one record of an answer that was not to be streamed; of a stream, the record that it amounts to.
    Raises errors.UpstreamFailed for what is none."""
    body = body.removeprefix(BOM)
    if is_record(body):
        return body
    decoder = LineDecoder()
    lines = [*decoder.feed(body), *decoder.flush()]
    if not lines or not all(map(is_record, lines)):
        raise unreadable(body, backend)
    records = [_record(line) for line in lines]
    whole = records[-1]
    if not any("error" in record for record in records):
        _gather(records, whole)
        if any(isinstance(record.get("message"), dict) for record in records):
            messages = [found for record in records if isinstance(found := record.get("message"), dict)]
            whole["message"] = dict(messages[-1])
            _gather(messages, whole["message"])
    return _encode(whole)


def _gather(records: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    """Put together what came in pieces: texts and lists."""
    for key in ("content", "response", "thinking"):
        if pieces := [piece for record in records if isinstance(piece := record.get(key), str)]:
            whole[key] = "".join(pieces)
    for key in ("tool_calls", "logprobs"):
        if lists := [found for record in records if isinstance(found := record.get(key), list)]:
            whole[key] = [each for found in lists for each in found]


class _Step(Struct):
    status: Any = None
    error: Any = None


def has_error(record: bytes) -> bool:
    """Return whether a record is an error, whatever the status it came with."""
    try:
        return msgspec.json.decode(record, type=_Step).error is not None
    except _BROKEN:
        return False


class _Shown(Struct):
    details: Raw | UnsetType = UNSET
    model_info: Raw | UnsetType = UNSET
    capabilities: Raw | UnsetType = UNSET
    template: Raw | UnsetType = UNSET
    modelfile: Raw | UnsetType = UNSET


def describes(record: bytes) -> bool:
    """Return whether a record describes a model: no server leaves out all that /api/show is asked for."""
    try:
        return msgspec.json.decode(record, type=_Shown) != _Shown()
    except _BROKEN:
        return False


def ends_progress(line: bytes) -> bool:
    """Return whether a line of progress (pull, push, create) is the last one: it says how it went."""
    try:
        step = msgspec.json.decode(line, type=_Step)
    except _BROKEN:
        return False
    return step.status == "success" or step.error is not None


class Renamer:
    """Passes the records of a stream on, whole lines only, with `name` for the model (None: as it is).

    `broken` is the first line that is no record: it and all that follows is not passed on.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._lines = LineDecoder()
        self._begun = False
        self.broken: bytes | None = None

    @property
    def held(self) -> int:
        """The bytes of the line that has begun."""
        return self._lines.held

    def feed(self, data: bytes) -> bytes:
        """Return the lines to send on. Raises framing.Overlong for an endless line."""
        return self._passed(self._lines.feed(data), b"\n")

    def flush(self) -> bytes:
        """Return the last line if it had no newline (Ollama ends some errors so)."""
        return self._passed(self._lines.flush(), b"")

    def _passed(self, lines: list[bytes], end: bytes) -> bytes:
        out: list[bytes] = []
        for line in lines:
            if not self._begun:
                self._begun = True
                line = line.removeprefix(BOM)
            if self.broken is None and not is_record(line):
                self.broken = line
            if self.broken is not None:
                break
            out.append((line if self._name is None else renamed(line, self._name)) + end)
        return b"".join(out)
