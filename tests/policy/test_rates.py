"""Which limits hold for whom."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from ollama_proxy import sections
from ollama_proxy.account import Caller, Key, Rates
from ollama_proxy.policy.limit import Charge
from ollama_proxy.policy.rates import Planner, Rules, Tier

RPM = Rates(requests_per_minute=10)


def key(id: str = "key_1", rates: Rates = Rates(), tier: str = "") -> Key:  # noqa: B008
    return Key(id=id, name="ann", digest="d", shown="sk-…abcd", created=0.0, rates=rates, tier=tier)


def caller(key: Key | None = None, *, name: str = "", address: str = "10.0.0.7") -> Caller:
    return Caller(name=name, key=key, address=address)


def limits(planner: Planner, who: Caller, asked: str = "gpt-4o", served: str = "llama3.2:latest") -> dict[str, int]:
    return {charge.bucket: charge.capacity for charge in planner.plan(who, asked, served).charges(100)}


def test_where_nothing_is_limited_nothing_is_charged() -> None:
    assert Planner(Rules()).plan(caller(key()), "m").charges(5) == ()


def test_each_kind_of_limit_has_a_bucket_of_its_own() -> None:
    rates = Rates(requests_per_minute=1, requests_per_day=2, tokens_per_minute=3, tokens_per_day=4, concurrent=5)
    charges = Planner(Rules()).plan(caller(key(rates=rates)), "m").charges(77)
    assert sorted(charges, key=lambda charge: charge.capacity) == [
        Charge("rpm:key:key_1", "rpm", 1, 60.0, 1),
        Charge("rpd:key:key_1", "rpd", 2, 86400.0, 1),
        Charge("tpm:key:key_1", "tpm", 3, 60.0, 77),
        Charge("tpd:key:key_1", "tpd", 4, 86400.0, 77),
        Charge("concurrent:key:key_1", "concurrent", 5, 0.0, 1),
    ]


def test_what_a_key_says_comes_before_its_tier_and_that_before_the_defaults() -> None:
    rules = Rules(
        requests_per_minute=1,
        requests_per_day=1,
        tokens_per_day=1,
        tier="small",
        tiers={
            "small": Tier(requests_per_minute=2, tokens_per_minute=2, concurrent=2),
            "big": Tier(requests_per_minute=3, tokens_per_minute=3),
        },
    )
    planner = Planner(rules)
    own = Rates(requests_per_minute=4)
    name = "key:key_1"
    assert limits(planner, caller(key(rates=own, tier="big"))) == {f"rpm:{name}": 4, f"tpm:{name}": 3}
    assert limits(planner, caller(key(tier="big"))) == {f"rpm:{name}": 3, f"tpm:{name}": 3}
    assert limits(planner, caller(key())) == {
        f"rpm:{name}": 1,
        f"rpd:{name}": 1,
        f"tpd:{name}": 1,
        f"tpm:{name}": 2,
        f"concurrent:{name}": 2,
    }


def test_a_caller_without_a_key_is_known_by_what_it_sent_or_by_its_address() -> None:
    planner = Planner(Rules(requests_per_minute=1))
    assert limits(planner, caller(name="sk-…abcd")) == {"rpm:name:sk-…abcd": 1}
    assert limits(planner, caller()) == {"rpm:at:10.0.0.7": 1}


def test_an_address_is_limited_whatever_its_keys_and_is_named_in_the_refusal() -> None:
    planner = Planner(Rules(address=RPM))
    charges = planner.plan(caller(key()), "m").charges(1)
    assert charges == (Charge("rpm:address:10.0.0.7", "rpm", 10, 60.0, 1, "address 10.0.0.7"),)
    assert planner.plan(caller(key("key_2")), "m").charges(1) == charges


def test_a_models_limit_is_for_all_together_under_whatever_name_it_is_asked_for() -> None:
    planner = Planner(Rules(models={"llama*": RPM}))
    one = limits(planner, caller(key("key_1")), "gpt-4o", "llama3.2:latest")
    assert one == {"rpm:model:llama*:llama3.2:latest": 10}
    assert limits(planner, caller(key("key_2")), "llama3.2", "llama3.2:latest") == one
    assert limits(planner, caller(key("key_2")), "llama3.1", "llama3.1:8b") == {"rpm:model:llama*:llama3.1:8b": 10}
    assert limits(planner, caller(key()), "qwen3", "qwen3:8b") == {}


def test_the_name_asked_for_can_be_limited_too() -> None:
    assert limits(Planner(Rules(models={"gpt-4o": RPM})), caller()) == {"rpm:model:gpt-4o:llama3.2:latest": 10}


def test_the_first_pattern_that_fits_counts() -> None:
    rules = Rules(models={"gpt-4o-mini": Rates(requests_per_minute=1), "gpt-*": Rates(requests_per_minute=2)})
    assert list(limits(Planner(rules), caller(), "gpt-4o-mini", "x").values()) == [1]
    assert list(limits(Planner(rules), caller(), "gpt-4o", "x").values()) == [2]


def test_a_keys_limit_on_a_model_is_its_own_beside_the_others() -> None:
    planner = Planner(Rules(requests_per_minute=5, key_models={"gpt-*": RPM}))
    assert limits(planner, caller(key())) == {"rpm:key:key_1": 5, "rpm:key:key_1:gpt-*:llama3.2:latest": 10}


def test_a_tiers_limits_by_model_yield_to_those_of_the_config() -> None:
    tier = Tier(models={"gpt-*": Rates(requests_per_minute=1), "*": Rates(requests_per_minute=2)})
    planner = Planner(Rules(tier="t", key_models={"gpt-4o": RPM}, tiers={"t": tier}))
    assert list(limits(planner, caller(key()), "gpt-4o").values()) == [10]
    assert list(limits(planner, caller(key()), "gpt-5").values()) == [1]
    assert list(limits(planner, caller(key()), "qwen3").values()) == [2]


def test_snapshots_of_a_family_share_their_limit() -> None:
    planner = Planner(Rules(tier="t", tiers={"t": Tier(models={"gpt-4o*": RPM})}))
    assert limits(planner, caller(key()), "gpt-4o") == limits(planner, caller(key()), "gpt-4o-2024-08-06")


def test_the_presets_are_read_only_when_one_is_named_and_ones_own_come_first() -> None:
    asked: list[str] = []

    def presets() -> Mapping[str, Tier]:
        asked.append("presets")
        return {"free": Tier(requests_per_minute=3), "tier1": Tier(requests_per_minute=500)}

    planner = Planner(Rules(tiers={"free": Tier(requests_per_minute=1)}), presets)
    assert limits(planner, caller(key())) == {}
    assert list(limits(planner, caller(key(tier="free"))).values()) == [1]
    assert asked == []
    assert list(limits(planner, caller(key(tier="tier1"))).values()) == [500]
    assert asked


def test_a_tier_nobody_knows_counts_as_none() -> None:
    planner = Planner(Rules(requests_per_minute=7))
    assert list(limits(planner, caller(key(tier="gone"))).values()) == [7]
    assert planner.tier("gone") is None


def test_a_plan_is_made_once_and_anew_when_the_key_changes() -> None:
    planner = Planner(Rules())
    before = planner.plan(caller(key(rates=RPM)), "m")
    assert planner.plan(caller(key(rates=RPM)), "m") is before
    after = planner.plan(caller(key(rates=Rates(requests_per_minute=11))), "m")
    assert [charge.capacity for charge in after.charges(0)] == [11]


def test_however_many_models_are_asked_for_plans_do_not_pile_up() -> None:
    planner = Planner(Rules(models={"*": RPM}))
    first = planner.plan(caller(), "m0")
    for n in range(5000):
        planner.plan(caller(), f"m{n}")
    assert planner.plan(caller(), "m0") == first
    assert planner.plan(caller(), "m0") is not first


@pytest.mark.parametrize(
    "settings",
    [
        sections.Limits(),
        sections.Limits(
            requests_per_minute=1,
            tier="t",
            address=sections.RateSettings(concurrent=2),
            models={"*": sections.RateSettings(tokens_per_minute=3)},
            key_models={"a": sections.RateSettings(tokens_per_day=4)},
            tiers={"t": sections.TierSettings(requests_per_day=5, models={"*": sections.RateSettings(concurrent=6)})},
        ),
    ],
)
def test_the_rules_are_the_settings_field_by_field(settings: sections.Limits) -> None:
    rules = msgspec.convert(settings, Rules, from_attributes=True)
    said = {name: value for name, value in msgspec.to_builtins(settings).items() if name in Rules.__struct_fields__}
    empty = msgspec.to_builtins(sections.Limits())
    assert {"address": {}} | msgspec.to_builtins(rules) == {"address": {}} | {
        name: value for name, value in said.items() if value != empty[name]
    }
