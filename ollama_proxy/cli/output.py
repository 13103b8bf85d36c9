"""How commands print: colours and tables where a person looks, plain text in a pipe, JSON for programs.

Answers go to stdout, everything else (progress, errors, questions) to stderr. NO_COLOR and TERM=dumb are respected by
rich itself. Never asks the network, never decides what is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["console", "echo", "errors", "interactive", "print_json", "print_table", "size", "table", "tell"]


def interactive() -> bool:
    """Return whether a person reads stdout."""
    return sys.stdout.isatty()


def console() -> Console:
    """Return the console for answers. Made anew each time, so that it is always today's stdout."""
    return Console(highlight=False, soft_wrap=True)


def errors() -> Console:
    """Return the console for progress and errors, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def echo(text: str = "") -> None:
    """Print a line of the answer as it is: no markup, no wrapping."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Print a line that is not the answer (a note, a warning), to stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value for programs, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> None:
    """Print rows: a table for a person (columns in `right` are flush right), lines with tabs for a pipe.

    A None is an empty cell. The heading is printed in both forms.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if interactive():
        console().print(table(headers, cells, right=right), soft_wrap=False)
        return
    for line in [list(headers), *cells]:
        echo("\t".join(" ".join(cell.split()) for cell in line))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> Table:
    """Return a rich table; cells are text, not markup."""
    flush_right = set(right)
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        made.add_column(header, justify="right" if index in flush_right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def size(count: int | None) -> str:
    """Return bytes as people read them, in powers of 1000 as Ollama prints them: `98 MB`, `1.2 GB`; "" for None."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    raise AssertionError("the loop returns at its last unit")
