"""One recorded request on the screen: its books, what was asked, what was answered.

Markdown and colours where a person looks, plain text in a pipe, all that is recorded with --json.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.text import Text

from ..account import Entry
from ..policy.printable import block_text, line_text
from ..recorder.read import Found
from .logs_said import answer_sections, request_sections
from .logs_table import seconds
from .output import console, echo, interactive, markdown, print_json, print_row, rule
from .usage_show import money

__all__ = ["show_request"]

COLOURS = {"system": "magenta", "developer": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}


def show_request(found: Found, *, as_json: bool) -> None:
    """Print a request."""
    if as_json:
        print_json(found)
        return
    pairs = [(name, text) for name, text in books(found) if text]
    sections = [*request_sections(found), *answer_sections(found.answer)]
    if not interactive():
        for name, text in pairs:
            print_row((name, text))
        for section in sections:
            echo(f"\n--- {line_text(section.title)}")
            echo(section.text)
        return
    screen = console()
    for name, text in pairs:
        screen.print(Text.assemble((f"{name:<9} ", "dim"), line_text(text, None)))
    for section in sections:
        screen.print()
        style = COLOURS.get(section.title.partition(" ")[0], "blue")
        screen.print(rule(section.title, style), soft_wrap=False)
        text = block_text(section.text)
        screen.print(markdown(text) if section.markdown else Text(text), soft_wrap=False)


def books(found: Found) -> Iterator[tuple[str, str]]:
    """Yield what the ledger knows of it, in words."""
    entry = found.entry
    yield "id", entry.id
    yield "time", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    yield "request", f"{found.method} {line_text(found.path)}{', streamed' if entry.stream else ''}"
    yield "model", line_text(f"{entry.asked} → {entry.backend}/{entry.served}" if entry.served else entry.asked)
    yield "status", f"{entry.status} {entry.code}" if entry.code else str(entry.status)
    yield (
        "caller",
        ", ".join(filter(None, (line_text(entry.caller), entry.key, entry.address, line_text(entry.client)))),
    )
    yield "tag", line_text(entry.tag)
    yield "tokens", tokens(entry)
    yield "times", times(found)
    yield "cost", "" if entry.cost is None else money(entry.cost)
    yield (
        "list",
        "" if entry.listed is None else line_text(" on ".join(filter(None, (money(entry.listed), entry.asked)))),
    )
    yield "ignored", line_text(", ".join(found.ignored))
    for side, done in found.altered.items():
        yield "kept", f"the {side} not as it was: {', '.join(WORDS.get(word, word) for word in done)}"


WORDS = {
    "media": "images, sound and files as size and hash",
    "redacted": "something redacted",
    "cut": "cut to its beginning",
    "text": "no JSON, so as text",
    "none": "without its body",
}


def tokens(entry: Entry) -> str:
    if not entry.prompt and not entry.completion:
        return ""
    parts = [f"{entry.prompt} + {entry.completion}"]
    parts += [f"{entry.cached} cached"] * bool(entry.cached) + [f"{entry.reasoning} for thinking"] * bool(
        entry.reasoning
    )
    parts += ["estimated"] * (not entry.exact)
    return ", ".join(parts)


def times(found: Found) -> str:
    entry, timing = found.entry, found.timing
    parts = [f"queued {seconds(entry.queued)}"] * bool(entry.queued)
    parts += [f"first {seconds(entry.first)}"] * (entry.first is not None)
    parts.append(f"{seconds(entry.total)} in all")
    if timing is not None:
        parts.append(f"{timing.count} pieces")
        if timing.last > timing.first and timing.count > 2:
            parts.append(f"{(timing.count - 1) / (timing.last - timing.first):.0f} a second")
        parts += ["broken off"] * (not timing.done)
    return ", ".join(parts)
