"""Files and the real daemon: a big one takes no memory, and a kill leaves nothing half."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import BOOKLESS

from .conftest import free_port
from .test_kill import daemon as serving

MIB = 1 << 20
BIG = 200 * MIB
# What a daemon may need beyond what it has after a small file: buffers, not the file.
GROWTH = 16 * MIB
HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
)
TAIL = b"\r\n--x--\r\n"
HEADERS = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    # Without the books: list prices take more memory while they are read than any file.
    os.environ |= BOOKLESS
    path = tmp_path / "config.toml"
    path.write_text('[backends.none]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    return path


def folder() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "files"


def names() -> list[str]:
    return sorted(path.name for path in folder().iterdir()) if folder().exists() else []


async def body(size: int, piece: bytes = b"\r\n--y" * 52429) -> AsyncIterator[bytes]:
    """Yield a form with a file of `size` bytes, which looks like a boundary everywhere."""
    yield HEAD
    while size > 0:
        yield piece[:size]
        size -= len(piece)
    yield TAIL


async def upload(http: aiohttp.ClientSession, size: int) -> str:
    async with http.post("/v1/files", data=body(size), headers=HEADERS) as response:
        made = await response.json()
        assert (response.status, made.get("bytes")) == (200, size), made
        id: str = made["id"]
        return id


def peak(pid: int) -> int:
    """Return the most memory a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
async def test_a_big_file_goes_up_and_down_without_being_in_memory(config: Path) -> None:
    port = free_port()
    async with serving(config, port) as child, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        id = await upload(http, 3 * MIB)
        async with http.get(f"/v1/files/{id}/content") as response:
            await response.read()
        before = peak(child.pid)
        id = await upload(http, BIG)
        after = peak(child.pid)
        got = 0
        async with http.get(f"/v1/files/{id}/content") as response:
            async for data in response.content.iter_any():
                got += len(data)
        end = peak(child.pid)

    assert got == BIG
    assert after - before < GROWTH
    assert end - before < GROWTH


async def test_killed_while_a_file_comes_in_it_leaves_nothing_half(config: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"

    async def endless() -> AsyncIterator[bytes]:
        yield HEAD
        while True:
            yield b"x" * MIB
            await asyncio.sleep(0)

    async with serving(config, port) as child, aiohttp.ClientSession(base) as http:
        whole = await upload(http, 10)
        task = asyncio.ensure_future(http.post("/v1/files", data=endless(), headers=HEADERS))
        while not any(name.endswith(".part") for name in names()):  # noqa: ASYNC110 - the folder has no event
            await asyncio.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        await asyncio.to_thread(child.wait)
        with contextlib.suppress(aiohttp.ClientError):
            await task
    assert len(names()) == 2

    async with serving(config, port), aiohttp.ClientSession(base) as http:
        async with asyncio.timeout(10):
            while len(names()) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with http.get("/v1/files") as response:
            assert [each["id"] for each in (await response.json())["data"]] == [whole]
        async with http.get(f"/v1/files/{whole}/content") as response:
            assert len(await response.read()) == 10
        await upload(http, 10)
