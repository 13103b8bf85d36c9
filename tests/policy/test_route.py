"""Which model answers a name."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_proxy.errors import ModelNotFound
from ollama_proxy.model import ModelInfo
from ollama_proxy.policy.route import Names


def info(id: str, backend: str = "ollama", *can: str, size: int = 1) -> ModelInfo:
    return ModelInfo(id=id, backend=backend, size=size, capabilities=frozenset(can) if can else None)


LISTED = (
    info("smollm2:latest", "ollama", "completion", size=10),
    info("tooly:1b", "ollama", "completion", "tools", size=5),
    info("tooly:3b", "ollama", "completion", "tools", size=7),
    info("all-minilm:latest", "ollama", "embedding"),
    info("smollm2:latest", "other", "completion"),
    info("org/Model-7B", "other"),
    info("SmolLM2", "embedded", "completion"),
)


def names(aliases: dict[str, str] | None = None, **settings: Any) -> Names:
    given = {"default": None, "openai_names": True, "backends": ("ollama", "other", "embedded"), **settings}
    return Names(aliases=aliases or {}, **given)


def found(names: Names, asked: str, kind: str | None = None, listed: tuple[ModelInfo, ...] = LISTED) -> str | None:
    target = names.resolve(asked, listed, kind=kind)
    assert target is None or target.asked == asked
    return f"{target.via} {target.info.backend}/{target.info.id}" if target else None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("smollm2", "listed ollama/smollm2:latest"),
        ("smollm2:latest", "listed ollama/smollm2:latest"),
        ("other/smollm2", "listed other/smollm2:latest"),
        ("embedded/smollm2", "listed embedded/SmolLM2"),
        ("SmolLM2", "listed embedded/SmolLM2"),
        ("SMOLLM2", "listed ollama/smollm2:latest"),
        ("tooly", None),
        ("tooly:1b", "listed ollama/tooly:1b"),
        ("org/Model-7B", "listed other/org/Model-7B"),
        ("org/model-7b", "listed other/org/Model-7B"),
        ("other/org/Model-7B:latest", "listed other/org/Model-7B"),
        ("nowhere/smollm2", None),
        ("", None),
        ("gpt-oss:20b", None),
        ("davinci", None),
    ],
)
def test_listed_names_are_found_in_all_their_forms(asked: str, expected: str | None) -> None:
    assert found(names(), asked) == expected


def test_the_order_of_the_config_decides_between_backends() -> None:
    assert found(names(backends=("other", "ollama")), "smollm2") == "listed other/smollm2:latest"


def test_of_two_models_of_a_name_the_one_that_can_do_it_is_taken() -> None:
    listed = (info("x", "ollama", "embedding"), info("x", "other", "completion"))
    assert found(names(), "x", "chat", listed) == "listed other/x"
    assert found(names(), "x", "embedding", listed) == "listed ollama/x"
    assert found(names(), "x", None, listed) == "listed ollama/x"


def test_an_exact_alias_comes_before_a_model_and_a_glob_after_it() -> None:
    mine = names({"smollm2": "tooly:1b", "t*": "smollm2:latest", "tooly:*": "all-minilm"})
    assert found(mine, "smollm2") == "alias ollama/tooly:1b"
    assert found(mine, "tooly:3b") == "listed ollama/tooly:3b"
    assert found(mine, "tooly:9b") == "glob ollama/smollm2:latest"


def test_an_alias_may_lead_to_another_and_choose_a_backend() -> None:
    mine = names({"fast": "small", "small": "other/smollm2", "f*": "fast"})
    assert found(mine, "fast") == "alias other/smollm2:latest"
    assert found(mine, "foo") == "glob other/smollm2:latest"


def test_an_alias_may_be_asked_for_with_the_tag_that_it_is_listed_with() -> None:
    mine = names({"fast": "tooly:1b", "smollm2": "tooly:1b", "fa:st": "tooly:1b"})
    assert found(mine, "fast:latest") == "alias ollama/tooly:1b"
    # With its tag, a model is the model.
    assert found(mine, "smollm2:latest") == "listed ollama/smollm2:latest"
    assert found(mine, "smollm2") == "alias ollama/tooly:1b"
    assert mine.resolve("fast:8b", LISTED) is None


def test_what_is_to_be_deleted_is_not_to_be_fetched() -> None:
    assert "oproxy models pull" in names().near("nope", LISTED)
    assert names().near("nope", LISTED, fetch=False) == ""
    assert names().near("smollm3", LISTED, fetch=False).startswith("Did you mean `smollm2`")


def test_aliases_in_a_circle_are_told() -> None:
    mine = names({"a": "b", "b": "a"})
    with pytest.raises(ModelNotFound, match="a → b → a"):
        mine.resolve("a", LISTED)
    assert mine.aliases(LISTED) == {}


def test_an_alias_of_itself_means_the_model() -> None:
    assert found(names({"tooly:1b": "tooly:1b"}), "tooly:1b") == "alias ollama/tooly:1b"


def test_an_alias_of_nothing_does_not_fall_through() -> None:
    mine = names({"gpt-4o": "gone"})
    assert found(mine, "gpt-4o") is None
    assert "alias of `gone`" in mine.near("gpt-4o", LISTED)


def test_exact_aliases_are_listed_with_their_models() -> None:
    mine = names({"fast": "tooly:1b", "gone": "nothing", "g*": "tooly:3b"})
    assert {name: target.info.id for name, target in mine.aliases(LISTED).items()} == {"fast": "tooly:1b"}


@pytest.mark.parametrize(
    "asked", ["gpt-4o", "chatgpt-4o-latest", "o1", "o3-mini", "o4-mini", "claude-opus-4-8", "claude-3-5-haiku-latest"]
)
def test_openai_names_lead_to_a_fitting_model(asked: str) -> None:
    assert found(names(), asked) == "openai ollama/tooly:3b"
    assert found(names(default="smollm2"), asked) == "openai ollama/smollm2:latest"
    assert found(names(openai_names=False), asked) is None
    assert found(names(default="gone"), asked) is None


def test_openai_embeddings_lead_to_a_model_that_embeds() -> None:
    assert found(names(), "text-embedding-3-small") == "openai ollama/all-minilm:latest"
    assert found(names(default="smollm2"), "text-embedding-3-small") == "openai ollama/all-minilm:latest"
    assert found(names(), "text-embedding-3-small", listed=LISTED[:3]) is None


def test_names_tell_what_unknown_models_can_do() -> None:
    listed = (info("nomic-embed-text"), info("llama3"))
    assert found(names(), "gpt-4o", listed=listed) == "openai ollama/llama3"
    assert found(names(), "text-embedding-ada-002", listed=listed) == "openai ollama/nomic-embed-text"


def test_a_hint_names_what_is_near_and_how_to_fetch() -> None:
    assert names().near("smolm2", LISTED).startswith("Did you mean `smollm2` or")
    assert "`oproxy models pull llama3.2:1b`" in names().near("llama3.2:1b", LISTED)
    assert "pull" not in names().near("a b; rm -rf", LISTED)
    assert "default under [models]" in names(default="gone").near("gpt-4o", LISTED)
    assert "embedding" in names().near("text-embedding-3-small", ())
