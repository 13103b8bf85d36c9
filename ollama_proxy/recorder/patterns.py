"""The patterns of [logs] redact: what they match in any string of a body is blanked.

A pattern may take for ever on the wrong text, and Python's own `re` cannot be stopped; `regex` (which tiktoken brings)
can. A string that a pattern does not finish in time is blanked whole: rather too little in the log than a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from ..policy.redact import MARK

__all__ = ["BadPattern", "Patterns"]

BLANK = MARK.decode()
# Seconds for one pattern on one string, and the longest string that is looked through (characters).
PATIENCE = 0.05
LONGEST = 100_000


class BadPattern(ValueError):
    """A pattern that is no regular expression. `message` names it."""

    def __init__(self, pattern: str, why: str) -> None:
        self.message = f"the pattern {pattern!r} under [logs] redact is no regular expression: {why}"
        super().__init__(self.message)


class Patterns:
    """Compiled patterns; falsy when there are none. Raises BadPattern."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._compiled: list[Any] = []
        for pattern in patterns:
            try:
                re.compile(pattern)
                # Takes 60 ms to import, which those without patterns need not pay.
                self._compiled.append(import_module("regex").compile(pattern, cache_pattern=False))
            except Exception as exc:
                raise BadPattern(pattern, str(exc)) from exc

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def text(self, text: str) -> str:
        """Return a text without what the patterns match."""
        for pattern in self._compiled:
            if len(text) > LONGEST:
                return BLANK
            try:
                text = pattern.sub(BLANK, text, timeout=PATIENCE)
            except TimeoutError:
                return BLANK
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value with the patterns applied to each string in it."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self.value(item) for name, item in value.items()}
            case list():
                return [self.value(item) for item in value]
        return value
