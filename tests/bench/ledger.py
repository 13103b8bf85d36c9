"""A ledger of a million rows, and how long `oproxy usage` takes over it: `python -m tests.bench.ledger`.

The ledger is what a small team might have: keys with models, clients and tags of their own, more requests by day than
by night. It is made in a folder of its own, which is removed unless --keep names one.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import platformdirs

from ollama_proxy.store import Store
from ollama_proxy.store.rollup import roll_up
from ollama_proxy.store.schema import ENTRY_COLUMNS

# Model asked for, model served, nano-dollars a prompt and an answer token at list price.
MODELS = (
    ("gpt-4o-mini", "qwen3:8b", 150, 600),
    ("gpt-5", "gpt-oss:20b", 1250, 10_000),
    ("claude-sonnet-4-5", "qwen3:32b", 3000, 15_000),
    ("llama3.2", "llama3.2:3b", None, None),
    ("text-embedding-3-small", "nomic-embed-text", 20, 0),
)
CLIENTS = ("OpenAI/Python", "OpenAI/JS", "curl", "aider", "Continue")
# Requests by the hour of the day.
HOURS = (1, 1, 1, 1, 1, 2, 3, 6, 10, 14, 15, 14, 10, 12, 15, 15, 13, 10, 7, 6, 5, 4, 2, 2)


def rows(count: int, days: int, now: float, *, keys: int = 20, seed: int = 1) -> Iterator[tuple[object, ...]]:
    """Yield so many requests of the days before `now`, in the order of `account.Entry`."""
    dice = random.Random(seed)
    people = [
        (f"key_{number:02d}", f"person{number}", dice.choice(CLIENTS), dice.sample(range(len(MODELS)), 3))
        for number in range(keys)
    ]
    hours = [86400 * day + 3600 * hour for day in range(days) for hour in range(24) for _ in range(HOURS[hour])]
    for number in range(count):
        at = now - days * 86400 + hours[number * len(hours) // count] + dice.random() * 3600
        key, name, client, models = people[int(keys * dice.random() ** 2)]
        asked, served, dear, dearer = MODELS[models[int(3 * dice.random() ** 2)]]
        embeds = asked.startswith("text-")
        status = 200 if dice.random() < 0.97 else dice.choice((400, 429, 499, 502))
        prompt, answer = dice.randrange(20, 4000), 0 if embeds or status != 200 else dice.randrange(1, 900)
        listed = None if dear is None or dearer is None else dear * prompt + dearer * answer
        values: dict[str, object] = {
            "id": f"req_{number:032x}", "at": at, "status": status, "key": key, "caller": name, "client": client,
            "endpoint": "/v1/embeddings" if embeds else "/v1/chat/completions",
            "tag": dice.choice(("", "", "", "nightly")), "address": "127.0.0.1", "asked": asked, "served": served,
            "backend": "ollama", "code": None, "stream": not embeds and key < "key_10", "queued": 0.0, "first": 0.3,
            "total": 2.5, "prompt": prompt, "cached": prompt // 4, "completion": answer, "reasoning": 0, "exact": True,
            "cost": 0, "listed": listed, "tries": 1,
        }  # fmt: skip
        yield tuple(values[name] for name in ENTRY_COLUMNS)


def make(folder: Path, count: int, days: int, now: float) -> Path:
    """Make a ledger of so many rows in `folder`, rolled up, and return its file."""
    store = Store.open("", folder=folder, on_change=print)
    try:
        file = store.place.file
        assert file is not None
        with closing(sqlite3.connect(file)) as connection:
            marks = ", ".join("?" * len(ENTRY_COLUMNS))
            names = ", ".join(f'"{name}"' for name in ENTRY_COLUMNS)
            connection.executemany(f"INSERT INTO requests ({names}) VALUES ({marks})", rows(count, days, now))
            connection.commit()
        # Nobody else writes here, so the batches may be large.
        roll_up(store, batch=100_000)
    finally:
        store.close()
    return file


def timed(*arguments: str) -> float:
    """Run `oproxy usage` as a process; return its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ollama_proxy", "usage", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


QUESTIONS = (("--since", "30d", "--by", "day,model"), (), ("--by", "key"), ("--since", "365d", "--by", "model"))


def report(folder: Path, count: int, days: int) -> None:
    """Make the ledger and print the best of five runs for each question."""
    # The user's folders, for this process and the commands it runs.
    os.environ |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    began = time.perf_counter()
    file = make(platformdirs.user_data_path("oproxy"), count, days, time.time())
    made = time.perf_counter() - began
    with closing(sqlite3.connect(file)) as connection:
        (rolled,) = connection.execute("SELECT count(*) FROM rollups").fetchone()
    print(f"{count:,} rows of {days} days, {rolled:,} roll-ups, {file.stat().st_size / 1e6:.0f} MB, in {made:.1f} s")
    for question in QUESTIONS:
        best = min(timed(*question) for _ in range(5))
        print(f"{best * 1000:6.0f} ms  oproxy usage {' '.join(question)}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--keep", type=Path, help="make it here and leave it")
    given = options.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        report(given.keep, given.rows, given.days)
        return
    with tempfile.TemporaryDirectory(prefix="oproxy-bench-") as folder:
        report(Path(folder), given.rows, given.days)


if __name__ == "__main__":
    main()
