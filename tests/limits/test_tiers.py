"""OpenAI's tiers as presets: well formed, and honest about where they come from."""

from __future__ import annotations

import re

from ollama_proxy.account import Caller, Key
from ollama_proxy.limits.tiers import NAMES, load, table
from ollama_proxy.policy.rates import Planner, Rules

FAMILIES = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "o3", "o4-mini", "text-embedding-3-small")


def limits(tier: str, model: str) -> dict[str, int]:
    key = Key(id="key_1", name="", digest="", shown="", created=0.0, tier=tier)
    plan = Planner(Rules(), load).plan(Caller(key=key), model, "llama3.2:latest")
    return {charge.kind: charge.capacity for charge in plan.charges(1)}


def test_the_file_names_its_sources_and_its_date() -> None:
    assert all("openai.com" in source for source in table().sources)
    assert re.fullmatch(r"20\d\d-(0\d|1[0-2])", table().date)
    assert table().note


def test_all_tiers_are_there() -> None:
    assert tuple(load()) == NAMES


def test_every_family_has_limits_in_every_tier_and_so_has_every_other_name() -> None:
    for tier in NAMES:
        for model in (*FAMILIES, "llama3.2:latest"):
            assert {"rpm", "tpm"} <= set(limits(tier, model))


def test_a_higher_tier_never_allows_less() -> None:
    for model in FAMILIES:
        for kind in ("rpm", "tpm"):
            allowed = [limits(tier, model)[kind] for tier in NAMES]
            assert allowed == sorted(allowed)


def test_a_small_models_row_is_found_before_its_familys() -> None:
    assert limits("tier1", "gpt-4o") == {"rpm": 500, "tpm": 30_000}
    assert limits("tier1", "gpt-4o-mini") == {"rpm": 500, "rpd": 10_000, "tpm": 200_000}
    assert limits("tier5", "gpt-5") == {"rpm": 15_000, "tpm": 40_000_000}
    assert limits("free", "gpt-4o-mini-2024-07-18") == {"rpm": 3, "rpd": 200, "tpm": 40_000}
    assert limits("tier2", "text-embedding-3-large") == {"rpm": 5_000, "tpm": 1_000_000}
    assert limits("tier1", "o4-mini") == {"rpm": 1_000, "tpm": 100_000}
