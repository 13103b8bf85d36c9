"""A load generator that costs little: raw HTTP/1.1 over asyncio streams with kept connections."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple


class Target(NamedTuple):
    """Where an arm sends its requests, and what."""

    name: str
    port: int
    path: str
    whole: bytes
    streamed: bytes

    def request(self, *, stream: bool) -> bytes:
        body = self.streamed if stream else self.whole
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sk-bench\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Shot(NamedTuple):
    """One request's figures, in seconds: the whole, and until the first byte of the body."""

    total: float
    first: float


class Connection:
    """One kept connection."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port, limit=2**22)

    async def shoot(self, request: bytes) -> Shot:
        start = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            rest = await self._reader.read(2000)
            raise RuntimeError(f"{self._target.name}: {head!r} {rest!r}")
        lowered = head.lower()
        if (at := lowered.find(b"content-length:")) >= 0:
            await self._reader.readexactly(int(lowered[at + 15 :].split(b"\r\n", 1)[0]))
            end = time.perf_counter()
            return Shot(end - start, end - start)
        first = None
        while True:
            size = int((await self._reader.readline()).strip(), 16)
            await self._reader.readexactly(size + 2)
            first = first or time.perf_counter()
            if size == 0:
                return Shot(time.perf_counter() - start, first - start)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def run(target: Target, *, count: int, connections: int, stream: bool = False) -> tuple[list[Shot], float]:
    """Send `count` requests over so many connections; return their figures and the seconds it all took."""
    request = target.request(stream=stream)
    left = iter(range(count))
    shots: list[Shot] = []

    async def worker() -> None:
        connection = Connection(target)
        await connection.open()
        try:
            for _ in left:
                shot = await connection.shoot(request)
                shots.append(shot)
        finally:
            await connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return shots, time.perf_counter() - start
