"""What OpenAI's strict mode asks of a JSON Schema. Pure.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["compatible", "faults"]

Json = Any
Path = tuple[str | int, ...]

# The keywords that strict mode knows, and its limits.
KNOWN = frozenset(
    {
        *("$schema", "$id", "$ref", "$defs", "$comment", "definitions", "title", "description"),
        *("type", "enum", "const", "anyOf"),
        *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
        *("pattern", "format", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
)
LEVELS = 10
PROPERTIES = 5000
# One of these must say what a value is.
TELLING = ("type", "$ref", "anyOf", "enum", "const")


def compatible(schema: Json) -> bool:
    """Return whether a function's parameters, sound or not, can be used in strict mode."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    todo: list[tuple[Json, int]] = [(schema, 1)]
    count = 0
    while todo:
        here, level = todo.pop()
        if not isinstance(here, dict) or here.keys() - KNOWN or not any(key in here for key in TELLING):
            return False
        shapes = (("required", list), ("anyOf", list), ("properties", dict), ("$defs", dict), ("definitions", dict))
        if any(key in here and not isinstance(here[key], kind) for key, kind in shapes):
            return False
        properties = _mapping(here.get("properties"))
        count += len(properties)
        deeper = level + (here.get("type") == "object" or "properties" in here)
        if level > LEVELS + 1 or count > PROPERTIES:
            return False
        todo += [(each, deeper) for each in properties.values()]
        todo += [(each, level) for each in here.get("anyOf") or ()]
        todo += [(each, 1) for key in ("$defs", "definitions") for each in _mapping(here.get(key)).values()]
        if "items" in here:
            todo.append((here["items"], level))
    return next(faults(schema), None) is None


def faults(schema: Mapping[str, Json]) -> Iterator[tuple[Path, str]]:
    """Yield what strict mode refuses in a sound schema: the place, and OpenAI's words."""
    if "anyOf" in schema:
        yield (), "'anyOf' is not permitted at the root."
    todo: list[tuple[Json, Path]] = [(schema, ())]
    while todo:
        here, path = todo.pop()
        if not isinstance(here, dict):
            continue
        kinds = here.get("type")
        if kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in here:
            yield from _of_object(here, path)
        if kinds == "array" and "items" not in here and "prefixItems" not in here:
            yield path, "array schema missing items."
        if "allOf" in here:
            yield path, "'allOf' is not permitted."
        for key in ("properties", "$defs", "definitions"):
            todo += [(each, (*path, key, name)) for name, each in _mapping(here.get(key)).items()]
        for key in ("anyOf", "oneOf", "prefixItems"):
            todo += [(each, (*path, key, place)) for place, each in enumerate(here.get(key) or ())]
        todo.append((here.get("items"), (*path, "items")))


def _of_object(schema: Mapping[str, Json], path: Path) -> Iterator[tuple[Path, str]]:
    if schema.get("additionalProperties") is not False:
        yield path, "'additionalProperties' is required to be supplied and to be false."
    properties = _mapping(schema.get("properties"))
    required = schema.get("required") or ()
    words = "'required' is required to be supplied and to be an array including every key in properties."
    for name in properties:
        if name not in required:
            yield path, f"{words} Missing '{name}'."
    for name in required:
        if name not in properties:
            yield path, f"{words} Extra required key '{name}' supplied."


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
