"""Several calls as one answer: `n` choices, or a list of prompts, run side by side and yielded as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from .errors import OproxyError
from .events import Event, Fail, Note, Usage
from .tasks import Tasks

__all__ = ["FANOUT", "Batch", "fan_out"]

Batch = list[Event]

# At most so many calls of one request (n, lists of prompts) run at once; the rest wait for their turn.
FANOUT = 16


async def fan_out(one: Callable[[int], AsyncGenerator[Batch]], copies: int) -> AsyncGenerator[Batch]:
    """Run `copies` calls, at most FANOUT at once, and yield their batches as they come, choices numbered.

    The first failure ends all the others and is raised.
    """
    queue: asyncio.Queue[Batch | BaseException | None] = asyncio.Queue(maxsize=4 * FANOUT)
    turns = asyncio.Semaphore(FANOUT)

    async def work(index: int) -> None:
        try:
            async with turns, aclosing(one(index)) as batches:
                async for batch in batches:
                    await queue.put([renumbered(event, index) for event in batch])
            await queue.put(None)
        except OproxyError as exc:
            await queue.put(exc)

    tasks = Tasks()
    try:
        for index in range(copies):
            tasks.start(work(index), name=f"choice-{index}")
        left = copies
        while left:
            match await queue.get():
                case None:
                    left -= 1
                case BaseException() as exc:
                    raise exc
                case batch:
                    yield batch
    finally:
        await tasks.aclose()


def renumbered(event: Event, index: int) -> Event:
    match event:
        case Usage() | Note() | Fail():
            return event
        case _:
            return msgspec.structs.replace(event, index=index)
