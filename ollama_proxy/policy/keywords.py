"""What a backend drops from the schemas of tools, said in other ways. Pure.

Ollama keeps type, anyOf, items, description, enum, properties and required of a tool's parameters and drops all else on
reading (https://github.com/ollama/ollama/issues/11444). What can be said with these is; the rest is put into words in
the descriptions, which reach the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from ..model import Tool

__all__ = ["kept"]

Json = Any

TOLD = (
    "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "default", "examples", "not",
)  # fmt: skip
# References are written out up to so many subschemas; a document that needs more is told less.
BUDGET = 2000


def kept(tool: Tool) -> Tool:
    """Return a tool that loses little on its way through Ollama. Its parameters must be sound (`schema.py`)."""
    if not tool.parameters:
        return tool
    parameters = _Writer(tool.parameters).write(tool.parameters, ())
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
            return {}
        self._left -= 1
        schema, open = self._resolved(schema, open)
        out = {key: schema[key] for key in ("type", "description", "enum", "required") if key in schema}
        if "const" in schema and "enum" not in out:
            out["enum"] = [schema["const"]]
        if isinstance(properties := schema.get("properties"), dict):
            out["properties"] = {name: self.write(each, open) for name, each in properties.items()}
        if isinstance(items := schema.get("items"), dict):
            out["items"] = self.write(items, open)
        choices = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(choices, list):
            out["anyOf"] = [self.write(each, open) for each in choices]
        told = [f"{key}: {_short(schema[key])}" for key in TOLD if key in schema and schema[key] is not None]
        if told:
            out["description"] = f"{out.get('description') or ''} ({', '.join(told)})".strip()
        return out

    def _resolved(
        self, schema: Mapping[str, Json], open: tuple[str, ...]
    ) -> tuple[Mapping[str, Json], tuple[str, ...]]:
        """Return `schema` with what its `$ref` and `allOf` say merged into it; its own words win."""
        parts: list[Mapping[str, Json]] = []
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in open and self._left > 0:
            open = (*open, ref)
            if isinstance(target := self._target(ref), dict):
                target, open = self._resolved(target, open)
                parts.append(target)
        for each in schema.get("allOf") or ():
            if isinstance(each, dict):
                each, open = self._resolved(each, open)
                parts.append(each)
        merged: dict[str, Json] = {}
        for part in (*parts, {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}):
            for key, value in part.items():
                merged[key] = _both(key, merged.get(key), value)
        return merged, open

    def _target(self, ref: str) -> Json:
        here: Json = self._root
        for token in ref.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            here = here.get(token) if isinstance(here, dict) else None
        return here


def _both(key: str, first: Json, second: Json) -> Json:
    match key, first, second:
        case "properties", dict(), dict():
            return {**first, **second}
        case "required", list(), list():
            return list(dict.fromkeys([*first, *second]))
    return second


def _short(value: Json) -> str:
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else value
    return text if len(text) <= 200 else f"{text[:200]}…"
