"""A streamed answer as the whole answer it amounts to.

Chunks of chats and completions are merged by one rule, whatever fields a server adds: text grows, lists with an index
are merged by it, other lists grow, and names, ids and numbers are taken as they come. Streams of another shape are
kept as the list of their documents. Never raises, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..framing import SseDecoder
from .assemble_messages import is_messages, message
from .assemble_responses import is_response, last_response, response

__all__ = ["Assembled", "assemble"]

CHUNKS = {"chat.completion.chunk": "chat.completion", "text_completion": "text_completion"}
# Strings that come whole, perhaps more than once; all others come in pieces.
WHOLE = frozenset(
    {
        *("id", "type", "role", "name", "object", "finish_reason", "model", "format", "status"),
        *("created_at", "done_reason"),
    }
)
# Padding against listeners; it says nothing. https://platform.openai.com/docs/api-reference/chat-streaming
PADDING = "obfuscation"
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Assembled(msgspec.Struct, frozen=True):
    """`answer` is a JSON value; `done` whether the stream came to its end ([DONE])."""

    answer: Any
    done: bool


class Pieces(list[str]):
    """A text that still grows: joined once, at the end."""


class Listed(list[Any]):
    """A list that still grows, with the place of each item that has an index: there may be thousands."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, int] = {}


def assemble(pieces: Sequence[bytes]) -> Assembled:
    """Return what the bytes of a stream of Server-Sent Events, or of Ollama's lines, amount to, wherever they are
    cut."""
    data = b"".join(pieces)
    if data.startswith(b"{"):
        return lines(data)
    if (whole := last_response(data)) is not None:
        return Assembled(whole, True)
    found = payloads(data)
    done = bool(found) and found[-1] == b"[DONE]"
    documents = decoded(found[:-1] if done else found)
    if not documents:
        return Assembled(None, done)
    if all(mergeable(each) for each in documents):
        return Assembled(merged(documents), done)
    if is_messages(documents):
        return Assembled(*message(documents))
    if is_response(documents):
        return Assembled(*response(documents))
    return Assembled(documents, done)


def lines(data: bytes) -> Assembled:
    """Return what the lines of a stream of Ollama's API amount to: texts joined, the rest as it came last."""
    documents = decoded([line for line in data.split(b"\n") if line])
    whole: dict[str, Any] = {}
    for document in documents:
        if type(document) is not dict:
            return Assembled(documents, False)
        merge(whole, document)
    return Assembled(finished(whole), whole.get("done") is True)


def payloads(data: bytes) -> list[bytes]:
    """Return the data of each event. Streams as we write them are split at once, others by the book."""
    found = []
    for part in data.split(b"\n\n"):
        if b"\n" in part or b"\r" in part:
            break
        if part.startswith(b"data:"):
            found.append(part[5:].strip())
    else:
        return found
    decoder = SseDecoder(limit=len(data) + 1)
    return [event.data for event in [*decoder.feed(data), *decoder.flush()]]


def decoded(found: list[bytes]) -> list[Any]:
    try:
        # All in one go takes half the time of one by one.
        documents: list[Any] = msgspec.json.decode(b"[" + b",".join(found) + b"]")
    except UNREADABLE:
        documents = [single(each) for each in found]
        if documents and type(documents[-1]) is str:
            # The stream broke off inside it.
            documents.pop()
    return documents


def single(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return data.decode("utf-8", "replace")


def mergeable(document: Any) -> bool:
    """Tell whether a document is a chunk of a chat or a completion, or the error that ends such a stream."""
    if type(document) is not dict:
        return False
    choices = document.get("choices")
    if choices is None:
        return "error" in document
    return type(choices) is list and all(
        type(choice) is dict and type(choice.get("delta", {})) in (dict, type(None)) for choice in choices
    )


def merged(documents: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for document in documents:
        for name, value in document.items():
            if name == "choices":
                for choice in value:
                    take(choices, choice)
            elif name != PADDING and (value is not None or name not in whole):
                whole[name] = value
    kind = whole.get("object")
    if isinstance(kind, str):
        whole["object"] = CHUNKS.get(kind, kind)
    if choices or "error" not in whole:
        listed = [numberless(finished(choices[index])) for index in sorted(choices)]
        usage = whole.pop("usage", None)
        whole["choices"] = listed
        if usage is not None:
            whole["usage"] = usage
    return whole


def take(choices: dict[int, dict[str, Any]], choice: dict[str, Any]) -> None:
    index = choice.get("index")
    into = choices.setdefault(index if type(index) is int else 0, {})
    for name, value in choice.items():
        if name == "delta":
            message = into.setdefault("message", {})
            if value:
                merge(message, value)
        else:
            merge(into, {name: value})


def merge(into: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        have = into.get(name)
        kind = type(value)
        if kind is str:
            if name in WHOLE:
                if value or not have:
                    into[name] = value
            elif type(have) is Pieces:
                have.append(value)
            else:
                into[name] = Pieces([value])
        elif kind is dict:
            if type(have) is not dict:
                have = into[name] = {}
            merge(have, value)
        elif kind is list:
            if type(have) is not Listed:
                have = into[name] = Listed()
            extend(have, value)
        elif value is not None or name not in into:
            into[name] = value


def extend(into: Listed, more: list[Any]) -> None:
    for item in more:
        index = item.get("index") if type(item) is dict else None
        if type(index) is not int:
            into.append(item)
            continue
        if index not in into.places:
            into.places[index] = len(into)
            into.append({})
        merge(into[into.places[index]], item)


def finished(value: Any) -> Any:
    """Return the value with its texts joined."""
    if type(value) is Pieces:
        return "".join(value)
    if type(value) is dict:
        return {name: finished(item) for name, item in value.items()}
    if type(value) is Listed or type(value) is list:
        return [finished(item) for item in value]
    return value


def numberless(choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice whose tool calls have no `index`: a whole answer's have none, their place says it."""
    match choice.get("message"):
        case {"tool_calls": [*calls]}:
            for call in calls:
                if type(call) is dict:
                    call.pop("index", None)
    return choice
