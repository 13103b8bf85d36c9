"""An answer on its way to the person: Markdown on a terminal, plain text in a pipe.

On a terminal, blocks that are complete are printed for good and only the last one is redrawn, so that long answers
scroll without flicker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..policy.printable import block_text
from .client import ENDS, Api, ApiError
from .output import console, interactive, markdown, tell
from .plain import write
from .session import Session

__all__ = ["Answer", "Painter", "Plain", "Stats", "answer", "finished_blocks", "painter"]


SPOKEN = ("response.output_text.delta", "response.refusal.delta")
SHOWN = (*SPOKEN, "response.reasoning_summary_text.delta", "response.reasoning_text.delta")


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
        write(piece)
        self._last = piece[-1:] or self._last

    def thought(self, piece: str) -> None:
        return None

    def close(self) -> None:
        if self._last != "\n":
            write("\n")


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
            self._live.update(markdown(self._open), refresh=True)

    def close(self) -> None:
        self._stop()
        if self._open.strip():
            self._print(self._open)
        elif self._thinking:
            self._screen.print()
        self._open, self._thinking = "", False

    def _print(self, text: str) -> None:
        self._part()
        self._screen.print(markdown(text), soft_wrap=False)
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
    """What came of a question: the text so far, how it ended, its usage, the whole response, and its id if it can be
    gone on from."""

    def __init__(self) -> None:
        self.text = ""
        self.id = ""
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
        try:
            await ask(api, session, into, show, stream=stream)
        except ApiError as exc:
            if exc.code != "previous_response_not_found" or into.text:
                raise
            # It was forgotten there, but not here: all that was said is sent again.
            session.marks = []
            await ask(api, session, into, show, stream=stream)
    finally:
        into.stats.total = time.monotonic() - into.stats.began
        show.close()
        notes(into)


async def ask(api: Api, session: Session, into: Answer, show: Painter, *, stream: bool) -> None:
    if stream:
        async for event in api.events("/v1/responses", session.body(stream=True), head=into.head):
            take(event, into, show)
    else:
        body, into.headers = await api.post("/v1/responses", session.body(stream=False))
        for name, text in spoken(body):
            take({"type": name, "delta": text}, into, show)
        take({"type": "response.completed", "response": body}, into, show)


def spoken(response: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a whole response says, as the events of a stream would."""
    for item in response["output"]:
        for part in item.get("summary") or ():
            yield "response.reasoning_summary_text.delta", part["text"]
        for part in item.get("content") or ():
            yield "response.output_text.delta", part.get("text") or part.get("refusal") or ""


def take(event: Mapping[str, Any], into: Answer, show: Painter) -> None:
    kind, piece = event.get("type"), event.get("delta") or ""
    if kind in ENDS:
        end(event["response"], into)
    elif kind in SHOWN and piece:
        if into.stats.first is None:
            into.stats.first = time.monotonic() - into.stats.began
        if kind in SPOKEN:
            into.text += piece
            show.text(block_text(piece))
        else:
            show.thought(block_text(piece))


def end(response: dict[str, Any], into: Answer) -> None:
    into.whole = response
    if usage := response.get("usage"):
        into.usage = {"prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"]}
    reason = (response.get("incomplete_details") or {}).get("reason")
    into.reason = {None: "stop", "max_output_tokens": "length"}.get(reason, reason)
    # What was not kept cannot be gone on from.
    ignored = into.headers.get("x-oproxy-ignored", "").split(", ")
    into.id = "" if "store" in ignored else response["id"]


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
