"""Leaving out the oldest of a conversation that does not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.model import (
    Ask,
    Audio,
    File,
    Image,
    Message,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ollama_proxy.policy import shorten as module
from ollama_proxy.policy.shorten import shorten


def user(text: str = "x" * 100) -> Message:
    return Message("user", (Text(text),))


def said(text: str = "y" * 100) -> Message:
    return Message("assistant", (Text(text),))


def calls(*ids: str) -> Message:
    return Message("assistant", (Thinking("hm"), *(ToolCall(id, "f", "{}") for id in ids)))


def result(id: str) -> Message:
    return Message("tool", (ToolResult(id, (Text("z" * 50),), "f"),))


SYSTEM = Message("system", (Text("Be brief."),))


def ask(*messages: Message) -> Ask:
    return Ask(model="m", messages=messages)


def left(question: Ask, tokens: int | None, limit: int | None) -> tuple[Message, ...] | None:
    less = shorten(question, tokens=tokens, limit=limit)
    return less.messages if less is not None else None


def test_the_oldest_turns_go_and_the_instructions_stay() -> None:
    turns = [user(f"{number} " + "x" * 100) for number in range(10)]
    assert left(ask(SYSTEM, *turns), 1000, 500) == (SYSTEM, *turns[-4:])


def test_the_last_thing_that_was_asked_stays_however_long_it_is() -> None:
    last = user("x" * 100_000)
    assert left(ask(SYSTEM, user(), said(), last), 10_000, 100) == (SYSTEM, last)
    assert left(ask(SYSTEM, last), 10_000, 100) is None
    assert left(ask(last), None, None) is None
    assert left(ask(), 5, 1) is None


def test_a_call_goes_with_its_results() -> None:
    question = ask(user(), calls("a", "b"), result("a"), result("b"), user("last"))
    assert left(question, 100, 90) in (question.messages[1:], question.messages[4:])


def test_where_the_numbers_are_not_known_some_of_it_goes() -> None:
    turns = [user() for _ in range(10)]
    for tokens, limit in ((None, None), (10, None), (None, 10), (5, 10)):
        less = left(ask(*turns), tokens, limit)
        assert less is not None
        assert 5 <= len(less) <= 7


def test_repeated_it_ends_with_the_last_turn_alone() -> None:
    question: Ask | None = ask(SYSTEM, *(user() for _ in range(20)))
    seen = []
    while question is not None:
        seen.append(len(question.messages))
        question = shorten(question, tokens=None, limit=None)
    assert seen == sorted(set(seen), reverse=True)
    assert seen[-1] == 2


@pytest.mark.parametrize(
    "part", [Image(data="aGk=", media_type="image/png"), Audio("aGk=", "wav"), File(data="aGk="), Refusal("no" * 999)]
)
def test_what_is_no_text_counts_as_well(part: Image | Audio | File | Refusal) -> None:
    # Were the first message as light as it looks, one of the small ones had to go as well.
    question = ask(Message("user", (part,)), *(user() for _ in range(5)))
    assert left(question, 1000, 600) == question.messages[1:]


ROUNDS = st.lists(
    st.one_of(
        st.builds(lambda text: [user(text)], st.text(max_size=200)),
        st.builds(lambda a, b: [user(a), said(b)], st.text(max_size=200), st.text(max_size=200)),
        st.integers(1, 3).map(
            lambda count: [calls(*map(str, range(count))), *(result(str(number)) for number in range(count))]
        ),
    ),
    max_size=12,
)


@given(st.lists(st.just(SYSTEM), max_size=2), ROUNDS, st.integers(1, 10_000), st.integers(1, 10_000))
def test_what_is_left_is_the_front_and_an_end_that_holds_together(
    front: list[Message], rounds: list[list[Message]], tokens: int, limit: int
) -> None:
    messages = [*front, *(message for turn in rounds for message in turn)]
    question = ask(*messages)
    less = shorten(question, tokens=tokens, limit=limit)
    if less is None:
        return
    kept = list(less.messages)
    assert kept[: len(front)] == front
    rest = kept[len(front) :]
    assert rest, "something is still asked"
    assert rest == messages[-len(rest) :]
    assert len(kept) < len(messages)
    open_calls: list[str] = []
    for message in rest:
        for part in message.parts:
            match part:
                case ToolCall(id):
                    open_calls.append(id)
                case ToolResult(id):
                    assert id in open_calls, "a result without its call"
    assert less == Ask(model="m", messages=tuple(kept))


class Size(int):
    """A size that counts the sums it is part of."""

    steps = 0

    def __add__(self, other: int) -> Size:
        Size.steps += 1
        return Size(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Size:
        Size.steps += 1
        return Size(int(self) - int(other))


def test_twice_as_many_turns_are_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "size", lambda message: Size(100))
    steps = []
    for count in (500, 1000):
        Size.steps = 0
        less = shorten(Ask(model="m", messages=(user(),) * count), tokens=100, limit=10)
        assert less is not None
        assert len(less.messages) < count / 5
        steps.append(Size.steps)
    assert steps[0] > 1000
    assert steps[1] < 2.1 * steps[0]
