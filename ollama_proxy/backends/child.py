"""A child process with an HTTP server on loopback: started on first use, restarted after a crash, ended with us.

The child speaks a small protocol (`llama_child.py` is one): its config is the first line of its stdin, the end of its
stdin is its end, its first line on stdout is `{"url": …}` when it is ready or `{"error": …}`. Knows nothing of models
and never speaks HTTP itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from ..errors import OproxyError, UpstreamDown
from ..tasks import Tasks

__all__ = ["Address", "Child"]

log = logging.getLogger(__name__)

# Pauses before the next start after 1, 2, … crashes in a row, in seconds; the last one is kept.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A request waits for a restart no longer than this; behind a longer pause it is told at once.
PATIENCE = 4.0
# A child that lived this long is healthy: its crash is a first one. Seconds.
SOUND = 60.0
# What is kept of the child's stderr.
LINES = 200
# How long it may take to leave by itself before it is killed. Seconds.
GOODBYE = 3.0


class Address(msgspec.Struct, frozen=True):
    """Where a ready child listens."""

    url: str
    version: str = ""


class _Report(msgspec.Struct):
    url: str = ""
    version: str = ""
    error: str = ""


class Child:
    """One supervised process.

    `name` is the backend's (for errors), `what` the thing it serves, `config` is asked at each start; times are in
    seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        what: str,
        command: Sequence[str],
        config: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
        idle: float = 600.0,
        start_timeout: float = 120.0,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._name, self._what = name, what
        self._command, self._config = tuple(command), config
        self._clock = clock
        self._start_timeout = start_timeout
        self._pauses = tuple(pauses)
        self._tasks = Tasks()
        self._process: asyncio.subprocess.Process | None = None
        self._address: Address | None = None
        self._starting: asyncio.Task[Address | OproxyError] | None = None
        # Held by whoever starts or ends the process, so that the two never overlap.
        self._turn = asyncio.Lock()
        self._stderr: deque[str] = deque(maxlen=LINES)
        self._listener: asyncio.Task[None]
        self._stopping = False
        self._started_at = 0.0
        self._crashes = 0
        self._crashed_at = 0.0
        self._users = 0
        # Seconds without a request after which the child is stopped; None: never.
        self.idle: float | None = idle
        self.expires_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- what it is doing -------------------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """The address while the child is up, else None."""
        return self._address if self._alive() else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._alive() else None

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines the child wrote to its stderr, oldest first."""
        return tuple(self._stderr)

    @property
    def trouble(self) -> str:
        """Why the last start failed or the last child died; "" while all is well."""
        if self._alive() or not self._crashes:
            return ""
        return f"{self._what} crashed" + (f" {self._crashes} times" if self._crashes > 1 else "") + self._last_words()

    def _alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and not self._stopping

    def _last_words(self) -> str:
        words = [line for line in self._stderr if line.strip()][-3:]
        return ". Its last words: " + " / ".join(words) if words else "."

    # --- use --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Address]:
        """Hold the child for one request, starting it if need be. Raises UpstreamDown."""
        self._users += 1
        self._cancel_timer()
        try:
            yield await self.start()
        finally:
            self._users -= 1
            if not self._users:
                self._set_timer()

    async def start(self) -> Address:
        """Return the address of a ready child; everybody who waits shares one start. Raises UpstreamDown."""
        if self.address is not None:
            return self.address
        if self._starting is None or self._starting.done():
            self._starting = self._tasks.start(self._start(), name=f"start {self._what}")
        # A client that leaves must not end the start others wait for.
        outcome = await asyncio.shield(self._starting)
        if isinstance(outcome, OproxyError):
            raise outcome
        if not self._users:
            self._set_timer()
        return outcome

    async def stop(self) -> None:
        """End the child, gently first; the next use starts a new one."""
        self._cancel_timer()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        self._starting = None
        async with self._turn:
            await self._end()
            self._crashes = 0

    async def aclose(self) -> None:
        """Stop and let nothing run on."""
        await self.stop()
        await self._tasks.aclose()

    # --- the process ------------------------------------------------------------------------------------------

    async def _start(self) -> Address | OproxyError:
        async with self._turn:
            return await self._start_in_turn()

    async def _start_in_turn(self) -> Address | OproxyError:
        try:
            await self._pause()
            await self._spawn()
            async with asyncio.timeout(self._start_timeout):
                self._address = await self._wait_ready()
        except OproxyError as exc:
            await self._end()
            return exc
        except TimeoutError:
            self._note_crash()
            await self._end()
            return self._down(f"was not ready within {self._start_timeout:g} seconds{self._last_words()}")
        except OSError as exc:
            return self._down(f"could not be started: {exc.strerror or exc}.")
        except asyncio.CancelledError:
            await self._end()
            raise
        return self._address

    async def _pause(self) -> None:
        if not self._crashes:
            return
        pause = self._pauses[min(self._crashes, len(self._pauses)) - 1]
        left = self._crashed_at + pause - self._clock()
        if left > PATIENCE:
            raise self._down(
                f"crashed {self._crashes} times and is tried again in {left:.0f} seconds{self._last_words()}"
            )
        if left > 0:
            await asyncio.sleep(left)

    async def _spawn(self) -> None:
        config = {**self._config(), "parent": os.getpid()}
        self._stderr.clear()
        self._stopping = False
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Its own session: Ctrl-C on our terminal must not reach it while streams are being finished.
            start_new_session=sys.platform != "win32",
        )
        self._started_at = self._clock()
        assert process.stdin is not None
        assert process.stderr is not None
        self._listener = self._tasks.start(self._listen(process.stderr), name=f"stderr of {self._what}")
        self._tasks.start(self._mourn(process), name=f"watch {self._what}")
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(config) + b"\n")
            await process.stdin.drain()

    async def _wait_ready(self) -> Address:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        line = await process.stdout.readline()
        try:
            report = msgspec.json.decode(line, type=_Report)
        except msgspec.DecodeError:
            report = _Report()
        if report.url:
            return Address(url=report.url, version=report.version)
        await process.wait()
        # What it wrote before it died may still be in the pipe (which a child of its own could hold open).
        await asyncio.wait({self._listener}, timeout=1.0)
        self._note_crash()
        reason = report.error.rstrip(".") or f"exit status {process.returncode}"
        raise self._down(f"did not start: {reason}{self._last_words()}")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stderr.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            # A line without an end must not grow for ever.
            rest = rest[-4096:]
            self._stderr.extend(line[-4096:].decode("utf-8", "replace").rstrip() for line in lines)
        if rest:
            self._stderr.append(rest.decode("utf-8", "replace").rstrip())

    async def _mourn(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if process is not self._process or self._stopping or self._address is None:
            return
        self._address = None
        self._cancel_timer()
        self._note_crash()
        log.warning("the process for %s ended unexpectedly with status %s", self._what, status)

    def _note_crash(self) -> None:
        now = self._clock()
        if now - self._started_at >= SOUND:
            self._crashes = 0
        self._crashes += 1
        self._crashed_at = now

    async def _end(self) -> None:
        process, self._address = self._process, None
        if process is None:
            return
        self._stopping = True
        try:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(GOODBYE):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        self._process = None

    def _down(self, text: str) -> UpstreamDown:
        return UpstreamDown(f"The embedded backend '{self._name}': {self._what} {text}", backend=self._name)

    # --- sleep ------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        self._cancel_timer()
        if self.idle is None or self.address is None:
            return
        self.expires_at = self._clock() + self.idle
        self._timer = asyncio.get_running_loop().call_later(self.idle, self._rest)

    def _cancel_timer(self) -> None:
        self.expires_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        self._timer = None
        self._tasks.start(self._stop_if_unused(), name=f"rest {self._what}")

    async def _stop_if_unused(self) -> None:
        async with self._turn:
            if not self._users and self._alive():
                await self._end()
