"""Anthropic's messages, read: what each part of a request becomes in the hub, and what is refused or named."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ollama_proxy import model as hub
from ollama_proxy import tokens
from ollama_proxy.errors import (
    ContextTooLong,
    Invalid,
    ModelNotFound,
    OproxyError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    UpstreamDown,
)
from ollama_proxy.translate import messages, messages_errors
from ollama_proxy.translate.messages_blocks import signed
from ollama_proxy.translate.sealed import seal
from ollama_proxy.translate.shapes_messages import CountTokensRequest, MessagesRequest
from ollama_proxy.translate.validate import decode

USER: dict[str, Any] = {"role": "user", "content": "Hello"}
PIXEL = base64.b64encode(b"not really a png").decode()
TOOL: dict[str, Any] = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}


def parse(*turns: Any, **more: Any) -> hub.Ask:
    body = {"model": "m", "max_tokens": 2000, "messages": list(turns) or [USER], **more}
    return messages.parse(json.dumps(body).encode())


def refused(*turns: Any, **more: Any) -> str:
    """Return what a client is told of a request that is refused."""
    with pytest.raises(Invalid) as caught:
        parse(*turns, **more)
    message: str = messages_errors.body(caught.value, "req_1")["error"]["message"]
    return message


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral", "ttl": "1h"}}


# --- messages -----------------------------------------------------------------------------------------------------


def test_instructions_and_turns_are_messages() -> None:
    ask = parse(USER, assistant(text("Hi")), user(text("a"), text("b")), system=[text("Be"), text("brief")])
    assert ask.messages == (
        hub.Message("system", (hub.Text("Be"), hub.Text("brief"))),
        hub.Message("user", (hub.Text("Hello"),)),
        hub.Message("assistant", (hub.Text("Hi"),)),
        hub.Message("user", (hub.Text("a"), hub.Text("b"))),
    )
    assert ask.ignored == ()


def test_instructions_as_a_text_and_no_instructions_at_all() -> None:
    assert parse(system="Be brief").messages[0] == hub.Message("system", (hub.Text("Be brief"),))
    nothings: list[Any] = [None, "", []]
    for nothing in nothings:
        assert parse(system=nothing).messages == (hub.Message("user", (hub.Text("Hello"),)),)


def test_an_explicit_null_asks_for_nothing() -> None:
    names = MessagesRequest.__struct_encode_fields__
    nulls = {name: None for name in names if name not in ("model", "max_tokens", "messages")}
    assert parse(**nulls) == parse()


def test_a_result_is_a_message_of_its_own_with_the_name_of_its_call() -> None:
    ask = parse(
        USER,
        assistant(text("I look."), {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "é", "n": 1}}),
        user(
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a cat"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": [text("x"), text("y")]},
            text("And now?"),
        ),
    )
    assert ask.messages[1].parts[1] == hub.ToolCall("toolu_1", "look", '{"at":"é","n":1}')
    assert ask.messages[2:] == (
        hub.Message("tool", (hub.ToolResult("toolu_1", (hub.Text("a cat"),), "look"),)),
        hub.Message("tool", (hub.ToolResult("toolu_2", (hub.Text("x"), hub.Text("y"))),)),
        hub.Message("user", (hub.Text("And now?"),)),
    )


@pytest.mark.parametrize("content", [None, "", []])
def test_a_result_may_hold_nothing(content: Any) -> None:
    ask = parse(USER, user({"type": "tool_result", "tool_use_id": "t", "content": content}))
    (result,) = ask.messages[1].parts
    assert isinstance(result, hub.ToolResult)
    assert "".join(part.text for part in result.parts if isinstance(part, hub.Text)) == ""


def test_a_failed_tool_says_so_to_the_model() -> None:
    failed = {"type": "tool_result", "tool_use_id": "t", "content": "no such file", "is_error": True}
    assert parse(user(failed)).messages[0].parts == (
        hub.ToolResult("t", (hub.Text("Error:"), hub.Text("no such file"))),
    )


def test_thoughts_come_back_with_their_signature_and_hidden_ones_whole() -> None:
    ask = parse(
        USER,
        assistant(
            {"type": "thinking", "thinking": "hm", "signature": signed("hm")},
            {"type": "thinking", "thinking": "", "signature": seal("secret thought")},
            {"type": "thinking", "thinking": "", "signature": "somebody else's"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "thinking", "thinking": "bare"},
        ),
    )
    assert ask.messages[1].parts == (
        hub.Thinking("hm", signed("hm")),
        hub.Thinking("secret thought", seal("secret thought")),
        hub.Thinking("", "somebody else's"),
        hub.Thinking("", "xyz"),
        hub.Thinking("bare"),
    )


def test_images_and_documents_become_parts() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    ask = parse(
        user(
            {"type": "image", "source": source},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}, "title": "T"},
            {"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": PIXEL}, "context": "C"},
            {"type": "document", "source": {"type": "content", "content": [text("inner")]}},
            {"type": "search_result", "source": "https://a", "title": "Found", "content": [text("this")]},
        )
    )
    assert ask.messages[0].parts == (
        hub.Image(data=PIXEL, media_type="image/png", param="messages[0].content[0].source"),
        hub.Image(url="https://example.com/a.png", param="messages[0].content[1].source"),
        hub.Text("File: T\n\nwords"),
        hub.Text("C"),
        hub.File(data=PIXEL, media_type="text/csv", param="messages[0].content[3].source"),
        hub.Text("inner"),
        hub.Text("Found\nhttps://a\n\nthis"),
    )
    assert ask.ignored == ()


def test_a_screenshot_of_a_tool_is_an_image_in_its_result() -> None:
    shot = {"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": PIXEL}}
    (result,) = parse(user({"type": "tool_result", "tool_use_id": "t", "content": [shot]})).messages[0].parts
    assert isinstance(result, hub.ToolResult)
    assert result.parts == (
        hub.Image(data=PIXEL, media_type="image/jpeg", param="messages[0].content[0].content[0].source"),
    )


def test_instructions_in_mid_conversation_are_said_by_the_person() -> None:
    ask = parse({"role": "system", "content": "first"}, USER, {"role": "system", "content": [text("later")]})
    assert [message.role for message in ask.messages] == ["system", "user", "user"]
    assert ask.messages[2].parts == (hub.Text("<system-reminder>\nlater\n</system-reminder>"),)


def test_an_answer_may_be_begun_for_the_model() -> None:
    ask = parse(USER, {"role": "assistant", "content": "The best answer is ("})
    assert ask.messages[-1] == hub.Message("assistant", (hub.Text("The best answer is ("),))
    assert parse(USER, {"role": "assistant", "content": ""}).messages == parse(USER).messages


def test_what_only_anthropics_servers_understand_is_left_out_and_named() -> None:
    ask = parse(
        USER,
        assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, text("I found it.")),
        user({"type": "container_upload", "file_id": "f"}, text("go on")),
        system=[text("x-anthropic-billing-header: cc_version=1;"), text("Be brief")],
        context_management={"edits": []}, container=None, mcp_servers=[], unheard_of=1, service_tier="auto",
        output_config={"effort": "high", "task_budget": {"type": "tokens", "total": 1}},
        cache_control={"type": "ephemeral"},
    )  # fmt: skip
    assert ask.messages[0].parts == (hub.Text("Be brief"),)
    assert ask.messages[2].parts == (hub.Text("I found it."),)
    assert ask.messages[3].parts == (hub.Text("go on"),)
    assert ask.ignored == (
        "context_management", "mcp_servers", "unheard_of", "system.x-anthropic-billing-header",
        "messages.content.server_tool_use", "messages.content.container_upload", "output_config.effort",
        "output_config.task_budget",
    )  # fmt: skip


def test_citations_and_unknown_results_are_named() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "words"}
    document = {"type": "document", "source": source, "citations": {"enabled": True}}
    assert parse(user(document)).ignored == ("messages.content.citations",)


@pytest.mark.parametrize(
    ("thread", "status", "details"),
    [
        ({"type": "create"}, 400, {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}),
        ({"type": "continue", "previous_message_id": "msg_1"}, 404, {"error_code": "thread_not_found"}),
    ],
)
def test_a_conversation_held_by_the_server_is_refused_as_the_sdk_goes_on_from(
    thread: Any, status: int, details: Any
) -> None:
    """Answered as if it were whole, the model would see one turn without its question, tools and instructions."""
    body: Any = {"model": "m", "messages": [USER], "thread": thread}
    for shape, more in ((MessagesRequest, {"max_tokens": 9}), (CountTokensRequest, {})):
        with pytest.raises(OproxyError) as refused:
            messages.parse_shape(*decode(json.dumps({**body, **more}).encode(), shape))
        assert refused.value.status == status
        assert messages_errors.body(refused.value, "req_1")["error"]["details"] == details


@pytest.mark.parametrize("thread", [None, {"type": "fork"}, {"type": "continue"}, "create", 1, []])
def test_a_thread_is_nothing_or_what_the_api_knows(thread: Any) -> None:
    if thread is None:
        assert parse(USER, thread=None).ignored == ()
        return
    with pytest.raises(Invalid):
        parse(USER, thread=thread)


@pytest.mark.parametrize(
    "asked",
    [
        {"compaction": {"type": "summarize"}},
        {"compaction": {"type": "summarize", "instructions": "Be brief"}},
        {"container": "container_1"},
        {"container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}},
    ],
)
def test_what_would_change_the_meaning_of_an_answer_is_refused(asked: Any) -> None:
    with pytest.raises(Unsupported) as refused:
        parse(USER, **asked)
    assert refused.value.param == next(iter(asked))


# --- tools --------------------------------------------------------------------------------------------------------


def test_tools_are_functions_with_their_examples() -> None:
    ask = parse(tools=[{**TOOL, "input_examples": [{"x": 1}]}, {**TOOL, "type": "custom", "name": "other"}])
    assert ask.tools == (
        hub.Tool("look", 'Looks.\nExample input: {"x":1}', {"type": "object"}),
        hub.Tool("other", "Looks.", {"type": "object"}),
    )


def test_tools_that_the_client_runs_itself_are_given_and_those_of_servers_are_named() -> None:
    ask = parse(
        tools=[
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 100},
            {"type": "memory_20250818", "name": "memory"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            {"type": "mcp_toolset", "mcp_server_name": "x"},
        ]
    )
    assert [tool.name for tool in ask.tools] == ["bash", "str_replace_based_edit_tool", "memory"]
    assert all((tool.parameters or {})["properties"] and tool.description for tool in ask.tools)
    assert ask.ignored == ("tools.web_search", "tools.mcp_toolset")


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        ({"type": "auto"}, hub.ToolChoice(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, hub.ToolChoice(), False),
        ({"type": "any"}, hub.ToolChoice("required"), True),
        (
            {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
            hub.ToolChoice("required", ("look",)),
            False,
        ),
        ({"type": "none"}, hub.ToolChoice("none"), True),
        (None, hub.ToolChoice(), True),
    ],
)
def test_the_choice_of_tools(choice: Any, wanted: hub.ToolChoice, parallel: bool) -> None:
    ask = parse(tools=[TOOL], tool_choice=choice)
    assert (ask.tool_choice, ask.parallel_tools) == (wanted, parallel)


def test_a_demand_for_a_tool_that_is_not_here_is_refused() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(Unsupported):
        parse(tools=[search, TOOL], tool_choice={"type": "tool", "name": "web_search"})
    with pytest.raises(Unsupported):
        parse(tools=[search], tool_choice={"type": "any"})
    assert "only be specified while providing tools" in refused(tool_choice={"type": "any"})
    assert "'nosuch' not found" in refused(tools=[TOOL], tool_choice={"type": "tool", "name": "nosuch"})
    assert parse(tool_choice={"type": "none"}).tool_choice.mode == "none"


# --- the rest -----------------------------------------------------------------------------------------------------


def test_the_knobs_are_passed_on() -> None:
    ask = parse(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["END", "\n\nHuman:"], stream=True)
    assert ask.sampling == hub.Sampling(
        max_tokens=2000, temperature=0.5, top_p=0.9, top_k=40, stop=("END", "\n\nHuman:")
    )
    assert ask.stream


@pytest.mark.parametrize(
    ("thinking", "config", "effort", "seen"),
    [
        (None, None, "none", "none"),
        ({"type": "disabled"}, None, "none", "none"),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low", "shown"),
        ({"type": "enabled", "budget_tokens": 1999, "display": "omitted"}, {"effort": "max"}, "max", "omitted"),
        ({"type": "adaptive"}, None, "medium", "shown"),
        ({"type": "adaptive", "display": "omitted"}, {"effort": "high"}, "high", "omitted"),
        ({"type": "between_tools", "display": "omitted"}, None, "medium", "omitted"),
        # What Claude Code asks for since 2.1.332.
        ({"type": "adaptive", "display": "updates"}, None, "medium", "shown"),
        ({"type": "enabled", "budget_tokens": 1999, "display": "updates"}, None, "low", "shown"),
        ({"type": "between_tools", "display": "updates"}, None, "medium", "shown"),
    ],
)
def test_who_asks_for_thinking_gets_it(thinking: Any, config: Any, effort: str, seen: str) -> None:
    body = {"model": "m", "max_tokens": 2000, "messages": [USER], "thinking": thinking, "output_config": config}
    shape, fields = decode(json.dumps(body).encode(), MessagesRequest)
    ask = messages.parse_shape(shape, fields)
    assert (ask.reasoning.effort, messages.thoughts_of(shape)) == (effort, seen)


@pytest.mark.parametrize("kind", ["enabled", "adaptive", "between_tools"])
def test_how_thoughts_are_bound_is_accepted_and_named_as_ignored(kind: str) -> None:
    thinking: dict[str, Any] = {"type": kind, "budget_tokens": 1024}
    for binding, named in (({"prefix_mismatch_behavior": "drop_block"}, True), ({}, False), (None, False)):
        ask = parse(max_tokens=2000, thinking={**thinking, "block_binding": binding})
        assert ("thinking.block_binding" in ask.ignored) is named


def test_larger_budgets_are_higher_efforts() -> None:
    efforts = [
        parse(max_tokens=100_000, thinking={"type": "enabled", "budget_tokens": budget}).reasoning.effort
        for budget in (1024, 4096, 10_000, 31_999)
    ]
    assert efforts == ["low", "low", "medium", "high"]


def test_a_schema_for_the_answer_in_its_old_and_its_new_place() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    wanted = hub.Format("schema", schema={"type": "object"})
    assert parse(output_config={"format": form}).format == wanted
    assert parse(output_format=form).format == wanted


def test_a_person_is_a_tag_and_of_claude_codes_json_the_session() -> None:
    assert parse(metadata={"user_id": "anna"}).extra == {"user": "anna"}
    assert messages.tag_of("anna") == "anna"
    assert messages.tag_of('{"device_id":"d","account_uuid":"","session_id":"s-1"}') == "s-1"
    for odd in ("{", '{"session_id":5}', "{}", '{"a":' * 2000):
        assert messages.tag_of(odd) == odd


def test_counting_needs_no_limit() -> None:
    body = {"model": "m", "messages": [USER], "tools": [TOOL], "system": "s", "thinking": {"type": "adaptive"}}
    ask = messages.parse_shape(*decode(json.dumps(body).encode(), CountTokensRequest))
    assert (len(ask.messages), len(ask.tools), ask.sampling) == (2, 1, hub.Sampling())


@pytest.mark.parametrize(
    ("turns", "more", "told"),
    [
        ((), {"max_tokens": None}, "max_tokens: "),
        ((), {"messages": []}, "messages: "),
        ((), {"temperature": 1.5}, "temperature: "),
        ((), {"stop_sequences": [" "]}, "stop_sequences: each stop sequence must contain non-whitespace."),
        ((), {"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.budget_tokens: "),
        ((), {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "max_tokens: `max_tokens` must be greater than"),
        ((), {"thinking": {"type": "nosuch"}}, "thinking.type: "),
        ((), {"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name: "),
        ((), {"tools": [{"name": "a"}]}, "tools.0.input_schema: Field required"),
        ((), {"tools": [{"input_schema": {}}]}, "tools.0.name: Field required"),
        ((), {"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        ((user(),), {}, "messages.0.content: user messages must have non-empty content."),
        ((user({"type": "nosuch"}),), {}, "messages.0.content.0.type: "),
        ((user({"text": "a"}),), {}, "messages.0.content.0.type: Field required"),
        ((user({"type": "tool_use", "id": "a", "name": "b", "input": {}}),), {}, "messages.0.content.0: `tool_use`"),
        ((user({"type": "thinking", "thinking": "a"}),), {}, "messages.0.content.0: `thinking`"),
        ((assistant({"type": "tool_result", "tool_use_id": "a"}),), {}, "messages.0.content.0: `tool_result`"),
        ((assistant({"type": "tool_use", "id": "a", "name": "b", "input": []}),), {}, "messages.0.content.0.input: "),
        ((USER, {"role": "system", "content": [{"type": "thinking", "thinking": ""}]}), {}, "messages.1.content.0: "),
        (({"role": "tool", "content": "a"},), {}, "messages.0.role: "),
        ((user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": PIXEL}}),), {},
         "messages.0.content.0.source.media_type: Input should be one of 'image/png'"),
        ((user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}),), {},
         "messages.0.content.0.source.data: "),
        ((user({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),), {},
         "messages.0.content.0.source.url: "),
        ((user({"type": "image", "source": {"type": "file", "file_id": "f"}}),), {},
         "messages.0.content.0.source.file_id: "),
        ((user({"type": "document", "source": {"type": "url", "url": "https://a"}}),), {},
         "messages.0.content.0.source.url: "),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_with_its_place(turns: tuple[Any, ...], more: dict[str, Any], told: str) -> None:
    assert refused(*turns, **more).startswith(told)


def test_a_tool_whose_schema_has_no_bottom_is_refused() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"properties": deep}
    assert "nested too deeply" in refused(tools=[{"name": "a", "input_schema": deep}])
    given = {"type": "tool_use", "id": "a", "name": "b", "input": deep}
    assert "nested too deeply" in refused(assistant(given))


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Invalid("x"), 400, "invalid_request_error"),
        (RateLimited("x", wait=1), 429, "rate_limit_error"),
        (Overloaded("x", wait=1), 529, "overloaded_error"),
        (UpstreamDown("x"), 502, "api_error"),
    ],
)
def test_a_refusal_is_anthropics(error: OproxyError, status: int, kind: str) -> None:
    assert messages_errors.status(error) == status
    assert messages_errors.body(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    body = messages_errors.body(ContextTooLong(limit=8192, tokens=9000), "req_1")
    assert body["error"]["message"] == "prompt is too long: 9000 tokens > 8192 maximum"
    body = messages_errors.body(ContextTooLong(limit=8192, tokens=None), "req_1")
    assert body["error"]["message"].startswith("prompt is too long: ")


def test_the_planners_names_are_written_as_this_api_calls_them() -> None:
    assert messages.renamed(("reasoning_effort", "stop", "x")) == ("thinking", "stop_sequences", "x")
    error = Invalid("x", param="tools[1].function.parameters")
    assert messages_errors.body(error, "")["error"]["message"] == "tools.1.input_schema: x"


def test_a_rate_limit_has_anthropics_words() -> None:
    error = RateLimited("Rate limit reached for m in organization …", wait=2.0, rate="50 requests per minute")
    told = messages_errors.body(error, "req_1")["error"]
    assert told["type"] == "rate_limit_error"
    assert told["message"].startswith(
        "This request would exceed the rate limit for your organization (org-oproxy) of 50 requests per minute. "
    )
    assert "openai" not in told["message"]
    # Other waits have words of their own.
    assert messages_errors.body(RateLimited("Wait a second.", wait=1.0), "")["error"]["message"] == "Wait a second."


def test_a_spent_budget_and_an_unknown_model_have_anthropics_words() -> None:
    spent = QuotaExceeded(f"{QuotaExceeded().message} The budget of this key is spent.")
    assert messages_errors.body(spent, "")["error"]["message"] == (
        "You have reached your specified API usage limits. The budget of this key is spent."
    )
    assert messages_errors.body(ModelNotFound("nope"), "")["error"] == {
        "type": "not_found_error",
        "message": "model: nope",
    }
    hinted = messages_errors.body(ModelNotFound("nope", hint="To fetch it: x."), "")["error"]["message"]
    assert hinted == "model: nope. To fetch it: x."


def test_results_come_before_what_is_said_beside_them() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "r"}
    ask = parse(USER, assistant(use), user(text("note"), result, text("and more")))
    assert [message.role for message in ask.messages] == ["user", "assistant", "tool", "user"]
    assert ask.messages[3].parts == (hub.Text("note"), hub.Text("and more"))


def test_a_rough_count_is_near_the_estimate() -> None:
    text = "The quick brown fox jumps over the lazy dog, and then it goes on to the next field. " * 50
    tool = {"name": "look", "description": text, "input_schema": {"type": "object", "properties": {"a": {}}}}
    for asked in (parse(USER), parse({"role": "user", "content": text}, tools=[tool])):
        assert messages.rough_count(asked) == pytest.approx(tokens.estimate(asked), rel=0.4)
