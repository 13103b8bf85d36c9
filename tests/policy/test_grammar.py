"""JSON Schemas in the part that llama.cpp's grammars take. `e2e/test_schemas.py` asks the real engines
for the same schemas."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from ollama_proxy.policy.grammar import ANYTHING, FORMATS, NOTES, write
from ollama_proxy.policy.schema import Checker
from ollama_proxy.policy.unfold import Unfolding, Unsound

from ..schemas import SCHEMAS, member

ANY = dict(ANYTHING)
# What llama.cpp reads beside each keyword; whatever else stands there it would ignore, or refuse.
BESIDE = {
    "$ref": set(),
    "anyOf": set(),
    "const": {"type"},
    "enum": {"type"},
    "properties": {"type", "required", "additionalProperties"},
    "additionalProperties": {"type", "required", "properties"},
    "required": {"type", "properties", "additionalProperties"},
    "items": {"type", "minItems", "maxItems"},
    "minItems": {"type", "items", "maxItems"},
    "maxItems": {"type", "items", "minItems"},
    "prefixItems": {"type"},
    "pattern": {"type", "format"},
    "format": {"type", "pattern"},
    "minLength": {"type", "maxLength"},
    "maxLength": {"type", "minLength"},
    "minimum": {"type", "maximum"},
    "maximum": {"type", "minimum"},
}


def complaints(schema: Any, root: dict[str, Any]) -> list[str]:
    """Return what llama.cpp would misread in a schema."""
    found = []
    rules = set(schema) - set(NOTES) - ({"$defs", "$schema"} if schema is root else set())
    if not rules:
        return ["says nothing"]
    for key in rules - {"type"}:
        if key not in BESIDE:
            found.append(f"unknown {key}")
        elif rules - {key} - BESIDE[key]:
            found.append(f"{key} beside {rules - {key} - BESIDE[key]}")
    kind = schema.get("type")
    if isinstance(kind, list) and rules != {"type"}:
        found.append("types beside others")
    if "$ref" in rules and schema["$ref"].removeprefix("#/$defs/") not in root.get("$defs", {}):
        found.append(f"no {schema['$ref']}")
    if "format" in rules and "pattern" not in rules and schema["format"] not in FORMATS:
        found.append("unknown format")
    if kind == "number" and {"minimum", "maximum"} & rules:
        found.append("bounds of decimals")
    if {"minItems", "maxItems"} & rules and "items" not in rules:
        found.append("items are missing")
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    inner += schema.get("$defs", {}).values()
    for each in inner:
        found += complaints(each, root)
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_put_in_the_part_that_llama_cpp_reads_right(name: str) -> None:
    before = json.dumps(SCHEMAS[name])
    written = dict(write(SCHEMAS[name]).schema)
    assert complaints(written, written) == []
    Unfolding(written)
    Checker(written)
    assert json.dumps(SCHEMAS[name]) == before, "the client's own schema is not changed"


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_written_once_is_written_the_same_again(name: str) -> None:
    written = write(SCHEMAS[name]).schema
    if "pattern" not in json.dumps(written):
        assert write(written).schema == written


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "description": "x"}}, "required": ["a"]},
        member({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 5}, "minItems": 1}),
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **member({"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}], "default": None, "title": "V"}),
            "$defs": {"N": member({"type": "string"})},
        },
        {"type": "object"},
        {},
    ],
)
def test_a_schema_in_that_part_already_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert write(schema) == (schema, ())


@pytest.mark.parametrize(
    ("schema", "expected", "untold"),
    [
        ({"type": "string", "pattern": r"^\d+$"}, {"type": "string", "pattern": "^([0-9]+)$"}, []),
        ({"type": "string", "pattern": r"^(?!a)b$"}, {"type": "string", "pattern": "^([b])$"}, [r"pattern: ^(?!a)b$"]),
        ({"type": "string", "pattern": "("}, {"type": "string"}, ["pattern: ("]),
        ({"type": "string", "pattern": "^$"}, {"type": "string", "const": ""}, []),
        ({"type": "string", "pattern": "a", "minLength": 2}, None, ["minLength: 2"]),
        ({"type": "string", "maxLength": 5000}, {"type": "string"}, ["maxLength: 5000"]),
        ({"type": "string", "format": "uri"}, {"type": "string"}, ["format: uri"]),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}, []),
        ({"type": "number", "minimum": 0}, {"type": "number"}, ["minimum: 0"]),
        ({"type": "number", "minimum": 5, "exclusiveMinimum": True}, None, ["minimum: 5", "exclusiveMinimum: true"]),
        ({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 3},
         {"type": "integer", "minimum": 1, "maximum": 2}, []),
        ({"type": "integer", "multipleOf": 5}, {"type": "integer"}, ["multipleOf: 5"]),
        ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 12}, {"type": "integer", "enum": [5, 10]}, []),
        ({"const": 3}, {"const": 3}, []),
        ({"enum": [1, "a", None], "type": ["string", "null"]}, {"enum": ["a", None]}, []),
        ({"enum": [True, 1], "type": "integer"}, {"type": "integer", "const": 1}, []),
        ({"description": "x"}, {"description": "x", **ANY}, []),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}, []),
        ({"minLength": 2}, {"type": "string", "minLength": 2}, []),
        ({"type": "array", "uniqueItems": True}, {"type": "array"}, ["uniqueItems: true"]),
        ({"type": "array", "items": False}, {"type": "array", "items": ANY, "maxItems": 0}, []),
        ({"not": {"const": 1}}, ANY, ['not: {"const":1}']),
        ({"type": "object", "patternProperties": {"^x": False}, "additionalProperties": False},
         {"type": "object", "additionalProperties": False}, ['names of members: ["^x"]']),
        ({"allOf": [{"type": "integer"}, {"type": "number", "minimum": 2}, {"minimum": 1}]},
         {"type": "integer", "minimum": 2}, []),
        ({"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, {"const": "b"}, []),
        ({"type": "object", "properties": {"a": {}}, "minProperties": 1},
         {"type": "object", "properties": {"a": ANY}}, ["minProperties: 1"]),
        ({"type": "object", "required": ["a"]}, {"type": "object", "properties": {"a": ANY}, "required": ["a"]}, []),
        ({"anyOf": [False, {"type": "null"}]}, {"type": "null"}, []),
        ({"anyOf": [True, {"type": "null"}], "type": "string"}, {"type": "string"}, []),
    ],
)  # fmt: skip
def test_a_keyword_is_written_or_told(
    schema: dict[str, Any], expected: dict[str, Any] | None, untold: list[str]
) -> None:
    written = write(member(schema))
    if expected is not None:
        assert written.schema["properties"]["v"] == expected
    assert [words for _, words in written.untold] == untold
    assert {path for path, _ in written.untold} <= {".v"}


def test_what_stands_beside_alternatives_holds_for_each_of_them() -> None:
    written = write(SCHEMAS["any-of-beside"]).schema
    assert [each["required"] for each in written["anyOf"]] == [["a"], ["b"]]
    assert all(set(each["properties"]) == {"a", "b"} for each in written["anyOf"])


def test_too_many_products_of_alternatives_are_told() -> None:
    def either(name: str) -> dict[str, Any]:
        return {"anyOf": [{"properties": {name: {"const": value}}, "required": [name]} for value in range(9)]}

    written = write({"type": "object", "allOf": [either("a"), either("b"), either("c")]})
    assert len(written.untold) == 2
    assert len(written.schema["anyOf"]) == 9


def test_a_schema_that_nothing_fits_is_left_to_the_check() -> None:
    assert write({"allOf": [{"type": "string"}, {"type": "null"}]}).schema == {"type": "object"}


def test_a_schema_that_mixes_itself_anew_at_every_level_comes_to_an_end() -> None:
    node = {"type": "object", "properties": {name: {"allOf": [{"$ref": "#"}, {"title": name}]} for name in "abc"}}
    written = dict(write(node).schema)
    assert complaints(written, written) == []
    mixed = {**node, "properties": {n: {"$ref": "#", "required": [n]} for n in "abc"}}
    assert len(json.dumps(write(mixed).schema)) < 2_000_000


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {"minLength": number}}} for number in range(1500)]},
        {"allOf": [{"items": {"minimum": number}} for number in range(1500)]},
        {"allOf": [{"$ref": "#/$defs/w"}] * 200, "$defs": {"w": {"properties": {f"p{n}": {} for n in range(200)}}}},
        {"$defs": {"n": {"allOf": [{"properties": {k: {"$ref": "#/$defs/n", "title": k} for k in "abcdefgh"}}] * 9}},
         "$ref": "#/$defs/n"},
        {"$defs": {"n": {"allOf": [
            {"properties": {k: {"$ref": "#/$defs/n", "title": f"{k}{n}"} for k in "abcdefgh"}} for n in range(9)
        ]}}, "$ref": "#/$defs/n"},
        {"anyOf": [{"anyOf": [{"anyOf": [{"const": n} for n in range(30)]}] * 5}] * 5, "type": "integer"},
    ],
)  # fmt: skip
def test_a_schema_made_to_grow_comes_to_an_end(schema: dict[str, Any]) -> None:
    written = dict(write(schema).schema)
    assert complaints(written, written) == []


def test_for_a_reader_what_is_left_out_stands_in_the_descriptions() -> None:
    schema = member({"type": "string", "pattern": r"^\d$", "description": "A digit"})
    written = write(schema, inline=True).schema["properties"]["v"]
    assert written["description"] == r"A digit (pattern: ^\d$)"
    number = write(member({"type": "number", "minimum": 0}), inline=True).schema["properties"]["v"]
    assert number["description"] == "(minimum: 0)"


# --- what fits the form fits the schema -------------------------------------------------------------------------------

LEAVES: tuple[dict[str, Any], ...] = (
    {},
    {"type": "string"},
    {"type": "integer"},
    {"const": 1},
    {"enum": ["a", 1, None]},
    {"$ref": "#/$defs/n"},
)
# A keyword, how often it is there, and what it may say; a function gets the means to make a schema.
KEYWORDS: tuple[tuple[str, float, Any], ...] = (
    ("type", 0.6, ("object", "array", "string", "number", "integer", ["string", "null"], ["object", "array"])),
    ("properties", 0.4, lambda make: {name: make() for name in "abc"}),
    ("required", 0.25, ([], ["a"], ["b", "c"])),
    ("additionalProperties", 0.2, lambda make: make()),
    ("items", 0.2, lambda make: make()),
    ("prefixItems", 0.15, lambda make: [make(), make()]),
    ("minItems", 0.1, (0, 1, 2)),
    ("maxItems", 0.1, (0, 1, 3)),
    ("minimum", 0.1, (0, 1.5)),
    ("exclusiveMaximum", 0.1, (5,)),
    ("minLength", 0.1, (1, 2)),
    ("maxLength", 0.1, (1, 3)),
    ("pattern", 0.1, ("^a", "^[a-z]+$", "b")),
    ("enum", 0.05, ([1, "a", None, {}], [2.5, [1], True])),
    ("const", 0.05, (2, "ab", {"a": 1})),
    ("anyOf", 0.15, lambda make: [make(), make()]),
    ("allOf", 0.15, lambda make: [make(), make()]),
    ("propertyNames", 0.05, ({"enum": ["a", "b"]}, {"pattern": "^a"})),
    ("patternProperties", 0.07, lambda make: {"^a": make()}),
    ("uniqueItems", 0.05, (True,)),
    ("not", 0.03, ({"const": 1},)),
    ("$ref", 0.07, ("#/$defs/n",)),
)


def made(dice: Random, depth: int) -> dict[str, Any]:
    if depth == 0 or dice.random() < 0.1:
        return dict(dice.choice(LEAVES))
    return {
        key: says(lambda: made(dice, depth - 1)) if callable(says) else dice.choice(says)
        for key, often, says in KEYWORDS
        if dice.random() < often
    }


def value(dice: Random, depth: int = 3) -> Any:
    kind = dice.randrange(7 if depth else 4)
    if kind < 4:
        return dice.choice((None, True, False, -2, 0, 1, 2, 3, 5, 0.5, 2.5, "", "a", "ab", "abc", "x1"))
    if kind < 6:
        return {name: value(dice, depth - 1) for name in dice.sample("abc", dice.randrange(4))}
    return [value(dice, depth - 1) for _ in range(dice.randrange(4))]


def closed(schema: Any) -> Any:
    """Return a form as llama.cpp means it: objects have no other members, tuples all of their items."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: each if key in ("const", "enum") else closed(each) for key, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        out.setdefault("additionalProperties", False)
    if "prefixItems" in out:
        out |= {"minItems": len(out["prefixItems"]), "maxItems": len(out["prefixItems"])}
    return out


@pytest.mark.parametrize("seed", range(20))
def test_what_fits_the_form_fits_the_schema_unless_it_was_told(seed: int) -> None:
    dice, tried = Random(seed), 0
    for _ in range(60):
        schema = {**made(dice, 3), "$defs": {"n": made(dice, 1)}}
        try:
            Unfolding(schema)
            original = Checker(schema)
        except Unsound:
            continue
        form = write(schema)
        written = dict(form.schema)
        assert complaints(written, written) == []
        if form.untold or form.schema == {"type": "object"} or ANY in form.schema.get("$defs", {}).values():
            # Something is told, or nothing at all fits.
            continue
        checker = Checker(closed(form.schema))
        fitting = [each for each in (value(dice) for _ in range(40)) if checker.miss_value(each) is None]
        assert [(schema, each) for each in fitting if original.miss_value(each) is not None] == []
        tried += len(fitting)
    assert tried
