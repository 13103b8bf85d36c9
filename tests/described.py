"""The API's description as tests use it: valid and invalid values made from its schemas, and answers checked by them.

Values come from Hypothesis without chance: the same ones in every run.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ollama_proxy.server.door import access_of
from ollama_proxy.server.routes import ROUTES
from ollama_proxy.translate.openapi import document

__all__ = ["DOCUMENT", "is_valid", "mutated", "problems", "samples", "values"]

Schema = dict[str, Any]
Values = st.SearchStrategy[Any]

# As it is served.
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document([row.route for row in ROUTES], "1", access_of)))
REF = "#/components/schemas/"
# What msgspec's integers are.
LOW, HIGH = -(2**63), 2**63 - 1
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.just(2.5) | TEXT
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4
)


# --- checking ---------------------------------------------------------------------------------------------------------


def problems(schema: Schema, value: Any) -> list[str]:
    """Return what of a value does not fit a schema of the document."""
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message[:200]}"
        for error in _validator(json.dumps(schema)).iter_errors(value)
    ]


def is_valid(schema: Schema, value: Any) -> bool:
    return bool(_validator(json.dumps(schema)).is_valid(value))


@functools.cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


# --- making -----------------------------------------------------------------------------------------------------------


def samples(made: Values, count: int) -> list[Any]:
    """Return `count` values or a few less, the same ones each time."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def resolved(schema: Schema) -> Schema:
    """Return a schema with its reference and its `allOf` put into one; a choice of `allOf` is made by the caller."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return merged(resolved(DOCUMENT["components"]["schemas"][schema["$ref"].removeprefix(REF)]), rest)
    parts = schema.get("allOf", ())
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        whole = merged(whole, resolved(part))
    return whole


def merged(one: Schema, other: Schema) -> Schema:
    properties = dict(one.get("properties", {}))
    for name, schema in other.get("properties", {}).items():
        # The second narrows the first: a constant, or nothing at all.
        properties[name] = (
            schema if not isinstance(schema, dict) or "not" not in schema else {**properties.get(name, {}), **schema}
        )
    required = list(dict.fromkeys([*one.get("required", ()), *other.get("required", ())]))
    both = {**one, **other}
    if properties:
        both |= {"properties": properties, "required": required}
    return both


@functools.cache
def _cached(text: str) -> Values:
    return _values(json.loads(text))


def values(schema: Schema) -> Values:
    """Return a strategy of values that fit a schema, for the part of JSON Schema that the document uses."""
    return st.deferred(lambda: _cached(json.dumps(schema))).filter(lambda value: is_valid(schema, value))


def _values(schema: Schema) -> Values:
    schema = resolved(schema)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "discriminator")}
        return st.one_of([_values(merged(rest, resolved(each))) for each in choices])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_values({**schema, "type": each}) for each in kind])
    return MAKERS[str(kind)](schema) if kind in MAKERS else JSON


def _integers(schema: Schema) -> Values:
    whole = st.integers(max(LOW, schema.get("minimum", -1000)), min(HIGH, schema.get("maximum", 100_000)))
    return whole | whole.filter(lambda number: abs(number) < 2**50).map(float)


def _numbers(schema: Schema) -> Values:
    low, high = schema.get("minimum", -1000), schema.get("maximum", 1000)
    return st.integers(int(low), int(high)) | st.floats(low, high, allow_nan=False, allow_infinity=False)


def _strings(schema: Schema) -> Values:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 12)
    if "pattern" in schema:
        high = schema.get("maxLength", 1000)
        return st.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: low <= len(text) <= high)
    return st.text(
        st.characters(codec="utf-8", exclude_characters="\0"), min_size=low, max_size=max(low, min(high, 12))
    )


def _arrays(schema: Schema) -> Values:
    low = schema.get("minItems", 0)
    item = values(schema["items"]) if "items" in schema else JSON
    return st.lists(item, min_size=low, max_size=max(low, min(schema.get("maxItems", 2), 2)))


def _objects(schema: Schema) -> Values:
    known = {name: each for name, each in schema.get("properties", {}).items() if each is not False}
    required = {name: values(known[name]) if known.get(name) else JSON for name in schema.get("required", ())}
    optional = {name: values(each) for name, each in known.items() if name not in required}
    extra: Values = st.just({})
    others = schema.get("additionalProperties", True)
    if isinstance(others, dict) and others:
        extra = st.dictionaries(TEXT, values(others), max_size=2)
    elif others is not False:
        extra = st.dictionaries(TEXT.map(lambda text: f"x-{text}"), JSON, max_size=1)
    # A few at a time: with all of them at once something always forbids another.
    chosen = st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True) if optional else st.just([])
    fixed = chosen.flatmap(
        lambda names: st.fixed_dictionaries({**required, **{name: optional[name] for name in names}})
    )
    return st.builds(lambda one, other: {**other, **one}, fixed, extra)


MAKERS: dict[str, Callable[[Schema], Values]] = {
    "integer": _integers,
    "number": _numbers,
    "string": _strings,
    "array": _arrays,
    "object": _objects,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}


def mutated(value: Any) -> Values:
    """Return a strategy of values that differ from this one in one place."""
    inside: Values
    if isinstance(value, dict) and value:
        name = st.sampled_from(sorted(value))
        inside = name.flatmap(lambda key: mutated(value[key]).map(lambda new: {**value, key: new}))
        without = name.map(lambda key: {other: each for other, each in value.items() if other != key})
        return JSON | inside | inside | inside | without
    if isinstance(value, list) and value:
        place = st.integers(0, len(value) - 1)
        inside = place.flatmap(lambda at: mutated(value[at]).map(lambda new: [*value[:at], new, *value[at + 1 :]]))
        return JSON | inside | inside | st.just(value * 40)
    if isinstance(value, str):
        return JSON | st.just(value * 100) | st.just("")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return JSON | st.sampled_from([value + 0.5, -value - 1, value * 1000 + 1e6])
    return JSON
