"""Prices: list prices as genai-prices has them, what an answer really cost, and that nothing is fetched."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.events import Usage
from ollama_proxy.pricing import KEPT, Prices
from ollama_proxy.sections import Prices as Section
from ollama_proxy.sections import PriceSettings

MILLION = 1_000_000


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def usages() -> st.SearchStrategy[Usage]:
    return st.builds(
        lambda prompt, cached, completion: Usage(prompt, completion, cached=min(cached, prompt)),
        st.integers(0, 600_000),
        st.integers(0, 600_000),
        st.integers(0, 100_000),
    )


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-4o-2024-08-06", "gpt-3.5-turbo", "claude-sonnet-4-5", "gemini-2.5-pro", "o4-mini"]
)
@given(usage=usages())
def test_a_list_price_is_what_genai_prices_calculates(prices: Prices, model: str, usage: Usage) -> None:
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=usage.prompt, cache_read_tokens=usage.cached, output_tokens=usage.completion),
        model,
    )
    ours = prices.list_price(model, usage)

    assert ours is not None
    assert abs(ours - theirs.total_price * 10**9) <= Decimal("0.5")


def test_a_prompt_of_just_the_threshold_pays_the_lower_tier(prices: Prices) -> None:
    below = prices.list_price("claude-sonnet-4-5", Usage(200_000, 0))
    above = prices.list_price("claude-sonnet-4-5", Usage(200_001, 0))

    assert below == 200_000 * 3000
    assert above == 200_001 * 6000


def test_cached_tokens_cost_what_cached_tokens_cost(prices: Prices) -> None:
    assert prices.list_price("gpt-5", Usage(1000, 0, cached=1000)) == 1000 * 125
    assert prices.list_price("gpt-5", Usage(1000, 0)) == 1000 * 1250


def test_more_cached_than_prompt_tokens_are_not_a_discount(prices: Prices) -> None:
    assert prices.list_price("gpt-5", Usage(100, 0, cached=500)) == 100 * 125


@pytest.mark.parametrize(
    ("model", "same"),
    [
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o:latest", "gpt-4o"),
        ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
    ],
)
def test_a_model_has_its_price_under_its_other_names(prices: Prices, model: str, same: str) -> None:
    usage = Usage(1234, 567, cached=89)

    assert prices.list_price(model, usage) == prices.list_price(same, usage) is not None


def test_embeddings_have_a_list_price_though_they_answer_with_no_tokens(prices: Prices) -> None:
    assert prices.list_price("text-embedding-3-small", Usage(MILLION, 0)) == 20_000_000


@pytest.mark.parametrize(
    "model", ["llama3.2", "smollm2:135m", "qwen3:8b", "deepseek-r1:7b", "nomic-embed-text", "", "ollama/llama3.2", "/"]
)
def test_a_local_model_has_no_list_price(prices: Prices, model: str) -> None:
    assert prices.list_price(model, Usage(1000, 1000)) is None


def test_a_model_sold_by_time_of_day_costs_what_it_costs_now() -> None:
    usage = Usage(MILLION, 0)
    at = {"noon": 1_740_830_400.0, "night": 1_740_859_200.0}  # 1 March 2025, 12:00 and 20:00 UTC
    now = [at["noon"]]
    prices = Prices(wall=lambda: now[0])
    day = prices.list_price("deepseek-chat", usage)
    now[0] = at["night"]
    night = prices.list_price("deepseek-chat", usage)

    assert day is not None
    assert night is not None
    assert night < day


def test_names_without_end_do_not_fill_the_memory() -> None:
    prices = Prices()
    for number in range(KEPT + 10):
        prices.list_price(f"m{number}:1b", Usage(1, 1))

    assert len(prices._listed) <= KEPT


def test_sums_over_many_requests_are_paid_at_the_base_tier(prices: Prices) -> None:
    assert prices.base_price("claude-sonnet-4-5", Usage(10 * MILLION, 0)) == 10 * MILLION * 3000
    assert prices.base_price("llama3.2", Usage(1, 1)) is None


# --- what it really cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("ollama", ""),
        ("ollama", "http://gpu.example.com:11434"),
        ("embedded", ""),
        ("openai", "http://127.0.0.1:8000/v1"),
        ("openai", "http://localhost:8000/v1"),
        ("openai", "http://192.168.1.20:8000/v1"),
        ("openai", "http://[::1]:8000/v1"),
        ("openai", "http://vllm:8000/v1"),
        ("openai", "http://gpu.local/v1"),
    ],
)
def test_a_local_answer_costs_nothing_unless_a_kwh_has_a_price(kind: str, url: str) -> None:
    usage = Usage(1000, 1000)

    assert Prices().cost(kind, url, "qwen3:8b", usage, 36.0) == 0
    # 500 W for 36 s are 0.005 kWh.
    assert Prices(Section(kwh=0.40, watts=500)).cost(kind, url, "qwen3:8b", usage, 36.0) == 2_000_000


def test_an_answer_of_a_public_provider_costs_its_list_price() -> None:
    paid = Prices(Section(kwh=0.40, watts=500))
    usage = Usage(1000, 500, cached=200)

    assert (
        paid.cost("openai", "https://api.openai.com/v1", "gpt-4o", usage, 9.0) == 800 * 2500 + 200 * 1250 + 500 * 10000
    )
    groq = paid.cost("openai", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", usage, 9.0)
    assert groq is not None
    assert groq > 0


@pytest.mark.parametrize(
    ("url", "model"), [("https://llm.example.com/v1", "gpt-4o"), ("https://api.openai.com/v1", "no-such-model")]
)
def test_the_cost_of_an_answer_from_elsewhere_is_not_known(url: str, model: str) -> None:
    assert Prices().cost("openai", url, model, Usage(1000, 500), 1.0) is None


def test_a_price_in_the_settings_counts_first() -> None:
    own = {"qwen3*": PriceSettings(input=1.0, output=2.0, cached=0.5), "gpt-4o": PriceSettings(input=1.0)}
    paid = Prices(Section(models=own, kwh=1, watts=1000))

    assert paid.cost("ollama", "", "qwen3:8b", Usage(1000, 100, cached=400), 9.0) == 600_000 + 200_000 + 200_000
    assert paid.cost("openai", "https://api.openai.com/v1", "gpt-4o", Usage(1000, 100, cached=400), 9.0) == MILLION
    assert paid.cost("ollama", "", "gpt-4o:latest", Usage(1000, 0), 9.0) == MILLION


@given(usage=usages(), rate=st.decimals(0, 1000, places=6))
def test_money_is_exact_for_prices_of_six_digits(usage: Usage, rate: Decimal) -> None:
    paid = Prices(Section(models={"m": PriceSettings(input=float(rate), output=float(rate))}))
    exact = rate * 1000 * (usage.prompt + usage.completion)

    cost = paid.cost("ollama", "", "m", usage, 0.0)
    assert cost is not None
    assert abs(cost - exact) <= Decimal("0.5")


# --- the library --------------------------------------------------------------------------------------------------


def test_prices_are_imported_only_when_they_are_needed() -> None:
    code = (
        "import sys; from ollama_proxy.pricing import Prices; p = Prices(); before = 'genai_prices' in sys.modules; "
        "p.warm(); print(before, 'genai_prices' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False", "True"]


OFFLINE = """
import sys

def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit("the network was asked")

sys.addaudithook(hook)
from ollama_proxy.events import Usage
from ollama_proxy.pricing import Prices

prices = Prices()
prices.warm()
print(prices.list_price("gpt-5", Usage(1, 1)), prices.list_price("no-such-model", Usage(1, 1)))
"""


def test_prices_never_ask_the_network() -> None:
    said = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["11250", "None"]
