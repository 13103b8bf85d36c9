"""Requests to Ollama: what of a question is sent, and in which form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ollama_proxy.translate.ollama import WIRE


def info(*capabilities: str, **more: Any) -> ModelInfo:
    return ModelInfo(id="m:latest", backend="ollama", capabilities=frozenset(capabilities or ("completion",)), **more)


def turn(role: Role, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def body(*messages: Message, model: ModelInfo | None = None, **more: Any) -> dict[str, Any]:
    """Return what is sent for a question."""
    call = WIRE.chat(Ask(model="m:latest", messages=messages, **more), model or info())
    assert (call.method, call.path) == ("POST", "/api/chat")
    sent: dict[str, Any] = json.loads(call.body or b"")
    return sent


def sent_messages(*messages: Message) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(*messages)["messages"]
    return found


def options(**sampling: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(turn("user", "a"), sampling=Sampling(**sampling)).get("options", {})
    return found


# --- messages -------------------------------------------------------------------------------------------------------


def test_only_what_is_needed_is_sent_and_nothing_may_be_cut() -> None:
    assert body(turn("user", "Hi")) == {
        "model": "m:latest",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
        "truncate": False,
        "shift": False,
    }


def test_the_parts_of_a_message_are_one_text_and_neighbours_one_turn() -> None:
    sent = sent_messages(
        turn("system", "Be kind."), turn("system", "Be short."), turn("user", "a", "b"), turn("user", "c"),
        turn("system", "Later."), turn("user", "d"),
    )  # fmt: skip
    assert sent == [
        {"role": "system", "content": "Be kind.\n\nBe short."},
        {"role": "user", "content": "a\nb\n\nc"},
        {"role": "system", "content": "Later."},
        {"role": "user", "content": "d"},
    ]


def test_answers_of_the_assistant_stay_apart() -> None:
    assert len(sent_messages(turn("user", "a"), turn("assistant", "b"), turn("assistant", "c"))) == 3


def test_images_stay_with_the_message_they_came_in() -> None:
    sent = sent_messages(
        turn("user", "a", Image(data="AAAA", media_type="image/png")), turn("user", "b", Image(data="BBBB"))
    )
    assert sent == [
        {"role": "user", "content": "a", "images": ["AAAA"]},
        {"role": "user", "content": "b", "images": ["BBBB"]},
    ]


@pytest.mark.parametrize(
    "part", [Image(url="https://x/y.png", param="p"), Audio("AAAA", "wav", param="p"), File(data="AAAA", param="p")]
)
def test_a_part_that_the_wire_has_no_place_for_is_refused_by_its_path(part: Part) -> None:
    with pytest.raises(Invalid) as caught:
        body(turn("user", part))
    assert caught.value.param == "p"


def test_refusals_are_text_and_thoughts_go_beside() -> None:
    assert sent_messages(turn("assistant", Thinking("Hm."), "Yes.", Refusal("No."))) == [
        {"role": "assistant", "content": "Yes.\nNo.", "thinking": "Hm."}
    ]


@pytest.mark.parametrize(
    ("given_arguments", "sent"),
    [
        ('{"a":[1]}', {"a": [1]}),
        ("", {}),
        ("  ", {}),
        ('{"a":', {"arguments": '{"a":'}),
        ("[1]", {"arguments": [1]}),
        ("null", {"arguments": None}),
        ("[" * 5000, {"arguments": "[" * 5000}),
    ],
)
def test_the_arguments_of_a_call_become_an_object(given_arguments: str, sent: Any) -> None:
    (message,) = sent_messages(turn("assistant", ToolCall("call_1", "f", given_arguments)))
    assert message["content"] == ""
    assert message["tool_calls"] == [{"id": "call_1", "function": {"name": "f", "arguments": sent}}]


def test_a_custom_call_is_a_function_with_its_input() -> None:
    (message,) = sent_messages(turn("assistant", ToolCall("call_1", "sh", "ls", kind="custom")))
    assert message["tool_calls"][0]["function"]["arguments"] == {"input": "ls"}


def test_each_result_of_a_tool_is_a_message_and_nothing_beside_it_is_lost() -> None:
    assert sent_messages(
        turn("tool", ToolResult("call_1", (Text("1"), Text("2")), "f"), ToolResult("call_2", ()), "and now?")
    ) == [
        {"role": "tool", "content": "1\n2", "tool_call_id": "call_1", "tool_name": "f"},
        {"role": "tool", "content": "", "tool_call_id": "call_2"},
        {"role": "user", "content": "and now?"},
    ]


TEXTS = st.text(max_size=5)
PARTS = st.one_of(
    TEXTS.map(Text), TEXTS.map(Refusal), TEXTS.map(Thinking),
    st.builds(ToolCall, TEXTS, TEXTS, TEXTS), st.builds(ToolResult, TEXTS, st.tuples(TEXTS.map(Text)), TEXTS),
)  # fmt: skip
TURNS = st.builds(
    Message, st.sampled_from(("system", "user", "assistant", "tool")), st.lists(PARTS, max_size=4).map(tuple)
)


@given(st.lists(TURNS, max_size=5))
def test_no_text_of_a_conversation_is_lost(turns: list[Message]) -> None:
    sent = sent_messages(*turns)
    told = "".join(message["content"] for message in sent)
    for message in turns:
        for part in message.parts:
            if isinstance(part, (Text, Refusal)):
                assert part.text in told
    assert sum(len(m.get("tool_calls", ())) for m in sent) == sum(
        isinstance(part, ToolCall) for message in turns for part in message.parts
    )


# --- options --------------------------------------------------------------------------------------------------------


def test_every_knob_has_its_option() -> None:
    knobs = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "frequency_penalty": 1.0, "presence_penalty": -1.0,
        "seed": 7,
    }  # fmt: skip
    assert options(**knobs, stop=("a", "b"), max_tokens=9) == {**knobs, "stop": ["a", "b"], "num_predict": 9}


@pytest.mark.parametrize(("limit", "sent"), [(0, 1), (1, 1), (-1, -1), (-2, -2)])
def test_no_token_at_all_is_never_without_end(limit: int, sent: int) -> None:
    assert options(max_tokens=limit) == {"num_predict": sent}
    assert body(turn("user", "a"), options={"num_predict": limit})["options"] == {"num_predict": sent}


def test_the_backends_own_options_lie_beneath_and_what_it_refuses_is_left_out() -> None:
    sent = body(
        turn("user", "a"),
        sampling=Sampling(temperature=0.0),
        options={"num_ctx": 2048, "temperature": 1, "typical_p": 0.9, "top_k": None},
        keep_alive="5m",
    )
    assert sent["options"] == {"num_ctx": 2048, "temperature": 0.0}
    assert sent["keep_alive"] == "5m"


@pytest.mark.parametrize(("wanted", "sent"), [(0, {"logprobs": True}), (3, {"logprobs": True, "top_logprobs": 3})])
def test_log_probabilities_are_asked_for(wanted: int, sent: dict[str, Any]) -> None:
    assert sent.items() <= body(turn("user", "a"), top_logprobs=wanted).items()


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        (Format(), None),
        (Format("json"), {"type": "object"}),
        (Format("schema", "x", {"type": "string"}), {"type": "string"}),
    ],
)
def test_an_answers_form_is_a_schema(form: Format, sent: Any) -> None:
    assert body(turn("user", "a"), format=form).get("format") == sent


def test_tools_are_sent_as_they_are() -> None:
    tools = (Tool("f", "Does.", {"type": "object", "properties": {"a": {"type": "string"}}}), Tool("g"))
    sent = body(turn("user", "a"), tools=tools, stream=True)
    assert sent["stream"] is True
    assert [each["function"]["name"] for each in sent["tools"]] == ["f", "g"]
    assert sent["tools"][0]["function"]["description"] == "Does."
    assert sent["tools"][0]["function"]["parameters"]["properties"] == {"a": {"type": "string"}}
    assert sent["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}


LEVELS = ("low", "medium", "high")


@pytest.mark.parametrize(
    ("effort", "values", "sent"),
    [
        (None, (), None),
        ("none", (), False),
        ("low", (), True),
        ("high", (False, True), True),
        ("minimal", LEVELS, "low"),
        ("medium", LEVELS, "medium"),
        ("xhigh", LEVELS, "high"),
        ("xhigh", (False, *LEVELS, "max"), "max"),
        ("none", (False, *LEVELS), False),
        ("none", LEVELS, "low"),
        ("odd", LEVELS, True),
    ],
)
def test_an_effort_becomes_what_the_model_takes(effort: str | None, values: tuple[bool | str, ...], sent: Any) -> None:
    model = info("completion", "thinking", think=values)
    assert body(turn("user", "a"), model=model, reasoning=Reasoning(effort)).get("think") == sent


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    assert "think" not in body(turn("user", "a"), reasoning=Reasoning("none"))


def test_a_model_that_is_known_for_levels_gets_them_from_old_servers_too() -> None:
    model = info("completion", "thinking", family="gptoss")
    assert body(turn("user", "a"), model=model, reasoning=Reasoning("low"))["think"] == "low"


def test_the_backends_own_think_wins() -> None:
    assert body(turn("user", "a"), reasoning=Reasoning("high", think=False))["think"] is False


# --- completions and embeddings -------------------------------------------------------------------------------------


def completion(model: ModelInfo | None = None, **more: Any) -> dict[str, Any]:
    call = WIRE.complete(Completion(model="m:latest", prompt="Once", **more), model or info())
    assert call.path == "/api/generate"
    sent: dict[str, Any] = json.loads(call.body or b"")
    return sent


def test_a_completion_is_raw() -> None:
    assert completion(sampling=Sampling(max_tokens=5), logprobs=2, stream=True) == {
        "model": "m:latest",
        "prompt": "Once",
        "stream": True,
        "truncate": False,
        "shift": False,
        "raw": True,
        "logprobs": True,
        "top_logprobs": 2,
        "options": {"num_predict": 5},
    }


def test_a_suffix_needs_the_models_template() -> None:
    sent = completion(info("completion", "insert"), suffix="end")
    assert sent["suffix"] == "end"
    assert "raw" not in sent
    assert completion(info("completion", "insert", "thinking"), suffix="end")["think"] is False
    with pytest.raises(Unsupported) as caught:
        completion(suffix="end")
    assert caught.value.param == "suffix"


def test_texts_to_embed_keep_their_order_and_are_never_cut() -> None:
    call = WIRE.embed(Embedding(model="m", inputs=("b", "a"), dimensions=8, keep_alive=0), info("embedding"))
    assert call.path == "/api/embed"
    assert json.loads(call.body or b"") == {
        "model": "m", "input": ["b", "a"], "truncate": False, "dimensions": 8, "keep_alive": 0,
    }  # fmt: skip


def test_a_model_without_embeddings_is_refused_before_any_call() -> None:
    with pytest.raises(Invalid) as caught:
        WIRE.embed(Embedding(model="m", inputs=("a",)), info("completion"))
    assert caught.value.param == "model"
