"""What a backend drops from the schemas of tools, said in other ways. Pure.

Ollama keeps type, items, properties and required of a tool's parameters (of each property also anyOf, description and
enum) and drops all else on reading (https://github.com/ollama/ollama/issues/11444). What can be said with these is; the
rest is put into words in the descriptions, which reach the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ..model import Tool
from .grammar import short, target

__all__ = ["kept"]

Json = Any

TOLD = (
    "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties",
    "dependentRequired", "contentEncoding", "contentMediaType", "default", "examples",
)  # fmt: skip
# The same of those that hold schemas, lists of schemas or schemas by name: these are put into kept keywords first.
TOLD_SCHEMAS = (
    "additionalProperties", "patternProperties", "propertyNames", "prefixItems", "additionalItems", "contains", "not",
    "if", "then", "else", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
NAMED = ("patternProperties", "dependentSchemas", "dependencies")
# Of a schema in words, so many characters are told.
LONG = 1000
# Where further alternatives are kept that `allOf` brings together.
ALSO = ("anyOf 2", "anyOf 3", "anyOf 4")
# References are written out up to so many subschemas; a document that needs more is told less.
BUDGET = 2000


def kept(tool: Tool) -> Tool:
    """Return a tool that loses little on its way through Ollama. Its parameters must be sound (`schema.py`)."""
    if not tool.parameters:
        return tool
    parameters = _Writer(tool.parameters).write(tool.parameters, ())
    if choices := parameters.pop("anyOf", None):
        about = f"{parameters.get('description') or ''} (anyOf: {short(choices, LONG)})"
        parameters["description"] = about.strip()
    # At the root no description is read; the tool's own is.
    said = parameters.pop("description", None) if parameters != tool.parameters else None
    before = tool.parameters.get("description")
    if isinstance(said, str) and said != before:
        extra = said.removeprefix(before).strip() if isinstance(before, str) else said
        return replace(tool, parameters=parameters, description=f"{tool.description or ''} {extra}".strip())
    return replace(tool, parameters=parameters)


class _Writer:
    def __init__(self, root: Mapping[str, Json]) -> None:
        self._root = root
        self._left = BUDGET

    def write(self, schema: Json, open: tuple[str, ...]) -> dict[str, Json]:
        """Return `schema` in the keywords that are kept. `open` are the references that led here."""
        if not isinstance(schema, dict):
            return {} if schema is not False else {"description": "(not allowed)"}
        self._left -= 1
        if (again := self._again(schema, open)) is not None:
            return again
        schema, open = self._resolved(schema, open)
        out = {key: schema[key] for key in ("type", "description", "enum", "required") if key in schema}
        if "const" in schema and "enum" not in out:
            out["enum"] = [schema["const"]]
        if isinstance(properties := schema.get("properties"), dict):
            out["properties"] = {name: self.write(each, open) for name, each in properties.items()}
        if isinstance(items := schema.get("items"), dict):
            out["items"] = self.write(items, open)
        unions = [(key, schema[key]) for key in ("anyOf", "oneOf", *ALSO) if isinstance(schema.get(key), list)]
        if unions:
            out["anyOf"] = [self.write(each, open) for each in unions[0][1]]
        told = [f"{key}: {short(schema[key])}" for key in TOLD if key in schema and schema[key] is not None]
        told += self._schemas_told(schema, open)
        told += [f"and anyOf: {short([self.write(each, open) for each in union], LONG)}" for _, union in unions[1:]]
        if told:
            out["description"] = f"{out.get('description') or ''} ({', '.join(told)})".strip()
        return out

    def _schemas_told(self, schema: Mapping[str, Json], open: tuple[str, ...]) -> list[str]:
        """Return in words the keywords that hold schemas."""
        told = []
        if isinstance(tuple_ := schema.get("items"), list):
            told.append(f"items: {short([self.write(each, open) for each in tuple_], LONG)}")
        for key in TOLD_SCHEMAS:
            match value := schema.get(key):
                case dict() if key in NAMED:
                    value = {name: self.write(each, open) for name, each in value.items() if isinstance(each, dict)}
                case dict():
                    value = self.write(value, open)
                case list():
                    value = [self.write(each, open) for each in value]
            # What is merely open, or closed, says nothing that a model needs to know.
            if value not in (None, True, False, {}, []):
                told.append(f"{key}: {short(value, LONG)}")
        return told

    def _again(self, schema: Mapping[str, Json], open: tuple[str, ...]) -> dict[str, Json] | None:
        """Return what stands for a reference that leads back, or for one too many; None for others."""
        ref = schema.get("$ref")
        if not isinstance(ref, str) or (ref not in open and self._left > 0):
            return None
        found = target(self._root, ref)
        name = "the whole" if ref == "#" else f"'{ref.rpartition('/')[2].lstrip('#')}'"
        out: dict[str, Json] = {}
        if isinstance(found, dict) and "type" in found:
            out["type"] = found["type"]
        about = schema.get("description") or ""
        out["description"] = f"{about} (the same form as {name})".strip()
        return out

    def _resolved(
        self, schema: Mapping[str, Json], open: tuple[str, ...]
    ) -> tuple[Mapping[str, Json], tuple[str, ...]]:
        """Return `schema` with what its `$ref` and `allOf` say merged into it; its own words win."""
        parts: list[Mapping[str, Json]] = []
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in open and self._left > 0:
            open = (*open, ref)
            if isinstance(found := target(self._root, ref), dict):
                found, open = self._resolved(found, open)
                parts.append(found)
        for each in schema.get("allOf") or ():
            if isinstance(each, dict):
                each, open = self._resolved(each, open)
                parts.append(each)
        merged: dict[str, Json] = {}
        for part in (*parts, {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}):
            for key, value in part.items():
                place = key
                if key in ("anyOf", "oneOf") and key in merged:
                    place = next((each for each in ALSO if each not in merged), key)
                merged[place] = _both(key, merged.get(place), value)
        return merged, open


def _both(key: str, first: Json, second: Json) -> Json:
    match key, first, second:
        case "properties", dict(), dict():
            return {**first, **second}
        case "required", list(), list():
            return list(dict.fromkeys([*first, *second]))
        case "enum", list(), list():
            return [each for each in second if each in first]
    return second
