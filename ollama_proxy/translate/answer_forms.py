"""Answers on OpenAI's wire in the form that was asked for: a document told as a stream, a stream told as a document.

`read_answer` says what is an answer at all: OpenAI's SDKs take HTML, `null` or an empty stream for an empty answer, or
fail in ways no program expects, so that everything else is raised as an error. Never changes what an answer says.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ..errors import OproxyError
from ..events import Fail
from ..framing import BOM, SseDecoder
from . import chat_write, completions
from .openai_errors import stream_error, unreadable
from .openai_read import AnswerReader, ChatChoice, TextChoice

__all__ = ["chunks_of", "is_document", "read_answer", "told_error"]

Fields = Mapping[str, Raw]

SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:")
NULL = Raw(b"null")

_encode = msgspec.json.Encoder().encode
_any = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)


class _Whole(Struct):
    choices: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    results: Raw | UnsetType = UNSET


class _Said(Struct):
    message: dict[str, Raw]


class _Text(Struct):
    text: str


class _Vector(Struct):
    embedding: Raw


_whole = msgspec.json.Decoder(_Whole).decode
_chat = msgspec.json.Decoder(list[_Said]).decode
_texts = msgspec.json.Decoder(list[_Text]).decode
_vectors = msgspec.json.Decoder(list[_Vector]).decode
_judgements = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def read_answer(body: bytes, path: str, *, asked: str, backend: str, inputs: int | None = None) -> bytes:
    """Return the document of a whole answer to `path` (below /v1): as it came, or made of the events that came in its
    place. `inputs`: the texts that were to be embedded, where known. Raises the error it holds, and
    errors.UpstreamFailed for what is no answer."""
    body = body.removeprefix(BOM)
    if not is_document(body.lstrip()):
        body = _gathered(body, path, asked, backend)
    try:
        if not body.isascii():
            body.decode()  # msgspec leaves the strings it skips unchecked
        whole = _whole(body)
        if whole.choices is UNSET and whole.data is UNSET and whole.results is UNSET:
            raise told_error(_any(body), asked=asked, backend=backend) or unreadable(body, backend)
        if not _holds(whole, path, inputs):
            raise unreadable(body, backend)
    except _BROKEN:
        raise unreadable(body, backend) from None
    return body


def _holds(whole: _Whole, path: str, inputs: int | None) -> bool:
    """Return whether a document holds what clients take out of it without looking. Raises msgspec's errors."""
    if path == "/embeddings":
        vectors = _vectors(whole.data if isinstance(whole.data, Raw) else b"[]")
        return len(vectors) == (inputs or len(vectors) or 1) and all(
            _is_vector(bytes(each.embedding)) for each in vectors
        )
    if path == "/moderations":
        return bool(_judgements(whole.results if isinstance(whole.results, Raw) else b"[]"))
    choices = whole.choices if isinstance(whole.choices, Raw) else b"[]"
    return bool(_chat(choices) if path == "/chat/completions" else _texts(choices))


def _is_vector(embedding: bytes) -> bool:
    """Return whether an embedding is a list, or base64. Numbers are not looked at: that would take as long
    as all else together."""
    if embedding[:1] == b"[":
        return len(embedding) > len(b"[]")
    try:
        # A slash may be escaped.
        data = binascii.a2b_base64(embedding[1:-1].replace(rb"\/", b"/"), strict_mode=True)
    except binascii.Error:
        return False
    return embedding[:1] == b'"' and bool(data)


def told_error(record: Any, *, asked: str, backend: str, named: bool = False) -> OproxyError | None:
    """Return the error that a record tells in whatever form, None if it tells none. `named`: its event is called an
    error."""
    error = stream_error(record, backend=backend, model=asked)
    if error is None and named and isinstance(record, dict):
        error = stream_error({**record, "object": "error"}, backend=backend, model=asked)
    return error


def is_document(data: bytes) -> bool | None:
    """Return whether an answer is something else than events, by its first bytes; None if these do not tell yet."""
    if data[:1] == b":" or data.startswith(SSE_FIELDS):
        return False
    return None if any(field.startswith(data[: len(field)]) for field in SSE_FIELDS) else True


# --- a document as a stream -------------------------------------------------------------------------------------------


def chunks_of(answer: Fields) -> Iterator[bytes]:
    """Yield the chunks of a stream that says what a whole answer says: what it holds, its ends, its usage."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage", "object")}
    choices = msgspec.json.decode(answer["choices"], type=list[dict[str, Raw]])
    if any("message" not in choice for choice in choices):
        ended = [_object({**choice, "finish_reason": _reason(choice)}) for choice in choices]
        yield _object({**head, "object": Raw(b'"text_completion"'), "choices": _list(*ended)})
    else:
        head["object"] = Raw(b'"chat.completion.chunk"')
        for place, choice in enumerate(choices):
            index = choice.get("index", Raw(_encode(place)))
            delta = Raw(_object(_delta(choice["message"])))
            rest = {key: value for key, value in choice.items() if key != "message"}
            said = {**rest, "index": index, "delta": delta, "finish_reason": NULL}
            end = {"index": index, "delta": Raw(b"{}"), "finish_reason": _reason(choice)}
            yield _object({**head, "choices": _list(_object(said))})
            yield _object({**head, "choices": _list(_object(end))})
    if bytes(answer.get("usage", NULL)) != b"null":
        yield _object({**head, "choices": Raw(b"[]"), "usage": answer["usage"]})


def _reason(choice: Fields) -> Raw:
    """Return why a choice ended. Some servers leave it out; the answer is whole all the same."""
    reason = choice.get("finish_reason", NULL)
    return reason if bytes(reason) not in (b"null", b'""') else Raw(b'"stop"')


def _delta(message: Raw) -> Fields:
    """Return a message as a piece of a stream, where calls are numbered."""
    delta = _fields(message)
    try:
        calls = msgspec.json.decode(delta.get("tool_calls", NULL), type=list[dict[str, Raw]] | None)
    except _BROKEN:
        calls = None
    if calls:
        numbered = (_object({"index": Raw(_encode(place)), **call}) for place, call in enumerate(calls))
        delta["tool_calls"] = _list(*numbered)
    return delta


def _object(fields: Fields) -> bytes:
    return b"{%b}" % b",".join([_encode(key) + b":" + bytes(value) for key, value in fields.items()])


def _list(*items: bytes) -> Raw:
    return Raw(b"[%b]" % b",".join(items))


# --- a stream as a document -------------------------------------------------------------------------------------------


class _Head(Struct):
    id: str = ""
    created: int = 0
    model: str = ""


def _gathered(body: bytes, path: str, asked: str, backend: str) -> bytes:
    """Return the document that a stream amounts to. Raises what ended it, and what only one choice can be read of."""
    if path in ("/embeddings", "/moderations"):
        raise unreadable(body, backend)
    chat = path == "/chat/completions"
    choice = ChatChoice(top_logprobs=20) if chat else TextChoice(top_logprobs=5)
    reader = AnswerReader(choice, backend=backend, model=asked)
    events = [*reader.feed(body), *reader.flush()]
    match events[-1]:
        case Fail(error=error):
            raise error
    head = _head(body)
    write = chat_write.whole if chat else completions.whole
    return write(events, id=head.id, created=head.created, model=head.model or asked)


def _head(body: bytes) -> _Head:
    """Return what the first chunk says of the answer. Raises nothing: it has been read before."""
    decoder = SseDecoder()
    for event in (*decoder.feed(body), *decoder.flush()):
        try:
            return msgspec.json.decode(event.data, type=_Head)
        except _BROKEN:
            continue
    return _Head()
