"""Ollama's own API as a front: its requests into the hub, the hub's events out as its records, and bytes passed on."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import ContextTooLong, Invalid, ModelNotFound, Unsupported, UpstreamDown, UpstreamFailed
from ollama_proxy.events import Event, Fail, Finish, Logprob, Note, Refusal, Text, Thinking, ToolDelta, ToolStart, Usage
from ollama_proxy.model import Ask, Audio, Completion, Format, Image, ModelInfo, Sampling, ToolCall, ToolResult
from ollama_proxy.translate import ollama, ollama_front, ollama_pass, validate
from ollama_proxy.translate.ollama_front_write import (
    ChatLines,
    GenerateLines,
    Lines,
    Times,
    embedded,
    error_body,
    loaded,
    show,
    tag,
    whole,
)
from ollama_proxy.translate.ollama_read import ChatReader, CompletionReader
from ollama_proxy.translate.shapes_ollama import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
)
from ollama_proxy.translate.wire import Vectors

PNG, JPEG, GIF, WEBP = "iVBORw0KGgo=", "/9j/4AAQSkZJRg==", "R0lGODlh", "UklGRjQAAABXRUJQVlA4"
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
TIME = "2026-11-21T06:03:02.988280722Z"


def chat(**body: Any) -> Ask:
    return ollama_front.parse_chat(*validate.decode(json.dumps({"model": "m", **body}).encode(), OllamaChatRequest))


def generate(**body: Any) -> ollama_front.Generation:
    data = json.dumps({"model": "m", **body}).encode()
    return ollama_front.parse_generate(*validate.decode(data, OllamaGenerateRequest))


def said(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages as they would be sent on to an Ollama."""
    return ollama.messages(chat(messages=list(messages)).messages)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_the_default() -> None:
    assert [chat(stream=value).stream for value in (None, True, False)] == [True, True, False]
    assert [generate(prompt="x", raw=raw).ask.stream for raw in (False, True)] == [True, True]


def test_null_stands_for_nothing_given() -> None:
    fields = [name for name in OllamaChatRequest.__struct_fields__ if name != "model"]
    assert chat(**dict.fromkeys(fields)) == chat()
    fields = [name for name in OllamaGenerateRequest.__struct_fields__ if name != "model"]
    assert generate(**dict.fromkeys(fields)) == generate()


def test_options_become_knobs_and_what_is_the_backends_stays() -> None:
    ask = chat(
        options={
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 20,
            "min_p": 0.1,
            "seed": 7,
            "stop": ["a", "", "b"],
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "num_predict": 5,
            "num_ctx": 512,
            "repeat_penalty": 1.1,
            "made_up": 1,
            "mirostat": None,
        },
        keep_alive="5m",
    )
    assert ask.sampling == Sampling(
        max_tokens=5, temperature=0.5, top_p=0.9, top_k=20, min_p=0.1, seed=7, stop=("a", "b"),
        presence_penalty=0.1, frequency_penalty=0.2,
    )  # fmt: skip
    assert ask.options == {"num_ctx": 512, "repeat_penalty": 1.1, "made_up": 1}
    assert ask.keep_alive == "5m"


@pytest.mark.parametrize("endless", [0, -1, -2])
def test_a_count_below_one_is_no_limit(endless: int) -> None:
    assert chat(options={"num_predict": endless}).sampling.max_tokens is None


def test_ollamas_word_for_any_seed_is_no_seed() -> None:
    assert chat(options={"seed": -1}).sampling.seed is None


def test_a_format_is_a_word_or_a_schema() -> None:
    assert chat(format="json").format == Format(kind="json")
    assert chat(format="").format == Format()
    assert chat(format={"type": "object"}).format == Format(kind="schema", schema={"type": "object"})


def test_a_format_of_another_kind_is_refused_in_ollamas_words() -> None:
    with pytest.raises(Invalid, match=r'^invalid format: "xml"; expected "json" or a valid JSON Schema object$'):
        chat(format="xml")


def test_how_much_to_think_is_passed_on_and_checked() -> None:
    assert [chat(think=value).reasoning.think for value in (True, False, "high", None)] == [True, False, "high", None]
    with pytest.raises(Invalid, match='invalid think value: "bogus"'):
        chat(think="bogus")


def test_logprobs_are_asked_for_with_or_without_alternatives() -> None:
    assert chat(logprobs=True).top_logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).top_logprobs == 3
    assert chat(top_logprobs=3).top_logprobs is None


def test_tools_are_the_hubs_and_one_without_a_function_is_none() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "f", "description": "d", "parameters": schema}
    (tool,) = chat(tools=[{"type": "function", "function": function}, {"type": "function"}]).tools
    assert (tool.name, tool.description, tool.parameters) == ("f", "d", schema)


@pytest.mark.parametrize(
    ("role", "want"),
    [("User", "user"), ("developer", "system"), ("system", "system"), ("narrator", "user"), ("", "user")],
)
def test_any_role_is_taken(role: str, want: str) -> None:
    (message,) = chat(messages=[{"role": role, "content": "x"}]).messages
    assert message.role == want


def test_pictures_and_sound_are_told_apart_by_how_they_begin() -> None:
    (message,) = chat(
        messages=[{"role": "user", "content": "?", "images": [PNG, JPEG, GIF, WEBP, WAV, "AAAA"]}]
    ).messages
    _, *found = message.parts
    kinds = [
        part.media_type if isinstance(part, Image) else part.format for part in found if isinstance(part, Image | Audio)
    ]
    assert kinds == ["image/png", "image/jpeg", "image/gif", "image/webp", "wav", "image/png"]


@pytest.mark.parametrize(("data", "place"), [("data:image/png;base64,AAAA", 4), ("AA*A", 2), ("A", 1)])
def test_what_is_no_base64_is_refused_with_its_place(data: str, place: int) -> None:
    with pytest.raises(Invalid, match=f"illegal base64 data at input byte {place}") as caught:
        chat(messages=[{"role": "user", "images": [data]}])
    assert caught.value.param == "messages[0].images[0]"


def called(name: str, id: str | None = None) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {"x": 1}}} | ({"id": id} if id else {})


def test_calls_without_ids_get_some_and_results_find_their_calls() -> None:
    messages = chat(
        messages=[
            {"role": "assistant", "tool_calls": [called("f"), called("g"), called("f", "call_mine")]},
            {"role": "tool", "tool_name": "g", "content": "of g"},
            {"role": "tool", "tool_call_id": "call_mine", "content": "of mine"},
            {"role": "tool", "content": "of the one that is left"},
            {"role": "tool", "content": "of none"},
        ]
    ).messages
    ids = [part.id for part in messages[0].parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 3
    results = [part for message in messages[1:4] for part in message.parts]
    assert [(part.id, part.name) for part in results if isinstance(part, ToolResult)] == [
        (ids[1], "g"),
        ("call_mine", "f"),
        (ids[0], "f"),
    ]
    assert messages[4].role == "user"


TEXTS = st.text(min_size=1, max_size=20)
USERS = st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}, optional={"images": st.just([PNG, WEBP])})
ASSISTANTS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.text(max_size=20)}, optional={"thinking": TEXTS}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        turns += [draw(USERS), draw(ASSISTANTS)]
        if draw(st.booleans()):
            arguments = draw(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
            turns[-1]["tool_calls"] = [{"id": f"call_{number}x", "function": {"name": "f", "arguments": arguments}}]
            turns.append({"role": "tool", "content": draw(TEXTS), "tool_call_id": f"call_{number}x", "tool_name": "f"})
    return turns


@given(conversations())
def test_a_conversation_comes_out_as_it_went_in(turns: list[dict[str, Any]]) -> None:
    assert said(*turns) == turns


def test_a_prompt_is_a_conversation_with_its_system_and_its_pictures() -> None:
    ask, ignored = generate(prompt="What?", system="Be short.", images=[PNG], format="json", stream=False)
    assert isinstance(ask, Ask)
    assert [message.role for message in ask.messages] == ["system", "user"]
    assert isinstance(ask.messages[1].parts[1], Image)
    assert (ask.format.kind, ask.stream, ignored) == ("json", False, ())


def test_a_raw_prompt_and_one_with_a_suffix_are_texts() -> None:
    for body in ({"raw": True}, {"suffix": "end"}):
        ask, _ = generate(prompt="Once", options={"num_predict": 3}, **body)
        assert isinstance(ask, Completion)
        assert (ask.prompt, ask.suffix, ask.sampling.max_tokens) == ("Once", body.get("suffix"), 3)


def test_what_a_raw_prompt_cannot_take_is_refused_or_named() -> None:
    with pytest.raises(Invalid, match="raw mode does not support template, system, or context"):
        generate(prompt="x", raw=True, system="y")
    assert generate(prompt="x", raw=True, images=[PNG], format="json", think=True).ignored == (
        "format",
        "images",
        "think",
    )


def test_what_only_an_ollama_can_do_is_refused_or_named() -> None:
    with pytest.raises(Unsupported):
        generate(prompt="x", template="{{ .Prompt }}")
    assert generate(prompt="x", context=[1], truncate=True, shift=True).ignored == ("truncate", "shift", "context")
    assert chat(truncate=True, made_up=1).ignored == ("made_up", "truncate")
    assert chat(truncate=False, shift=False).ignored == ()
    assert chat(keep_alive=0).ignored == ("keep_alive",)


@pytest.mark.parametrize(
    ("given", "want"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ("", ()), ([], ()), (None, ()), (["", "a"], ("", "a")), ([""], ("",))],
)
def test_inputs_are_a_text_or_texts(given: Any, want: tuple[str, ...]) -> None:
    body = json.dumps({"model": "m", "input": given, "dimensions": -3}).encode()
    embedding, _ = ollama_front.parse_embed(*validate.decode(body, OllamaEmbedRequest))
    assert (embedding.inputs, embedding.dimensions) == (want, None)


def test_the_older_form_embeds_one_prompt() -> None:
    body = b'{"model":"m","prompt":"a","stream":false}'
    embedding, ignored = ollama_front.parse_embeddings(*validate.decode(body, OllamaEmbeddingsRequest))
    assert (embedding.inputs, ignored) == (("a",), ("stream",))


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s", "-0m", "0.0h", "0ms"])
def test_no_time_at_all_unloads(zero: Any) -> None:
    assert ollama_front.unloads(zero)


@pytest.mark.parametrize("time", [None, 1, -1, "5m", "", "soon", "0x"])
def test_any_other_time_does_not(time: Any) -> None:
    assert ollama_front.unloads(time) is (time == "0x")


@pytest.mark.parametrize(
    ("body", "want"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b"{", "no JSON"),
        (b"[1]", "no JSON"),
        (b"\xff", "no JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, want: str) -> None:
    with pytest.raises(Invalid, match=want):
        ollama_front.opened(body)


def test_keys_are_read_in_any_case_as_ollama_reads_them_and_the_last_one_counts() -> None:
    data, fields = ollama_front.opened('{"model":"a","MODEL":"b","me\u017f\u017fages":[ 1 ],"x":1.0}'.encode())
    assert data == b'{"model":"b","messages":[ 1 ],"x":1.0}'
    assert ollama_front.named(fields) == "b"
    plain = b'{ "model": "a", "model" : "b" }'
    assert ollama_front.opened(plain).data == plain


def test_a_model_is_named_by_either_key_and_a_number_is_no_name() -> None:
    assert ollama_front.named(ollama_front.opened(b'{"name":"m"}').fields) == "m"
    assert ollama_front.named(ollama_front.opened(b'{"name":"n","model":"m"}').fields) == "m"
    assert ollama_front.named(ollama_front.opened(b'{"model":null}').fields) == ""
    with pytest.raises(Invalid, match="expected a string"):
        ollama_front.named(ollama_front.opened(b'{"model":1}').fields)


# --- answers ----------------------------------------------------------------------------------------------------------


TIMES = Times(total=30, prompt=10, answer=20)


def lines_of(kind: type[Lines] = ChatLines, times: Times = TIMES) -> Lines:
    return kind(model="m", stamp=lambda: TIME, times=lambda: times)


def written(lines: Lines, batches: Sequence[Sequence[Event]]) -> list[Any]:
    data = b"".join(line for batch in batches for line in lines.feed(batch)) + b"".join(lines.flush())
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


HEAD = {"model": "m", "created_at": TIME}
COUNTS = {"total_duration": 30, "prompt_eval_duration": 10, "eval_duration": 20}


def test_a_stream_is_a_record_for_each_event_and_a_last_one_with_the_counts() -> None:
    records = written(
        lines_of(), [[Thinking(0, "Hm.")], [Text(0, "Hi")], [Finish(0, "stop"), Note({})], [Usage(5, 2, cached=1)]]
    )
    assert records == [
        {**HEAD, "message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {**HEAD, "message": {"role": "assistant", "content": "Hi"}, "done": False},
        {
            **HEAD,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            **COUNTS,
            "prompt_eval_count": 5,
            "prompt_eval_cached_count": 1,
            "eval_count": 2,
        },
    ]


def test_generate_has_its_text_at_the_top() -> None:
    records = written(lines_of(GenerateLines), [[Text(0, "Hi"), Finish(0, "length")]])
    assert records[0] == {**HEAD, "response": "Hi", "done": False}
    assert (records[1]["response"], records[1]["done_reason"]) == ("", "length")


def test_counts_of_nothing_are_left_out() -> None:
    (last,) = written(lines_of(times=Times(0, 0, 0)), [[Finish(0, "stop")]])
    assert last.keys() == {"model", "created_at", "message", "done", "done_reason"}


CALL: list[Event] = [ToolStart(0, 0, "call_1", "f"), ToolDelta(0, 0, '{"a":'), ToolDelta(0, 0, "1}")]


def test_a_call_is_told_in_one_piece_when_it_is_complete() -> None:
    lines = lines_of()
    assert lines.feed(CALL[:2]) == []
    # The pieces of two calls may come mixed.
    records = written(lines, [[ToolStart(0, 1, "call_2", "g"), CALL[2]], [Finish(0, "tool_calls")]])
    assert [record["message"].get("tool_calls") for record in records] == [
        [{"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        [{"id": "call_2", "function": {"index": 1, "name": "g", "arguments": {}}}],
        None,
    ]
    assert records[-1]["done_reason"] == "stop"


@pytest.mark.parametrize(
    ("text", "want"), [("[1]", {"arguments": [1]}), ("{broken", {"arguments": "{broken"}), (" ", {}), ("{}", {})]
)
def test_arguments_that_are_no_object_are_kept_whole(text: str, want: Any) -> None:
    records = written(lines_of(), [[ToolStart(0, 0, "c", "f"), ToolDelta(0, 0, text), Finish(0, "tool_calls")]])
    assert records[0]["message"]["tool_calls"][0]["function"]["arguments"] == want


def test_a_failure_is_the_last_line() -> None:
    lines = lines_of()
    assert [json.loads(line) for line in lines.feed([Text(0, "a"), Fail(UpstreamDown("gone"))])][1] == {"error": "gone"}
    assert lines.flush() == []


def test_logprobs_have_their_bytes_and_alternatives() -> None:
    one = Logprob("é", -0.5, (195, 169), (Logprob("e", -1.5, None),))
    (record, _) = written(lines_of(), [[Text(0, "é", (one,)), Finish(0, "stop")]])
    alternatives = [{"token": "e", "logprob": -1.5}]
    assert record["logprobs"] == [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": alternatives}]


EVENTS: list[Event] = [
    Thinking(0, "Hm"),
    Thinking(0, "."),
    Text(0, "A"),
    Refusal(0, "b"),
    *CALL,
    Finish(0, "tool_calls"),
    Usage(5, 2),
]


def test_a_whole_answer_says_what_its_stream_says() -> None:
    body = json.loads(whole(EVENTS, lines_of()))
    call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    assert body == {
        **HEAD,
        "message": {"role": "assistant", "content": "Ab", "thinking": "Hm.", "tool_calls": [call]},
        "done": True,
        "done_reason": "stop",
        **COUNTS,
        "prompt_eval_count": 5,
        "eval_count": 2,
    }
    generated = json.loads(whole(EVENTS, lines_of(GenerateLines)))
    assert (generated["response"], generated["thinking"], generated["tool_calls"]) == ("Ab", "Hm.", [call])


def test_a_whole_answer_that_broke_off_is_an_error() -> None:
    with pytest.raises(UpstreamDown):
        whole([Text(0, "a"), Fail(UpstreamDown("gone"))], lines_of())


PIECES = st.lists(
    st.one_of(
        st.builds(lambda text: [Text(0, text)], TEXTS),
        st.builds(lambda text: [Thinking(0, text)], TEXTS),
        st.builds(
            lambda args: [ToolStart(0, 0, "call_1", "f"), ToolDelta(0, 0, msgspec.json.encode(args).decode())],
            st.dictionaries(st.text(max_size=5), JSON, max_size=3),
        ),
    ),
    max_size=6,
)


def merged(events: list[Event]) -> list[Any]:
    """Return what was said, in order; which number a call has is the reader's."""
    return [
        (type(event), getattr(event, "text", None) or getattr(event, "arguments", None) or getattr(event, "name", None))
        for event in events
        if not isinstance(event, Note | Finish)
    ]


@given(PIECES, st.sampled_from(["stop", "length"]))
def test_a_reader_of_ollamas_records_reads_what_was_written(pieces: list[list[Event]], reason: Any) -> None:
    numbered = [
        [msgspec.structs.replace(event, call=number) if hasattr(event, "call") else event for event in piece]
        for number, piece in enumerate(pieces)
    ]
    events = [event for piece in numbered for event in piece]
    lines = lines_of()
    data = b"".join(line for piece in numbered for line in lines.feed(piece))
    data += b"".join(lines.feed([Finish(0, reason), Usage(7, 3)])) + b"".join(lines.flush())
    reader = ChatReader(backend="b", model="m", logprobs=False)
    found = reader.feed(data) + reader.flush()
    assert merged(found) == [*merged(events), (Usage, None)]
    assert Usage(7, 3) in found
    assert not any(isinstance(event, Fail) for event in found)


def test_a_stream_of_generate_is_read_too_wherever_it_is_cut() -> None:
    lines = lines_of(GenerateLines)
    data = b"".join(lines.feed([Thinking(0, "é"), Text(0, "Hällo"), Finish(0, "length"), Usage(1, 1)]) + lines.flush())
    want = [Thinking(0, "é"), Text(0, "Hällo"), Finish(0, "length"), Usage(1, 1)]
    for at in range(len(data)):
        reader = CompletionReader(backend="b", model="m", logprobs=False)
        found = reader.feed(data[:at]) + reader.feed(data[at:]) + reader.flush()
        assert [event for event in found if not isinstance(event, Note)] == want


def test_loading_has_a_reason_and_no_counts() -> None:
    want = {**HEAD, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "load"}
    assert json.loads(loaded(lines_of(), unload=False)) == want
    assert json.loads(loaded(lines_of(GenerateLines), unload=True))["done_reason"] == "unload"


def test_vectors_are_cut_to_length_one_and_never_made_longer() -> None:
    vectors = Vectors(((3.0, 4.0, 12.0), (0.0, 0.0, 1.0)), 9)
    body = json.loads(embedded(vectors, model="m", dimensions=2, times=Times(30, 10, 20)))
    assert body == {"model": "m", "embeddings": [[0.6, 0.8], [0.0, 0.0]], "total_duration": 30, "prompt_eval_count": 9}
    body = json.loads(embedded(vectors, model="m", dimensions=99, times=Times(30, 10, 20)))
    assert body["embeddings"] == [[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]]


def test_errors_are_a_text_and_a_missing_model_is_told_as_ollama_tells_it() -> None:
    assert error_body(ModelNotFound("nope")) == {"error": "model 'nope' not found"}
    assert error_body(ModelNotFound("nope", hint="Fetch it.")) == {"error": "model 'nope' not found. Fetch it."}
    assert error_body(ContextTooLong(limit=8, tokens=9))["error"].startswith("This model's maximum context length is 8")


def test_a_model_of_another_backend_is_listed_with_all_that_clients_look_at() -> None:
    info = ModelInfo(
        id="org/m", backend="lab", size=5, family="qwen2", parameters="7B", quantization="Q4_K_M", context=4096,
        embedding_length=64, capabilities=frozenset({"completion", "vision"}),
    )  # fmt: skip
    entry = tag("org/m", info, modified=TIME)
    assert (entry["name"], entry["model"], entry["size"], entry["modified_at"]) == ("org/m", "org/m", 5, TIME)
    assert (len(entry["digest"]), entry["capabilities"]) == (64, ["completion", "tools", "vision"])
    assert entry["details"]["families"] == ["qwen2"]
    assert (entry["details"]["context_length"], entry["details"]["embedding_length"]) == (4096, 64)
    shown = show(info, modified=TIME)
    assert shown["model_info"]["qwen2.context_length"] == 4096
    assert shown["details"]["quantization_level"] == "Q4_K_M"


def test_a_model_that_nothing_is_known_of_is_listed_too() -> None:
    info = ModelInfo(id="m", backend="lab")
    assert tag("m", info, modified=TIME)["capabilities"] == ["completion", "tools"]
    assert show(info, modified=TIME)["model_info"]["general.architecture"] == "unknown"
    other = ModelInfo(id="m", backend="other", digest="sha256:" + "a" * 64)
    assert tag("m", other, modified=TIME)["digest"] == "a" * 64
    assert tag("e", ModelInfo(id="e", backend="b", capabilities=frozenset({"embedding"})), modified=TIME)[
        "capabilities"
    ] == ["embedding"]


# --- bytes passed on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "id", "same"),
    [("m", "m:latest", True), ("m", "m", True), ("m:1b", "m:1b", True), ("M", "m:latest", False), ("a", "m", False)],
)
def test_a_name_is_the_same_with_and_without_its_usual_tag(asked: str, id: str, same: bool) -> None:
    assert ollama_pass.same_name(asked, id) is same


def test_a_request_keeps_all_bytes_but_the_name() -> None:
    fields = ollama_front.opened(b'{ "options": {"seed": 1.50e0}, "name": "b", "model": "a", "x": "\\u00e9" }').fields
    body = ollama_pass.with_name(fields, 'm"', "model", "name")
    assert body == b'{"options":{"seed": 1.50e0},"model":"m\\"","x":"\\u00e9"}'
    assert ollama_pass.with_name(ollama_front.opened(b'{"name":"b"}').fields, "m", "model", "name") == b'{"model":"m"}'


@pytest.mark.parametrize(
    ("record", "want"),
    [
        (b'{"model":"a","x": 1.0}', b'{"model":"b","x": 1.0}'),
        (b'{"model":"a\\"}","x":1}', b'{"model":"b","x":1}'),
        (b'{"x": 1.0, "model": "a"}', b'{"x":1.0,"model":"b"}'),
        (b'{"error":"a"}', b'{"error":"a"}'),
        (b'{"message":{"content":"{\\"model\\":\\"a\\"}"}}', b'{"message":{"content":"{\\"model\\":\\"a\\"}"}}'),
        (b"no JSON", b"no JSON"),
        (b"[1]", b"[1]"),
    ],
)
def test_a_record_keeps_all_bytes_but_the_name(record: bytes, want: bytes) -> None:
    assert ollama_pass.renamed(record, "b") == want


def test_a_line_goes_on_when_all_of_it_is_there() -> None:
    renamer = ollama_pass.Renamer(None)
    assert [renamer.feed(piece) for piece in (b'{"mo', b'del":"a"}\n{"x":1}\n{"y"', b":2}")] == [
        *(b"", b'{"model":"a"}\n{"x":1}\n', b"")
    ]
    assert (renamer.flush(), renamer.broken) == (b'{"y":2}', None)


@pytest.mark.parametrize(
    "odd", [b"null", b"[]", b"5", b'"x"', b"<html>", b'{"a":', b'{"a":"\xff"}', b"data: {}", b"[" * 100_000]
)
def test_what_is_no_record_is_never_passed_on(odd: bytes) -> None:
    renamer = ollama_pass.Renamer(None)
    assert renamer.feed(b'{"a":1}\n' + odd + b'\n{"b":2}\n') == b'{"a":1}\n'
    assert (renamer.broken, renamer.feed(b'{"c":3}\n'), renamer.flush()) == (odd, b"", b"")
    renamer = ollama_pass.Renamer(None)
    assert renamer.feed(b'{"a":1}\n' + odd) + renamer.flush() == b'{"a":1}\n'
    assert renamer.broken == odd


def test_a_stream_amounts_to_one_record() -> None:
    lines = (
        b'{"model":"m","message":{"role":"assistant","content":"a","thinking":"t","tool_calls":[1]},"done":false}\n'
        b'\n{"model":"m","message":{"role":"assistant","content":"b","tool_calls":[2]},"logprobs":[3],"done":false}\n'
        b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":2}'
    )
    assert json.loads(ollama_pass.one_record(b"\xef\xbb\xbf" + lines, "lab")) == {
        "model": "m", "done": True, "eval_count": 2, "logprobs": [3],
        "message": {"role": "assistant", "content": "ab", "thinking": "t", "tool_calls": [1, 2]},
    }  # fmt: skip
    assert json.loads(ollama_pass.one_record(b'{"response":"a"}\n{"response":"b","done":true}\n', "lab")) == {
        "response": "ab", "done": True,
    }  # fmt: skip
    assert json.loads(ollama_pass.one_record(b'{"response":"a"}\n{"error":"x"}\n', "lab"))["error"] == "x"
    for odd in (b"", b"\n", b"null", b'{"a":1}\nnull\n'):
        with pytest.raises(UpstreamFailed, match="The backend 'lab'"):
            ollama_pass.one_record(odd, "lab")


def test_a_stream_is_renamed_wherever_it_is_cut() -> None:
    data = b'{"model":"a","x":1}\n{"model":"a","done":true}'
    want = b'{"model":"b","x":1}\n{"model":"b","done":true}'
    for at in range(len(data) + 1):
        renamer = ollama_pass.Renamer("b")
        assert renamer.feed(data[:at]) + renamer.feed(data[at:]) + renamer.flush() == want
