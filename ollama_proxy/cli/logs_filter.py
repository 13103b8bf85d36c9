"""Which requests of the log are meant: the filters of `oproxy logs`. Reads no file and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from ..account import Entry
from ..recorder.read import full
from .failure import Failure

__all__ = ["Filter", "status_test", "words"]


class Filter(NamedTuple):
    """What must be true of a request; what is empty or None says nothing. Times are epoch seconds."""

    since: float | None = None
    until: float | None = None
    only: Mapping[str, tuple[str, ...]] = {}
    statuses: tuple[Callable[[int], bool], ...] = ()
    errors: bool = False
    slow: float | None = None
    grep: str = ""

    def over(self, entry: Entry) -> bool:
        """Tell whether nothing older can be meant: lines stand in the order in which requests ended."""
        return self.since is not None and entry.at + entry.total < self.since

    def admits(self, entry: Entry, line: bytes) -> bool:
        if (self.since is not None and entry.at < self.since) or (self.until is not None and entry.at >= self.until):
            return False
        if self.errors and entry.status < 400 and not entry.code:
            return False
        if self.slow is not None and entry.total < self.slow:
            return False
        if self.statuses and not any(test(entry.status) for test in self.statuses):
            return False
        if not all(matches(names_of(entry, what), globs) for what, globs in self.only.items()):
            return False
        return not self.grep or contains(line, self.grep)


def names_of(entry: Entry, what: str) -> tuple[str, ...]:
    match what:
        case "model":
            return entry.asked, entry.served, f"{entry.backend}/{entry.served}"
        case "key":
            return entry.key, entry.caller
    return (entry.tag,)


def matches(names: Iterable[str], globs: Iterable[str]) -> bool:
    """Tell whether a name is one of the words; * and ? stand for any letters, and upper case does not count."""
    lower = [name.lower() for name in names]
    return any(fnmatchcase(name, glob.lower()) for glob in globs for name in lower)


def words(values: Iterable[str] | None) -> tuple[str, ...]:
    """Return the values of an option that may be repeated and may hold several with commas."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def status_test(word: str) -> Callable[[int], bool]:
    """Return what tells whether a status is meant by `ok`, `error`, `429` or `4xx`. Raises Failure."""
    match word.lower():
        case "ok":
            return lambda status: status < 400
        case "error" | "errors":
            return lambda status: status >= 400
        case group if len(group) == 3 and group[0].isdigit() and group.endswith("xx"):
            return lambda status: status // 100 == int(group[0])
        case exact if len(exact) == 3 and exact.isdecimal():
            return lambda status: status == int(exact)
    raise Failure(f"--status {word}: expected ok, error, a status (429) or a group of them (4xx).", code=2)


def contains(line: bytes, text: str) -> bool:
    """Tell whether the text is in the request or the answer; upper case does not count."""
    needle = text.lower()
    # Nearly all lines that do not have it are told by their bytes; letters beyond ASCII may be written otherwise.
    if needle.isascii() and needle.isprintable() and msgspec.json.encode(needle)[1:-1] not in line.lower():
        return False
    found = full(line)
    return found is not None and any(needle in each.lower() for each in strings([found.request, found.answer]))


def strings(value: Any) -> Iterable[str]:
    """Yield all texts in a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)
