"""Which schemas can be used in OpenAI's strict mode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.policy.schema import check_schema
from ollama_proxy.strict import compatible, faults

from .schemas import SCHEMAS


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nested(levels: int) -> dict[str, Any]:
    return closed(v=nested(levels - 1) if levels > 1 else {"type": "string"})


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a={"type": "string", "pattern": "^x"}, b={"type": ["integer", "null"], "minimum": 1}),
        closed(a={"type": "array", "items": closed(b={"enum": [1, 2]}), "maxItems": 3}),
        closed(a={"anyOf": [{"type": "string"}, closed()]}),
        {**closed(a={"$ref": "#/$defs/n"}), "$defs": {"n": closed(next={"anyOf": [{"$ref": "#"}, {"type": "null"}]})}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "title": "T", "description": "d", **closed()},
        nested(10),
    ],
)
def test_a_schema_that_strict_mode_takes(schema: dict[str, Any]) -> None:
    assert compatible(schema)
    check_schema(schema, "x", strict=True, param="p", rooted=True)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": ["object", "null"], **{k: v for k, v in closed().items() if k != "type"}},
        {**closed(a={"type": "string"}), "required": []},
        {**closed(a={"type": "string"}), "required": ["a", "b"]},
        {**closed(), "additionalProperties": {"type": "string"}},
        {**closed(), "anyOf": [closed()]},
        closed(a={"type": "object"}),
        closed(a={"type": "array"}),
        closed(a={}),
        closed(a=True),
        closed(a={"type": "string", "default": "x"}),
        closed(a={"oneOf": [{"type": "string"}]}),
        closed(a={"allOf": [{"type": "string"}]}),
        closed(a={"not": {"type": "string"}}),
        closed(a={"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        {**closed(a={"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "object"}}},
        {**closed(), "patternProperties": {"^x": {"type": "string"}}},
        nested(12),
        closed(**{f"p{number}": {"type": "string"} for number in range(5001)}),
        {**closed(), "required": "a"},
        {**closed(), "properties": []},
        closed(a={"anyOf": {}}),
    ],
)
def test_a_schema_that_strict_mode_does_not_take(schema: Any) -> None:
    assert not compatible(schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_counts_as_strict_is_never_refused_for_being_so(name: str) -> None:
    schema = {"type": "object", **SCHEMAS[name]}
    if compatible(schema):
        check_schema(schema, "x", strict=True, param="p", rooted=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "required", "anyOf", "items", "additionalProperties", "$defs"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_no_document_at_all_is_too_odd_to_be_judged(document: Any) -> None:
    assert compatible(document) in (True, False)
    if compatible(document):
        assert list(faults(document)) == []
