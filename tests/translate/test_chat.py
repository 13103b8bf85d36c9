"""Chat requests: client JSON to Ask."""

# The wording is easier to compare on one line.
# ruff: noqa: E501

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ollama_proxy import model as hub
from ollama_proxy.errors import Invalid, Unsupported
from ollama_proxy.model import Ask, Format, Message, Reasoning, Sampling, Text, Tool, ToolCall, ToolChoice, ToolResult
from ollama_proxy.translate import chat

PNG = "iVBORw0KGgo="
F: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
G: dict[str, Any] = {"type": "function", "function": {"name": "g"}}
C: dict[str, Any] = {"type": "custom", "custom": {"name": "c"}}


def parse(**fields: Any) -> Ask:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat.parse(json.dumps(body).encode())


def messages(*given: dict[str, Any]) -> tuple[Message, ...]:
    return parse(messages=list(given)).messages


def refusal(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(**fields)
    return caught.value


def test_a_bare_question_leaves_everything_to_the_model() -> None:
    assert parse() == Ask(model="m", messages=(Message("user", (Text("hi"),)),))


# --- messages -------------------------------------------------------------------------------------------------------


def test_developer_is_system_and_all_of_them_stay() -> None:
    assert messages(
        {"role": "developer", "content": "a"},
        {"role": "system", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}], "name": "boss"},
    ) == (Message("system", (Text("a"),)), Message("system", (Text("b"), Text("c")), "boss"))


def test_images_stay_with_their_message() -> None:
    first, second = messages(
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                {"type": "text", "text": "and"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            ],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": f"DATA:image/jpg;base64,{PNG}"}]},
    )
    assert first.parts == (
        hub.Image(PNG, "image/png", detail="low", param="messages[0].content[0].image_url.url"),
        Text("and"),
        hub.Image(url="https://example.com/a.jpg", param="messages[0].content[2].image_url.url"),
    )
    assert second.parts == (hub.Image(PNG, "image/jpeg", param="messages[1].content[0].image_url"),)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/tiff;base64,aGk=", "invalid_image_format"),
        ("data:text/plain,hello", "invalid_image_format"),
        ("data:image/png;base64,!!!!", "invalid_base64"),
        ("data:image/png;base64,", "invalid_base64"),
        ("data:image/png", "invalid_value"),
        ("ftp://example.com/a.png", "invalid_value"),
        ("file:///etc/passwd", "invalid_value"),
        ("", "invalid_value"),
    ],
)
def test_an_image_that_is_none_is_refused_with_its_path(url: str, code: str) -> None:
    content = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}]
    error = refusal(messages=[{"role": "user", "content": content}])
    assert (error.param, error.code) == ("messages[0].content[1].image_url.url", code)


@pytest.mark.parametrize("data", ["aGVsbG8", "aGVs\r\nbG8=", "aGVsbG8%3D", " aGVsbG8= "])
def test_base64_that_others_take_is_mended(data: str) -> None:
    url = {"url": f"data:image/png;base64,{data}"}
    (message,) = messages({"role": "user", "content": [{"type": "image_url", "image_url": url}]})
    assert isinstance(message.parts[0], hub.Image)
    assert message.parts[0].data == "aGVsbG8="


def test_sound_and_files_keep_their_path() -> None:
    (message,) = messages(
        {
            "role": "user",
            "content": [
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": "a.txt"}},
                {"type": "file", "file": {"file_data": "data:,a%20b"}},
                {"type": "file", "file": {"file_data": "aGk="}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        }
    )
    path = "messages[0].content[{}].file"
    assert message.parts == (
        hub.Audio("aGk=", "wav", param="messages[0].content[0]"),
        hub.File("aGk=", "text/plain", "a.txt", param=path.format(1)),
        hub.File(base64.b64encode(b"a b").decode(), "text/plain", param=path.format(2)),
        hub.File("aGk=", param=path.format(3)),
        hub.File(file_id="file-1", param=path.format(4)),
    )
    assert refusal(messages=[{"role": "user", "content": [{"type": "file", "file": {}}]}]).code == (
        "missing_required_parameter"
    )


def test_an_assistants_turn_keeps_its_thoughts_refusal_and_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "c", "input": "x"}}
    assert messages(
        {"role": "assistant", "content": "hello", "reasoning_content": "hm", "reasoning": "hm"},
        {"role": "assistant", "content": None, "refusal": "no", "tool_calls": [call, custom], "annotations": []},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
        {"role": "assistant", "content": "", "tool_calls": [], "function_call": None},
        {"role": "assistant", "reasoning": "only"},
    ) == (
        Message("assistant", (hub.Thinking("hm"), Text("hello"))),
        Message("assistant", (hub.Refusal("no"), ToolCall("c1", "f", ""), ToolCall("c2", "c", "x", "custom"))),
        Message("tool", (ToolResult("c2", (Text("2"),), "c"),)),
        Message("tool", (ToolResult("c1", (Text("1"),), "f"),)),
        Message("assistant", (Text("a"), hub.Refusal("b"))),
        Message("assistant", ()),
        Message("assistant", (hub.Thinking("only"),)),
    )


def test_a_tools_answer_gets_the_name_of_its_call() -> None:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": "{}"}} for i, n in enumerate("fg")
    ]
    _, first, second, third = messages(
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "c0",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
        {"role": "tool", "tool_call_id": "other", "content": "4"},
    )
    assert first.parts == (ToolResult("c1", (Text("1"),), "g"),)
    assert second.parts == (ToolResult("c0", (Text("2"), Text("3")), "f"),)
    assert third.parts == (ToolResult("other", (Text("4"),)),)


@pytest.mark.parametrize(
    ("rest", "missing", "at"),
    [
        ([], "c0, c1", 0),
        ([{"role": "tool", "tool_call_id": "c0", "content": "1"}], "c1", 1),
        ([{"role": "tool", "tool_call_id": "other", "content": "1"}], "c0, c1", 1),
        ([{"role": "user", "content": "go on"}], "c0, c1", 1),
        ([{"role": "tool", "tool_call_id": "c1", "content": "1"}, {"role": "assistant", "content": "x"}], "c0", 2),
    ],
)
def test_calls_without_answers_are_refused(rest: list[dict[str, Any]], missing: str, at: int) -> None:
    calls = [{"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    error = refusal(messages=[{"role": "assistant", "tool_calls": calls}, *rest])
    assert error.message == (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {missing}"
    )
    assert (error.param, error.code) == (f"messages.[{at}].role", None)


def test_a_tools_answer_without_any_call_before_it_is_refused() -> None:
    error = refusal(messages=[{"role": "tool", "tool_call_id": "c", "content": "1"}])
    assert error.param == "messages.[0].role"
    assert "must be a response to a preceeding message with 'tool_calls'" in error.message


def test_the_deprecated_function_messages_become_calls_and_results() -> None:
    call, result = messages(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert isinstance(call.parts[0], ToolCall)
    assert (call.parts[0].name, call.parts[0].arguments) == ("f", '{"a":1}')
    assert result == Message("tool", (ToolResult(call.parts[0].id, (Text("1"),), "f"),))


def test_repeated_deprecated_calls_have_ids_of_their_own() -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}
    result = {"role": "function", "name": "f", "content": None}
    turns = messages(call, result, call, result)
    ids = [part.id for turn in turns for part in turn.parts if isinstance(part, ToolCall | ToolResult)]
    assert ids[0] == ids[1] != ids[2] == ids[3]


# --- parameters -----------------------------------------------------------------------------------------------------


def test_every_knob_arrives() -> None:
    ask = parse(
        max_tokens=5,
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        frequency_penalty=1,
        presence_penalty=-1,
        seed=-5,
        stop=["a", "", "b"],
        logit_bias={"1": 2},
        n=3,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": True},
        logprobs=True,
        top_logprobs=4,
        reasoning_effort="low",
        think="max",
        keep_alive="5m",
        parallel_tool_calls=False,
        tools=[F],
    )
    assert ask.sampling == Sampling(
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        frequency_penalty=1,
        presence_penalty=-1,
        seed=-5,
        stop=("a", "b"),
        logit_bias={"1": 2.0},
    )
    assert (ask.n, ask.stream, ask.include_usage, ask.top_logprobs, ask.keep_alive) == (3, True, True, 4, "5m")
    assert ask.reasoning == Reasoning(effort="low", think="max")
    assert ask.parallel_tools is False
    assert ask.extra == {"include_obfuscation": True}


@pytest.mark.parametrize(("fields", "wanted"), [({}, None), ({"logprobs": True}, 0), ({"logprobs": False}, None)])
def test_logprobs_are_given_only_when_asked_for(fields: dict[str, Any], wanted: int | None) -> None:
    assert parse(**fields).top_logprobs == wanted


def test_ollamas_options_give_way_to_openais_names() -> None:
    ask = parse(
        temperature=0.5,
        num_ctx=2048,
        options={
            "temperature": 1,
            "seed": 3,
            "stop": ["x"],
            "num_ctx": 8,
            "mirostat": 1,
            "top_k": None,
            "num_predict": 9,
        },
    )
    assert ask.sampling == Sampling(temperature=0.5, seed=3, stop=("x",), max_tokens=9)
    assert ask.options == {"num_ctx": 2048, "mirostat": 1}
    assert parse(options={"num_predict": -1}) == parse()


def test_parameters_without_effect_are_named() -> None:
    ask = parse(
        verbosity="low",
        unknown={"x": 1},
        prediction={"type": "content", "content": "x"},
        service_tier="flex",
        store=True,
        user="u",
        metadata={"a": "b"},
        safety_identifier="s",
        prompt_cache_key="k",
        web_search_options={},
    )
    assert ask.ignored == (
        "verbosity",
        "unknown",
        "prediction",
        "service_tier",
        "prompt_cache_key",
        "web_search_options",
    )
    assert ask.extra == {"metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "store": True}


def test_parameters_that_ask_for_nothing_are_not_named() -> None:
    assert parse(verbosity="medium", service_tier="auto", store=False, unknown=None, modalities=["text"]).ignored == ()


def test_speech_is_refused() -> None:
    error = refusal(modalities=["text", "audio"], audio={"voice": "x", "format": "wav"})
    assert isinstance(error, Unsupported)
    assert (error.param, error.code) == ("modalities", "unsupported_value")
    assert refusal(messages=[{"role": "assistant", "audio": {"id": "a"}}]).param == "messages[0].audio"


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"stream_options": {}}, "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."),
        ({"top_logprobs": 2}, "top_logprobs", "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."),
        ({"tool_choice": "auto"}, "tool_choice", "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."),
        ({"tool_choice": "required", "tools": []}, "tool_choice", None),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", None),
        ({"function_call": "auto"}, "function_call", None),
        ({"tool_choice": G, "tools": [F]}, "tool_choice", "Invalid value for 'tool_choice': no function named 'g' was specified in the 'tools' parameter."),
        ({"tool_choice": C, "tools": [F]}, "tool_choice", None),
        ({"function_call": {"name": "g"}, "functions": [{"name": "f"}]}, "function_call", None),
        ({"tools": [F], "functions": [{"name": "f"}]}, "functions", None),
        ({"tools": [F, F]}, "tools[1].function.name", None),
        ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions[1].name", None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema", None),
        ({"format": "xml"}, "format", "Invalid value: 'xml'. Supported values are: 'json'."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], param: str, text: str | None) -> None:
    error = refusal(**fields)
    assert error.param == param
    if text is not None:
        assert error.message == text


# --- tools and format -----------------------------------------------------------------------------------------------


def test_tools_of_both_kinds_arrive() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}
    function = {"name": "f", "description": "d", "parameters": schema, "strict": True}
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "x"'}}
    custom = {"type": "custom", "custom": {"name": "c", "description": "e", "format": grammar}}
    assert parse(tools=[{"type": "function", "function": function}, custom]).tools == (
        Tool("f", "d", schema, strict=True),
        Tool("c", "e", kind="custom", grammar=("lark", 'start: "x"')),
    )


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (F, ToolChoice("required", ("f",))),
        (C, ToolChoice("required", ("c",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F, C, F]}},
            ToolChoice("auto", ("f", "c")),
        ),
    ],
)
def test_every_tool_choice_arrives(choice: Any, wanted: ToolChoice) -> None:
    assert parse(tools=[F, G, C], tool_choice=choice).tool_choice == wanted


def test_no_tools_with_a_harmless_choice_are_accepted() -> None:
    assert parse(tools=[], tool_choice="auto", parallel_tool_calls=True) == parse()


def test_deprecated_functions_are_tools_that_are_remembered() -> None:
    ask = parse(functions=[{"name": "f", "parameters": {"type": "object"}}], function_call={"name": "f"})
    assert ask.tools == (Tool("f", None, {"type": "object"}),)
    assert ask.tool_choice == ToolChoice("required", ("f",))
    assert ask.extra == {"legacy_functions": True}
    assert ask.parallel_tools is False


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"response_format": {"type": "text"}}, Format()),
        ({"response_format": {"type": "json_object"}}, Format("json")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"a": 1}, "strict": True},
                }
            },
            Format("schema", "x", {"a": 1}, strict=True),
        ),
        ({"format": "json"}, Format("json")),
        ({"format": ""}, Format()),
        ({"format": {"type": "object"}}, Format("schema", schema={"type": "object"}, strict=True)),
    ],
)
def test_every_answer_format_arrives(fields: dict[str, Any], wanted: Format) -> None:
    assert parse(**fields).format == wanted


def test_openais_answer_format_wins_over_ollamas_which_is_named() -> None:
    ask = parse(response_format={"type": "json_object"}, format={"type": "object"})
    assert (ask.format, ask.ignored) == (Format("json"), ("format",))


def test_a_schema_nested_without_end_is_refused() -> None:
    deep: Any = {}
    for _ in range(150):
        deep = {"items": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    assert refusal(tools=[tool]).param == "tools[0].function.parameters"
    assert refusal(options={"x": deep}).param == "options"
    assert refusal(format=deep).param == "format"
