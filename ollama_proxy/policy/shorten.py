"""Leaving out the oldest of a conversation that does not fit the model's window (`truncation: "auto"`).

Instructions stay, and so does the last thing that was asked; a call is never parted from its result.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..model import Ask, Message, Part, Refusal, Text, Thinking, ToolCall, ToolResult

__all__ = ["shorten"]

# Some room below the limit: sizes in characters tell tokens only about.
MARGIN = 0.9
# What is kept where it is not known by how much it was too long.
UNKNOWN = 0.7
# An image or a sound, in characters: what it takes of a window depends on the model.
OTHER = 3000


def shorten(ask: Ask, *, tokens: int | None, limit: int | None) -> Ask | None:
    """Return the question without its oldest turns, so that of `tokens` about `limit` are left; None if there is
    nothing more to leave out."""
    share = limit / tokens * MARGIN if tokens and limit and tokens > limit else UNKNOWN
    front, turns = split(ask.messages)
    sizes = [sum(size(message) for message in turn) for turn in turns]
    room = share * (sum(size(message) for message in front) + sum(sizes)) - sum(size(message) for message in front)
    left, rest = len(turns), sum(sizes)
    while left > 1 and (left == len(turns) or rest > room):
        rest -= sizes[-left]
        left -= 1
    if left == len(turns):
        return None
    kept = [message for turn in turns[-left:] for message in turn]
    return msgspec.structs.replace(ask, messages=(*front, *kept))


def split(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Return the instructions in front, and the turns: each begins with what is no result of a call."""
    front: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "system" and not turns:
            front.append(message)
        elif turns and (message.role == "tool" or called(turns[-1][-1])):
            turns[-1].append(message)
        else:
            turns.append([message])
    return front, turns


def called(message: Message) -> bool:
    """Return whether results of calls have to follow."""
    return any(isinstance(part, ToolCall) for part in message.parts)


def size(message: Message) -> int:
    """Return about how long a message is, in characters."""
    return sum(map(size_of, message.parts)) + 10


def size_of(part: Part) -> int:
    match part:
        case Text(text) | Refusal(text):
            return len(text)
        case Thinking(text=text):
            return len(text)
        case ToolCall(_, name, arguments):
            return len(name) + len(arguments)
        case ToolResult(parts=parts):
            return sum(map(size_of, parts))
        case _:
            return OTHER
