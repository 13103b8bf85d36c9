"""The one line a request leaves on the terminal. Never shows a key, a prompt or an answer."""

from __future__ import annotations

import functools
import time

from ..policy.books import Books
from ..policy.printable import line_text
from ..policy.redact import redact_text

__all__ = ["request_line"]


def request_line(method: str, path: str, books: Books, now: float, origin: str | None = None) -> str:
    """Return e.g. `14:03:05 POST /v1/chat/completions gpt-4o → ollama/smollm2 200 21+8 tokens, first 12 ms, 55 ms`.

    A refusal names the `origin` it may be due to: browsers show their users neither the status nor the message."""
    parts = [clock(int(now)), method, line_text(path)]
    if books.asked:
        served = f"{books.backend}/{line_text(books.served)}" if books.served else "?"
        parts.append(f"{line_text(books.asked)} → {served}")
    parts.append(str(books.status))
    if books.code:
        parts.append(line_text(books.code))
    if origin:
        parts.append(f"from {line_text(origin)}")
    figures = []
    if books.usage is not None:
        about = "" if books.usage.exact else "~"
        figures.append(f"{about}{books.usage.prompt}+{books.usage.completion} tokens")
    if books.first is not None:
        figures.append(f"first {duration(books.first - books.started)}")
    if books.ended is not None:
        figures.append(duration(books.ended - books.started))
    return redact_text(f"{' '.join(parts)} {', '.join(figures)}")


@functools.lru_cache(maxsize=4)
def clock(second: int) -> str:
    """Return the local time of day; under load many requests share a second."""
    return time.strftime("%H:%M:%S", time.localtime(second))


def duration(seconds: float) -> str:
    """Return a time as people read it: `12 ms`, `3.4 s`, `2 min 5 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
