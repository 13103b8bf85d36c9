"""The table of `oproxy logs`, and what its numbers and ids stand for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from ..account import Entry
from ..policy.printable import line_text, padded
from ..private import opener
from ..recorder.read import Found, entries, find
from .failure import Failure
from .output import echo, interactive, print_table
from .plain import paint
from .plain import print_row as print_cells
from .usage_show import money

__all__ = ["HEADERS", "cells", "meant", "print_row", "print_rows", "remember", "seconds", "short"]

HEADERS = ("#", "TIME", "ID", "MODEL", "STATUS", "TOKENS", "FIRST", "TOTAL", "LIST", "CALLER")
RIGHT = (0, 5, 6, 7, 8)
# Widths of a row that follows a table, which is not measured any more.
WIDTHS = (3, 14, 8, 34, 6, 11, 7, 7, 9, 0)
# Beside the log: the ids of the last table.
TABLE = ".last.json"
# Digits of an id that tell it from its neighbours.
DIGITS = 8
# A number of more digits is an id.
NUMBER = 4


def short(id: str) -> str:
    return id.rpartition("_")[2][:DIGITS]


def seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 1000 else f"{value:.0f} s"


def cells(number: int | None, entry: Entry) -> tuple[str, ...]:
    """Return the row of a request."""
    at = time.localtime(entry.at)
    today = time.localtime()[:3] == at[:3]
    asked, by = entry.asked.removesuffix(":latest"), entry.served.removesuffix(":latest")
    served = f"{asked} → {by}" if by and by != asked else asked
    about = "" if entry.exact else "~"
    return (
        "" if number is None else str(number),
        time.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S", at),
        short(entry.id),
        line_text(served or entry.endpoint),
        line_text(f"{entry.status} {entry.code}" if entry.code else str(entry.status)),
        f"{about}{entry.prompt}+{entry.completion}" if entry.prompt or entry.completion else "",
        seconds(entry.first),
        seconds(entry.total),
        "" if entry.listed is None else money(entry.listed),
        line_text(entry.caller),
    )


def print_rows(found: Sequence[Entry]) -> None:
    """Print requests, the newest first given and last printed: it has the number 1, beside the prompt."""
    rows = [cells(number, entry) for number, entry in enumerate(found, 1)]
    print_table(HEADERS, rows[::-1], right=RIGHT)


def print_row(entry: Entry) -> None:
    """Print one more request under a table."""
    row = cells(None, entry)
    if not interactive():
        print_cells(row)
        return
    parts = [
        padded(cell, width, right=index in RIGHT) for index, (cell, width) in enumerate(zip(row, WIDTHS, strict=True))
    ]
    echo(paint("  ".join(parts).rstrip(), fg="red" if entry.status >= 400 else None))


# --- which request is meant ---------------------------------------------------------------------------------------


def remember(log: Path, found: Sequence[Entry]) -> None:
    """Keep the ids of a table, for its numbers to be used afterwards. Where that cannot be, numbers count anew."""
    with suppress(OSError), open(log.with_name(TABLE), "wb", opener=opener) as file:
        file.write(msgspec.json.encode([entry.id for entry in found]))


def meant(log: Path, word: str) -> Found:
    """Return the request that a number of the last table, an id, its beginning or `last` means. Raises Failure."""
    # A number is not written with zeros in front; the beginning of an id may be.
    if not (word.isdecimal() and len(word) <= NUMBER and word[0] != "0"):
        found = find(log, word)
        if found is None:
            raise Failure(f"No request {word} is in the log. `oproxy logs` shows the last ones.")
        return found
    number = int(word)
    ids: list[str] = []
    with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        ids = msgspec.json.decode(log.with_name(TABLE).read_bytes(), type=list[str])
    if not ids:
        ids = [entry.id for entry, _ in islice(entries(log), number)]
    if not 1 <= number <= len(ids):
        raise Failure(f"There is no number {word} in the last table. `oproxy logs -n {number}` shows so many.")
    found = find(log, ids[number - 1])
    if found is None:
        raise Failure(f"Request {ids[number - 1]} is no longer in the log.")
    return found
