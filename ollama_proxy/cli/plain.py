"""Printing that costs nothing to import: lines, colours, JSON, bytes. Tables and progress are in `output.py`.

These two modules are the only ones of the command line that write to stdout and stderr (a test holds that), so
that whatever is printed is harmless: no text from a client or a backend reaches a terminal, a file or a pipe with its
control characters. Colours are ours: only `paint` makes them, and they go through as `Painted`.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self

import msgspec
import typer

from ..policy.printable import block_text, json_text, line_text

__all__ = [
    "Bytes",
    "Painted",
    "confirm",
    "echo",
    "interactive",
    "paint",
    "painted",
    "print_json",
    "print_json_line",
    "print_pairs",
    "print_row",
    "size",
    "tell",
    "write",
]


class Painted(str):
    """Text with our own colours in it, and nothing else that a terminal obeys. Adding or formatting loses the type;
    `painted` joins."""

    __slots__ = ()


def interactive() -> bool:
    """Return whether a person reads stdout."""
    return sys.stdout.isatty()


def paint(text: str, **style: Any) -> Painted:
    """Return text in colours (typer.style's words) where a person looks and has not forbidden them by NO_COLOR."""
    text = block_text(text)
    if not interactive() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return Painted(text)
    return Painted(typer.style(text, **style))


def painted(*parts: str) -> Painted:
    """Return the parts as one text, those with our colours as they are."""
    return Painted("".join(part if isinstance(part, Painted) else block_text(part) for part in parts))


def echo(*parts: str) -> None:
    """Print a line of the answer, or several: no markup, no wrapping."""
    print(painted(*parts), flush=True)


def tell(text: str) -> None:
    """Print a line that is not the answer (a note, a warning), to stderr."""
    print(block_text(text), file=sys.stderr, flush=True)


def write(piece: str, *, flush: bool = True) -> None:
    """Print a piece of an answer that is still growing, without a line end."""
    sys.stdout.write(painted(piece))
    if flush:
        sys.stdout.flush()


def print_row(cells: Sequence[str]) -> None:
    """Print a row for a program: cells with tabs between them, each of them on this line and whole."""
    echo("\t".join(line_text(cell, None).strip() for cell in cells))


def print_pairs(pairs: Iterable[tuple[str, object]], *, column: int = 0, tabs: bool = False) -> None:
    """Print names and values, one pair a line; pairs without a value are left out. The values begin at `column`, or
    further right if a name is longer; with `tabs`, a tab stands before them in a pipe."""
    rows = [(name, line_text(str(value), None)) for name, value in pairs if value not in (None, "")]
    column = max(column, *(len(name) + 1 for name, _ in rows), 0)
    for name, value in rows:
        echo(f"{name}\t{value}" if tabs and not interactive() else f"{name:<{column}}{value}")


def print_json(value: Any) -> None:
    """Print a value for programs, indented."""
    sys.stdout.write(json_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n")
    sys.stdout.flush()


def print_json_line(line: bytes) -> None:
    """Print a line of JSON that was read from a file."""
    sys.stdout.write(json_text(line.decode("utf-8", "replace").strip("\r\n")) + "\n")
    sys.stdout.flush()


def confirm(question: str, *, default: bool = False, abort: bool = False) -> bool:
    """Ask a person on stderr for yes or no; with `abort`, a no ends the command."""
    return typer.confirm(line_text(question, None), default=default, abort=abort, err=True)


class Bytes:
    """stdout for a file's content: the bytes as they are for a program, text without control characters for a person.

    A context manager, like a file that is open for writing.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode if interactive() else None

    def write(self, data: bytes) -> None:
        if self._decode is not None:
            sys.stdout.write(block_text(self._decode(data)))
        else:
            sys.stdout.buffer.write(data)

    def flush(self) -> None:
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.flush()


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
