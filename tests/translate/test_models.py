"""GET and DELETE /v1/models in OpenAI's shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from msgspec import Struct

from ollama_proxy.model import ModelInfo
from ollama_proxy.translate.models import write_deleted, write_list, write_model

SHAPES = json.loads((Path(__file__).parents[1] / "shapes.json").read_text())


class Target(Struct, frozen=True):
    """What an alias leads to, as the table of names has it."""

    info: ModelInfo


def checked(body: bytes, shape: str) -> Any:
    found = json.loads(body)
    jsonschema.validate(found, {"$ref": f"#/components/schemas/{shape}", **SHAPES})
    return found


def owners(body: bytes) -> dict[str, tuple[int, str]]:
    data = checked(body, "ListModelsResponse")["data"]
    assert len({row["id"] for row in data}) == len(data)
    return {row["id"]: (row["created"], row["owned_by"]) for row in data}


LLAMA = ModelInfo(id="llama3:8b", backend="ollama", created=100)
QWEN = ModelInfo(id="qwen3", backend="lmstudio", created=200, owned_by="qwen")


def test_no_models_are_an_empty_list() -> None:
    assert json.loads(write_list(())) == {"object": "list", "data": []}


def test_models_and_aliases_are_listed_and_globs_are_not() -> None:
    body = write_list((LLAMA, QWEN), {"fast": Target(QWEN), "gpt-*": Target(LLAMA), "o?": Target(LLAMA)})
    assert owners(body) == {"llama3:8b": (100, "library"), "qwen3": (200, "qwen"), "fast": (200, "oproxy")}


def test_an_alias_hides_a_model_of_its_name() -> None:
    assert owners(write_list((LLAMA, QWEN), {"qwen3": Target(LLAMA)}))["qwen3"] == (100, "oproxy")


def test_a_model_of_two_backends_is_listed_under_each() -> None:
    twin = ModelInfo(id="llama3:8b", backend="other", created=5)
    assert list(owners(write_list((LLAMA, twin)))) == ["llama3:8b", "other/llama3:8b"]


def test_one_model_goes_by_the_name_it_was_asked_by() -> None:
    assert checked(write_model("llama3:8b", LLAMA), "Model") == {
        "id": "llama3:8b",
        "object": "model",
        "created": 100,
        "owned_by": "library",
        "shutdown_date": None,
    }
    assert checked(write_model("gpt-4o", LLAMA), "Model")["id"] == "gpt-4o"


def test_a_deleted_model_is_told_by_name() -> None:
    assert checked(write_deleted("hf.co/a/b:c"), "DeleteModelResponse") == {
        "id": "hf.co/a/b:c",
        "object": "model",
        "deleted": True,
    }
