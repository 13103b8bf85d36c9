"""The legacy endpoint for edits, by the chat path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Setup

DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3}


def said(text: str) -> list[dict[str, Any]]:
    return [{"model": "smollm2", "message": {"role": "assistant", "content": text}, **DONE}]


async def edit(setup: Setup, **body: Any) -> tuple[int, Any, Any]:
    return await setup.post("/v1/edits", {"model": "smollm2", "instruction": "Fix the spelling.", **body})


async def test_an_edit_is_what_the_model_says(setup: Setup) -> None:
    setup.ollama.play("/api/chat", said("What day of the week is it?"))
    status, body, _ = await edit(setup, input="What day of the wek is it?", temperature=0, top_p=0.5)
    assert status == 200
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "object": "edit",
        "choices": [{"text": "What day of the week is it?", "index": 0}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }
    (call,) = setup.ollama.asked("/api/chat")
    assert (call["options"]["temperature"], call["options"]["top_p"]) == (0, 0.5)
    put = call["messages"][-1]["content"]
    assert put.index("Fix the spelling.") < put.index("What day of the wek is it?")


async def test_several_edits_are_several_choices(setup: Setup) -> None:
    for word in ("a", "b"):
        setup.ollama.play("/api/chat", said(word))
    status, body, _ = await edit(setup, n=2, input=None)
    assert status == 200
    assert sorted(choice["text"] for choice in body["choices"]) == ["a", "b"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}


async def test_an_edit_may_be_empty(setup: Setup) -> None:
    setup.ollama.play("/api/chat", said(""))
    status, body, _ = await edit(setup, input="Gone")
    assert (status, body["choices"]) == (200, [{"text": "", "index": 0}])


async def test_openais_old_names_stand_for_the_usual_model(setup: Setup) -> None:
    for name in ("text-davinci-edit-001", "code-davinci-edit-001"):
        status, _, headers = await edit(setup, model=name)
        assert status == 200
        assert headers["x-oproxy-model"]
    status, body, _ = await edit(setup, model="no-edit-001")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"instruction": None}, "instruction"),
        ({"instruction": ["x"]}, "instruction"),
        ({"n": 0}, "n"),
        ({"n": 21}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"input": 5}, "input"),
    ],
)
async def test_a_bad_edit_is_told_with_its_place(setup: Setup, body: dict[str, Any], param: str) -> None:
    status, answer, _ = await edit(setup, **body)
    assert (status, answer["error"]["param"], answer["error"]["type"]) == (400, param, "invalid_request_error")


async def test_what_an_edit_does_not_know_is_named(setup: Setup) -> None:
    _, _, headers = await edit(setup, user="me", n=None)
    assert headers["x-oproxy-ignored"] == "user"


async def test_a_broken_answer_is_no_edit(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [json.dumps({"error": "out of memory"}).encode() + b"\n"])
    status, body, _ = await edit(setup)
    assert status >= 500
    assert "out of memory" in body["error"]["message"]
