"""Where front and back speak OpenAI's wire alike: bytes go through, and are only observed.

A request keeps every value's bytes but the model's name; an answer keeps all but that name and the usage nobody asked
for. A field that is not understood goes on as it is; what is no answer becomes an error (`answer_forms`). Never
reorders, never delays a complete event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ..errors import OproxyError, UpstreamDown, UpstreamFailed
from ..events import Usage
from ..framing import BOM, DONE, LIMIT, sse
from .answer_forms import chunks_of, is_document, read_answer, told_error
from .openai_errors import unreadable
from .openai_read import read_usage

__all__ = ["StreamObserver", "asks_usage", "inputs_of", "observe_whole", "rewrite_request", "streams"]

_encode = msgspec.json.Encoder().encode
_any = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)

# Inside a JSON string these quotes would have backslashes, so a hit is a key; whether of the top level is counted out.
_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null\b|"usage"\s*:\s*null\s*,\s*')
_EVENT_END = re.compile(rb"\n\r?\n")
# Parts of a delta that are no answer yet.
_PREAMBLE = frozenset({"role", "name"})
_EMPTY = frozenset({b'""', b"null", b"[]", b"{}"})
_NOTHING: Mapping[str, Raw] = {}


# --- requests ---------------------------------------------------------------------------------------------------------


def streams(fields: Mapping[str, Raw]) -> bool:
    """Return whether a request asks for a stream."""
    return bytes(fields.get("stream", b"")) == b"true"


def asks_usage(fields: Mapping[str, Raw]) -> bool:
    """Return whether a request asks for the usage at the end of its stream."""
    return bytes(_nested(fields, "stream_options").get("include_usage", b"")) == b"true"


def most_tokens(fields: Mapping[str, Raw]) -> int:
    """Return the most tokens that a request asks for, all its choices together; 0 where it does not say."""
    most = _number(fields, "max_completion_tokens") or _number(fields, "max_tokens")
    return most * max(1, _number(fields, "n"))


def inputs_of(fields: Mapping[str, Raw]) -> int | None:
    """Return how many texts a request for embeddings has; None where that is not clear: the backend decides. A list of
    numbers is one text."""
    found = bytes(fields.get("input", b"")).strip()
    if found[:1] == b'"':
        return 1
    try:
        items = msgspec.json.decode(found, type=list[Raw])
    except _BROKEN:
        return None
    kinds = {bytes(item)[:1] in (b'"', b"[") for item in items}
    return None if len(kinds) != 1 else len(items) if kinds.pop() else 1


def _number(fields: Mapping[str, Raw], name: str) -> int:
    try:
        return max(0, msgspec.json.decode(fields[name], type=int))
    except (KeyError, *_BROKEN):
        return 0


def rewrite_request(fields: Mapping[str, Raw], *, model: str, observe: bool) -> bytes:
    """Return the request body with the backend's name of the model. `observe`: ask for the stream's usage too.

    "MODEL" is another key, and goes: servers written in Go take it for the same, and would answer with a model that
    nobody was allowed to ask for (https://pkg.go.dev/encoding/json#Unmarshal).
    """
    changed = {key: value for key, value in fields.items() if key == "model" or key.lower() != "model"}
    changed["model"] = Raw(_encode(model))
    if observe:
        options = {**_nested(fields, "stream_options"), "include_usage": Raw(b"true")}
        changed["stream_options"] = Raw(_joined(options))
    return _joined(changed)


def _nested(fields: Mapping[str, Raw], key: str) -> Mapping[str, Raw]:
    try:
        return _fields(fields.get(key, b"{}"))
    except _BROKEN:
        return _NOTHING


def _joined(fields: Mapping[str, Raw]) -> bytes:
    return b"{%b}" % b",".join([_encode(key) + b":" + bytes(value) for key, value in fields.items()])


# --- answers ----------------------------------------------------------------------------------------------------------


class _Choice(Struct):
    index: int = 0
    delta: Raw = Raw(b"{}")
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    """What is looked at; all else of a chunk is skipped unread."""

    model: str | None = None
    choices: list[_Choice] | UnsetType | None = UNSET
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    object: Raw | UnsetType = UNSET


_chunk = msgspec.json.Decoder(_Chunk).decode


class StreamObserver:
    """Passes a stream of chunks on. `asked` is the name the client knows the model by; `strip_usage` takes out the
    usage that only we asked for; `id` takes the place of the chunks' own; `path` is what was asked, below /v1.

    A stream that stops too early, or holds what is no chunk, ends in an error event, so that no client takes it for
    whole; `error` is why. One JSON document is told as a stream.
    """

    def __init__(
        self, *, asked: str, strip_usage: bool, id: str = "", path: str = "/chat/completions", backend: str = ""
    ) -> None:
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.error: OproxyError | None = None
        self.first_token = False
        self._asked, self._path, self._backend = asked, path, backend
        self._name = _encode(asked)
        self._id = Raw(_encode(id)) if id else None
        self._strip = strip_usage
        self._held: list[bytes] = []
        self._size = 0
        self.done = False
        self._open: set[int] = set()
        # Whether a choice has come: without one there is no answer.
        self._seen = False
        # Whether the answer is one document; None as long as its first bytes do not tell.
        self._document: bool | None = None

    @property
    def held(self) -> int:
        """The bytes of the event that has begun; of one document, which is read at its end, none."""
        return 0 if self._document else self._size

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to send on: those of all events that `data` completes. Raises errors.UpstreamFailed for an
        endless event."""
        if self._over():
            return b""
        if self._document is None:
            data = self._taken(data).removeprefix(BOM).lstrip()
            self._document = is_document(data)
        if self._document is not False or b"\n" not in data:
            self._hold(data)
            return b""
        if self._held:
            if _EVENT_END.search(self._held[-1][-2:] + data) is None:
                # One more line of a long event: joined at each piece, it would take quadratic time.
                self._hold(data)
                return b""
            data = self._taken(data)
        out: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(data):
            self._event(data[start : end.end()], out)
            start = end.end()
            if self._over():
                return b"".join(out)
        if start < len(data):
            self._hold(data[start:])
        return b"".join(out)

    def _over(self) -> bool:
        return self.done or self.error is not None

    def _taken(self, data: bytes = b"") -> bytes:
        """Return what is held, with `data` behind it; nothing is held any more."""
        data = b"".join([*self._held, data])
        self._held.clear()
        self._size = 0
        return data

    def flush(self) -> bytes:
        """Return what is left to send when the backend has closed the stream."""
        rest = self._taken()
        out: list[bytes] = []
        if self._over():
            return b""
        if self._document is not False and rest.strip():
            self._tell(rest, out)
        elif _ends(rest):
            # Only the empty line after the last event is missing.
            self._event(rest.rstrip(b"\r\n") + b"\n\n", out)
        if self._over():
            return b"".join(out)
        if self.finish is not None and not self._open:
            # Complete; clients that wait for the mark are not left waiting.
            out.append(DONE)
        else:
            # What came of a torn event is dropped: its JSON would be a worse error than ours.
            self._fail(self._cut_short(), out)
        return b"".join(out)

    def _tell(self, body: bytes, out: list[bytes]) -> None:
        """Tell one document as a stream."""
        try:
            document = read_answer(body, self._path, asked=self._asked, backend=self._backend)
            # Line ends are white space in JSON, but would end an event.
            document = document.replace(b"\r", b" ").replace(b"\n", b" ")
        except OproxyError as exc:
            self._fail(exc, out)
            return
        for chunk in chunks_of(_fields(document)):
            self._event(sse(chunk), out)
        self._event(DONE, out)

    def _cut_short(self) -> UpstreamDown:
        text = f"The backend '{self._backend}' ended its answer before it was complete."
        return UpstreamDown(text, backend=self._backend)

    def _fail(self, error: OproxyError, out: list[bytes]) -> None:
        self.error = error
        out.append(sse(_encode(error.body())))

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > LIMIT:
            text = f"The backend '{self._backend}' sent an event of more than {LIMIT} bytes."
            raise UpstreamFailed(text, backend=self._backend)
        if self._held and len(self._held[-1]) < 2:
            # The end of an event is looked for across two pieces.
            data = self._held.pop() + data
        self._held.append(data)

    def _event(self, event: bytes, out: list[bytes]) -> None:
        """Look at one event with the empty line that ends it, and pass it on, changed where need be."""
        if event.startswith(b"data: {") and event.count(b"\n", 0, -1) <= 1 and b"\r" not in event:
            payload = event[6:-2]
            passed = self._record(payload, out)
            if passed is payload:
                out.append(event)
            elif passed is not None:
                out.append(b"data: %b\n\n" % passed)
            return
        self._lines(event, out)

    def _lines(self, event: bytes, out: list[bytes]) -> None:
        """Look at an event of several lines, or one with a comment or another field in it."""
        lines = event.splitlines(keepends=True)
        data = [line for line in lines if line.startswith(b"data:")]
        payload = b"\n".join([line[5:].removeprefix(b" ").rstrip(b"\r\n") for line in data])
        if not payload.strip():
            # A comment, a heartbeat, an event without data.
            out.append(event)
        elif payload.strip() == b"[DONE]":
            if self._seen:
                self.done = True
                out.append(event)
            else:
                self._fail(self._cut_short(), out)
        else:
            named = any(line.rstrip() == b"event: error" for line in lines)
            passed = self._record(payload, out, named=named)
            if passed is payload:
                out.append(event)
            elif passed is not None:
                out.extend(_replaced(lines, passed))

    def _record(self, payload: bytes, out: list[bytes], *, named: bool = False) -> bytes | None:
        """Observe one JSON document, and return it as the client is to see it: the same object if nothing is to be
        changed, None if it is to be left out. `named`: its event is called an error."""
        try:
            if not payload.isascii():
                payload.decode()  # what is skipped here is not looked at, but SDKs decode it all
            chunk = _chunk(payload)
        except _BROKEN:
            return self._odd(payload, out)
        if chunk.error is not UNSET or (type(chunk.choices) is not list and (named or chunk.object is not UNSET)):
            error = told_error(_any(payload), asked=self._asked, backend=self._backend, named=named)
            if error is not None:
                return self._told(error, chunk, payload, out)
        if isinstance(chunk.choices, list):
            for choice in chunk.choices:
                self._choice(choice)
        if isinstance(chunk.usage, Raw):
            if bytes(chunk.usage) != b"null":
                self.usage = read_usage(_any(payload)) or self.usage
                if self._strip and chunk.choices == []:
                    return None
            elif self._strip:
                payload = _without_usage(payload)
        if self._id is not None and isinstance(chunk.choices, list):
            payload = _joined({**_fields(payload), "id": self._id})
        return payload if chunk.model is None else _renamed(payload, self._name)

    def _told(self, error: OproxyError, chunk: _Chunk, payload: bytes, out: list[bytes]) -> bytes | None:
        """End the stream with an error of the backend's: in its own words, or in ours where SDKs would not see one."""
        if isinstance(chunk.error, Raw) and bytes(chunk.error)[:1] == b"{":
            self.error = error
            return payload
        self._fail(error, out)
        return None

    def _odd(self, payload: bytes, out: list[bytes]) -> bytes | None:
        """Pass on an object that is not quite a chunk; anything else is the end."""
        try:
            odd = isinstance(_any(payload), dict)
        except _BROKEN:
            odd = False
        if odd:
            self._seen = True
            return payload
        self._fail(unreadable(payload, self._backend), out)
        return None

    def _choice(self, choice: _Choice) -> None:
        self._seen = True
        if not self.first_token:
            self.first_token = bool(choice.text) or _speaks(choice.delta)
        if choice.finish_reason:
            self.finish = choice.finish_reason
            self._open.discard(choice.index)
        elif self.finish is None:
            self._open.add(choice.index)


def observe_whole(
    body: bytes, path: str, *, asked: str, backend: str = "", inputs: int | None = None
) -> tuple[bytes, Usage | None]:
    """Return a whole answer of a path (below /v1) with the model's name as the client knows it, and its usage.
    `inputs`: the texts that were to be embedded, where known. Raises the error that some servers answer with status
    200, and errors.UpstreamFailed for what is no answer."""
    body = read_answer(body, path, asked=asked, backend=backend, inputs=inputs)
    whole = _whole(body)
    usage = None
    if isinstance(whole.usage, Raw):
        usage = read_usage({"usage": _any(whole.usage)})
    return (body if whole.model is None else _renamed(body, _encode(asked))), usage


class _Whole(Struct):
    model: str | None = None
    usage: Raw | UnsetType = UNSET


_whole = msgspec.json.Decoder(_Whole).decode


def _renamed(payload: bytes, name: bytes) -> bytes:
    """Return a document whose `model` is `name` (as JSON). Everything else keeps its bytes."""
    first = _MODEL.search(payload)
    if first is None or _MODEL.search(payload, first.end()) is not None:
        # Written in an odd way, or nested ones too: find the one of the top level by its key.
        fields = _fields(payload)
        if bytes(fields["model"]) == name:
            return payload
        return _joined({**fields, "model": Raw(name)})
    start, end = first.start(1) - 1, first.end(1) + 1
    if payload[start:end] == name:
        return payload
    return payload[:start] + name + payload[end:]


def _without_usage(payload: bytes) -> bytes:
    """Return a document without its `"usage": null`."""
    first = _NO_USAGE.search(payload)
    if first is not None and payload.count(b'"usage"') == 1:
        return payload[: first.start()] + payload[first.end() :]
    return _joined({key: value for key, value in _fields(payload).items() if key != "usage"})


def _speaks(delta: Raw) -> bool:
    """Return whether a delta holds a piece of an answer."""
    try:
        fields = _fields(delta)
    except _BROKEN:
        return False
    return any(key not in _PREAMBLE and bytes(value) not in _EMPTY for key, value in fields.items())


def _replaced(lines: Sequence[bytes], payload: bytes) -> Iterator[bytes]:
    """Yield the lines of an event with other data. A line end in it is white space in JSON, but ends a field here."""
    written = False
    for line in lines:
        if not line.startswith(b"data:"):
            yield line
        elif not written:
            written = True
            yield b"data: " + payload.replace(b"\n", b" ") + line[len(line.rstrip(b"\r\n")) :]


def _ends(rest: bytes) -> bool:
    """Return whether the bytes after the last event are a whole event but for its end."""
    lines: Iterable[bytes] = [line for line in rest.splitlines() if line.startswith(b"data:")]
    for line in lines:
        payload = line[5:].strip()
        if payload == b"[DONE]":
            continue
        try:
            _any(payload)
        except _BROKEN:
            return False
    return any(lines)
