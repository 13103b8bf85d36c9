"""How commands print: colours and tables where a person looks, plain text in a pipe, JSON for programs.

What needs no rich is in `plain.py`. Answers go to stdout, everything else (progress, errors, questions) to stderr.
NO_COLOR and TERM=dumb are respected by rich itself. Never asks the network, never decides what is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..policy.printable import block_text, line_text
from .plain import echo, interactive, print_json, print_pairs, print_row, size, tell

__all__ = [
    "console",
    "echo",
    "errors",
    "interactive",
    "markdown",
    "print_json",
    "print_pairs",
    "print_row",
    "print_table",
    "progress",
    "rule",
    "size",
    "table",
    "tell",
]


class Screen(Console):
    """rich's console, for which all text is text: no markup, no emoji codes, and no control characters but its own."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        # Everything that is printed passes here, whatever it was made of.
        return super()._render_buffer(
            each if each.control else Segment(block_text(each.text), each.style) for each in buffer
        )


def console() -> Console:
    """Return the console for answers. Made each time, so that it is always today's stdout."""
    return Screen()


def errors() -> Console:
    """Return the console for progress and errors, on stderr."""
    return Screen(stderr=True)


def progress(*columns: ProgressColumn, transient: bool = False, disable: bool = False) -> Progress:
    """Return a progress display on stderr: each task's description, then the columns."""
    first = TextColumn("{task.description}", markup=False)
    return Progress(first, *columns, console=errors(), transient=transient, disable=disable)


def markdown(text: str) -> Markdown:
    """Return a model's Markdown. Links show where they lead, for a terminal would hide that behind their text."""
    return Markdown(block_text(text), hyperlinks=False)


def rule(title: str, style: Any = "") -> Rule:
    """Return a line with a title at its left end."""
    return Rule(Text(line_text(title)), align="left", style=style)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> None:
    """Print rows: a table for a person (columns in `right` are flush right), lines with tabs for a pipe.

    A None is an empty cell. The heading is printed in both forms.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if interactive():
        console().print(table(headers, cells, right=right), soft_wrap=False)
        return
    for line in [list(headers), *cells]:
        print_row(line)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> Table:
    """Return a rich table; cells are text, not markup, and each is one line unless it is too long for its column."""
    flush_right = set(right)
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        made.add_column(Text(line_text(header)), justify="right" if index in flush_right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(line_text(cell)) for cell in row))
    return made
