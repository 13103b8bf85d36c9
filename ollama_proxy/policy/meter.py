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

# What an answer takes in memory while it is streamed: each piece is an object here and in the front's writer, and at
# its end the text is joined, counted, written into the last events and kept: 120 bytes a piece and 8 a letter.
COST, PIECE = 8, 15
# Letters that are paid for ahead; an answer of fewer than FREE is no burden.
STEP, FREE = 8192, 4096
# What a token with its alternatives takes, in letters.
LOGPROBS = 400


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
        # The letters that were said so far, and how many of them are paid for.
        self._size, self._paid = 0, FREE

    def see(self, batch: Batch) -> Batch:
        """Return the batch without its Usage events, having noted what is of interest."""
        if self.books.first is None and batch:
            self.books.first = self._clock()
        if len(batch) == 1 and type(batch[0]) is Text:
            # The usual case: one token.
            self._said.append(text := batch[0].text)
            self._size += PIECE + len(text)
            if (found := batch[0].logprobs) is not None:
                self._size += LOGPROBS * len(found)
            if self._size > self._paid:
                self._pay()
            return batch
        out: Batch = []
        for event in batch:
            match event:
                case Usage():
                    self._usages.append(event)
                    continue
                case Text(text=text) | ToolDelta(arguments=text):
                    self._said.append(text)
                    self._size += PIECE + len(text)
                case Thinking(text=text):
                    self._thoughts.append(text)
                    self._size += PIECE + len(text)
                case Finish():
                    self._choices += 1
                case Note(values=values):
                    self.books.notes.update(values)
            out.append(event)
        if self._size > self._paid:
            self._pay()
        return out

    def _pay(self) -> None:
        """Take memory for what was said. Raises AnswerTooLarge and Overloaded."""
        more = self._size + STEP - self._paid
        self.books.hold.take_answer(COST * more)
        self._paid += more

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
