"""Constrained output and the way back to tool calls, at every cut."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import UpstreamDown
from ollama_proxy.events import Event, Fail, Finish, Logprob, Text, Thinking, ToolDelta, ToolStart
from ollama_proxy.model import Tool
from ollama_proxy.policy.filter import Filter
from ollama_proxy.policy.forced import OneCall, SomeCall, constrain

WEATHER = Tool(
    "weather",
    parameters={
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}, "$ref": {"type": "string"}},
        "required": ["city"],
        "$defs": {"City": {"type": "string", "const": "Paris"}},
    },
)
TREE = Tool(
    "tree",
    parameters={
        "type": "object",
        "properties": {"kid": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "same": {"$ref": "#/properties/kid"}},
        "required": ["kid"],
    },
)
PING = Tool("ping")


def fits(schema: Any, value: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(schema).is_valid(value)


def run(filter: Filter, pieces: list[str], finish: str = "stop") -> list[Event]:
    out: list[Event] = []
    for piece in pieces:
        out += filter.feed([Text(0, piece)])
    out += filter.feed([Finish(0, finish)])  # type: ignore[arg-type]
    return out + filter.flush()


def told(events: list[Event]) -> tuple[str, list[str], str, str]:
    """Return (text, names of calls, arguments, finish reason)."""
    text = "".join(e.text for e in events if isinstance(e, Text))
    names = [e.name for e in events if isinstance(e, ToolStart)]
    arguments = "".join(e.arguments for e in events if isinstance(e, ToolDelta))
    (finish,) = [e.reason for e in events if isinstance(e, Finish)]
    return text, names, arguments, finish


def cuts(text: str) -> list[list[str]]:
    return [[text], list(text), *([text[:at], text[at:]] for at in range(len(text) + 1))]


def test_the_schema_of_one_required_tool_is_that_of_its_arguments() -> None:
    schema = constrain([WEATHER], single=True).schema
    assert fits(schema, {"city": "Paris"})
    assert not fits(schema, {"city": "Rome"})
    assert not fits(schema, {"city": "Paris", "more": 1})


def test_a_tool_that_refers_to_its_own_root_still_does() -> None:
    for schema in (constrain([TREE], single=True).schema, constrain([TREE]).schema):
        assert schema is not None
        wrap = (lambda v: {"name": "tree", "arguments": v}) if "name" in str(schema) else (lambda v: v)
        assert fits(schema, wrap({"kid": {"kid": None}, "same": {"kid": None}}))
        assert not fits(schema, wrap({"kid": {"kid": 1}}))
        assert not fits(schema, wrap({"kid": None, "same": 1}))


def test_several_tools_keep_their_own_references_apart() -> None:
    other = Tool("other", parameters={"properties": {"city": {"$ref": "#/definitions/City"}},
                                      "definitions": {"City": {"const": "Rome"}}})  # fmt: skip
    schema = constrain([WEATHER, other, PING], {"type": "string"}).schema
    assert fits(schema, {"name": "weather", "arguments": {"city": "Paris"}})
    assert not fits(schema, {"name": "weather", "arguments": {"city": "Rome"}})
    assert fits(schema, {"name": "other", "arguments": {"city": "Rome"}})
    assert fits(schema, {"name": "ping", "arguments": {}})
    assert not fits(schema, {"name": "ping", "arguments": {"x": 1}})
    assert fits(schema, {"message": "hi"})
    assert not fits(schema, {"message": {}})
    assert not fits(schema, {"name": "nobody", "arguments": {}})


def test_data_that_looks_like_a_reference_is_left_alone() -> None:
    tool = Tool("f", parameters={"properties": {"a": {"const": {"$ref": "#"}}, "b": {"$ref": "#/properties/a"}}})
    assert fits(constrain([tool, PING]).schema, {"name": "f", "arguments": {"b": {"$ref": "#"}}})


@pytest.mark.parametrize("pattern", ["[a-c]+", "^[a-c]+$", "a|b|c+"])
def test_a_regex_binds_the_whole_input_of_a_custom_tool(pattern: str) -> None:
    schema = constrain([Tool("sql", kind="custom", grammar=("regex", pattern))], single=True).schema
    assert fits(schema, {"input": "cc"})
    assert not fits(schema, {"input": "xccx"})


@pytest.mark.parametrize("lead", ["", " \n"])
def test_one_call_streams_its_arguments_as_they_come(lead: str) -> None:
    text = '{"city": "Par\\u00eds", "n": [1, 2]}'
    for pieces in cuts(lead + text):
        assert told(run(OneCall("weather"), pieces)) == ("", ["weather"], text, "tool_calls")
    first, second = OneCall("weather").feed([Text(0, '{"ci')])
    assert isinstance(first, ToolStart)
    assert second == ToolDelta(0, 0, '{"ci')


def test_a_call_cut_by_the_length_keeps_what_was_written() -> None:
    assert told(run(OneCall("weather"), ['{"ci'], "length")) == ("", ["weather"], '{"ci', "length")
    assert told(run(SomeCall(), ['{"name": "weather", "arguments": {"ci'], "length"))[1:] == (
        ["weather"], '{"ci', "length",
    )  # fmt: skip


def test_an_empty_answer_makes_no_call() -> None:
    assert told(run(OneCall("weather"), ["", " "])) == ("", [], "", "stop")


@pytest.mark.parametrize("order", ["name first", "arguments first"])
def test_one_of_several_calls_reads_the_same_at_every_cut(order: str) -> None:
    arguments = '{"city": "a\\"}{", "x": {"y": [1, {}]}}'
    parts = ['"name" : "wea\\u0074her"', f'"arguments":{arguments}']
    text = "{ " + ", ".join(parts if order == "name first" else parts[::-1]) + " }"
    for pieces in cuts(text):
        assert told(run(SomeCall(), pieces)) == ("", ["weather"], arguments, "tool_calls")


@given(st.text())
def test_a_message_is_streamed_as_plain_text(text: str) -> None:
    for pieces in cuts(json.dumps({"message": text}))[:60]:
        assert told(run(SomeCall(), pieces)) == (text, [], "", "stop")


def test_a_message_comes_out_while_it_is_written() -> None:
    filter = SomeCall()
    filter.feed([Text(0, '{"message": "')])
    assert filter.feed([Text(0, "Hello")]) == [Text(0, "Hello")]


def test_a_raw_message_is_json_text() -> None:
    value = '{"answer": "\\u00e9", "n": [1]}'
    for pieces in cuts(f'{{"message": {value}}}'):
        assert told(run(SomeCall(raw=True), pieces)) == (value, [], "", "stop")


def test_a_model_that_does_not_obey_is_read_as_plain_text() -> None:
    for pieces in cuts("I do not know {that}."):
        assert told(run(SomeCall(), pieces)) == ("I do not know {that}.", [], "", "stop")


def test_the_logprobs_of_a_message_stay_with_its_text() -> None:
    one, two = Logprob("Hel", -0.1), Logprob("lo", -0.2)
    filter = SomeCall()
    assert filter.feed([Text(0, '{"message": "', (Logprob("{", 0.0),))]) == []
    assert filter.feed([Text(0, "Hel", (one,)), Text(0, "lo", (two,))]) == [
        Text(0, "Hel", (one,)),
        Text(0, "lo", (two,)),
    ]


@pytest.mark.parametrize("filter", [OneCall("f"), SomeCall()])
def test_thoughts_and_failures_pass(filter: Filter) -> None:
    fail = Fail(UpstreamDown("gone"))
    assert filter.feed([Thinking(0, "hm"), fail]) == [Thinking(0, "hm"), fail]
