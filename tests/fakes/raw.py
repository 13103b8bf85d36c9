"""A server that answers with exactly the bytes it is given, right or wrong, and then hangs up.

It lists a model in OpenAI's and in Ollama's form, so that it can be a backend of either kind; all else is answered with
`answer`, the whole of an HTTP response, or with the one of `by_text` whose key is in the request's body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

MODEL = "small"
TAG = {
    "name": f"{MODEL}:latest",
    "model": f"{MODEL}:latest",
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 1,
    "digest": "0" * 64,
    "details": {"family": "llama"},
    "capabilities": ["completion", "tools", "embedding"],
}
KNOWN: dict[str, Any] = {
    "GET /v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "x"}]},
    "GET /api/tags": {"models": [TAG]},
    "POST /api/show": {"details": {"family": "llama"}, "capabilities": TAG["capabilities"], "model_info": {}},
    "GET /api/version": {"version": "0.34.4"},
}


def http(
    body: bytes, type: str = "application/json", *, status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    """Return a whole response; `length` may be a lie."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\ncontent-type: {type}\r\ncontent-length: {size}\r\nconnection: close\r\n{headers}\r\n"
    return head.encode() + body


class RawServer:
    """`url` has no path. `known` are the answers that are always right, by method and path."""

    def __init__(self) -> None:
        self.url = ""
        self.answer = b""
        self.by_text: dict[bytes, bytes] = {}
        self.known: dict[str, Any] = dict(KNOWN)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path = head.decode("latin-1").split(" ", 2)[:2]
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
            known = self.known.get(f"{method} {path}")
            if known is None:
                known = next((answer for text, answer in self.by_text.items() if text in body), self.answer)
            writer.write(known if isinstance(known, bytes) else http(json.dumps(known).encode()))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    """Serve on a free port."""
    fake = RawServer()
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    fake.url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        server.close()
        await server.wait_closed()
