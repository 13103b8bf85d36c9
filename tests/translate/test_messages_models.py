"""The list of models in Anthropic's form."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from ollama_proxy.errors import Invalid
from ollama_proxy.model import ModelInfo
from ollama_proxy.translate.messages_models import write_list, write_model
from ollama_proxy.translate.query import parse
from ollama_proxy.translate.shapes_queries import AnthropicModelsQuery

MODELS = [ModelInfo(id=f"m{number}", backend="b", created=number) for number in range(5)]


class Alias(NamedTuple):
    info: ModelInfo


def page(**query: str) -> dict[str, Any]:
    aliases = {"fast": Alias(MODELS[0]), "claude-*": Alias(MODELS[0])}
    asked, _ = parse(query.items(), AnthropicModelsQuery)
    body: dict[str, Any] = json.loads(write_list(MODELS, aliases, asked, when=lambda seconds: f"at {seconds}"))
    return body


def ids(body: dict[str, Any]) -> list[str]:
    return [model["id"] for model in body["data"]]


def test_all_models_and_aliases_are_on_one_page() -> None:
    body = page()
    assert ids(body) == ["m0", "m1", "m2", "m3", "m4", "fast"]
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "m0", "fast")
    assert body["data"][1] == {
        "type": "model", "id": "m1", "display_name": "m1", "created_at": "at 1", "lifecycle": "active",
        "max_input_tokens": None,
    }  # fmt: skip


def test_pages_go_forwards_and_backwards() -> None:
    first = page(limit="2")
    assert (ids(first), first["has_more"]) == (["m0", "m1"], True)
    last = page(limit="4", after_id="m1")
    assert (ids(last), last["has_more"]) == (["m2", "m3", "m4", "fast"], False)
    back = page(limit="2", before_id="m3")
    assert (ids(back), back["has_more"]) == (["m1", "m2"], True)
    assert (ids(page(before_id="m1")), page(before_id="m1")["has_more"]) == (["m0"], False)
    assert page(after_id="fast") == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"limit": "9" * 5000},
                                   {"after_id": "nosuch"}, {"before_id": "nosuch"}])  # fmt: skip
def test_a_bad_query_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        page(**query)


def test_one_model() -> None:
    assert json.loads(write_model("claude-x", MODELS[2], when=str))["id"] == "claude-x"
