"""A terminal with a program in it: a pseudo-terminal that reads what is painted and types what a person would."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import struct
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

__all__ = ["Terminal", "terminal"]

# Makes the terminal the program's own (so that Ctrl-C reaches it as a signal), then becomes the program.
ADOPT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>()][0-9A-Za-z]?)")


class Terminal:
    """One program in its terminal. `seen` is all that it has painted, colours and movements taken out."""

    def __init__(self, fd: int, process: asyncio.subprocess.Process) -> None:
        self._fd, self._process = fd, process
        self._raw = b""
        self._place = 0
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, self._read)

    @property
    def seen(self) -> str:
        return ESCAPES.sub("", self._raw.decode("utf-8", "replace")).replace("\r\n", "\n")

    @property
    def painted(self) -> str:
        """All that was painted, with its escapes."""
        return self._raw.decode("utf-8", "replace")

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            data = b""  # the program has closed its end
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
        if b"\x1b[6n" in data:
            # The program asks where the cursor is; a terminal answers.
            os.write(self._fd, b"\x1b[1;1R")
        self._raw += data
        self._news.set()

    async def until(self, text: str) -> None:
        """Wait until `text` has been painted, after what was waited for before."""
        try:
            async with asyncio.timeout(20):
                while (place := self.seen.find(text, self._place)) < 0:
                    self._news.clear()
                    await self._news.wait()
            self._place = place + len(text)
        except TimeoutError:
            raise AssertionError(f"{text!r} never came:\n{self.seen}") from None

    def types(self, text: str) -> None:
        os.write(self._fd, text.encode())

    async def ended(self) -> int:
        """Wait for the end; return the exit status."""
        return await asyncio.wait_for(self._process.wait(), 20)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        os.close(self._fd)


@asynccontextmanager
async def terminal(
    *command: str, env: Mapping[str, str], columns: int = 100, folder: Path | None = None
) -> AsyncIterator[Terminal]:
    """Run `command` in a terminal of its own (in `folder`, if given), as long as the context lasts."""
    if sys.platform == "win32":
        pytest.skip("there are no pseudo-terminals on Windows")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ADOPT, *command),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color"},
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    made = Terminal(ours, process)
    try:
        yield made
    finally:
        await made.close()
