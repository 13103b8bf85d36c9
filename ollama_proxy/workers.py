"""Threads for work that grows with its input, so that it does not hold up the event loop.

Small inputs are worked on at once, on the loop: a thread would cost them more than it saves. Large ones queue among
themselves for a few threads. C code that holds the interpreter's lock (`msgspec`, `json`, `re`) stops the loop from
inside a thread too, for as long as one call takes: give it large inputs in pieces. `tiktoken` and `hashlib` release it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

__all__ = ["LARGE", "Workers"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Inputs of this size and above are worked on in a thread (bytes or characters): decoding, checking and translating that
# much takes up to some 20 ms.
LARGE = 256 * 1024
THREADS = 2


class Workers:
    """A small pool of threads, started at the first large input."""

    def __init__(self, *, threads: int = THREADS, large: int = LARGE) -> None:
        self.large = large
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, size: int, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `function(*args)`; from `large` on, it runs in a thread. A caller that is cancelled leaves the queue;
        what has been started is finished in vain."""
        if size < self.large:
            return function(*args)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="large")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: context.run(function, *args))

    def close(self) -> None:
        """End the threads; what waits in the queue is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
