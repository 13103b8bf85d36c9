"""The books of one request while it runs, and its line in the ledger when it has ended. Pure: times come in as
numbers.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from ..account import Caller, Entry
from ..events import Usage
from .limit import Verdict
from .memory import Hold, Memory
from .printable import utf8_text
from .redact import redact_text

__all__ = ["Books", "entry_of", "program"]

NOBODY = Caller()


class Books:
    """What is known of one request so far: who asked what, who answered, and what it took. Times are clock seconds,
    `at` is epoch seconds.

    Filled while the request runs; whoever holds it when the request ends writes it down. `closed`: it is written.
    """

    __slots__ = (
        "address", "agent", "answer", "asked", "at", "backend", "behind", "caller", "closed", "code", "ended",
        "endpoint", "entry", "first", "hold", "id", "ignored", "limits", "notes", "queued", "reserved", "served",
        "size", "started", "status", "stream", "tag", "tries", "usage",
    )  # fmt: skip

    def __init__(self, started: float, *, id: str = "", at: float = 0.0, memory: Memory | None = None) -> None:
        self.id = id
        # The memory that the request holds; whoever opened the books releases it.
        self.hold = Hold(memory)
        self.at = at
        self.started = started
        self.queued: float | None = None
        self.first: float | None = None
        self.ended: float | None = None
        self.caller = NOBODY
        # Bytes of the body: what decides whether work on it belongs in a thread.
        self.size = 0
        # Bytes of the backend's answer so far, which decide the same for its end.
        self.answer = 0
        self.address = ""
        self.agent = ""
        self.tag = ""
        # The path as it is booked; "" for what is not booked (pages, health).
        self.endpoint = ""
        self.asked = ""
        self.served = ""
        self.backend = ""
        self.stream = False
        # Nobody waits for the answer (it is a batch's): 1, it takes its turn like the rest; 2, it lets all others go.
        self.behind = 0
        self.status = 0
        self.code: str | None = None
        self.usage: Usage | None = None
        self.tries = 0
        self.ignored: tuple[str, ...] = ()
        self.notes: dict[str, Any] = {}
        self.limits: Verdict | None = None
        # What was set aside of budgets (`spend.Spend`), until it is known what it took.
        self.reserved: Any = None
        self.closed = False
        # The row, once it is closed.
        self.entry: Entry | None = None


def entry_of(books: Books, *, cost: int | None, listed: int | None, now: float) -> Entry:
    """Return the line of the ledger. `now` is clock seconds, for one that has not ended yet."""
    usage = books.usage
    started, key = books.started, books.caller.key
    asked, tag, client = books.asked, books.tag, program(books.agent)
    # Kept for a year and more: a key that somebody put into a model's name is not.
    return Entry(
        id=books.id,
        at=books.at,
        endpoint=books.endpoint,
        status=books.status,
        key=books.caller.id,
        caller=books.caller.name,
        tag=kept(tag) or (key.tags[0] if key is not None and key.tags else ""),
        address=books.address,
        client=kept(client),
        asked=kept(asked),
        served=books.served,
        backend=books.backend,
        code=books.code,
        stream=books.stream,
        queued=books.queued,
        first=books.first - started if books.first is not None else None,
        total=(books.ended if books.ended is not None else now) - started,
        prompt=usage.prompt if usage is not None else 0,
        cached=usage.cached if usage is not None else 0,
        completion=usage.completion if usage is not None else 0,
        reasoning=usage.reasoning if usage is not None else 0,
        exact=usage.exact if usage is not None else True,
        cost=cost,
        listed=listed,
        tries=books.tries,
    )


def kept(text: str) -> str:
    """Return what a client sent as it is kept: text that can be written, without keys."""
    return redact_text(utf8_text(text))


# The official SDKs say "OpenAI/Python 3.52.0" and "AsyncOpenAI/Python 3.52.0", "OpenAI/JS 6.1.0".
SDK = re.compile(r"(?:Async)?(\w+)/(Python|JS) (\S+)")


@functools.lru_cache(maxsize=512)
def program(agent: str) -> str:
    """Return a client's program with its version from its User-Agent: `openai-python/3.52.0`, `curl/8.5.0`."""
    if found := SDK.match(agent):
        return f"{found[1].lower()}-{found[2].lower()}/{found[3]}"[:80]
    first = agent.split(" ", 1)[0][:80]
    return first if first.isprintable() else ""
