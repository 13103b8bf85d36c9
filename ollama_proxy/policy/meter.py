"""Watching an answer go by for its books: first token and usage. Pure: the clock and the tokenizer come in as
functions.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..events import Event, Finish, Note, Text, Thinking, ToolDelta, Usage
from .books import Books

__all__ = ["Meter"]

Batch = list[Event]


class Meter:
    """Watches an answer go by: first token, usage of all calls together, what was thought.

    The Usage events of single calls are taken out; `close` gives one for all, estimated where a backend gave none.
    """

    def __init__(
        self,
        books: Books,
        clock: Callable[[], float],
        *,
        prompt: Callable[[], int],
        count: Callable[[str, str], int],
        model: str,
        copies: int | None = None,
    ) -> None:
        self.books = books
        self._clock = clock
        self._estimate = prompt
        self._count = count
        self._model = model
        self._copies = copies
        self._usages: list[Usage] = []
        self._thoughts: list[str] = []
        self._said: list[str] = []
        self._choices = 0

    def see(self, batch: Batch) -> Batch:
        """Return the batch without its Usage events, having noted what is of interest."""
        if self.books.first is None and batch:
            self.books.first = self._clock()
        if len(batch) == 1 and type(batch[0]) is Text:
            # The usual case: one token.
            self._said.append(batch[0].text)
            return batch
        out: Batch = []
        for event in batch:
            match event:
                case Usage():
                    self._usages.append(event)
                    continue
                case Text(text=text) | ToolDelta(arguments=text):
                    self._said.append(text)
                case Thinking(text=text):
                    self._thoughts.append(text)
                case Finish():
                    self._choices += 1
                case Note(values=values):
                    self.books.notes.update(values)
            out.append(event)
        return out

    def close(self) -> Usage:
        """Return the usage of the whole answer. The prompt counts once, however many choices were made of it."""
        if self._usages:
            total = self._usages[0]
            for usage in self._usages[1:]:
                total = total + usage
            if (n := len(self._usages)) > 1:
                per = self._copies or n
                total = msgspec.structs.replace(total, prompt=total.prompt // per, cached=total.cached // per)
        else:
            said = self._count("".join(self._said), self._model) + self._count("".join(self._thoughts), self._model)
            total = Usage(prompt=self._estimate(), completion=said, exact=False)
        if self._thoughts and not total.reasoning:
            total = msgspec.structs.replace(total, reasoning=self._reasoning(total.completion))
        self.books.usage = total
        return total

    def _reasoning(self, completion: int) -> int:
        """Split the backend's exact count by what our tokenizer makes of the two texts: an estimate."""
        thought = self._count("".join(self._thoughts), self._model)
        said = self._count("".join(self._said), self._model)
        return round(completion * thought / (thought + said)) if thought + said else 0
