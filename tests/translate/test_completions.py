"""POST /v1/completions: requests in, answers out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid, Unsupported, UpstreamDown
from ollama_proxy.events import Event, Fail, Finish, Logprob, Note, Text, Thinking, Usage
from ollama_proxy.translate.completions import ChunkWriter, CompletionAsk, choose, parse, whole

SHAPES = json.loads((Path(__file__).parents[1] / "shapes.json").read_text())


def spell(ids: Sequence[int], model: str) -> str:
    if any(id > 1000 for id in ids):
        raise Invalid("no such token", param="input", code="invalid_value")
    return f"<{model}:{','.join(map(str, ids))}>"


def ask(**fields: Any) -> CompletionAsk:
    return parse(json.dumps({"model": "m", "prompt": "Once", **fields}).encode(), decode_tokens=spell)


def refusal(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        ask(**fields)
    return caught.value


# --- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("Once", ["Once"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], ["<m:1,2>"]),
        ([[1], [2, 3]], ["<m:1>", "<m:2,3>"]),
        (None, ["<|endoftext|>"]),
        ("", ["<|endoftext|>"]),
    ],
)
def test_a_prompt_comes_in_four_forms_or_not_at_all(prompt: Any, texts: list[str]) -> None:
    assert [each.prompt for each in ask(prompt=prompt).prompts] == texts


def test_an_empty_prompt_before_a_suffix_stays_empty() -> None:
    assert ask(prompt="", suffix="}").prompts[0].prompt == ""


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([], "prompt"),
        ({}, "prompt"),
        (5, "prompt"),
        (["a", 1], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([[1], "a"], "prompt[1]"),
        ([[1], []], "prompt[1]"),
        ([[1, 2000]], "prompt[0]"),
        ([2000], "prompt"),
        ([True], "prompt[0]"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_place(prompt: Any, param: str) -> None:
    assert refusal(prompt=prompt).param == param


def test_sixteen_tokens_are_the_default_and_zero_stays_zero() -> None:
    assert ask().prompts[0].sampling.max_tokens == 16
    assert ask(max_tokens=None).prompts[0].sampling.max_tokens == 16
    assert ask(max_tokens=0, echo=True).prompts[0].sampling.max_tokens == 0
    assert ask(max_tokens=0, echo=True).nothing_to_make
    assert not ask().nothing_to_make


def test_what_the_client_did_not_send_is_not_sent_to_the_backend() -> None:
    sampling = ask().prompts[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.stop) == (None, None, None, ())
    assert ask().prompts[0].options == {}


def test_every_knob_reaches_the_hub() -> None:
    parsed = ask(
        suffix="}",
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        frequency_penalty=1,
        presence_penalty=-1,
        seed=4,
        stop=["x", "y"],
        logit_bias={"50256": -100},
        logprobs=2,
        n=3,
        stream=True,
        stream_options={"include_usage": True},
        keep_alive="5m",
        num_ctx=2048,
        options={"num_ctx": 1024, "mirostat": 1, "top_k": None},
        user="u1",
        flavour="sweet",
    )
    prompt = parsed.prompts[0]
    sampling = prompt.sampling
    assert (prompt.suffix, prompt.logprobs, prompt.stream, prompt.keep_alive) == ("}", 2, True, "5m")
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 7, 0.1)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.seed) == (1, -1, 4)
    assert (sampling.stop, sampling.logit_bias) == (("x", "y"), {"50256": -100})
    assert prompt.options == {"num_ctx": 2048, "mirostat": 1}
    assert (parsed.n, parsed.best_of, parsed.include_usage, parsed.extra) == (3, 3, True, {"user": "u1"})
    assert parsed.ignored == ("flavour",)


def test_a_single_stop_is_one_stop() -> None:
    assert ask(stop="ab").prompts[0].sampling.stop == ("ab",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 21}, "best_of"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 10, "best_of": 13}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_echo_with_logprobs_is_refused_because_nobody_has_the_prompts_own() -> None:
    error = refusal(echo=True, logprobs=0)
    assert isinstance(error, Unsupported)
    assert (error.param, error.code) == ("logprobs", "unsupported_parameter")


def test_choosing_the_best_asks_for_logprobs_that_the_client_does_not_see() -> None:
    parsed = ask(best_of=3, n=2)
    assert (parsed.prompts[0].logprobs, parsed.logprobs, parsed.choices) == (0, None, 2)
    assert ask(n=2).prompts[0].logprobs is None
    assert ask(best_of=1, n=1, stream=True).prompts[0].logprobs is None


@given(
    st.dictionaries(
        st.sampled_from(["model", "prompt", "n", "best_of", "logprobs", "stop", "stream", "options", "echo", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-3, 200) | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
            max_leaves=6,
        ),
    )
)
def test_any_body_is_read_or_refused_and_never_breaks(body: dict[str, Any]) -> None:
    try:
        parsed = parse(json.dumps({"model": "m", "prompt": "a", **body}).encode(), decode_tokens=spell)
    except Invalid:
        return
    assert 1 <= parsed.choices <= 128
    assert parsed.best_of >= parsed.n


# --- answers ------------------------------------------------------------------------------------------------------

TOP = (Logprob("A", -0.1), Logprob("B", -2.0), Logprob("C", -3.0))
EVENTS: list[Event] = [
    Text(0, "A", (Logprob("A", -0.1, None, TOP),)),
    Thinking(0, "hm"),
    Text(1, "é", (Logprob("é", -0.5, None, TOP),)),
    Text(0, " b", (Logprob(" ", -0.2), Logprob("b", -0.3))),
    Note({"load": 1}),
    Finish(0, "length"),
    Usage(5, 3, cached=2),
    Finish(1, "stop"),
    Usage(5, 1),
]
WHO: dict[str, Any] = {"id": "cmpl-1", "created": 7, "model": "m"}


def answer(events: Sequence[Event], **options: Any) -> Any:
    body = json.loads(whole(events, **WHO, **options))
    jsonschema.validate(body, {"$ref": "#/components/schemas/CreateCompletionResponse", **SHAPES})
    return body


def chunks(events: Sequence[Event], **options: Any) -> list[Any]:
    writer = ChunkWriter(**WHO, **options)
    return [json.loads(chunk) for chunk in [*writer.feed(events), *writer.flush()]]


def test_a_whole_answer_has_openais_shape() -> None:
    body = answer(EVENTS)
    assert body["choices"] == [
        {"text": "A b", "index": 0, "logprobs": None, "finish_reason": "length"},
        {"text": "é", "index": 1, "logprobs": None, "finish_reason": "stop"},
    ]
    assert (body["id"], body["object"], body["created"], body["model"]) == ("cmpl-1", "text_completion", 7, "m")
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"], body["usage"]["total_tokens"]) == (
        10,
        4,
        14,
    )
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_logprobs_hold_the_likeliest_and_always_the_token_itself() -> None:
    first, second = answer(EVENTS, logprobs=2)["choices"]
    assert first["logprobs"] == {
        "tokens": ["A", " ", "b"],
        "token_logprobs": [-0.1, -0.2, -0.3],
        "top_logprobs": [{"A": -0.1, "B": -2.0}, {" ": -0.2}, {"b": -0.3}],
        "text_offset": [0, 1, 2],
    }
    assert second["logprobs"]["top_logprobs"] == [{"A": -0.1, "B": -2.0, "é": -0.5}]


def test_an_echo_comes_first_and_offsets_count_from_it() -> None:
    body = answer(EVENTS, echoes=("Once",), n=2, logprobs=0)
    assert [choice["text"] for choice in body["choices"]] == ["OnceA b", "Onceé"]
    assert body["choices"][0]["logprobs"]["text_offset"] == [4, 5, 6]
    two = answer(EVENTS, echoes=("x", "y"), n=1)
    assert [choice["text"] for choice in two["choices"]] == ["xA b", "yé"]


def test_an_answer_without_tokens_is_its_prompt() -> None:
    body = answer([Finish(0, "length"), Usage(1, 0)], echoes=("Once",))
    assert body["choices"] == [{"text": "Once", "index": 0, "logprobs": None, "finish_reason": "length"}]


def test_the_first_chunk_of_each_choice_is_its_echo() -> None:
    found = [(c["choices"][0]["index"], c["choices"][0]["text"]) for c in chunks(EVENTS, echoes=("Once",), n=2)]
    assert found == [(0, "Once"), (0, "A"), (1, "Once"), (1, "é"), (0, " b"), (0, ""), (1, "")]


def test_a_streams_usage_comes_last_and_is_null_before_only_if_asked_for() -> None:
    found = chunks(EVENTS, include_usage=True)
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * 5
    assert (found[-1]["choices"], found[-1]["usage"]["total_tokens"]) == ([], 14)
    assert all("usage" not in chunk for chunk in chunks(EVENTS))


def test_a_stream_ends_each_choice_with_its_reason() -> None:
    reasons = [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in chunks(EVENTS)]
    assert reasons == [(0, None), (1, None), (0, None), (0, "length"), (1, "stop")]


def test_a_stream_says_the_same_as_a_whole_answer() -> None:
    options: dict[str, Any] = {"echoes": ("Once upon",), "n": 2, "logprobs": 3}
    texts = ["", ""]
    probs: list[dict[str, list[Any]]] = [{}, {}]
    for chunk in chunks(EVENTS, **options):
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["text"]
        for name, values in (choice["logprobs"] or {}).items():
            probs[choice["index"]].setdefault(name, []).extend(values)
    body = answer(EVENTS, **options)
    assert texts == [choice["text"] for choice in body["choices"]]
    assert probs == [choice["logprobs"] for choice in body["choices"]]


@pytest.mark.parametrize("cut", range(len(EVENTS) + 1))
def test_a_stream_is_the_same_however_its_events_are_batched(cut: int) -> None:
    options: dict[str, Any] = {"include_usage": True, "echoes": ("Once",), "n": 2, "logprobs": 1}
    writer = ChunkWriter(**WHO, **options)
    halves = [*writer.feed(EVENTS[:cut]), *writer.feed(EVENTS[cut:]), *writer.flush()]
    assert [json.loads(chunk) for chunk in halves] == chunks(EVENTS, **options)


def test_a_failure_ends_the_stream_with_its_error() -> None:
    error = UpstreamDown("gone", backend="b")
    found = chunks([Text(0, "A"), Fail(error), Text(0, "B"), Finish(0, "stop")], include_usage=True)
    assert found[1:] == [error.body()]
    with pytest.raises(UpstreamDown):
        whole([Text(0, "A"), Fail(error)], **WHO)


# --- the best of several ------------------------------------------------------------------------------------------


def candidate(index: int, *logprobs: float) -> list[Event]:
    texts: list[Event] = [Text(index, f"{index}", (Logprob("t", value),)) for value in logprobs]
    return [*texts, Finish(index, "stop")]


def test_the_best_has_the_highest_mean_logprob_not_the_highest_sum() -> None:
    events = choose([candidate(0, -1.0), candidate(1, -0.6, -0.6, -0.6), candidate(2, -0.9)], 2, first=4)
    assert [(event.index, event.text) for event in events if isinstance(event, Text)] == [
        (4, "1"),
        (4, "1"),
        (4, "1"),
        (5, "2"),
    ]
    assert [event.index for event in events if isinstance(event, Finish)] == [4, 5]


def test_without_logprobs_the_first_are_the_best() -> None:
    candidates: list[list[Event]] = [[Text(k, str(k)), Finish(k, "stop")] for k in range(3)]
    assert [event.text for event in choose(candidates, 2) if isinstance(event, Text)] == ["0", "1"]


def test_a_failed_candidate_fails_the_choice() -> None:
    fail = Fail(UpstreamDown("gone"))
    assert choose([candidate(0, -0.1), [Text(1, "x"), fail]], 1) == [fail]
