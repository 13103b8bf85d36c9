"""What the recorder is told of an ended request. Only gathers; writing happens in the recorder's own thread."""

from __future__ import annotations

from aiohttp import web
from multidict import istr

from ..policy.printable import utf8_text
from ..recorder import Record, Recorder
from .keys import BODY, BOOKS, CHUNKS

__all__ = ["record"]

# Harmless request headers that say who asked and how.
KEPT = tuple(map(istr, ("user-agent", "content-type", "x-oproxy-tag", "openai-beta", "x-stainless-retry-count")))


def record(recorder: Recorder, request: web.Request, answer: object) -> None:
    """Hand a request over, its books closed. `answer` is the whole body, or None for a stream."""
    books = request[BOOKS]
    if books.entry is None:
        return
    kept = request.get(CHUNKS)
    chunks = kept.all() if kept is not None else []
    start = chunks[0][0] - ((books.first or books.started) - books.started) if chunks else 0.0
    headers = request.headers
    recorder.record(
        Record(
            entry=books.entry,
            method=request.method,
            path=utf8_text(request.path),
            request=request.get(BODY, b""),
            answer=bytes(answer) if isinstance(answer, bytes | bytearray) else None,
            chunks=[(at - start, data) for at, data in chunks],
            count=kept.count if kept is not None else 0,
            size=kept.size if kept is not None else 0,
            cut=kept is not None and kept.cut,
            ignored=books.ignored,
            headers={name: utf8_text(value) for name in KEPT if (value := headers.get(name)) is not None},
        )
    )
