"""Requests on OpenAI's wire, and on llama.cpp's dialect of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.errors import Invalid, Unsupported
from ollama_proxy.model import (
    Ask,
    Audio,
    Completion,
    Embedding,
    File,
    Format,
    Image,
    Message,
    ModelInfo,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_proxy.translate.openai import LLAMACPP, WIRE, OpenAIWire

INFO = ModelInfo(id="served", backend="b")
HI = (Message("user", (Text("Hi"),)),)
TOOLS = (
    Tool(
        "get", description="Gets", parameters={"type": "object", "properties": {"x": {"type": "string"}}}, strict=True
    ),
    Tool("now"),
)


def sent(wire: OpenAIWire = WIRE, **fields: Any) -> dict[str, Any]:
    """Return the body of a chat request for an Ask of these fields."""
    call = wire.chat(Ask(**{"model": "asked", "messages": HI, **fields}), INFO)
    assert (call.method, call.path) == ("POST", "/chat/completions")
    assert call.stream is bool(fields.get("stream"))
    return dict(json.loads(call.body or b""))


def messages(*given: Message, wire: OpenAIWire = WIRE) -> list[dict[str, Any]]:
    return list(sent(wire, messages=given)["messages"])


def test_a_plain_question_sends_nothing_that_was_not_asked_for() -> None:
    assert sent() == {"model": "served", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


@pytest.mark.parametrize("wire", [WIRE, LLAMACPP])
def test_a_model_is_not_asked_for_what_it_is_known_not_to_do(wire: OpenAIWire) -> None:
    def info(*can: str) -> ModelInfo:
        return ModelInfo(id="served", backend="b", capabilities=frozenset(can))

    with pytest.raises(Invalid, match="`asked` does not write text") as caught:
        wire.chat(Ask(model="asked", messages=HI), info("embedding"))
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")
    with pytest.raises(Invalid, match="does not write text"):
        wire.complete(Completion(model="asked", prompt="x"), info("embedding"))
    with pytest.raises(Invalid, match="does not make embeddings"):
        wire.embed(Embedding(model="asked", inputs=("x",)), info("completion", "tools"))
    assert wire.embed(Embedding(model="asked", inputs=("x",)), info("embedding")).path == "/embeddings"


def test_a_stream_asks_for_its_usage() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}


def test_sampling_goes_by_its_wire_names_and_zero_is_a_value() -> None:
    sampling = Sampling(
        max_tokens=5, temperature=0, top_p=0.5, top_k=3, min_p=0.1, frequency_penalty=0.2, presence_penalty=-1,
        seed=0, stop=("a", "b"), logit_bias={"5": -1},
    )  # fmt: skip
    body = sent(sampling=sampling)
    assert {key: body[key] for key in body if key not in ("model", "messages", "stream")} == {
        "max_completion_tokens": 5, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1,
        "frequency_penalty": 0.2, "presence_penalty": -1, "seed": 0, "stop": ["a", "b"], "logit_bias": {"5": -1},
    }  # fmt: skip
    assert sent(LLAMACPP, sampling=Sampling(max_tokens=5))["max_tokens"] == 5


def test_options_are_extra_keys_but_never_the_questions_own_and_never_ollamas_runner() -> None:
    options = {"mirostat": 2, "num_ctx": 8192, "num_keep": 4, "model": "evil", "messages": [], "stream": True, "n": 5}
    body = sent(options=options)
    assert body["mirostat"] == 2
    assert body["model"] == "served"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert not {"num_ctx", "num_keep", "n"} & set(body)
    assert body["stream"] is False
    assert sent(LLAMACPP, options=options)["n_keep"] == 4


def test_a_knob_of_the_client_wins_over_the_same_option() -> None:
    assert sent(options={"temperature": 1.5}, sampling=Sampling(temperature=0.1))["temperature"] == 0.1


def test_logprobs_are_asked_for_with_their_number() -> None:
    assert "logprobs" not in sent()
    body = sent(top_logprobs=0)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 0)


def test_llamacpp_takes_no_zero_top_logprobs() -> None:
    assert sent(LLAMACPP, top_logprobs=0)["top_logprobs"] == 1
    assert sent(LLAMACPP, top_logprobs=7)["top_logprobs"] == 7


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        (Format("json"), {"type": "json_object"}),
        (
            Format("schema", name="s", schema={"type": "object"}, strict=True, description="d"),
            {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True, "description": "d"},
            },
        ),
        (Format("schema"), {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}}}),
    ],
)
def test_a_format_is_a_response_format(format: Format, expected: dict[str, Any]) -> None:
    assert sent(format=format)["response_format"] == expected


def test_text_is_no_response_format() -> None:
    assert "response_format" not in sent(format=Format("text"))


# --- tools --------------------------------------------------------------------------------------------------------


def test_tools_are_written_with_what_they_have() -> None:
    assert sent(tools=TOOLS)["tools"] == [
        {
            "type": "function",
            "function": {"name": "get", "description": "Gets", "parameters": TOOLS[0].parameters, "strict": True},
        },
        {"type": "function", "function": {"name": "now"}},
    ]
    assert sent(LLAMACPP, tools=TOOLS)["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_a_custom_tool_keeps_its_grammar() -> None:
    tool = Tool("run", kind="custom", grammar=("lark", "start: /a/"))
    body = sent(tools=(tool,), tool_choice=ToolChoice("required", ("run",)))
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}}
    assert body["tools"] == [{"type": "custom", "custom": {"name": "run", "format": grammar}}]
    assert body["tool_choice"] == {"type": "custom", "custom": {"name": "run"}}


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        (ToolChoice(), ["get", "now"], None),
        (ToolChoice("none"), ["get", "now"], "none"),
        (ToolChoice("required"), ["get", "now"], "required"),
        (ToolChoice("required", ("now",)), ["get", "now"], {"type": "function", "function": {"name": "now"}}),
        (ToolChoice("auto", ("now",)), ["now"], None),
        (ToolChoice("required", ("now", "get")), ["get", "now"], "required"),
    ],
)
def test_a_choice_names_one_tool_or_narrows_them(choice: ToolChoice, names: list[str], expected: Any) -> None:
    body = sent(tools=TOOLS, tool_choice=choice)
    assert [tool["function"]["name"] for tool in body["tools"]] == names
    assert body.get("tool_choice") == expected


def test_llamacpp_knows_no_named_tool_so_the_tools_are_narrowed() -> None:
    body = sent(LLAMACPP, tools=TOOLS, tool_choice=ToolChoice("required", ("now",)))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["now"]
    assert body["tool_choice"] == "required"


def test_one_call_at_a_time_is_said_only_where_there_are_tools() -> None:
    assert sent(tools=TOOLS, parallel_tools=False)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in sent(parallel_tools=False)
    assert "tool_choice" not in sent(tool_choice=ToolChoice("none"))


# --- messages -----------------------------------------------------------------------------------------------------


def test_parts_of_all_kinds_keep_their_order() -> None:
    parts = (
        Text("a"),
        Image(data="AAAA", media_type="image/png", detail="low"),
        Image(url="https://x/y.png"),
        Audio("BBBB", "wav"),
        File(data="CCCC", media_type="application/pdf", filename="f.pdf"),
        File(file_id="file-1"),
    )
    assert messages(Message("user", parts, "bob")) == [
        {
            "role": "user",
            "name": "bob",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,CCCC", "filename": "f.pdf"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        }
    ]


def test_an_assistants_turn_has_text_thought_refusal_and_calls_apart() -> None:
    parts = (
        Thinking("hm"),
        Text("ok"),
        Refusal("no"),
        ToolCall("call_1", "get", ""),
        ToolCall("c", "r", "x", "custom"),
    )
    assert messages(Message("assistant", parts)) == [
        {
            "role": "assistant",
            "content": "ok",
            "refusal": "no",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{}"}},
                {"id": "c", "type": "custom", "custom": {"name": "r", "input": "x"}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("parts", "content"),
    [((), ""), ((ToolCall("c", "n", "{}"),), None), ((Refusal("no"),), None), ((Thinking("hm"),), "")],
)
def test_an_assistants_turn_without_text_has_null_or_empty_content(parts: Any, content: str | None) -> None:
    assert messages(Message("assistant", parts))[0]["content"] == content


def test_a_refusal_is_plain_text_to_llamacpp() -> None:
    written = messages(Message("assistant", (Refusal("no"),)), wire=LLAMACPP)
    assert written == [{"role": "assistant", "content": "no"}]


def test_each_result_is_a_message_of_its_own() -> None:
    results = (ToolResult("a", (Text("1"),), "get"), ToolResult("b", (Text("2"), Text("3"))))
    assert messages(Message("tool", results)) == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
    ]
    assert messages(Message("tool", results), wire=LLAMACPP) == [
        {"role": "tool", "tool_call_id": "a", "content": "1", "name": "get"},
        {"role": "tool", "tool_call_id": "b", "content": "23"},
    ]


def test_llamacpp_gets_one_system_message_and_one_user_turn() -> None:
    given = (
        Message("system", (Text("s1"),)),
        Message("system", (Text("s2"),)),
        Message("user", (Text("u1"),)),
        Message("user", (Text("u2"), Image(data="A", media_type="image/png"))),
        Message("user", (Text("u3"),), "bob"),
        Message("assistant", (Text("a1"),)),
        Message("assistant", (Text("a2"),)),
        Message("system", (Text("s3"),)),
        Message("system", (Text("s4"),)),
    )
    written = messages(*given, wire=LLAMACPP)
    assert [message["role"] for message in written] == [
        *("system", "user", "user", "assistant", "assistant", "system", "system")
    ]
    assert written[0]["content"] == "s1\n\ns2"
    assert "".join(part.get("text", "<image>") for part in written[1]["content"]) == "u1\n\nu2<image>"


def test_other_servers_get_what_the_strictest_templates_take() -> None:
    """Codex' instructions and developer items; and `System message must be at the beginning.` (Qwen 3.5)."""
    given = (
        Message("system", (Text("s1"), Text("s1b"))),
        Message("system", (Text("s2"),)),
        Message("user", (Text("u1"),)),
        Message("user", (Text("u2"),)),
        Message("user", (Text("u3"), Image(data="A", media_type="image/png"))),
        Message("user", (Text("u4"),), "bob"),
        Message("assistant", (Text("a1"),)),
        Message("system", (Text("s3"),)),
        Message("user", (Text("u5"),)),
    )
    written = messages(*given)
    assert [message["role"] for message in written] == ["system", "user", "user", "assistant", "user"]
    assert written[0]["content"] == "s1\ns1b\n\ns2"
    assert [part.get("text", "<image>") for part in written[1]["content"]] == ["u1\n\nu2", "u3", "<image>"]
    assert written[2] == {"role": "user", "content": "u4", "name": "bob"}
    assert written[4]["content"] == "<system-reminder>\ns3\n</system-reminder>\n\nu5"


@pytest.mark.parametrize("given", [(), ("system",), ("user", "system"), ("system", "user", "system", "system")])
def test_only_the_first_message_is_a_system_message(given: tuple[Role, ...]) -> None:
    written = messages(*(Message(role, (Text(f"{place}"),)) for place, role in enumerate(given)))
    assert "system" not in [message["role"] for message in written[1:]]
    assert all(f"{place}" in str(written) for place in range(len(given)))


# --- reasoning, records -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasoning", "openai", "llamacpp"),
    [
        (Reasoning(), None, None),
        (Reasoning("low"), "low", {"enable_thinking": True, "reasoning_effort": "low"}),
        (Reasoning("none"), "none", {"enable_thinking": False, "reasoning_effort": "none"}),
        (Reasoning("none", implied=True), None, {"enable_thinking": False, "reasoning_effort": "none"}),
        (Reasoning(think=False), "none", {"enable_thinking": False, "reasoning_effort": "none"}),
        (Reasoning(think=True), None, {"enable_thinking": True}),
        (Reasoning("low", think="high"), "high", {"enable_thinking": True, "reasoning_effort": "high"}),
    ],
)
def test_effort_is_a_word_to_openai_and_a_templates_matter_to_llamacpp(
    reasoning: Reasoning, openai: str | None, llamacpp: dict[str, Any] | None
) -> None:
    assert sent(reasoning=reasoning).get("reasoning_effort") == openai
    body = sent(LLAMACPP, reasoning=reasoning)
    assert body.get("chat_template_kwargs") == llamacpp
    assert "reasoning_effort" not in body


def test_what_is_for_openais_records_goes_to_openai() -> None:
    extra = {"metadata": {"a": "b"}, "user": "u", "legacy_functions": True}
    body = sent(extra=extra)
    assert (body["metadata"], body["user"]) == ({"a": "b"}, "u")
    assert "legacy_functions" not in body
    assert "user" not in sent(LLAMACPP, extra=extra)


# --- completions and embeddings -----------------------------------------------------------------------------------


def test_a_completion_is_written_with_the_old_name_of_its_limit() -> None:
    ask = Completion(model="a", prompt="p", suffix="s", sampling=Sampling(max_tokens=3), logprobs=0, stream=True)
    call = WIRE.complete(ask, INFO)
    assert call.path == "/completions"
    assert json.loads(call.body or b"") == {
        "model": "served", "prompt": "p", "suffix": "s", "max_tokens": 3, "logprobs": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_llamacpp_would_leave_a_suffix_out_so_it_is_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        LLAMACPP.complete(Completion(model="a", prompt="p", suffix="s"), INFO)
    assert caught.value.param == "suffix"


def test_llamacpp_takes_no_zero_logprobs_in_a_completion() -> None:
    call = LLAMACPP.complete(Completion(model="a", prompt="p", logprobs=0, options={"num_ctx": 5}), INFO)
    body = json.loads(call.body or b"")
    assert body["logprobs"] == 1
    assert "num_ctx" not in body


def test_embeddings_are_asked_for_in_base64() -> None:
    call = WIRE.embed(Embedding(model="a", inputs=("x", "y"), dimensions=4, options={"num_ctx": 1, "k": 2}), INFO)
    assert (call.path, json.loads(call.body or b"")) == (
        "/embeddings",
        {"model": "served", "input": ["x", "y"], "encoding_format": "base64", "dimensions": 4, "k": 2},
    )
