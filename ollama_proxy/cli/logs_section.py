"""A piece of what `oproxy logs show` tells of a conversation, and how any content becomes text. Prints nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

__all__ = ["Section", "pretty", "text_of"]


class Section(NamedTuple):
    """A piece of a conversation: who or what, the text, and whether it is Markdown."""

    title: str
    text: str
    markdown: bool = False


def text_of(content: Any) -> str:
    """Return a message's content as text; what is no text is named."""
    match content:
        case None:
            return ""
        case str():
            return content
        case [*parts]:
            return "\n\n".join(text_of(part) for part in parts)
        case {"text": str(text)}:
            return text
        case {"type": str(kind), **rest}:
            return f"[{kind} {msgspec.json.encode(rest).decode()}]"
    return pretty(content)


def pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
