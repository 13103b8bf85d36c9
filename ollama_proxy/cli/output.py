"""How commands print: colours and tables where a person looks, plain text in a pipe, JSON for programs.

What needs no rich is in `plain.py`. Answers go to stdout, everything else (progress, errors, questions) to stderr.
NO_COLOR and TERM=dumb are respected by rich itself. Never asks the network, never decides what is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .plain import echo, interactive, print_json, size, tell

__all__ = ["console", "echo", "errors", "interactive", "print_json", "print_table", "size", "table", "tell"]


def console() -> Console:
    """Return the console for answers. Made anew each time, so that it is always today's stdout."""
    return Console(highlight=False, soft_wrap=True)


def errors() -> Console:
    """Return the console for progress and errors, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


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
