"""Taking the assistant's own last message off the front of an answer that goes on with it. Pure.

llama.cpp gives a whole answer with that message in front and a stream without; OpenAI and Ollama never repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ..events import Event
from ..events import Text as Said
from ..model import Message, Text

__all__ = ["WithoutEcho", "last_said"]


def last_said(messages: Sequence[Message]) -> str:
    """Return the text of the last message, if it is the assistant's and nothing but text."""
    if not messages or messages[-1].role != "assistant":
        return ""
    parts = messages[-1].parts
    return "".join(part.text for part in parts if isinstance(part, Text)) if _plain(parts) else ""


def _plain(parts: Sequence[object]) -> bool:
    return all(isinstance(part, Text) for part in parts)


class WithoutEcho:
    """Cuts `said` off the beginning of the text, where the text begins with it; what was generated stays."""

    def __init__(self, said: str) -> None:
        self._left = said

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, Said) and self._left:
                said, self._left = self._left, ""
                if event.text.startswith(said):
                    event = replace(event, text=event.text[len(said) :])
                    if not event.text:
                        continue
            out.append(event)
        return out

    def flush(self) -> list[Event]:
        return []
