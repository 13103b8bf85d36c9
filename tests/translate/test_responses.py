"""The request of /v1/responses: what becomes of each parameter, and what of it the response repeats."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid, NotFound, OproxyError, Unsupported
from ollama_proxy.events import Text, Usage
from ollama_proxy.model import Ask, Format, Message, Reasoning, Sampling, Tool, ToolChoice
from ollama_proxy.model import Text as TextPart
from ollama_proxy.translate import responses
from ollama_proxy.translate.responses_compact import compact_ask, write_compaction
from ollama_proxy.translate.responses_items import items_of
from ollama_proxy.translate.responses_tools import HOSTED, parse_choice, parse_tools
from ollama_proxy.translate.sealed import unseal
from ollama_proxy.translate.shapes_responses import CompactRequest, CountRequest, ResponsesRequest
from ollama_proxy.translate.validate import decode
from tests import shapes

Json = dict[str, Any]
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
NOTE = {"type": "custom", "name": "note"}
MAIL: dict[str, Any] = {
    "type": "namespace",
    "name": "mail",
    "tools": [{**WEATHER, "name": "send"}, {**NOTE, "name": "draft"}],
}


def request_of(**body: Any) -> tuple[ResponsesRequest, Any]:
    shape, fields = decode(json.dumps({"model": "m", "input": "Hi", **body}).encode(), ResponsesRequest)
    responses.check(shape)
    return shape, fields


def question(**body: Any) -> responses.Question:
    shape, fields = request_of(**body)
    return responses.parse(shape, fields, items_of(shape.input))


def ask(**body: Any) -> Ask:
    return question(**body).ask


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_plain_request_asks_for_nothing_special() -> None:
    assert ask() == Ask(model="m", messages=(Message("user", (TextPart("Hi"),)),))


def test_null_asks_for_as_little_as_nothing() -> None:
    names = set(ResponsesRequest.__struct_fields__) - {"model", "input"}
    assert question(**dict.fromkeys(names)) == question()


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"max_output_tokens": 16}, "sampling", Sampling(max_tokens=16)),
        ({"temperature": 2, "top_p": 0}, "sampling", Sampling(temperature=2, top_p=0)),
        ({"parallel_tool_calls": False}, "parallel_tools", False),
        ({"stream": True}, "stream", True),
        ({"reasoning": {"effort": "low"}}, "reasoning", Reasoning("low")),
        ({"text": {"format": {"type": "json_object"}}}, "format", Format("json")),
        ({"text": {"format": {"type": "text"}}}, "format", Format()),
        ({"text": {"format": None}}, "format", Format()),
        ({"top_logprobs": 3}, "top_logprobs", 3),
        ({"top_logprobs": 0}, "top_logprobs", None),
        ({"include": ["message.output_text.logprobs"]}, "top_logprobs", 0),
        ({"metadata": {"a": "b"}}, "extra", {"metadata": {"a": "b"}}),
    ],
)
def test_a_parameter_becomes_the_hubs(body: Json, field: str, value: Any) -> None:
    assert getattr(ask(**body), field) == value


def test_a_schema_becomes_the_form_of_the_answer() -> None:
    schema = {"type": "object", "properties": {}}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True, "description": "d"}
    assert ask(text={"format": form}).format == Format("schema", "x", schema, True, "d")


def test_instructions_come_first() -> None:
    roles = [each.role for each in ask(instructions="Be brief.", input=[{"role": "user", "content": "x"}]).messages]
    assert roles == ["system", "user"]
    assert len(ask(instructions="").messages) == 1


@pytest.mark.parametrize(
    ("reasoning", "summary"),
    [({"summary": "auto"}, True), ({"generate_summary": "concise"}, True), ({"summary": None}, False), ({}, False)],
)
def test_a_summary_is_shown_where_one_is_asked_for(reasoning: Json, summary: bool) -> None:
    assert question(reasoning=reasoning).summary is summary
    assert question(include=["reasoning.encrypted_content"]).sealed


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"service_tier": "auto", "prompt_cache_key": "", "client_metadata": {}, "context_management": []}, ()),
        ({"service_tier": "flex"}, ("service_tier",)),
        ({"moderation": {}}, ("moderation",)),
        ({"text": {"verbosity": "medium"}}, ()),
        ({"text": {"verbosity": "high"}}, ("text.verbosity",)),
        ({"reasoning": {"context": "all_turns", "mode": "pro"}}, ("reasoning.context", "reasoning.mode")),
        ({"reasoning": {"context": "auto", "mode": "standard"}}, ()),
        ({"include": ["web_search_call.results"]}, ("include.web_search_call.results",)),
        ({"seed": 1, "stop": ["x"]}, ("seed", "stop")),
        ({"tools": [{"type": "mcp"}, {"type": "mcp"}]}, ("tools.mcp",)),
    ],
)
def test_what_has_no_effect_is_named_once(body: Json, named: tuple[str, ...]) -> None:
    assert ask(**body).ignored == named


# --- tools ------------------------------------------------------------------------------------------------------------


def test_tools_of_a_namespace_are_known_by_one_name() -> None:
    tools = parse_tools([WEATHER, MAIL, {"type": "web_search"}], [NOTE])
    assert [(tool.name, tool.kind) for tool in tools.tools] == [
        ("weather", "function"),
        ("mail__send", "function"),
        ("mail__draft", "custom"),
        ("note", "custom"),
    ]
    assert tools.names == {"mail__send": ("mail", "send"), "mail__draft": ("mail", "draft")}
    assert tools.hosted == ("web_search",)


def test_a_namespace_within_a_namespace_is_left_out() -> None:
    assert parse_tools([{"type": "namespace", "name": "a", "tools": [MAIL]}]).hosted == ("namespace",)


def test_a_tool_that_comes_again_among_the_items_takes_the_place_of_the_first() -> None:
    (tool,) = parse_tools([WEATHER], [{**WEATHER, "description": "new"}]).tools
    assert tool.description == "new"


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "grammar", "syntax": "lark", "definition": "start: /x/"}, ("lark", "start: /x/")),
        ({"type": "grammar", "grammar": {"syntax": "regex", "definition": "x+"}}, ("regex", "x+")),
    ],
)
def test_a_custom_tool_may_be_bound_by_a_grammar_in_either_form(form: Any, grammar: tuple[str, str] | None) -> None:
    assert parse_tools([{**NOTE, "format": form}]).tools == (Tool("note", kind="custom", grammar=grammar),)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "weather"}, ToolChoice("required", ("weather",))),
        ({"type": "function", "name": "send", "namespace": "mail"}, ToolChoice("required", ("mail__send",))),
        ({"type": "function", "name": "send"}, ToolChoice("required", ("mail__send",))),
        ({"type": "custom", "name": "draft"}, ToolChoice("required", ("mail__draft",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}] * 2},
            ToolChoice("required", ("weather",)),
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, ToolChoice("none")),
    ],
)
def test_a_tool_choice_has_many_forms(choice: Any, expected: ToolChoice) -> None:
    assert parse_choice(choice, parse_tools([WEATHER, MAIL])) == expected


@pytest.mark.parametrize(
    ("choice", "tools", "param"),
    [
        ("required", [], "tool_choice"),
        ("required", [{"type": "web_search"}], "tool_choice"),
        *(({"type": kind}, [WEATHER, {"type": kind}], "tool_choice") for kind in HOSTED),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "mcp"}]}, [WEATHER], "tool_choice"),
        ({"type": "function", "name": "other"}, [WEATHER], "tool_choice"),
        ({"type": "custom", "name": "weather"}, [WEATHER], "tool_choice"),
        ({"type": "function"}, [WEATHER], "tool_choice.name"),
        ({"name": "weather"}, [WEATHER], "tool_choice.type"),
        ({"type": []}, [WEATHER], "tool_choice.type"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, [WEATHER], "tool_choice.tools"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": []}]}, [WEATHER], "tool_choice.tools[0].type"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]},
            [WEATHER],
            "tool_choice",
        ),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(choice: Any, tools: list[Json], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_choice(choice, parse_tools(tools))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({}, "tools[0].type"),
        ({"type": 5}, "tools[0].type"),
        ({"type": []}, "tools[0].type"),
        ({"type": "function"}, "tools[0].name"),
        ({"type": "function", "name": "no spaces"}, "tools[0].name"),
        ({"type": "function", "name": "f", "parameters": []}, "tools[0].parameters"),
        ({"type": "custom"}, "tools[0].name"),
        ({"type": "custom", "name": "c", "format": 5}, "tools[0].format"),
        ({"type": "custom", "name": "c", "format": "grammar"}, "tools[0].format"),
        ({"type": "custom", "format": {"type": "grammar", "grammar": {}}}, "tools[0].format.grammar.definition"),
        ({"type": "custom", "name": 5, "format": {"grammar": {"syntax": "lark", "definition": "x"}}}, "tools[0].name"),
        ({"type": "namespace", "name": "n"}, "tools[0].tools"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
        ({"type": "namespace", "name": "n", "tools": [WEATHER, WEATHER]}, "tools[0].tools[1].name"),
    ],
)
def test_a_tool_that_is_wrong_is_refused_by_its_place(tool: Json, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_tools([tool])
    assert caught.value.param == param


# --- what the response repeats ----------------------------------------------------------------------------------------


def test_the_response_repeats_what_was_asked_with_openais_defaults() -> None:
    shape, _ = request_of()
    base = responses.echo(shape, id="resp_1", created=5)
    shapes.check("Response", {**base, "output": []})
    assert base["store"] is True
    assert (base["temperature"], base["top_p"], base["truncation"], base["tool_choice"]) == (
        1.0,
        1.0,
        "disabled",
        "auto",
    )
    assert base["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert "conversation" not in base


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("given", "parameters", "strict"),
    [
        ({}, CLOSED, True),
        ({"strict": None}, CLOSED, True),
        ({"strict": False}, CLOSED, False),
        ({"strict": True}, CLOSED, True),
        ({}, OPEN, False),
        ({"strict": True}, OPEN, True),
        ({}, None, False),
        ({}, {}, False),
    ],
)
def test_a_function_is_strict_if_it_can_be_where_the_client_leaves_it_open(
    given: dict[str, Any], parameters: Any, strict: bool
) -> None:
    tool = {"type": "function", "name": "f", "parameters": parameters, **given}
    group = {"type": "namespace", "name": "n", "tools": [{**tool, "name": "g"}]}
    shape, fields = request_of(tools=[tool, group])
    base = responses.echo(shape, id="resp_1", created=5)
    assert base["tools"][0] == {"description": None, **tool, "strict": strict}
    assert base["tools"][1]["tools"] == [{**tool, "name": "g", "strict": strict}]
    asked = responses.parse(shape, fields, items_of(shape.input)).ask
    assert [each.strict for each in asked.tools] == [strict, strict]


def test_the_form_of_an_answer_is_strict_only_if_the_client_says_so() -> None:
    form = {"type": "json_schema", "name": "x", "schema": CLOSED}
    shape, _ = request_of(text={"format": form})
    assert ask(text={"format": form}).format.strict is False
    assert responses.echo(shape, id="r", created=5)["text"]["format"]["strict"] is False


def test_the_response_repeats_what_was_said() -> None:
    shape, _ = request_of(
        instructions="Be brief.", store=False, temperature=0, top_p=0.5, truncation="auto", max_output_tokens=20,
        max_tool_calls=2, tools=[{**WEATHER, "strict": None}, MAIL], prompt_cache_key="k",
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False, reasoning={"effort": "low", "generate_summary": "auto"},
        conversation={"id": "conv_1"},
        metadata={"a": "b"}, user="u", safety_identifier="s", top_logprobs=2, text={"verbosity": "low"},
    )  # fmt: skip
    base = responses.echo(shape, id="resp_1", created=5)
    assert base["conversation"] == {"id": "conv_1"}
    assert base["reasoning"] == {"effort": "low", "summary": "auto"}
    assert base["tools"][0] == {**WEATHER, "description": None, "strict": False}
    assert base["tools"][1] == {**MAIL, "tools": [{**MAIL["tools"][0], "strict": False}, MAIL["tools"][1]]}
    same = (
        "instructions",
        "store",
        "temperature",
        "top_p",
        "truncation",
        "max_output_tokens",
        "max_tool_calls",
        "user",
    )
    for name in (*same, "tool_choice", "parallel_tool_calls", "metadata", "safety_identifier", "prompt_cache_key"):
        assert base[name] == getattr(shape, name)


# --- counting and compacting ------------------------------------------------------------------------------------------


def test_what_is_counted_is_what_would_be_asked() -> None:
    shape, _ = decode(json.dumps({"input": "Hi", "instructions": "x", "tools": [WEATHER]}).encode(), CountRequest)
    counted = responses.count_ask(shape, items_of(shape.input))
    whole = ask(instructions="x", tools=[WEATHER])
    assert (counted.messages, counted.tools) == (whole.messages, whole.tools)


def test_a_compaction_keeps_what_the_user_said_and_seals_the_rest() -> None:
    items: list[Json] = [
        {"type": "message", "role": "user", "content": "One", "id": "msg_1"},
        {"type": "message", "role": "assistant", "content": "Two", "id": "msg_2"},
        {"type": "web_search_call", "id": "ws_1"},
    ]
    asked = compact_ask(CompactRequest(model="m", instructions="x"), items, history=0)
    assert [each.role for each in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.ignored == ("input.web_search_call",)
    made = write_compaction(
        [Text(0, " sho"), Text(0, "rt "), Usage(3, 2)], items, id="resp_1", item_id="cmp_1", created=5, backend="o"
    )
    assert [item["id"] for item in made["output"]] == ["msg_1", "cmp_1"]
    assert unseal(made["output"][1]["encrypted_content"]) == "short"
    assert made["usage"]["total_tokens"] == 5
    with pytest.raises(OproxyError, match="no summary"):
        write_compaction([Text(0, "  ")], items, id="resp_1", item_id="cmp_1", created=5, backend="o")


# --- hostile bodies ---------------------------------------------------------------------------------------------------

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
JSON = st.recursive(
    ATOMS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
GOOD: dict[str, list[Any]] = {
    "tools": [[WEATHER], [NOTE, MAIL], [{"type": "web_search"}]],
    "tool_choice": ["auto", "required", {"type": "function", "name": "weather"}, {"type": "custom", "name": "note"}],
    "text": [{"format": {"type": "json_object"}}, {"verbosity": "low"}],
    "reasoning": [{"effort": "high", "summary": "auto"}],
    "input": ["x", [{"role": "user", "content": "x"}], [{"type": "item_reference", "id": "msg_1"}]],
    "include": [["reasoning.encrypted_content"]],
}
BODIES = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(JSON, st.sampled_from(GOOD[name])) if name in GOOD else JSON
        for name in ResponsesRequest.__struct_fields__
    },
)


@settings(max_examples=80)
@given(BODIES)
def test_hostile_bodies_are_refused_in_openais_words_or_understood(body: Json) -> None:
    data = json.dumps({"model": "m", "input": "x", **body}).encode()
    try:
        shape, fields = decode(data, ResponsesRequest)
        responses.check(shape)
        responses.parse(shape, fields, items_of(shape.input))
    except (Invalid, NotFound, Unsupported):
        return
    json.dumps(responses.echo(shape, id="resp_1", created=1))
