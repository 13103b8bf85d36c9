"""What is asked of a backend in place of what it cannot do, and what comes back."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_proxy.errors import Invalid, Unsupported
from ollama_proxy.events import Event, Finish, Note, Text, ToolDelta, ToolStart
from ollama_proxy.model import (
    Abilities,
    Ask,
    File,
    Format,
    Image,
    Message,
    ModelInfo,
    Reasoning,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_proxy.model import Text as Words
from ollama_proxy.policy.plan import Plan, plan

OLLAMA = Abilities(drops_keywords=True, logprobs_with_streamed_tools=False)
OPENAI = Abilities(tool_choice=True, custom_tools=True, parallel_tools=True, choices=128, logit_bias=True)
LLAMA = Abilities(tool_choice=True, choices=128)

TOOLED = ModelInfo(id="tooled:latest", backend="b", capabilities=frozenset({"completion", "tools"}))
PLAIN = ModelInfo(id="plain:latest", backend="b", capabilities=frozenset({"completion"}))

A = Tool("a", "First", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
B = Tool("b", "Second")
C = Tool("c", "Third", kind="custom")
HI = Message("user", (Words("Hi"),))
REQUIRED = ToolChoice("required")


def ask(**fields: Any) -> Ask:
    return Ask(**{"model": "asked", "messages": (HI,), **fields})


def run(plan: Plan, *events: Event) -> list[Event]:
    """Send events through the plan's filters as the engine does."""
    filters = plan.filters()
    out = list(events)
    for each in filters:
        out = each.feed(out)
    for place, each in enumerate(filters):
        rest = each.flush()
        for later in filters[place + 1 :]:
            rest = later.feed(rest)
        out += rest
    return out


def system(plan: Plan) -> str:
    return "".join(p.text for m in plan.ask.messages if m.role == "system" for p in m.parts if isinstance(p, Words))


@pytest.mark.parametrize("abilities", [OLLAMA, OPENAI, LLAMA])
def test_a_plain_question_is_only_given_the_models_own_name(abilities: Abilities) -> None:
    done = plan(ask(stream=True), TOOLED, abilities)
    assert done == Plan(ask=ask(stream=True, model="tooled:latest"))


# --- choices --------------------------------------------------------------------------------------------------------


def test_choices_that_a_backend_cannot_make_are_calls_of_their_own() -> None:
    done = plan(ask(n=3, sampling=Sampling(seed=7)), PLAIN, OLLAMA)
    assert (done.copies, done.ask.n) == (3, 1)
    assert [done.copy(k).sampling.seed for k in range(3)] == [7, 8, 9]
    assert plan(ask(n=3), PLAIN, OLLAMA).copy(2).sampling.seed is None


def test_choices_that_a_backend_can_make_are_one_call() -> None:
    done = plan(ask(n=3), PLAIN, OPENAI)
    assert (done.copies, done.ask.n) == (1, 3)


def test_each_call_has_fresh_filters() -> None:
    done = plan(ask(n=2, tools=(A,), tool_choice=REQUIRED), TOOLED, OLLAMA)
    first, second = done.filters(), done.filters()
    assert first
    assert not set(map(id, first)) & set(map(id, second))


# --- tools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("info", [TOOLED, PLAIN])
@pytest.mark.parametrize("abilities", [OLLAMA, OPENAI])
def test_no_tools_are_left_when_none_may_be_called(info: ModelInfo, abilities: Abilities) -> None:
    done = plan(ask(tools=(A, B), tool_choice=ToolChoice("none")), info, abilities)
    assert done.ask == ask(model=info.id)


def test_a_free_choice_of_a_model_with_tools_is_its_own() -> None:
    done = plan(ask(tools=(A, B), tool_choice=ToolChoice("auto", ("b",))), TOOLED, OLLAMA)
    assert [tool.name for tool in done.ask.tools] == ["b"]
    assert done.ask.tool_choice == ToolChoice()
    assert done.ask.format == Format()
    assert done.ask.messages == (HI,)


def test_a_required_tool_is_forced_by_the_form_of_the_answer() -> None:
    done = plan(ask(tools=(A, B), tool_choice=ToolChoice("required", ("a",))), TOOLED, OLLAMA)
    assert [tool.name for tool in done.ask.tools] == ["a"]
    assert done.ask.format.schema == {**(A.parameters or {}), "additionalProperties": False}
    assert "Call the function a now" in system(done)
    assert "First" not in system(done)
    out = run(done, Text(0, '{"x"'), Text(0, ": 1}"), Finish(0, "stop"))
    assert out == [ToolStart(0, 0, "", "a"), ToolDelta(0, 0, '{"x"'), ToolDelta(0, 0, ": 1}"), Finish(0, "tool_calls")]


def test_any_required_tool_is_forced_by_a_choice_of_forms() -> None:
    done = plan(ask(tools=(A, B), tool_choice=REQUIRED), TOOLED, OLLAMA)
    out = run(done, Text(0, '{"name": "b", "arguments": {}}'), Finish(0, "stop"))
    assert out == [ToolStart(0, 0, "", "b"), ToolDelta(0, 0, "{}"), Finish(0, "tool_calls")]


@pytest.mark.parametrize("abilities", [OLLAMA, OPENAI, LLAMA])
def test_a_model_without_tools_is_told_of_them(abilities: Abilities) -> None:
    done = plan(ask(tools=(A, B)), PLAIN, abilities)
    assert done.ask.tools == ()
    assert "- a: First" in system(done)
    assert run(done, Text(0, '{"message": "Hi'), Text(0, ' you"}'), Finish(0, "stop")) == [
        Text(0, "Hi"), Text(0, " you"), Finish(0, "stop"),
    ]  # fmt: skip
    assert run(done, Text(0, '{"name": "b", "arguments": {}}'), Finish(0, "stop"))[0] == ToolStart(0, 0, "", "b")


def test_a_model_without_tools_is_told_of_earlier_calls() -> None:
    history = (
        HI,
        Message("assistant", (ToolCall("1", "a", '{"x": 1}'),)),
        Message("tool", (ToolResult("1", (Words("sun"),), "a"),)),
    )
    for fields in ({}, {"tools": (A,)}):
        roles = [
            m.role for m in plan(ask(messages=history, **fields), PLAIN, OLLAMA).ask.messages if m.role != "system"
        ]
        assert roles == ["user", "assistant", "user"]
    assert plan(ask(messages=history), TOOLED, OLLAMA).ask.messages == history


def test_a_backend_that_knows_tool_choice_is_left_to_it() -> None:
    question = ask(tools=(A, B, C), tool_choice=ToolChoice("required", ("a",)), parallel_tools=False)
    done = plan(question, TOOLED, OPENAI)
    assert done.ask == replace(question, model=TOOLED.id)


def test_an_answer_in_a_form_or_a_call_is_a_choice_of_forms() -> None:
    form = Format("schema", "f", {"type": "object", "properties": {"ok": {"type": "boolean"}}}, False)
    done = plan(ask(tools=(A,), format=form), TOOLED, OLLAMA)
    assert [tool.name for tool in done.ask.tools] == ["a"]
    assert run(done, Text(0, '{"message": {"ok": true}}'), Finish(0, "stop")) == [
        Text(0, '{"ok": true}'), Finish(0, "stop"),
    ]  # fmt: skip
    missed = run(done, Text(0, '{"message": {"ok": 1}}'), Finish(0, "stop"))
    assert isinstance(missed[1], Note)
    assert missed[2] == Finish(0, "content_filter")
    assert run(done, Text(0, '{"name": "a", "arguments": {"x": 1}}'), Finish(0, "stop")) == [
        ToolStart(0, 0, "", "a"), ToolDelta(0, 0, '{"x": 1}'), Finish(0, "tool_calls"),
    ]  # fmt: skip


def test_a_custom_tool_comes_back_as_one() -> None:
    done = plan(ask(tools=(C,), tool_choice=REQUIRED), TOOLED, OLLAMA)
    assert [tool.kind for tool in done.ask.tools] == ["function"]
    out = run(done, Text(0, '{"input": "a'), Text(0, '\\nb"}'), Finish(0, "stop"))
    assert out == [
        ToolStart(0, 0, "", "c", "custom"), ToolDelta(0, 0, "a"), ToolDelta(0, 0, "\nb"), Finish(0, "tool_calls"),
    ]  # fmt: skip
    native = plan(ask(tools=(C,)), TOOLED, LLAMA)
    assert [tool.kind for tool in native.ask.tools] == ["function"]
    out = run(native, ToolStart(0, 0, "i", "c"), ToolDelta(0, 0, '{"input": "x"}'), Finish(0, "tool_calls"))
    assert out == [ToolStart(0, 0, "i", "c", "custom"), ToolDelta(0, 0, "x"), Finish(0, "tool_calls")]


def test_a_grammar_that_no_schema_holds_is_ignored_by_name() -> None:
    lark = replace(C, grammar=("lark", "start: /x/"))
    assert plan(ask(tools=(lark,), ignored=("user",)), TOOLED, OLLAMA).ignored == ("user", "tools.custom.format")
    assert plan(ask(tools=(lark,)), TOOLED, OPENAI).ignored == ()


def test_one_call_at_a_time_is_held_to() -> None:
    calls: tuple[Event, ...] = (ToolStart(0, 0, "i", "b"), ToolStart(0, 1, "j", "b"), Finish(0, "tool_calls"))
    done = plan(ask(tools=(B,), parallel_tools=False), TOOLED, OLLAMA)
    assert run(done, *calls) == [calls[0], calls[2]]
    assert run(plan(ask(tools=(B,)), TOOLED, OLLAMA), *calls) == list(calls)
    legacy = plan(ask(tools=(B,), extra={"legacy_functions": True}), TOOLED, OLLAMA)
    assert run(legacy, *calls) == [calls[0], calls[2]]


def test_stop_sequences_do_not_cut_a_forced_call() -> None:
    stop = Sampling(stop=("\n",))
    done = plan(ask(tools=(A,), tool_choice=REQUIRED, sampling=stop), TOOLED, OLLAMA)
    assert (done.ask.sampling.stop, done.ignored) == ((), ("stop",))
    assert plan(ask(tools=(A,), sampling=stop), TOOLED, OLLAMA).ask.sampling.stop == ("\n",)


def test_keywords_that_a_backend_drops_are_told() -> None:
    tool = Tool("t", None, {"type": "object", "properties": {"x": {"type": "integer", "minimum": 1}}})
    done = plan(ask(tools=(tool,)), TOOLED, OLLAMA)
    assert "(minimum: 1)" in str(done.ask.tools[0].parameters)
    assert plan(ask(tools=(tool,)), TOOLED, OPENAI).ask.tools == (tool,)
    noted = run(done, ToolStart(0, 0, "i", "t"), ToolDelta(0, 0, '{"x": 0}'), Finish(0, "tool_calls"))
    assert isinstance(noted[2], Note)


def test_logprobs_with_tools_are_not_streamed_where_that_is_refused() -> None:
    question = ask(tools=(A,), stream=True, top_logprobs=2)
    assert not plan(question, TOOLED, OLLAMA).ask.stream
    assert plan(question, replace(TOOLED, template="rendered"), OLLAMA).ask.stream
    assert plan(question, TOOLED, OPENAI).ask.stream
    assert plan(ask(stream=True, top_logprobs=2), TOOLED, OLLAMA).ask.stream


# --- the rest -------------------------------------------------------------------------------------------------------


def test_a_form_is_checked_and_its_schema_too() -> None:
    done = plan(ask(format=Format("json")), PLAIN, OLLAMA)
    assert run(done, Text(0, "[]"), Finish(0, "stop"))[-1] == Finish(0, "content_filter")
    assert run(done, Text(0, "{}"), Finish(0, "stop"))[-1] == Finish(0, "stop")
    with pytest.raises(Invalid, match="Invalid schema for response_format 'f'"):
        plan(ask(format=Format("schema", "f", {"type": "x"})), PLAIN, OLLAMA)
    with pytest.raises(Invalid, match="Invalid schema for function 'f'"):
        plan(ask(tools=(Tool("f", None, {"type": "array"}),)), PLAIN, OLLAMA)


def test_logit_bias_is_refused_where_it_cannot_be_had() -> None:
    biased = ask(sampling=Sampling(logit_bias={"1": 5}))
    with pytest.raises(Unsupported, match="Unsupported parameter: 'logit_bias'") as caught:
        plan(biased, PLAIN, OLLAMA)
    assert (caught.value.param, caught.value.code) == ("logit_bias", "unsupported_parameter")
    assert plan(biased, PLAIN, OPENAI).ask.sampling.logit_bias
    assert plan(ask(sampling=Sampling(logit_bias={})), PLAIN, OLLAMA).ask.model == PLAIN.id


def test_effort_for_a_model_that_cannot_think_is_ignored_by_name() -> None:
    assert plan(ask(reasoning=Reasoning(effort="low")), PLAIN, OLLAMA).ignored == ("reasoning_effort",)


def test_parts_are_settled() -> None:
    with pytest.raises(Invalid, match="image_url is only supported"):
        plan(ask(messages=(Message("user", (Image(url="http://x"),)),)), PLAIN, OLLAMA)
    note = File(data=base64.b64encode(b"text").decode(), filename="n.txt")
    done = plan(ask(messages=(Message("user", (note,)),)), PLAIN, OLLAMA)
    assert done.ask.messages == (Message("user", (Words("File: n.txt\n\ntext"),)),)


# --- fields of messages -------------------------------------------------------------------------------------------


NOT_HEARD = Abilities(names=False, details=False)
SEES = ModelInfo(id="sees", backend="b", capabilities=frozenset({"completion", "vision"}))


def seen(detail: str | None) -> Image:
    return Image(data="aGk=", media_type="image/png", detail=detail)


@pytest.mark.parametrize(
    ("message", "want"),
    [
        (Message("user", (Words("Hi"),), "ann"), ("messages.name",)),
        (Message("user", (Words("Hi"),), ""), ()),
        (Message("user", (seen("high"),)), ("messages.content.image_url.detail",)),
        (Message("user", (seen("auto"),)), ()),
        (Message("user", (seen(None),)), ()),
        (Message("tool", (ToolResult("call_1", (seen("low"),), "look"),)), ("messages.content.image_url.detail",)),
        (Message("user", (seen("low"),), "ann"), ("messages.name", "messages.content.image_url.detail")),
    ],
)
def test_names_and_details_that_reach_no_model_are_told(message: Message, want: tuple[str, ...]) -> None:
    assert plan(ask(messages=(message,)), SEES, NOT_HEARD).ignored == want
    assert plan(ask(messages=(message,)), SEES, OPENAI).ignored == ()


def test_what_had_no_effect_is_told_once_with_what_the_front_already_knew() -> None:
    named = Message("user", (Words("Hi"),), "ann")
    question = ask(messages=(named, named), ignored=("user", "messages.name"))
    assert plan(question, SEES, NOT_HEARD).ignored == ("user", "messages.name")


# --- grammars -------------------------------------------------------------------------------------------------------

GRAMMARS = replace(OLLAMA, grammars=True)
MONTH: dict[str, Any] = {
    "type": "object",
    "properties": {"m": {"type": "string", "pattern": r"^\d\d$"}},
    "required": ["m"],
}
PRICE: dict[str, Any] = {"type": "object", "properties": {"p": {"type": "number", "minimum": 0}}, "required": ["p"]}


def test_a_pattern_is_written_for_grammars_where_the_backend_has_them() -> None:
    form = Format("schema", "x", MONTH)
    done = plan(ask(format=form), PLAIN, GRAMMARS).ask
    assert done.format.schema == {**MONTH, "properties": {"m": {"type": "string", "pattern": "^([0-9][0-9])$"}}}
    assert done.messages == (HI,)
    assert plan(ask(format=form), PLAIN, OLLAMA).ask.format == form


def test_what_a_grammar_cannot_say_of_the_answer_is_told_and_checked() -> None:
    done = plan(ask(format=Format("schema", "x", PRICE)), PLAIN, GRAMMARS)
    assert done.ask.format.schema == {**PRICE, "properties": {"p": {"type": "number"}}}
    assert "- p: minimum: 0" in system(done)
    assert Note({"schema_miss": "p: -1 is less than the minimum of 0"}) in run(
        done, Text(0, '{"p": -1}'), Finish(0, "stop")
    )


@pytest.mark.parametrize("info", [TOOLED, PLAIN])
def test_what_a_grammar_cannot_say_of_a_forced_tool_is_told_with_the_tool(info: ModelInfo) -> None:
    tool = Tool("pay", "Pay", {**PRICE, "properties": {**PRICE["properties"], **MONTH["properties"]}})
    done = plan(ask(tools=(tool,), tool_choice=REQUIRED), info, GRAMMARS)
    assert done.ask.format.schema is not None
    assert done.ask.format.schema["properties"]["m"]["pattern"] == "^([0-9][0-9])$"
    assert "must also fit" not in system(done)
    told = str(done.ask.tools) if info is TOOLED else system(done)
    assert "minimum" in told
    assert r"^\d\d$" in told.replace("\\\\", "\\")


def test_the_form_of_a_message_beside_tools_is_told_too() -> None:
    done = plan(ask(tools=(A,), format=Format("schema", "x", PRICE)), PLAIN, GRAMMARS)
    assert "- p: minimum: 0" in system(done)


def test_tools_that_go_to_a_backend_with_grammars_are_written_for_them() -> None:
    native = replace(GRAMMARS, drops_keywords=False)
    (tool,) = plan(ask(tools=(Tool("t", parameters=MONTH),)), TOOLED, native).ask.tools
    assert (tool.parameters or {})["properties"]["m"] == {
        "type": "string",
        "pattern": "^([0-9][0-9])$",
        "description": r"(pattern: ^\d\d$)",
    }


def test_tools_whose_keywords_are_told_in_words_are_left_alone() -> None:
    (tool,) = plan(ask(tools=(Tool("t", parameters=MONTH),)), TOOLED, GRAMMARS).ask.tools
    assert (tool.parameters or {})["properties"]["m"] == {"type": "string", "description": r"(pattern: ^\d\d$)"}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (
            {"tools": (B, A), "tool_choice": ToolChoice("required", ("a",))},
            "tools[1].function.parameters",
            "function 'a'",
        ),
        ({"tools": (A, B), "tool_choice": REQUIRED}, "tools", "tools"),
        (
            {"tools": (A,), "tool_choice": REQUIRED, "extra": {"legacy_functions": True}},
            "functions[0].parameters",
            "function 'a'",
        ),
    ],
)
def test_a_refused_schema_is_called_what_the_client_sent(fields: dict[str, Any], param: str, words: str) -> None:
    refused = Invalid("Invalid schema for response_format: bad", param="response_format", code="invalid_json_schema")
    blamed = plan(ask(**fields), PLAIN, GRAMMARS).blame(refused)
    assert (blamed.message, blamed.param, blamed.code) == (
        f"Invalid schema for {words}: bad",
        param,
        "invalid_function_parameters",
    )


def test_other_refusals_and_those_of_the_clients_own_form_keep_their_words() -> None:
    refused = Invalid("Invalid schema for response_format: bad", param="response_format", code="invalid_json_schema")
    assert plan(ask(format=Format("schema", "x", PRICE)), PLAIN, GRAMMARS).blame(refused) is refused
    other = Invalid("x", param="messages")
    assert plan(ask(tools=(A,), tool_choice=REQUIRED), PLAIN, GRAMMARS).blame(other) is other
