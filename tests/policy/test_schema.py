"""Schemas: refused with their place, never fetched, never hanging; answers checked against them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.errors import Invalid
from ollama_proxy.events import Event, Finish, Note, Text, ToolDelta, ToolStart
from ollama_proxy.model import Format, Tool
from ollama_proxy.policy.schema import Checker, SchemaCheck, ToolCheck, check_format, check_schema, check_tools
from ollama_proxy.policy.unfold import Unsound


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def check(schema: dict[str, Any], *, strict: bool = False) -> Checker:
    return check_schema(schema, "response_format 'x'", strict=strict, param="response_format")


def refusal(schema: dict[str, Any], *, strict: bool = False) -> str:
    with pytest.raises(Invalid) as caught:
        check(schema, strict=strict)
    assert caught.value.param == "response_format"
    assert caught.value.message.startswith("Invalid schema for response_format 'x': ")
    return caught.value.message.removeprefix("Invalid schema for response_format 'x': ")


CLOSED = "'additionalProperties' is required to be supplied and to be false."
REQUIRED = "In context=(), 'required' is required to be supplied and to be an array including every key in properties."
STRICT_CASES = {
    "no additionalProperties": (
        obj(a={"type": "object", "properties": {}}),
        "In context=('properties', 'a'), 'additionalProperties' is required to be supplied and to be false.",
    ),
    "not all required": (
        {**obj(a={"type": "string"}), "required": []},
        REQUIRED + " Missing 'a'.",
    ),
    "too many required": (
        {**obj(a={"type": "string"}), "required": ["a", "b"]},
        REQUIRED + " Extra required key 'b' supplied.",
    ),
    "root no object": (
        {"type": "array", "items": {}},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'.",
    ),
    "root without type": ({}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
    "array without items": (obj(a={"type": "array"}), "In context=('properties', 'a'), array schema missing items."),
    "in a list of choices": (
        obj(a={"anyOf": [{"type": "null"}, {"type": "object"}]}),
        "In context=('properties', 'a', 'anyOf', 1), " + CLOSED,
    ),
    "in definitions": (
        {**obj(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"type": ["object", "null"]}}},
        "In context=('$defs', 'b'), 'additionalProperties' is required to be supplied and to be false.",
    ),
    "anyOf at the root": ({**obj(), "anyOf": [{}]}, "In context=(), 'anyOf' is not permitted at the root."),
}


@pytest.mark.parametrize("case", STRICT_CASES)
def test_strict_mode_names_the_place(case: str) -> None:
    schema, message = STRICT_CASES[case]
    assert refusal(schema, strict=True) == message


def test_a_sound_strict_schema_passes() -> None:
    schema = {**obj(a={"anyOf": [{"$ref": "#"}, {"type": "null"}]}, b={"type": "array", "items": obj()})}
    assert check(schema, strict=True).miss('{"a": null, "b": [{}]}') is None


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "foo"}, "('type',)"),
        ({"properties": {"a": {"type": "strin"}}}, "('properties', 'a', 'type')"),
        ({"properties": []}, "('properties',)"),
        ({"properties": {"a": {"pattern": "(("}}}, "('properties', 'a', 'pattern')"),
        ({"required": "a"}, "('required',)"),
        ({"properties": {"a": {"$ref": "http://localhost/x"}}}, "('properties', 'a')"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "('properties', 'a')"),
        ({"properties": {"a": {"$ref": "#anchor"}}}, "('properties', 'a')"),
        ({"items": {"$dynamicRef": "#x"}}, "('items',)"),
        ({"items": {"$id": "http://x/"}}, "('items',)"),
        ({"$ref": "#"}, "('$ref',)"),
    ],
)
def test_unsound_schemas_are_refused_with_their_place(schema: dict[str, Any], place: str) -> None:
    assert f"In context={place}, " in refusal(schema)


def test_a_circle_on_one_value_is_found_wherever_it_begins() -> None:
    schema = {
        "properties": {"q": {"$ref": "#/$defs/a"}},
        "$defs": {
            "a": {"properties": {"q": {"$ref": "#/$defs/b"}}, "anyOf": [{"$ref": "#/$defs/b"}]},
            "b": {"allOf": [{"$ref": "#/$defs/a"}]},
        },
    }
    assert "leads back to itself" in refusal(schema)


def test_references_that_unfold_without_measure_are_refused() -> None:
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    assert "unfold to too much" in refusal({"$ref": "#/$defs/d0", "$defs": {**defs, "d40": {}}})


def test_a_long_chain_of_references_is_refused() -> None:
    defs: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3000)}
    assert "levels" in refusal({"$ref": "#/$defs/d0", "$defs": {**defs, "d3000": {}}})


def test_large_schemas_are_refused() -> None:
    assert "too large" in refusal({"enum": list(range(30_000))})
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"items": deep}
    assert "too large" in refusal(deep)


def test_a_recursive_schema_with_branches_is_not_tried_on_a_deep_document() -> None:
    checker = check({"type": "object", "allOf": [{"properties": {"x": {"$ref": "#"}}}] * 3})
    assert checker.miss('{"x": {"x": 1}}') is not None
    assert checker.miss('{"x":' * 60 + "1" + "}" * 60) is None


def test_a_pattern_that_backtracks_ends() -> None:
    checker = check({"properties": {"a": {"pattern": r"^(?=(a+)+$)(a|a)*(\w)\3$"}}})
    assert checker.miss(json.dumps({"a": "a" * 60 + "!"})) is not None


def test_other_drafts_and_their_addresses_are_understood_without_fetching() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://x/y", "items": [{"type": "string"}]}
    assert check(schema).miss("[1]") is not None
    assert check({"$schema": "http://unknown.example/schema", "type": "object"}).miss("{}") is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": "x"}', None),
        ('{"a": 1}', "a: "),
        ('{"l": [{"b": 1}]}', "l[0].b: "),
        ("[]", "answer: "),
        ("{", "not JSON: "),
        ("", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("1" * 5000, "not JSON: "),
    ],
)
def test_a_miss_says_where_and_what(text: str, where: str | None) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"},
                                              "l": {"items": {"properties": {"b": {"type": "null"}}}}}}  # fmt: skip
    miss = check(schema).miss(text)
    assert miss is None if where is None else (miss is not None and miss.startswith(where))


def test_tools_are_refused_by_name_and_place() -> None:
    tools = (Tool("ok"), Tool("f", parameters={"type": "object", "properties": {"a": 1}}))
    with pytest.raises(Invalid, match="Invalid schema for function 'f': In context=") as caught:
        check_tools(tools)
    assert (caught.value.param, caught.value.code) == ("tools[1].function.parameters", "invalid_function_parameters")
    with pytest.raises(Invalid) as caught:
        check_tools(tools, legacy=True)
    assert caught.value.param == "functions[1].parameters"
    with pytest.raises(Invalid, match="got 'type: \"string\"'"):
        check_tools([Tool("f", parameters={"type": "string"})])
    with pytest.raises(Invalid, match="additionalProperties"):
        check_tools([Tool("f", parameters={"type": "object", "properties": {}}, strict=True)])


def test_formats_have_checkers() -> None:
    assert check_format(Format()) is None
    json_object = check_format(Format("json"))
    assert json_object is not None
    assert json_object.miss("{}") is None
    assert json_object.miss("[]") is not None
    with pytest.raises(Invalid) as caught:
        check_format(Format("schema", schema={"type": "x"}, strict=True))
    assert caught.value.param == "format"


def run(filter: SchemaCheck | ToolCheck, events: list[Event]) -> list[Event]:
    whole = filter.feed(events)
    return whole + filter.flush()


def test_an_answer_that_fits_is_let_through_unchanged() -> None:
    events: list[Event] = [Text(0, '{"a"'), Text(0, ": 1}"), Finish(0, "stop")]
    assert run(SchemaCheck(check(obj(a={"type": "integer"}))), events) == events


def test_a_miss_is_visible() -> None:
    out = run(SchemaCheck(check(obj(a={"type": "integer"}))), [Text(0, '{"a": "x"}'), Finish(0, "stop")])
    assert out[0] == Text(0, '{"a": "x"}')
    assert isinstance(out[1], Note)
    assert out[1].values["schema_miss"].startswith("a: ")
    assert out[2] == Finish(0, "content_filter")


def test_an_answer_cut_by_the_length_stays_one_but_is_noted() -> None:
    out = run(SchemaCheck(Checker({"type": "object"})), [Text(0, '{"a": '), Finish(0, "length")])
    assert isinstance(out[1], Note)
    assert out[2] == Finish(0, "length")


def test_a_tool_call_is_no_miss_of_the_format() -> None:
    events: list[Event] = [ToolStart(0, 0, "", "f"), ToolDelta(0, 0, "{}"), Finish(0, "tool_calls")]
    assert run(SchemaCheck(Checker({"type": "object"})), events) == events


def test_arguments_that_do_not_fit_are_noted_by_function() -> None:
    checkers = check_tools([Tool("f", parameters=obj(a={"type": "integer", "minimum": 3})), Tool("g")])
    events: list[Event] = [
        ToolStart(0, 0, "", "f"), ToolDelta(0, 0, '{"a"'), ToolStart(0, 1, "", "g"), ToolDelta(0, 1, "nonsense"),
        ToolDelta(0, 0, ":2}"), Finish(0, "tool_calls"),
    ]  # fmt: skip
    out = run(ToolCheck(checkers), events)
    note = out.pop(-2)
    assert out == events
    assert isinstance(note, Note)
    assert note.values["tool_miss"] == "f: a: 2 is less than the minimum of 3"


# --- patterns as JavaScript has them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^[\w-\.]+@([\w-]+\.)+[\w-]{2,4}$", ["a.b-c@d.org"], ["a@b", "@b.org"]),
        (r"^[a-\d]$", ["a", "-", "7"], ["b"]),
        ("^a{$", ["a{"], ["a"]),
        ("^a{,3}$", ["a{,3}"], ["aa"]),
        ("^[^]$", ["x", "\n"], [""]),
        (r"^\0$", ["\0"], ["0"]),
        (r"^[\b]$", ["\b"], ["b"]),
        (r"^\uD83D\uDE00$", ["😀"], ["a"]),
        (r"^(?<q>'|\")x\k<q>$", ["'x'", "'x\""], ["x"]),
        ("^.{1,100000}$", ["a", "a" * 2000], [""]),
        (r"a|^[\w-.]$", ["xax", "-"], ["bb"]),
    ],
)
def test_a_pattern_that_only_javascript_reads_is_checked_too(pattern: str, good: list[str], bad: list[str]) -> None:
    checker = Checker({"type": "string", "pattern": pattern})
    assert [text for text in good if checker.miss_value(text) is not None] == []
    assert [text for text in bad if checker.miss_value(text) is None] == []


def test_names_of_members_may_be_such_patterns() -> None:
    checker = Checker({"patternProperties": {r"^[\w-.]+$": {"type": "integer"}}, "additionalProperties": False})
    assert checker.miss_value({"a-b": 1}) is None
    assert checker.miss_value({"a-b": "x"}) is not None
    assert checker.miss_value({"a b": 1}) is not None


def test_data_that_looks_like_a_pattern_is_left_alone() -> None:
    checker = Checker({"properties": {"a": {"const": {"pattern": "[^]"}}, "b": {"pattern": "[^]"}}})
    assert checker.miss_value({"a": {"pattern": "[^]"}, "b": "x"}) is None


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "a{3,1}", "(?<=a"])
def test_what_is_no_pattern_anywhere_is_refused(pattern: str) -> None:
    with pytest.raises(Unsound, match="is not a"):
        Checker({"type": "string", "pattern": pattern})
