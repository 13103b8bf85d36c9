"""Calls of tools and their results in the order that every server takes. Pure.

OpenAI, vLLM and others refuse a message with calls that is not followed at once by one result for each of them, and
chat templates misread any other order. Clients' histories are not always like that: a note stands before a result, an
answer was cut before its calls were run, a result came twice. Nothing that was said is dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from msgspec.structs import replace

from ..model import Message, Part, Text, ToolCall, ToolResult

__all__ = ["NO_RESULT", "pair_results"]

# What a call without a result gets. Without any, the whole conversation would be refused for good.
NO_RESULT = "(no result)"


class _Call:
    """One call with the results found for it. `place` counts first results: the last are those without any."""

    __slots__ = ("call", "place", "results")

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.place: float = math.inf
        self.results: list[ToolResult] = []


def pair_results(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages with the results of each turn's calls directly behind it, in the order they came in.

    What stood between them comes after them. A result belongs to the latest call of its id that has none yet. Several
    results of one call become one. A result without a call becomes words of the user.
    """
    if _in_order(messages):
        return messages
    out: list[Message | list[_Call]] = []
    numbers = itertools.count()
    by_id: dict[str, list[list[_Call]]] = {}
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        orphans = [part for part in results if not _placed(part, next(numbers), by_id.get(part.id, ()))]
        out += [_words_of(part) for part in orphans]
        rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        if rest or not results:
            out.append(message if not results else _said(message, rest))
        made = [_Call(part) for part in message.parts if isinstance(part, ToolCall)]
        if made:
            out.append(made)
            for id in {each.call.id for each in made}:
                by_id.setdefault(id, []).append([each for each in made if each.call.id == id])
    return _written(out)


def _in_order(messages: Sequence[Message]) -> bool:
    """Return whether nothing is to be done, as in nearly every conversation."""
    due: list[str] = []
    for message in messages:
        results = [part.id for part in message.parts if isinstance(part, ToolResult)]
        if results:
            # Each result is a message of its own.
            if len(message.parts) > 1 or results[0] not in due:
                return False
            due.remove(results[0])
            continue
        if due:
            return False
        due = [part.id for part in message.parts if isinstance(part, ToolCall)]
    return not due


def _placed(result: ToolResult, place: int, turns: Sequence[Sequence[_Call]]) -> bool:
    """Give a result to its call; False if there is none. `turns` are the calls of its id, by the turn they stand in:
    some clients number their calls in each turn anew, and some models give all calls of a turn one id."""
    if not turns:
        return False
    waiting = (call for calls in reversed(turns) for call in calls if not call.results)
    call = next(waiting, turns[-1][-1])
    if not call.results:
        call.place = place
    if result not in call.results:
        call.results.append(result)
    return True


def _written(out: Sequence[Message | list[_Call]]) -> list[Message]:
    messages: list[Message] = []
    for each in out:
        if isinstance(each, Message):
            messages.append(each)
        else:
            messages += [Message("tool", (_result_of(call),)) for call in sorted(each, key=lambda call: call.place)]
    return messages


def _result_of(called: _Call) -> ToolResult:
    match called.results:
        case []:
            return ToolResult(called.call.id, (Text(NO_RESULT),), called.call.name)
        case [result]:
            return result
    parts = tuple(part for result in called.results for part in result.parts)
    return replace(called.results[0], parts=parts)


def _words_of(result: ToolResult) -> Message:
    """Return a result of no call as what the user says: no server takes it as a result."""
    heading = Text(f"Result of {result.name}:" if result.name else "Result of a tool:")
    return Message("user", (heading, *result.parts))


def _said(message: Message, rest: tuple[Part, ...]) -> Message:
    return Message("user" if message.role == "tool" else message.role, rest, message.name)
