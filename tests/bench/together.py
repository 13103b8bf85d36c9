"""What a server gains by embeddings sent together: `python -m tests.bench.together URL MODEL`, URL an Ollama's.

Prints, for short texts and longer ones, how many times longer it takes to embed them by one call each, all at once,
than by one call for all. Interleaved; medians. oproxy sends each request's inputs by themselves because this came out
at about 1: llama.cpp gives every input a slot of its own, whether it came in one call with others or alone, and servers
that do gain by batches make them by themselves.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import aiohttp

ROUNDS = 15


async def embed(session: aiohttp.ClientSession, model: str, texts: list[str]) -> None:
    async with session.post("/api/embed", json={"model": model, "input": texts, "truncate": False}) as response:
        response.raise_for_status()
        assert len((await response.json())["embeddings"]) == len(texts)


async def compare(session: aiohttp.ClientSession, model: str, texts: list[str]) -> float:
    """Return how many times longer alone takes than together."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * ROUNDS):
        alone = number % 2 == 0
        start = time.perf_counter()
        await asyncio.gather(*(embed(session, model, part) for part in ([[t] for t in texts] if alone else [texts])))
        took[alone].append(time.perf_counter() - start)
    return statistics.median(took[True]) / statistics.median(took[False])


async def main(url: str, model: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await embed(session, model, ["warm"])
        for words in (4, 40):
            for count in (2, 8, 32):
                texts = [f"{number} " + "word " * words for number in range(count)]
                print(f"{count:3} texts of {words:3} words: {await compare(session, model, texts):.2f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
