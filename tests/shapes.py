"""Checks answers against OpenAI's own schemas (`shapes.json`, the part of its OpenAPI document that we serve)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema_rs

__all__ = ["check", "check_event", "properties"]

FILE = Path(__file__).with_name("shapes.json")


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = _nullable(json.loads(FILE.read_bytes()))
    schemas = document["components"]["schemas"]
    schemas["ErrorResponse"] = {
        "type": "object",
        "properties": {"error": {"$ref": "#/components/schemas/Error"}},
        "required": ["error"],
    }
    # The API streams calls of custom tools too; its schema knows only functions.
    schemas["ChatCompletionMessageToolCallChunk"]["properties"]["type"]["enum"].append("custom")
    # What the live API sends and its document does not know: `user` unset, no usage as long as there is none, formats
    # without a description, and more codes of failures.
    usage = schemas["Response"]["allOf"][2]["properties"]
    usage["usage"] = {"anyOf": [usage["usage"], {"type": "null"}]}
    schemas["ModelResponseProperties"]["properties"]["user"] = {"type": ["string", "null"]}
    schemas["TextResponseFormatJsonSchema"]["properties"]["description"]["type"] = ["string", "null"]
    schemas["ResponseErrorCode"]["enum"] += ["context_length_exceeded", "server_is_overloaded"]
    return document


def _nullable(value: Any) -> Any:
    """Rewrite OpenAPI 3.0's `nullable`, which OpenAI's 3.1 document still uses, to JSON Schema."""
    if isinstance(value, list):
        return [_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {key: _nullable(item) for key, item in value.items() if key != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if value.get("nullable") is True else rest


@functools.cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**_document(), "$ref": f"#/components/schemas/{name}"})


def check(name: str, value: Any) -> None:
    """Raise AssertionError unless `value` (JSON, decoded or bytes) fits OpenAI's schema `name`."""
    if isinstance(value, bytes | str):
        value = json.loads(value)
    problems = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in _validator(name).iter_errors(value)
    ]
    assert not problems, f"not a {name}: {problems}"


def check_event(event: dict[str, Any]) -> None:
    """Raise AssertionError unless an event of a response's stream fits the schema of its type."""
    name = _events().get(event["type"])
    assert name is not None, f"OpenAI has no event {event['type']}"
    check(name, event)


@functools.cache
def _events() -> dict[str, str]:
    """Return the names of the schemas of events, by their types."""
    schemas = _document()["components"]["schemas"]
    names = [each["$ref"].rpartition("/")[2] for each in schemas["ResponseStreamEvent"]["anyOf"]]
    return {word: name for name in names for word in schemas[name]["properties"]["type"]["enum"]}


def properties(name: str) -> set[str]:
    """Return the names of all properties of a schema, those of `allOf` included."""
    schemas = _document()["components"]["schemas"]

    def names(schema: dict[str, Any]) -> set[str]:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
        found = set(schema.get("properties", ()))
        for part in schema.get("allOf", ()):
            found |= names(part)
        return found

    return names({"$ref": f"#/components/schemas/{name}"})
