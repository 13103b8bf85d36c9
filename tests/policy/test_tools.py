"""Tools told to a backend, and filters on its calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.events import Event, Finish, Text, ToolDelta, ToolStart
from ollama_proxy.model import Image, Message, Tool, ToolCall, ToolChoice, ToolResult
from ollama_proxy.model import Text as Words
from ollama_proxy.policy.keywords import kept
from ollama_proxy.policy.tools import (
    CustomCalls,
    FirstCall,
    as_functions,
    custom_history,
    in_words,
    introduce,
    narrow,
    with_hint,
)

TOOLS = (Tool("a", "First.", {"type": "object", "properties": {"x": {"type": "string"}}}), Tool("b"))


def test_a_choice_narrows_the_tools() -> None:
    assert narrow(TOOLS, ToolChoice("none")) == ()
    assert narrow(TOOLS, ToolChoice("auto")) == TOOLS
    assert narrow(TOOLS, ToolChoice("required", ("b",))) == TOOLS[1:]


def test_a_custom_tool_becomes_a_function_of_one_text() -> None:
    plain, lark, regex = as_functions(
        [
            Tool("p", "Run.", kind="custom"),
            Tool("l", kind="custom", grammar=("lark", "start: /x/")),
            Tool("r", kind="custom", grammar=("regex", "x+")),
        ]
    )
    assert plain.kind == "function"
    assert plain.parameters == {
        "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
        "additionalProperties": False,
    }  # fmt: skip
    assert "start: /x/" in (lark.description or "")
    assert regex.parameters is not None
    assert regex.parameters["properties"]["input"]["pattern"] == "^x+$"


def test_the_hint_names_tools_and_form() -> None:
    whole = introduce(TOOLS, required=False, single=False, described=False)
    assert "- a: First. Arguments (JSON Schema): {" in whole
    assert '{"message": "<your answer>"}' in whole
    assert "message" not in introduce(TOOLS, required=True, single=False, described=False)
    assert introduce(TOOLS[:1], required=True, single=True, described=True).startswith("Call the function a now")


def test_a_hint_extends_the_first_system_message_or_becomes_one() -> None:
    user = Message("user", (Words("Hi"),))
    assert with_hint((user,), "H") == (Message("system", (Words("H"),)), user)
    system = Message("system", (Words("Be"), Words("brief.")), "me")
    assert with_hint((user, system), "H") == (user, Message("system", (Words("Be"), Words("brief.\n\nH")), "me"))


def test_a_history_of_calls_is_told_in_words() -> None:
    image = Image(data="AA==")
    history = (
        Message("user", (Words("Hi"),)),
        Message("assistant", (ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", ""))),
        Message("tool", (ToolResult("c1", (Words("sun"), image), "f"),)),
        Message("tool", (ToolResult("c2", (Words("rain"),)),)),
    )
    assert in_words(history) == (
        history[0],
        Message("assistant", (Words('{"name": "f", "arguments": {"a": 1}}'), Words('{"name": "g", "arguments": {}}'))),
        Message("user", (Words("Result of f:\nsun"), image)),
        Message("user", (Words("Result:\nrain"),)),
    )


def test_earlier_custom_calls_become_function_calls() -> None:
    (message,) = custom_history([Message("assistant", (ToolCall("c", "sql", 'say "x"', "custom"), Words("ok")))])
    assert message.parts == (ToolCall("c", "sql", '{"input":"say \\"x\\""}'), Words("ok"))


def test_only_the_first_call_gets_through() -> None:
    one: list[Event] = [Text(0, "t"), ToolStart(0, 0, "i", "a"), ToolDelta(0, 0, "{}")]
    two: list[Event] = [ToolStart(0, 1, "j", "b"), ToolDelta(0, 1, "{}")]
    filter = FirstCall()
    assert filter.feed([*one, *two, ToolDelta(0, 0, " ")]) == [*one, ToolDelta(0, 0, " ")]
    assert filter.feed([*two, Finish(0, "tool_calls")]) == [Finish(0, "tool_calls")]
    assert filter.flush() == []


def custom(pieces: list[str]) -> str:
    filter = CustomCalls(["sql"])
    out = filter.feed([ToolStart(0, 0, "i", "sql")])
    assert out == [ToolStart(0, 0, "i", "sql", "custom")]
    events = [e for piece in pieces for e in filter.feed([ToolDelta(0, 0, piece)])]
    *rest, last = filter.feed([Finish(0, "tool_calls")])
    assert isinstance(last, Finish)
    assert filter.flush() == []
    return "".join(e.arguments for e in [*events, *rest] if isinstance(e, ToolDelta))


@given(st.text())
def test_a_custom_call_gives_its_bare_input_at_every_cut(text: str) -> None:
    raw = json.dumps({"input": text})
    for pieces in [[raw], list(raw), *([raw[:at], raw[at:]] for at in range(min(len(raw), 40)))]:
        assert custom(pieces) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ('{"query": "x"}', "x"),
        ("just text", "just text"),
        ('{"a": 1}', '{"a": 1}'),
        ("{}", ""),
        ('{"input": "a\\n', "a\n"),
    ],
)
def test_arguments_of_another_form_still_mean_the_input(raw: str, text: str) -> None:
    for at in range(len(raw)):
        assert custom([raw[:at], raw[at:]]) == text


def test_functions_beside_custom_tools_are_left_alone() -> None:
    events: list[Event] = [ToolStart(0, 0, "i", "f"), ToolDelta(0, 0, '{"input": "x"}')]
    assert CustomCalls(["sql"]).feed(events) == events


# --- keywords -------------------------------------------------------------------------------------------------------


def test_dropped_keywords_are_told_in_the_descriptions() -> None:
    tool = kept(
        Tool("f", "Do.", {
            "type": "object",
            "title": "F",
            "properties": {
                "n": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many"},
                "day": {"type": "string", "format": "date", "default": "today"},
                "kind": {"const": "x"},
                "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
                "many": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "maxItems": 3},
                "all": {"allOf": [{"$ref": "#/$defs/Item"}], "description": "One item"},
            },
            "required": ["n"],
            "additionalProperties": False,
            "minProperties": 1,
            "$defs": {"Item": {"type": "object", "properties": {"id": {"type": "string", "pattern": "^x"}}}},
        })
    )  # fmt: skip
    item = {"type": "object", "properties": {"id": {"type": "string", "description": "(pattern: ^x)"}}}
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "How many (minimum: 1, maximum: 9)"},
            "day": {"type": "string", "description": "(format: date, default: today)"},
            "kind": {"enum": ["x"]},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "many": {"type": "array", "items": item, "description": "(maxItems: 3)"},
            "all": {**item, "description": "One item"},
        },
        "required": ["n"],
    }
    assert tool.description == "Do. (minProperties: 1)"


def test_a_recursive_reference_is_written_out_once() -> None:
    tool = kept(Tool("f", None, {"type": "object", "properties": {"kid": {"$ref": "#"}, "v": {"type": "integer"}}}))
    assert tool.parameters is not None
    assert tool.parameters["properties"]["kid"]["properties"]["v"] == {"type": "integer"}
    assert tool.parameters["properties"]["kid"]["properties"]["kid"] == {
        "type": "object",
        "description": "(the same form as the whole)",
    }


def told(schema: dict[str, Any], **root: Any) -> Any:
    """Return what Ollama is sent for one parameter."""
    sent = kept(Tool("f", "Do.", {"type": "object", "properties": {"v": schema}, **root})).parameters
    assert sent is not None
    return sent["properties"]["v"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "description": "Variables", "additionalProperties": {"type": "string"}},
         'Variables (additionalProperties: {"type":"string"})'),
        ({"type": "object", "patternProperties": {"^x-": {"type": "integer", "minimum": 1}}},
         '(patternProperties: {"^x-":{"type":"integer","description":"(minimum: 1)"}})'),
        ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}},
         '(propertyNames: {"description":"(pattern: ^[a-z]+$)"})'),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": False},
         '(prefixItems: [{"type":"string"},{"type":"number"}])'),
        ({"type": "array", "items": [{"type": "string"}, {"enum": [1]}]}, '(items: [{"type":"string"},{"enum":[1]}])'),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, '(dependentRequired: {"a":["b"]})'),
        ({"type": "array", "contains": {"const": 1}, "minContains": 2},
         '(minContains: 2, contains: {"enum":[1]})'),
        ({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
         '(if: {"required":["a"]}, then: {"required":["b"]})'),
        ({"type": "object", "additionalProperties": {"$ref": "#/$defs/N"}},
         ('(additionalProperties: {"type":"object","properties":{"n":{"type":"object",'
         '"description":"(the same form as \'N\')"}}})')),
        ({"allOf": [{"anyOf": [{"type": "string"}]}, {"anyOf": [{"type": "null"}]}]}, '(and anyOf: [{"type":"null"}])'),
        ({"$ref": "#a"}, "by anchor"),
    ],
)  # fmt: skip
def test_maps_tuples_and_conditions_are_told_in_words(schema: dict[str, Any], words: str) -> None:
    node = {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}
    defs = {"N": node, "A": {"$anchor": "a", "description": "by anchor"}}
    assert told(schema, **{"$defs": defs})["description"] == words


@pytest.mark.parametrize("schema", [{"type": "object"}, {"additionalProperties": True}, {"additionalProperties": {}}])
def test_what_is_merely_open_is_not_told(schema: dict[str, Any]) -> None:
    assert "description" not in told(schema)


def test_alternatives_at_the_root_are_told_with_the_tool() -> None:
    tool = kept(Tool("f", "Do.", {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}))
    assert tool.description == 'Do. (anyOf: [{"required":["a"]},{"required":["b"]}])'
    assert tool.parameters == {"type": "object"}


def test_wide_references_stay_within_bounds() -> None:
    defs = {f"d{i}": {"properties": {k: {"$ref": f"#/$defs/d{i + 1}"} for k in "ab"}} for i in range(14)}
    tool = kept(Tool("f", None, {"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": {**defs, "d14": {}}}))
    assert len(json.dumps(tool.parameters)) < 200_000


def test_a_tool_without_parameters_is_left_alone() -> None:
    assert kept(TOOLS[1]) is TOOLS[1]
