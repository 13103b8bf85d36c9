"""An answer on its way to the person: Markdown on a terminal, plain text in a pipe.

On a terminal, blocks that are complete are printed for good and only the last one is redrawn, so that long answers
scroll without flicker.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from .client import Api
from .output import console, interactive, tell
from .session import Session, printable

__all__ = ["Answer", "Painter", "Plain", "Stats", "answer", "finished_blocks", "painter"]


class Stats:
    """What an answer took. Times are seconds."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first: float | None = None
        self.total = 0.0

    def line(self, usage: Mapping[str, Any] | None, model: str) -> str:
        """Return one line: tokens, speed, times, model."""
        parts = []
        if usage:
            parts.append(f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens")
            busy = self.total - (self.first or 0.0)
            if usage["completion_tokens"] > 1 and busy > 0:
                parts.append(f"{(usage['completion_tokens'] - 1) / busy:.1f} tokens/s")
        if self.first is not None:
            parts.append(f"first after {self.first:.2f} s")
        parts.append(f"{self.total:.2f} s in all")
        return f"[{', '.join(parts)}; {model}]"


class Painter(Protocol):
    """Shows an answer as it grows."""

    def text(self, piece: str) -> None: ...

    def thought(self, piece: str) -> None: ...

    def close(self) -> None: ...


class Plain:
    """Text as it comes, for a pipe; thoughts are left out."""

    def __init__(self) -> None:
        self._last = "\n"

    def text(self, piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()
        self._last = piece[-1:] or self._last

    def thought(self, piece: str) -> None:
        return None

    def close(self) -> None:
        if self._last != "\n":
            sys.stdout.write("\n")
            sys.stdout.flush()


class Rendered:
    """Markdown on a terminal; thoughts dimmed before it."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._thinking = False
        self._open = ""
        self._gap = False
        self._live: Live | None = None

    def thought(self, piece: str) -> None:
        self._thinking = True
        self._screen.print(Text(piece, style="dim"), end="")

    def text(self, piece: str) -> None:
        if self._thinking:
            self._thinking = False
            self._screen.print("\n")
        self._open += piece
        done, self._open = finished_blocks(self._open)
        if done.strip():
            self._stop()
            self._print(done)
        if self._open.strip():
            if self._live is None:
                self._part()
                self._live = Live(console=self._screen, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(Markdown(self._open), refresh=True)

    def close(self) -> None:
        self._stop()
        if self._open.strip():
            self._print(self._open)
        elif self._thinking:
            self._screen.print()
        self._open, self._thinking = "", False

    def _print(self, text: str) -> None:
        self._part()
        self._screen.print(Markdown(text), soft_wrap=False)
        self._gap = True

    def _part(self) -> None:
        """Set a block off from the one before by an empty line, once."""
        if self._gap:
            self._gap = False
            self._screen.print()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def finished_blocks(text: str) -> tuple[str, str]:
    """Split Markdown into blocks that nothing can change any more, and the rest.

    A block ends at an empty line, but not inside a fence, and not before something that may go on with a list.
    """
    end = 0
    fence = ""
    position = 0
    lines = text.split("\n")
    for number, line in enumerate(lines[:-1]):
        stripped = line.strip()
        if fence:
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = ""
        elif stripped.startswith(("```", "~~~")):
            fence = stripped[:3]
        position += len(line) + 1
        following = lines[number + 1]
        goes_on = following.startswith((" ", "\t", "-", "*", "+")) or following[:1].isdigit() or not following
        if not stripped and not fence and not goes_on:
            end = position
    return text[:end], text[end:]


def painter() -> Painter:
    """Return what fits where stdout goes."""
    return Rendered(console()) if interactive() else Plain()


class Answer:
    """What came of a question: the text so far, how it ended, its usage and the last chunk or body."""

    def __init__(self) -> None:
        self.text = ""
        self.reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.stats = Stats()
        self.whole: dict[str, Any] = {}
        self.headers: Mapping[str, str] = {}

    def head(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def served(self, asked: str) -> str:
        """Return who answered: backend/model."""
        backend, model = self.headers.get("x-oproxy-backend"), self.headers.get("x-oproxy-model")
        return f"{backend}/{model}" if backend and model else asked


async def answer(api: Api, session: Session, into: Answer, show: Painter, *, stream: bool) -> None:
    """Ask for the session's next turn, showing it as it comes. `into` holds what came, also when it breaks off."""
    try:
        if stream:
            chunks = api.events("/v1/chat/completions", session.body(stream=True), head=into.head)
            async for chunk in chunks:
                take(chunk, into, show)
        else:
            body, into.headers = await api.post("/v1/chat/completions", session.body(stream=False))
            into.whole = body
            message = body["choices"][0]["message"]
            choice = {"delta": message, "finish_reason": body["choices"][0]["finish_reason"]}
            take({"choices": [choice], "usage": body.get("usage")}, into, show)
    finally:
        into.stats.total = time.monotonic() - into.stats.began
        show.close()
        notes(into)


def take(chunk: Mapping[str, Any], into: Answer, show: Painter) -> None:
    if chunk.get("usage"):
        into.usage = chunk["usage"]
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        thought, text = delta.get("reasoning_content"), delta.get("content") or delta.get("refusal")
        if (thought or text) and into.stats.first is None:
            into.stats.first = time.monotonic() - into.stats.began
        if thought:
            show.thought(printable(thought))
        if text:
            into.text += text
            show.text(printable(text))
        into.reason = choice.get("finish_reason") or into.reason


def notes(into: Answer) -> None:
    """Tell, beside the answer, what the person should know of it."""
    if ignored := into.headers.get("x-oproxy-ignored"):
        tell(f"Without effect on this model: {ignored}.")
    if miss := into.headers.get("x-oproxy-schema-miss"):
        tell(f"The answer does not follow the schema: {miss}.")
    elif into.reason == "content_filter":
        tell("The answer does not follow the schema.")
    if into.reason == "length":
        tell("The answer was cut by its length limit.")
