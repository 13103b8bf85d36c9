"""Which options and defaults the config gives a model."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_proxy.model import ModelInfo
from ollama_proxy.policy.options import options_for

INFO = ModelInfo(id="smollm2:latest", backend="ollama", context=2048)


def given(table: dict[str, dict[str, Any]], asked: str = "gpt-4o", num_ctx: int = 0) -> tuple[Any, Any]:
    return options_for(table, asked=asked, info=INFO, num_ctx=num_ctx)


@pytest.mark.parametrize("key", ["smollm2", "smollm2:latest", "ollama/smollm2:latest", "gpt-4o", "gpt-*", "smol*", "*"])
def test_a_model_is_named_by_what_it_is_or_by_what_was_asked_for(key: str) -> None:
    assert given({key: {"top_k": 5}}) == ({}, {"top_k": 5})


@pytest.mark.parametrize("key", ["other", "smol", "gpt-4", "lab/*", "GPT-4O"])
def test_others_get_nothing(key: str) -> None:
    assert given({key: {"top_k": 5}}) == ({}, {})


def test_sampling_is_told_from_the_backends_own_options() -> None:
    table = {"smollm2": {"temperature": 0.5, "num_predict": 9, "stop": ["a"], "num_gpu": 1, "keep_alive": "1h"}}
    assert given(table) == (
        {"num_gpu": 1, "keep_alive": "1h"}, {"temperature": 0.5, "max_tokens": 9, "stop": ("a",)},
    )  # fmt: skip


@pytest.mark.parametrize("first", ["*", "smollm2"])
def test_an_exact_name_wins_over_a_glob_in_whatever_order(first: str) -> None:
    table = {"*": {"top_k": 1, "seed": 1}, "smollm2": {"top_k": 2}}
    ordered = {first: table[first], **table}
    assert given(ordered)[1] == {"top_k": 2, "seed": 1}


def test_what_is_not_set_is_not_sent() -> None:
    assert given({"smollm2": {"temperature": None, "num_gpu": None}}) == ({}, {})


@pytest.mark.parametrize(("wanted", "got"), [(1024, 1024), (8192, 2048), (0, None)])
def test_the_window_is_never_larger_than_the_model_was_trained_for(wanted: int, got: int | None) -> None:
    assert given({}, num_ctx=wanted)[0].get("num_ctx") == got


def test_the_window_is_the_models_and_never_the_aliases() -> None:
    assert given({"gpt-4o": {"num_ctx": 99, "top_k": 1}}, num_ctx=1024) == ({"num_ctx": 1024}, {"top_k": 1})
    assert given({"smollm2": {"num_ctx": 99}}, num_ctx=1024)[0] == {"num_ctx": 99}
    assert given({"smol*": {"num_ctx": 99}}, asked="smollm2", num_ctx=1024)[0] == {"num_ctx": 99}


def test_a_model_that_does_not_tell_its_context_gets_what_was_wished_for() -> None:
    info = ModelInfo(id="m", backend="b")
    assert options_for({}, asked="m", info=info, num_ctx=9999)[0] == {"num_ctx": 9999}
