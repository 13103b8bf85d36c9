"""Printing that costs nothing to import: lines, colours, JSON. Tables and progress are in `output.py`."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec
import typer

__all__ = ["echo", "interactive", "paint", "print_json", "size", "tell"]


def interactive() -> bool:
    """Return whether a person reads stdout."""
    return sys.stdout.isatty()


def paint(text: str, **style: Any) -> str:
    """Return text in colours (typer.style's words) where a person looks and has not forbidden them by NO_COLOR."""
    if not interactive() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return typer.style(text, **style)


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
