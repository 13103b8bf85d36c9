"""How `oproxy usage` prints: a glance with a chart, tables, JSON and CSV. Prints what it is given, without rich, whose
import would take longer than reading the ledger.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..account import NANO
from ..policy.printable import csv_cell, line_text, padded, width
from ..policy.when import DAY
from .plain import echo, interactive, paint, print_json, print_row, write
from .usage_read import Answer, Glance, Sums

__all__ = ["at_a_glance", "money", "rows", "tokens"]

BLOCKS = " ▁▂▃▄▅▆▇█"
# Lines of the chart, and models in the list below it.
HEIGHT = 4
MODELS = 5
# Characters of a name in a table.
WIDEST = 60

HEADS = ("REQUESTS", "ERRORS", "PROMPT", "CACHED", "ANSWER", "COST", "LIST", "SAVED")


# --- cells --------------------------------------------------------------------------------------------------------


def tokens(count: int) -> str:
    """Return a number as people read it: `980`, `12.3k`, `4.56M`; in a pipe all of its digits."""
    if not interactive():
        return str(count)
    value, unit = float(count), ""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            break
        value /= 1000
    if not unit:
        return str(count)
    return f"{value:.0f}{unit}" if value >= 99.95 else f"{value:.1f}{unit}" if value >= 9.995 else f"{value:.2f}{unit}"


def money(nano: int | None) -> str:
    """Return dollars: cents from one dollar on, four digits below, more of them where nothing else would be seen."""
    if nano is None:
        return "?"
    if nano == 0:
        return "$0"
    sign, dollars = "-" if nano < 0 else "", abs(nano) / NANO
    digits = 2 if dollars >= 1 else 4 if dollars >= 0.0001 else 9
    return f"{sign}${dollars:,.{digits}f}"


def listed(sums: Sums) -> int | None:
    """Return the list price; None where no request has one."""
    row = sums.row
    return None if row.requests and row.unpriced == row.requests else row.listed


def saved(sums: Sums) -> int | None:
    price = listed(sums)
    return None if price is None else price - sums.row.cost


def cells(sums: Sums) -> list[str]:
    row = sums.row
    return [
        tokens(row.requests),
        tokens(row.errors),
        tokens(row.prompt),
        tokens(row.cached),
        tokens(row.completion),
        money(row.cost),
        money(listed(sums)),
        money(saved(sums)),
        *(money(other) for other in sums.others),
    ]


def named(name: str, value: str | int) -> str:
    """Return what a row is of, for people."""
    match name:
        case "day":
            return time.strftime("%Y-%m-%d", time.gmtime(int(value) * DAY))
        case "hour":
            return time.strftime("%Y-%m-%d %H:00", time.localtime(int(value)))
    return str(value) or "-"


# --- tables -------------------------------------------------------------------------------------------------------


def print_columns(heads: Sequence[str], lines: Iterable[Sequence[str]], *, left: int) -> None:
    """Print a table: the first `left` columns flush left, the others flush right; with tabs in a pipe."""
    all_lines = [list(line) for line in lines]
    if not interactive():
        for line in [list(heads), *all_lines]:
            print_row(line)
        return
    heads = [line_text(head) for head in heads]
    all_lines = [[line_text(cell, WIDEST) for cell in line] for line in all_lines]
    widths = [max(map(width, column)) for column in zip(heads, *all_lines, strict=True)]

    def joined(line: Sequence[str]) -> str:
        put = (
            padded(cell, columns, right=place >= left)
            for place, (cell, columns) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(put).rstrip()

    echo(paint(joined(heads), bold=True))
    echo(paint("─" * (sum(widths) + 2 * len(widths) - 2), dim=True))
    for line in all_lines:
        echo(joined(line))


def heads(answer: Answer) -> list[str]:
    return [*HEADS, *(f"AS {model}" for model in answer.question.priced_as)]


def rows(answer: Answer, *, form: str) -> None:
    """Print sums by what was asked for."""
    by = answer.question.by
    match form:
        case "json":
            return print_json(as_json(answer))
        case "csv":
            return print_csv(answer)
    lines = [
        [*(named(name, value) for name, value in zip(by, each.by, strict=True)), *cells(each)] for each in answer.rows
    ]
    if interactive() and len(lines) > 1:
        lines.append(["total", *[""] * (len(by) - 1), *cells(answer.total)])
    elif not by and not lines:
        lines = [cells(answer.total)]
    print_columns([*(name.upper() for name in by), *heads(answer)], lines, left=len(by))
    return None


# --- at a glance --------------------------------------------------------------------------------------------------


def at_a_glance(seen: Glance, *, form: str) -> None:
    """Print today, 7 and 30 days, the days as a chart, and the models used most."""
    if form == "json":
        print_json(glance_json(seen))
        return
    top = ["", *heads(seen.answer)]
    print_columns(
        top if interactive() else ["TIME", *top[1:]], [[name, *cells(sums)] for name, sums in seen.spans], left=1
    )
    if not interactive() or not seen.models:
        return
    echo()
    chart(seen.days)
    echo()
    most = [[model or "-", *cells(sums)] for model, sums in seen.models[:MODELS]]
    print_columns(["30 days", *heads(seen.answer)], most, left=1)
    if sum_saved := saved(seen.spans[-1][1]):
        echo()
        echo(paint(f"{money(sum_saved)} saved in 30 days.", fg="green"))


def chart(days: Sequence[tuple[int, Sums]]) -> None:
    """Print the tokens of each day as bars."""
    counts = [sums.row.prompt + sums.row.completion for _, sums in days]
    most = max(counts) or 1
    # A day with anything at all is seen.
    eighths = [max(1, round(count / most * HEIGHT * 8)) if count else 0 for count in counts]
    for level in range(HEIGHT - 1, -1, -1):
        bars = "".join(BLOCKS[min(8, max(0, bar - 8 * level))] * 2 + " " for bar in eighths)
        note = f" {tokens(most)} tokens" if level == HEIGHT - 1 else ""
        echo(paint(bars.rstrip() if not note else bars, fg="cyan"), note)
    first, last = (time.strftime("%d %b", time.gmtime(day * DAY)) for day in (days[0][0], days[-1][0]))
    echo(paint(f"{first}{last:>{3 * len(days) - 1 - len(first)}}", dim=True))


# --- for programs -------------------------------------------------------------------------------------------------


def plain(sums: Sums, models: Sequence[str]) -> dict[str, Any]:
    """Return sums as JSON holds them; money in dollars, null where it is not known."""
    row, price, gain = sums.row, listed(sums), saved(sums)
    found: dict[str, Any] = {
        "requests": row.requests,
        "errors": row.errors,
        "prompt_tokens": row.prompt,
        "cached_tokens": row.cached,
        "completion_tokens": row.completion,
        "reasoning_tokens": row.reasoning,
        "estimated_requests": row.inexact,
        "unpriced_requests": row.unpriced,
        "cost": row.cost / NANO,
        "list": None if price is None else price / NANO,
        "saved": None if gain is None else gain / NANO,
    }
    if models:
        found["as"] = {model: money / NANO for model, money in zip(models, sums.others, strict=True)}
    return found


def keyed(names: Sequence[str], values: Sequence[str | int]) -> dict[str, str | int]:
    """Return what a row is of, for programs: days as dates, hours as epoch seconds."""
    return {name: named(name, value) if name == "day" else value for name, value in zip(names, values, strict=True)}


def as_json(answer: Answer) -> dict[str, Any]:
    asked = answer.question
    return {
        "since": asked.since,
        "until": asked.until,
        "rows": [{**keyed(asked.by, each.by), **plain(each, asked.priced_as)} for each in answer.rows],
        "total": plain(answer.total, asked.priced_as),
    }


def glance_json(seen: Glance) -> dict[str, Any]:
    models = seen.answer.question.priced_as
    return {
        **{name.replace(" ", "_"): plain(sums, models) for name, sums in seen.spans},
        "days": [{"day": named("day", day), **plain(sums, models)} for day, sums in seen.days],
        "models": [{"model": model, **plain(sums, models)} for model, sums in seen.models],
    }


def print_csv(answer: Answer) -> None:
    asked = answer.question
    names = [name for name in plain(answer.total, ()) if name != "as"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_cell, [*asked.by, *names, *(f"as {model}" for model in asked.priced_as)]))
    for each in answer.rows:
        values = plain(each, asked.priced_as)
        head = keyed(asked.by, each.by)
        writer.writerow(
            map(
                csv_cell,
                [*(head[name] for name in asked.by), *(values[name] for name in names), *values.get("as", {}).values()],
            )
        )
    write(out.getvalue())
