"""What runs where: helpers for tests that work which grows with the input leaves the event loop free. They count turns
of the loop and record threads; none of them measures time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Heartbeat", "Threads", "functions_here"]


class Heartbeat:
    """Counts the turns that the loop takes while the block runs: `async with Heartbeat() as beat: …`, then
    `beat.count`."""

    def __init__(self) -> None:
        self.count = 0
        self._news = asyncio.Event()

    async def turns(self, count: int) -> None:
        """Return when the loop has taken so many more turns."""
        wanted = self.count + count
        while self.count < wanted:
            await self._news.wait()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self.count += 1
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(0.001)


class Threads:
    """Wraps functions and records on which thread they run. Made on the loop's thread."""

    def __init__(self) -> None:
        self._loop = threading.get_ident()
        self.on_loop: list[str] = []
        self.elsewhere: list[str] = []

    def watch(self, function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
        """Return a function that does the same and notes its thread under `name`."""
        name = name or function.__name__

        def watched(*args: Any, **kwargs: Any) -> Any:
            (self.on_loop if threading.get_ident() == self._loop else self.elsewhere).append(name)
            return function(*args, **kwargs)

        return watched


@contextmanager
def functions_here() -> Iterator[set[str]]:
    """Collect the functions of the package that run on this thread while the block runs, as "policy.plan.plan"."""
    found: set[str] = set()
    before = sys.getprofile()

    def see(frame: FrameType, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("ollama_proxy."):
            found.add(f"{module.removeprefix('ollama_proxy.')}.{frame.f_code.co_name}")

    sys.setprofile(see)
    try:
        yield found
    finally:
        sys.setprofile(before)
