"""Calls of tools and their results, in whatever order a client has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.model import Message, Part, Text, ToolCall, ToolResult
from ollama_proxy.policy.pairs import NO_RESULT, pair_results

HI = Message("user", (Text("hi"),))
NOTE = Message("user", (Text("note"),))
SAID = Message("assistant", (Text("said"),))


def calls(*ids: str) -> Message:
    return Message("assistant", tuple(ToolCall(id, "f", "{}") for id in ids))


def result(id: str, text: str = "") -> Message:
    return Message("tool", (ToolResult(id, (Text(text or id),), "f"),))


def words(text: str) -> Message:
    return Message("user", (Text("Result of f:"), Text(text)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((HI, calls("a"), NOTE, result("a")), (HI, calls("a"), result("a"), NOTE)),
        ((calls("a", "b"), result("a"), NOTE, result("b")), (calls("a", "b"), result("a"), result("b"), NOTE)),
        ((calls("a", "b"), result("a"), SAID, result("b")), (calls("a", "b"), result("a"), result("b"), SAID)),
        # A call that was never answered, at the end and in the middle.
        ((calls("a"),), (calls("a"), result("a", NO_RESULT))),
        ((calls("a", "b"), result("b"), HI), (calls("a", "b"), result("b"), result("a", NO_RESULT), HI)),
        # A result of no call, alone and among others.
        ((HI, result("x")), (HI, words("x"))),
        ((result("a"), calls("a")), (words("a"), calls("a"), result("a", NO_RESULT))),
        ((calls("a"), result("x"), result("a")), (calls("a"), result("a"), words("x"))),
        # The same result twice, and two different ones.
        ((calls("a"), result("a"), result("a")), (calls("a"), result("a"))),
        ((calls("a"), result("a", "1"), HI, result("a", "2")),
         (calls("a"), Message("tool", (ToolResult("a", (Text("1"), Text("2")), "f"),)), HI)),
        # One id for all calls of a turn, and ids that begin anew in each.
        ((calls("a", "a"), result("a", "1"), HI, result("a", "2")),
         (calls("a", "a"), result("a", "1"), result("a", "2"), HI)),
        ((calls("a"), result("a", "1"), calls("a"), HI, result("a", "2")),
         (calls("a"), result("a", "1"), calls("a"), result("a", "2"), HI)),
        ((calls("a"), calls("a"), result("a", "2")),
         (calls("a"), result("a", NO_RESULT), calls("a"), result("a", "2"))),
        # All results in one message, with words.
        ((calls("a", "b"), Message("tool", (*result("b").parts, *result("a").parts, Text("note")))),
         (calls("a", "b"), result("b"), result("a"), NOTE)),
    ],
)  # fmt: skip
def test_results_come_directly_after_their_calls(given: tuple[Message, ...], expected: tuple[Message, ...]) -> None:
    assert tuple(pair_results(given)) == expected


@pytest.mark.parametrize(
    "given", [(), (HI,), (HI, SAID, HI), (HI, calls("b", "a"), result("a"), result("b"), HI, calls("a"), result("a"))]
)
def test_what_is_in_order_stays_as_it_is(given: tuple[Message, ...]) -> None:
    assert pair_results(given) is given


IDS = st.sampled_from("abc")
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(lambda name: ToolCall(name, "f", "{}"), IDS),
    st.builds(lambda name, text: ToolResult(name, (Text(text),)), IDS, st.sampled_from(["1", "2"])),
    st.builds(Text, st.sampled_from(["x", "y"])),
)
MESSAGES = st.builds(
    lambda role, parts: Message(
        role,
        tuple(part for part in parts if isinstance(part, Text) or isinstance(part, ToolCall) == (role == "assistant")),
    ),
    st.sampled_from(["user", "assistant", "tool"]),
    st.lists(PARTS, min_size=1, max_size=3),
)


@given(st.lists(MESSAGES, max_size=8))
def test_each_turn_with_calls_is_followed_at_once_by_the_results_of_exactly_its_calls(messages: list[Message]) -> None:
    paired = pair_results(messages)
    due: list[str] = []
    for message in paired:
        results = [part.id for part in message.parts if isinstance(part, ToolResult)]
        if results:
            assert len(message.parts) == 1
            due.remove(results[0])
            continue
        assert not due
        due = [part.id for part in message.parts if isinstance(part, ToolCall)]
    assert not due
    told = {part.text for message in paired for part in flat(message) if isinstance(part, Text)}
    assert {part.text for message in messages for part in flat(message) if isinstance(part, Text)} <= told
    assert pair_results(paired) is paired


def flat(message: Message) -> list[Part]:
    return [each for part in message.parts for each in (part.parts if isinstance(part, ToolResult) else (part,))]
