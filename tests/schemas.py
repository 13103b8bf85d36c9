"""JSON Schemas as clients send them (zod, pydantic, MCP servers, OpenAPI), one for each keyword that the grammar of a
backend may stumble over. Each is sound and can be met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SCHEMAS"]

TEXT = {"type": "string", "maxLength": 12}


def member(schema: Any) -> dict[str, Any]:
    """Return an object with one member of that schema."""
    return {"type": "object", "properties": {"v": schema}, "required": ["v"], "additionalProperties": False}


def pattern(text: str, **more: Any) -> dict[str, Any]:
    return member({"type": "string", "pattern": text, **more})


SCHEMAS: Mapping[str, dict[str, Any]] = {
    # --- strings ---
    "digits": pattern(r"^\d{4}-\d{2}$"),
    "words": pattern(r"^\w{1,5}\s\w{1,5}$"),
    "not-digits": pattern(r"^\D{2}\S{2}\W$"),
    "unanchored": pattern("[0-9]{2}", maxLength=6),
    "only-start": pattern("^ab"),
    "only-end": pattern("ab$"),
    "either-anchored": pattern("^ab|cd$"),
    "alternatives": pattern("^(red|green|blue)$"),
    "empty-alternative": pattern("^(a|)b$"),
    "not-at": pattern(r"^[^@]{1,5}@[a-z.]{1,5}$"),
    "dot": pattern("^.{1,4}$"),
    "quote": pattern('^"[a-z]"$'),
    "backslash": pattern(r"^C:\\[a-z]{2}$"),
    "slash": pattern(r"^\/[a-z]{1,3}\/$"),
    "line-end": pattern(r"^a\nb\t$"),
    "groups": pattern(r"^(?<y>\d{4})(?:-(?P<m>\d\d))?$"),
    "lazy": pattern("^a+?b{1,2}?$"),
    "nested": pattern("^([a-c]{2}(-[0-9])?){1,3}$"),
    "hex": pattern(r"^#[0-9A-Fa-f]{6}$"),
    "unicode": pattern(r"^[\u4e00-\u9fff\u00e9]{1,3}$"),
    "brackets": pattern(r"^\[[^\]]{1,3}\]\(\)$"),
    "class-dash": pattern(r"^[\w.+-]{1,6}$"),
    "semver": pattern(r"^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$"),
    "look-ahead": pattern(r"^(?=.*[A-Z])[A-Za-z]{3,5}$"),
    "back-reference": pattern(r"^(\w{1,3})=\1$"),
    "boundary": pattern(r"^\bab\b$"),
    "property": pattern(r"^\p{L}{1,4}$"),
    "sized-pattern": pattern("^[a-z]+$", minLength=2, maxLength=6),
    "empty-pattern": pattern("^$"),
    "many-copies": pattern("^[ab]{1,4000}$", maxLength=5),
    "email": member({"type": "string", "format": "email"}),
    "date": member({"type": "string", "format": "date"}),
    "ipv4": member({"type": "string", "format": "ipv4"}),
    "uri": member({**TEXT, "format": "uri"}),
    "lengths": member({"type": "string", "minLength": 2, "maxLength": 5}),
    "long": {"type": "object", "properties": {"v": {"type": "string", "maxLength": 100_000}}},
    # --- numbers ---
    "number-bounds": member({"type": "number", "minimum": 0, "maximum": 1}),
    "integer-bounds": member({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}),
    "odd-bounds": member({"type": "integer", "minimum": 0.5, "maximum": 9.5}),
    "large-bounds": member({"type": "integer", "minimum": -(10**30), "maximum": 10**30}),
    "draft-4-bounds": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        **member({"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 9}),
    },
    "multiple": member({"type": "integer", "minimum": 0, "maximum": 9, "multipleOf": 5}),
    # --- arrays ---
    "tuple": member({"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False}),
    "old-tuple": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **member({"type": "array", "items": [{"type": "boolean"}], "additionalItems": False}),
    },
    "long-tuple": member({"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "boolean"}, "maxItems": 3}),
    "no-items": member({"type": "array", "items": False}),
    "any-items": member({"type": "array", "maxItems": 0}),
    "unique": member({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "maxItems": 2}),
    "contains": member({"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 2}, "maxItems": 3}),
    "many-items": {"type": "object", "properties": {"v": {"type": "array", "items": {"const": 1}, "maxItems": 9000}}},
    # --- objects ---
    "map": member({"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 1}),
    "pattern-map": member({"type": "object", "patternProperties": {"^x": {"type": "boolean"}}, "maxProperties": 1}),
    "named-map": member({"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "boolean"}}),
    "unnamed-required": {"type": "object", "required": ["v"], "additionalProperties": {"type": "boolean"}},
    "counted": {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "minProperties": 1},
    "dependent": {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}},
        "dependentRequired": {"a": ["b"]},
    },
    "conditional": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"const": 2}},
        "required": ["a"],
        "if": {"properties": {"a": {"const": True}}},
        "then": {"required": ["b"]},
        "else": {"not": {"required": ["b"]}},
    },
    "unevaluated": {"allOf": [member({"type": "null"})], "unevaluatedProperties": False},
    "forbidden-member": {"type": "object", "properties": {"a": {"const": 1}, "b": False}, "required": ["a"]},
    # --- combinations ---
    "not": member({"type": "boolean", "not": {"const": True}}),
    "all-of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer", "maximum": 9, "minimum": 0}, "a": {"const": True}}},
        ],
        "required": ["b"],
    },
    "any-of-beside": {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "one-of": {
        "oneOf": [member({"const": 1}), {"type": "object", "properties": {"w": {"const": 2}}, "required": ["w"]}]
    },
    "all-of-any-of": {"allOf": [{"anyOf": [member({"const": 1}), member({"const": 2})]}, member({"type": "integer"})]},
    # --- values of any type ---
    "consts": member({"const": {"a": [1, None, 'x"y']}}),
    "mixed-enum": member({"enum": ["a", 1, None, True, {"b": []}]}),
    "typed-enum": member({"type": "string", "enum": ["a", "b"]}),
    "types": member({"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
    "nullable": member({"type": "boolean", "nullable": True}),
    "described-only": {"type": "object", "properties": {"v": {"description": "anything"}}},
    "empty": {"type": "object", "properties": {"v": {}}},
    "true": {"type": "object", "properties": {"v": True}},
    "untyped": {"properties": {"v": {"type": "boolean"}}, "required": ["v"]},
    # --- references ---
    "defs": {**member({"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "boolean"}}},
    "definitions": {**member({"$ref": "#/definitions/a~1b"}), "definitions": {"a/b": {"type": "boolean"}}},
    "anchor": {**member({"$ref": "#n"}), "$defs": {"x": {"$anchor": "n", "type": "boolean"}}},
    "into-properties": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"$ref": "#/properties/a"}},
        "required": ["a", "b"],
    },
    "reference-beside": {
        **member({"$ref": "#/$defs/n", "maximum": 3, "description": "few"}),
        "$defs": {"n": {"type": "integer", "minimum": 0}},
    },
    "recursive": {
        "type": "object",
        "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["v"],
    },
    "recursive-all-of": {
        "$defs": {"n": {"type": "object", "properties": {"v": {"const": 1}, "c": {"allOf": [{"$ref": "#/$defs/n"}]}}}},
        "$ref": "#/$defs/n",
        "required": ["v"],
    },
}
