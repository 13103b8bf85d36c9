"""An instant upstream: answers /api/chat like Ollama from bytes made beforehand. `python -m tests.bench.mock PORT
[PAUSE]`: with so many seconds between the chunks of a stream.

A bare asyncio protocol, so that what is measured is the proxy and not the mock.
"""

from __future__ import annotations

import asyncio
import json
import sys

CHUNKS = 200


def record(content: str, **more: object) -> bytes:
    value = {
        "model": "bench:latest",
        "created_at": "2026-11-21T06:03:02.988280722Z",
        "message": {"role": "assistant", "content": content},
        "done": False,
        **more,
    }
    return json.dumps(value, separators=(",", ":")).encode()


FINAL: dict[str, object] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 54922145,
    "load_duration": 1191397,
    "prompt_eval_count": 21,
    "prompt_eval_cached_count": 20,
    "prompt_eval_duration": 6357000,
    "eval_count": 8,
    "eval_duration": 43954000,
}

DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_1",
    "context_length": 8192,
    "embedding_length": 576,
}
TAGS = {
    "models": [
        {
            "name": "bench:latest",
            "model": "bench:latest",
            "modified_at": "2026-11-21T06:02:59.850010278Z",
            "size": 98362741,
            "digest": "0d12843a24ee34e63552fe0032258cbd89410570e09e78b99ceda9381747de53",
            "details": DETAILS,
            "capabilities": ["completion", "tools"],
        }
    ]
}
SHOW = {
    "details": DETAILS,
    "template": "{{ .Prompt }}",
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    "capabilities": ["completion", "tools"],
    "modified_at": "2026-11-21T06:02:59.850010278Z",
}


def whole(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER = whole(record("The capital of France is Paris.", **FINAL))
PIECES = [chunk(record(" token") + b"\n") for _ in range(CHUNKS)]
STREAM_END = chunk(record("", **FINAL) + b"\n") + b"0\r\n\r\n"
FIXED = {
    b"/api/tags": whole(json.dumps(TAGS).encode()),
    b"/api/show": whole(json.dumps(SHOW).encode()),
    b"/api/version": whole(b'{"version":"0.34.4"}'),
    b"/api/ps": whole(b'{"models":[]}'),
}


class Upstream(asyncio.Protocol):
    """One connection: requests in, prepared bytes out."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.buffer = b""
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            total = end + 4 + length
            if len(self.buffer) < total:
                return
            body = self.buffer[end + 4 : total]
            path = self.buffer.split(b" ", 2)[1]
            self.buffer = self.buffer[total:]
            self.answer(path, body)

    def answer(self, path: bytes, body: bytes) -> None:
        if path in FIXED:
            self.transport.write(FIXED[path])
        elif b'"stream":true' in body:
            task = asyncio.ensure_future(self.stream())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.transport.write(ANSWER)

    async def stream(self) -> None:
        """Write chunk by chunk with a turn of the loop between, so that they arrive one by one."""
        self.transport.write(STREAM_HEAD)
        for piece in PIECES:
            if self.transport.is_closing():
                return
            self.transport.write(piece)
            await asyncio.sleep(self.pause)
        self.transport.write(STREAM_END)


async def main(port: int, pause: float = 0.0) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(pause), "127.0.0.1", port, backlog=512)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(float, sys.argv[2:])))
