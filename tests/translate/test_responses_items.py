"""Items of the Responses API to the hub and back: nothing that was said is lost on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy import model as hub
from ollama_proxy.errors import Invalid, Unsupported
from ollama_proxy.events import Event, Finish, Refusal, Text, Thinking, ToolDelta, ToolStart
from ollama_proxy.model import ModelInfo
from ollama_proxy.policy.plan import plan
from ollama_proxy.translate import responses
from ollama_proxy.translate.ollama import WIRE
from ollama_proxy.translate.responses_items import SUMMARY, canonical, flat, items_of, parse_items
from ollama_proxy.translate.responses_write import ResponseWriter
from ollama_proxy.translate.sealed import seal
from ollama_proxy.translate.shapes_responses import ITEMS, OTHER_ITEMS, ResponsesRequest

WORDS = st.text(min_size=1, max_size=12)
Json = dict[str, Any]


def message(role: str, content: Any, **more: Any) -> Json:
    return {"role": role, "content": content, **more}


def text_in(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part.get("text", part.get("refusal")) for part in content]


def said(items: Sequence[Json]) -> list[tuple[str, ...]]:
    """Return all that items say, in their order, as an oracle that knows nothing of messages."""
    found: list[tuple[str, ...]] = []
    for item in items:
        match item.get("type", "message"):
            case "message":
                found += [("text", text) for text in text_in(item["content"])]
            case "function_call":
                found.append(("call", item["call_id"], flat(item.get("namespace"), item["name"]), item["arguments"]))
            case "custom_tool_call":
                found.append(("custom", item["call_id"], flat(item.get("namespace"), item["name"]), item["input"]))
            case "function_call_output" | "custom_tool_call_output":
                found.append(("result", item["call_id"], *text_in(item["output"])))
            case "reasoning":
                text = "".join(part["text"] for part in item.get("content") or ())
                found.append(("thought", text or "\n\n".join(part["text"] for part in item["summary"])))
            case "compaction":
                found.append(("text", SUMMARY + "shorter"))
    return found


def heard(messages: Sequence[hub.Message]) -> list[tuple[str, ...]]:
    """Return all that the hub's messages say."""
    found: list[tuple[str, ...]] = []
    for part in (part for each in messages for part in each.parts):
        match part:
            case hub.Text(text) | hub.Refusal(text):
                found.append(("text", text))
            case hub.ToolCall(id, name, arguments, kind):
                found.append(("custom" if kind == "custom" else "call", id, name, arguments))
            case hub.ToolResult(id, parts):
                found.append(("result", id, *(part.text for part in parts if isinstance(part, hub.Text))))
            case hub.Thinking(text):
                found.append(("thought", text))
    return found


def parts(kind: str) -> st.SearchStrategy[Any]:
    listed = st.lists(st.builds(lambda text: {"type": kind, "text": text}, WORDS), min_size=1, max_size=3)
    return st.one_of(WORDS, listed)


USERS = st.builds(message, st.sampled_from(["user", "system", "developer"]), parts("input_text"))
SPOKEN = st.builds(
    message,
    st.just("assistant"),
    st.one_of(
        parts("output_text"), st.lists(st.builds(lambda text: {"type": "refusal", "refusal": text}, WORDS), min_size=1)
    ),
)
THOUGHTS = st.one_of(
    st.builds(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}, WORDS),
    st.builds(
        lambda text: {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}, WORDS
    ),
)
COMPACTED = st.just({"type": "compaction", "encrypted_content": seal("shorter")})
SINGLE = st.one_of(USERS, SPOKEN, THOUGHTS, COMPACTED).map(lambda item: [item])
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
NAMESPACES = st.one_of(st.none(), NAMES)


@st.composite
def rounds(draw: st.DrawFn) -> list[Json]:
    """Calls, one or several at once, and their results in any order."""
    made: list[Json] = []
    results: list[Json] = []
    for number in range(draw(st.integers(1, 3))):
        name, namespace = draw(NAMES), draw(NAMESPACES)
        call: Json = {"call_id": f"call_{number}", "name": name, "namespace": namespace}
        if draw(st.booleans()):
            made.append({"type": "custom_tool_call", "input": draw(WORDS), **call})
        else:
            made.append({"type": "function_call", "arguments": json.dumps({"a": draw(WORDS)}), **call})
        kind = made[-1]["type"] + "_output"
        results.append({"type": kind, "call_id": call["call_id"], "output": draw(parts("input_text"))})
    return [*made, *draw(st.permutations(results))]


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    pieces: list[list[Json]] = draw(st.lists(st.one_of(SINGLE, rounds()), max_size=8))
    # Ids of calls are told apart by the round they belong to.
    return [
        {**item, "call_id": f"{item['call_id']}_{number}"} if "call_id" in item else item
        for number, piece in enumerate(pieces)
        for item in piece
    ]


@given(conversations())
def test_items_lose_nothing_on_their_way_to_the_hub(items: list[Json]) -> None:
    parsed = parse_items(items)
    assert heard(parsed.messages) == said(items)
    assert parsed.ignored == []


@given(conversations())
def test_what_the_assistant_does_in_a_row_is_one_message(items: list[Json]) -> None:
    roles = [each.role for each in parse_items(items).messages]
    assert all(not (a == b == "assistant") for a, b in itertools.pairwise(roles))


def ids() -> Any:
    count = itertools.count()
    return lambda prefix: f"{prefix}{next(count)}"


@given(conversations())
def test_items_as_they_are_kept_say_the_same_and_stay_as_they_are(items: list[Json]) -> None:
    kept = canonical(items, ids())
    assert heard(parse_items(kept).messages) == said(items)
    assert canonical(kept, lambda prefix: pytest.fail("an id was there")) == kept
    assert all(item["id"] and item["type"] for item in kept)
    for item, before in zip(kept, items, strict=True):
        assert {key: value for key, value in item.items() if key in before and key != "content"} == {
            key: value for key, value in before.items() if key != "content"
        }


@settings(max_examples=60)
@given(conversations())
def test_items_lose_nothing_on_their_way_to_ollama(items: list[Json]) -> None:
    ask = hub.Ask(model="m", messages=tuple(parse_items([*items, message("user", "end")]).messages))
    info = ModelInfo(id="m", backend="o", capabilities=frozenset({"completion", "tools", "thinking"}))
    told = json.loads(WIRE.chat(plan(ask, info, WIRE.abilities).ask, info).body or b"")["messages"]
    # Texts may be joined, and thoughts as well; nobody's words may be missing, nor change their order.
    sent = "\0".join(
        "\0".join([each.get("thinking") or "", each.get("content") or "", json.dumps(each.get("tool_calls") or "")])
        for each in told
    )
    place = 0
    for kind, *words in said(items):
        if kind in ("text", "result"):
            for word in words[1:] if kind == "result" else words:
                place = sent.index(word, place)
        elif kind == "thought":
            assert words[0] in sent
        else:
            assert json.dumps(words[1])[1:-1] in sent
            argument = words[2] if kind == "custom" else json.loads(words[2])["a"]
            assert json.dumps(argument) in sent


# --- an answer that comes back as input -------------------------------------------------------------------------------


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from("tvrcf"), max_size=6))):
        pieces = draw(st.lists(WORDS, min_size=1, max_size=3))
        match kind:
            case "t":
                events += [Thinking(0, piece) for piece in pieces]
            case "v":
                events += [Text(0, piece) for piece in pieces]
            case "r":
                events += [Refusal(0, piece) for piece in pieces]
            case "c":
                events += [ToolStart(0, number, f"call_{number}", "note", "custom")]
                events += [ToolDelta(0, number, piece) for piece in pieces]
            case "f":
                text = json.dumps({"a": pieces})
                at = draw(st.integers(0, len(text)))
                events += [ToolStart(0, number, f"call_{number}", "mail__send")]
                events += [ToolDelta(0, number, text[:at]), ToolDelta(0, number, text[at:])]
    return [*events, Finish(0, "stop")]


def done(events: list[Event]) -> list[tuple[str, ...]]:
    """Return what an answer says, pieces of one kind joined."""
    found: list[list[str]] = []
    for event in events:
        match event:
            case Thinking(_, text) | Text(_, text) | Refusal(_, text):
                kind = {Thinking: "thought", Text: "text", Refusal: "text"}[type(event)]
                same = found and found[-1][0] == kind and found[-1][-1] == type(event).__name__
                if same:
                    found[-1][1] += text
                else:
                    found.append([kind, text, type(event).__name__])
            case ToolStart(_, _, id, name, tool):
                found.append(["custom" if tool == "custom" else "call", id, name, "", ""])
            case ToolDelta(_, _, arguments):
                found[-1][3] += arguments
    return [tuple(each[:-1]) for each in found]


@given(answers(), st.booleans(), st.booleans())
def test_an_answer_fed_back_says_what_it_said(events: list[Event], summary: bool, sealed: bool) -> None:
    request = ResponsesRequest(model="m", input="x")
    writer = ResponseWriter(
        responses.echo(request, id="resp_" + "0" * 48, created=1),
        clock=lambda: 2.0,
        names={"mail__send": ("mail", "send")},
        summary=summary,
        sealed=sealed,
    )
    writer.feed(events)
    writer.flush()
    output = json.loads(msgspec.json.encode(writer.response["output"]))
    for item in output:
        # As a client does that shows no thoughts.
        if item["type"] == "reasoning" and sealed:
            item["summary"], item["content"] = [], None
    results = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "ok"}
        for item in output
        if "call_id" in item
    ]
    parsed = parse_items([message("user", "x"), *output, *results])
    spoken = [each for each in heard(parsed.messages[1:]) if each[0] != "result"]
    assert spoken == done(events)
    assert parsed.ignored == []


# --- one by one -------------------------------------------------------------------------------------------------------


def test_a_text_is_one_message_of_the_user() -> None:
    assert items_of("hi") == [{"role": "user", "content": "hi"}]
    assert items_of(None) == []


def test_a_thought_that_others_sealed_is_named_and_its_summary_used() -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": "gAAAA"}
    parsed = parse_items([item, message("user", "x")])
    assert parsed.messages[0].parts == (hub.Thinking("short", "gAAAA", ("short",)),)
    assert parsed.ignored == ["input.reasoning.encrypted_content"]
    empty = parse_items([{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}])
    assert (empty.messages, empty.ignored) == ([], ["input.reasoning.encrypted_content"])


def test_a_thought_that_was_sealed_here_is_whole_again() -> None:
    item = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "short"}],
        "encrypted_content": seal("all"),
    }
    (told,) = parse_items([item]).messages
    assert told.parts == (hub.Thinking("all", item["encrypted_content"], ("short",)),)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OTHER_ITEMS)
def test_kinds_of_openais_own_tools_are_left_out_and_named(kind: str) -> None:
    parsed = parse_items([{"type": kind, "id": "x_1", "anything": [1]}, {"type": kind, "id": "x_2"}])
    assert (parsed.messages, parsed.ignored) == ([], [f"input.{kind}"])


def test_tools_among_items_are_tools() -> None:
    tool = {"type": "function", "name": "f"}
    assert parse_items([{"type": "additional_tools", "tools": [tool]}]).tools == [tool]


def test_a_result_knows_the_name_of_its_tool() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "send", "namespace": "mail", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "ok"}]}
    assert parse_items([call, result]).messages[1].parts == (hub.ToolResult("c", (hub.Text("ok"),), "mail__send"),)


@pytest.mark.parametrize(
    ("items", "history", "message", "param"),
    [
        ([{"id": "a", "role": "user", "content": "x"}] * 2, 0, "Duplicate item found with id a.", "input"),
        ([{"id": "a", "role": "user", "content": "x"}] * 2, 1, "Duplicate item found with id a.", "input"),
        (
            [{"type": "web_search_call", "id": "a"}, {"role": "user", "content": "x", "id": "a"}],
            0,
            "Duplicate",
            "input",
        ),
        ([{"type": "web_search_call", "id": 5}], 0, "Invalid type for 'input[0].id'", "input[0].id"),
        ([{"role": "user", "content": "x"}, {"role": "user"}], 1, "Missing", "input[0].content"),
        ([{"type": None}], 0, "Missing required parameter: 'input[0].type'.", "input[0].type"),
        ([{"type": 3}], 0, "Invalid type for 'input[0].type'", "input[0].type"),
        ([{"type": []}], 0, "Invalid type for 'input[0].type'", "input[0].type"),
        ([{"type": "reasoning", "summary": "x"}], 0, "Invalid type", "input[0].summary"),
        ([{"type": "compaction", "encrypted_content": None}], 0, "Invalid type", "input[0].encrypted_content"),
    ],
)
def test_what_is_wrong_with_items_is_told(items: list[Json], history: int, message: str, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_items(items, first=history)
    assert message in caught.value.message
    assert caught.value.param == param


def test_what_was_said_before_may_hold_an_id_twice_and_none_is_an_id() -> None:
    items = [{"id": "a", "role": "user", "content": "x"}] * 2
    assert len(parse_items(items, first=2).messages) == 2
    assert (
        len(parse_items([{"id": None, "role": "user", "content": "x"}, message("user", "y", id="")] * 2).messages) == 4
    )


ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.sampled_from(["", "x", "a", "user"])
)
KINDS: st.SearchStrategy[Any] = st.sampled_from([*ITEMS, "web_search_call", "nonsense", "", None, 5, [], {}])
KEYS = st.sampled_from(
    [
        "id",
        "role",
        "content",
        "call_id",
        "name",
        "namespace",
        "arguments",
        "input",
        "output",
        "summary",
        "tools",
        "text",
    ]
)
OF_PARTS = ["text", "refusal", "image_url", "file_id", "file_data", "file_url", "filename", "input_audio"]
PARTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["input_text", "output_text", "refusal", "input_image", "input_file", "input_audio", "?"]
        )
    },
    optional=dict.fromkeys(OF_PARTS, ATOMS),
)
VALUES = st.one_of(ATOMS, st.lists(st.one_of(ATOMS, PARTS), max_size=2), PARTS)
HOSTILE = st.lists(
    st.builds(lambda kind, rest: {"type": kind, **rest}, KINDS, st.dictionaries(KEYS, VALUES, max_size=5)), max_size=4
)


@settings(max_examples=200)
@given(HOSTILE, st.integers(0, 2))
def test_hostile_items_are_refused_in_openais_words_or_understood(items: list[Any], history: int) -> None:
    try:
        parse_items(items, first=history)
    except (Invalid, Unsupported):
        return
    kept = canonical(items, ids())
    assert canonical(kept, ids()) == kept
    assert all(isinstance(item["id"], str) for item in kept)
