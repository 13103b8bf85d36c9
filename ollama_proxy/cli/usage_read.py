"""What `oproxy usage` asks the ledger, and what it makes of the answer: times by the local clock, prices, sums of sums.

Prints nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import platformdirs

from ..events import Usage
from ..policy.when import DAY, changes, day_start
from ..store.reader import Reader, Unreadable, reading, reading_file
from ..store.usage import UTC, Row, query
from .failure import Failure

__all__ = [
    "BY", "Answer", "Glance", "Question", "Sums", "add", "answer", "folder", "glance", "local_ahead", "midnight",
    "of_list", "store_url",
]  # fmt: skip

BY = ("model", "served", "key", "tag", "backend", "endpoint", "client", "status", "day", "hour")
TIMES = ("day", "hour")
STATUSES = ("ok", "error", "errors")
NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})
COUNTED = ("requests", "errors", "prompt", "cached", "completion", "reasoning", "inexact", "cost", "listed", "unpriced")

# Nano-dollars of tokens on a model; None if it has no price.
Price = Callable[[str, Usage], int | None]


class Question(NamedTuple):
    """What is to be summed: the time in epoch seconds, what is kept apart, what counts, other models' prices."""

    since: float
    until: float
    by: Sequence[str] = ()
    only: Mapping[str, tuple[str, ...]] = NOTHING
    priced_as: Sequence[str] = ()


class Sums(NamedTuple):
    """A row for people: what it is of, the ledger's sums, and what its tokens cost on other models (nano-dollars)."""

    by: tuple[str | int, ...]
    row: Row
    others: tuple[int, ...] = ()


class Answer(NamedTuple):
    """What was found; `missing` is the ledger's place if there is none."""

    question: Question
    rows: list[Sums]
    total: Sums
    missing: Path | None = None


class Glance(NamedTuple):
    """Some spans of time with their sums, the days (local, since 1970) with theirs, and the models with theirs."""

    answer: Answer
    spans: list[tuple[str, Sums]]
    days: list[tuple[int, Sums]]
    models: list[tuple[str, Sums]]


# --- times --------------------------------------------------------------------------------------------------------


def local_ahead(at: float) -> float:
    """Return the seconds by which local clocks are ahead of UTC."""
    return float(time.localtime(at).tm_gmtoff)


def midnight(now: float, *, back: int = 0) -> float:
    """Return when the local day of `now` began, or one so many days before."""
    return day_start(int((now + local_ahead(now)) // DAY) - back, local_ahead)


# --- the question -------------------------------------------------------------------------------------------------


def of_list(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values of an option that may be repeated and may hold several with commas."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def check(question: Question) -> None:
    """Raise Failure if a question makes no sense."""
    for name in question.by:
        if name not in BY:
            raise Failure(f"--by {name}: there is no such thing to sum by. Choose of {', '.join(BY)}.", code=2)
    if len(set(question.by)) < len(question.by):
        raise Failure("--by names something twice.", code=2)
    if question.since >= question.until:
        raise Failure("--since is not before --until.", code=2)
    for word in question.only.get("status", ()):
        group = len(word) == 3 and word[0].isdigit() and (word[1:].lower() == "xx" or word.isdigit())
        if not group and word.lower() not in STATUSES:
            raise Failure(f"--status {word}: expected ok, error, a status (429) or a group of them (4xx).", code=2)


def answer(config: Path | None, question: Question) -> Answer:
    """Ask the ledger."""
    check(question)
    price = list_prices(question.priced_as)
    zone = changes(question.since, question.until, local_ahead) if "day" in question.by else UTC
    with ledger(config) as (reader, missing):
        found: list[Row] = []
        if reader is not None:
            found = query(reader, question.since, question.until, question.by, question.only, zone=zone)
    rows = [priced(row, price, question.priced_as) for row in found]
    if any(name in TIMES for name in question.by):
        rows.sort(key=lambda each: each.by)
    else:
        rows.sort(key=lambda each: (-each.row.prompt - each.row.completion, each.by))
    return Answer(question, rows, add(rows, others=len(question.priced_as)), missing)


def list_prices(models: Sequence[str]) -> Price:
    """Return what tokens cost on a model. Raises Failure if one of the models has no price."""
    if not models:
        return lambda model, usage: None
    # By name: few ask for it, and prices take longer to import than the ledger to read.
    price: Price = import_module("ollama_proxy.pricing").Prices().base_price
    for model in models:
        if price(model, Usage(0, 0)) is None:
            raise Failure(f"--as {model}: no list price is known for that model.", code=2)
    return price


def priced(row: Row, price: Price, models: Sequence[str]) -> Sums:
    used = Usage(row.prompt, row.completion, cached=row.cached, reasoning=row.reasoning)
    return Sums(row.by, row, tuple(price(model, used) or 0 for model in models))


def add(rows: Iterable[Sums], *, others: int = 0) -> Sums:
    """Return sums of sums, without the means."""
    sums, beside = dict.fromkeys(COUNTED, 0), [0] * others
    for each in rows:
        for name in COUNTED:
            sums[name] += getattr(each.row, name)
        for place, money in enumerate(each.others):
            beside[place] += money
    return Sums((), msgspec.structs.replace(Row(), **sums), tuple(beside))


def glance(found: Answer, now: float) -> Glance:
    """Make of an answer by day and model what is seen at a glance."""
    others = len(found.question.priced_as)
    today = int((now + local_ahead(now)) // DAY)
    days: dict[int, list[Sums]] = {}
    models: dict[str, list[Sums]] = {}
    for each in found.rows:
        days.setdefault(int(each.by[0]), []).append(each)
        models.setdefault(str(each.by[1]), []).append(each)
    spans = {"today": 1, "7 days": 7, "30 days": 30}
    summed = [(day, add(days.get(day, ()), others=others)) for day in range(today - 29, today + 1)]
    used = [(model, add(rows, others=others)) for model, rows in models.items()]
    used.sort(key=lambda pair: (-pair[1].row.prompt - pair[1].row.completion, pair[0]))
    return Glance(
        found,
        [(name, add((sums for _, sums in summed[-length:]), others=others)) for name, length in spans.items()],
        summed,
        used,
    )


# --- the ledger ---------------------------------------------------------------------------------------------------


def store_url(config: Path | None) -> str:
    """Return `[store] url`."""
    named = config is not None or any(name in os.environ for name in ("OPROXY_CONFIG", "OPROXY_STORE_URL"))
    if not named and not (platformdirs.user_config_path("oproxy") / "config.toml").exists():
        # Nobody has set anything: spare the settings' import, a third of what is left of the time.
        return ""
    loaded = import_module("ollama_proxy.settings").load(path=config, env=os.environ, flags={})
    return str(loaded.settings.store.url)


def folder() -> Path:
    return platformdirs.user_data_path("oproxy")


@contextmanager
def ledger(config: Path | None) -> Iterator[tuple[Reader | None, Path | None]]:
    """Open the ledger for reading, or say where it would be. Raises the store's errors."""
    url, file = store_url(config), folder() / "oproxy.db"
    if url:
        # By name: SQLAlchemy takes longer to import than the usual ledger to read, which does without.
        place = import_module("ollama_proxy.store.place").find(url, folder())
        if place.file is None:
            with served(place) as reader:
                yield reader, None
            return
        file = place.file
    if not file.exists():
        yield None, file
        return
    with reading_file(file) as reader:
        yield reader, None


@contextmanager
def served(place: Any) -> Iterator[Reader]:
    """Read from a database server."""
    engine = import_module("ollama_proxy.store.place").make_engine(place)
    fault = import_module("ollama_proxy.store.fault")
    try:
        with fault.gate(), reading(engine) as reader:
            yield reader
    except fault.StoreError as exc:
        raise Unreadable(f"{place}: {exc.message}") from exc
    finally:
        engine.dispose()
