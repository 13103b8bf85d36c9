"""Leaking buckets as arithmetic, and OpenAI's words for what does not fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import RateLimited
from ollama_proxy.policy.limit import (
    Bucket,
    Charge,
    Kind,
    State,
    Verdict,
    decide,
    duration,
    headers,
    refusal,
    settled,
)

MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."


def charge(kind: Kind, capacity: int, amount: float = 1, *, name: str = "", subject: str = "") -> Charge:
    period = {"rpm": 60.0, "tpm": 60.0, "rpd": 86400.0, "tpd": 86400.0, "concurrent": 0.0}[kind]
    return Charge(name or kind, kind, capacity, period, amount, subject)


def refused(*pairs: tuple[Charge, float], model: str = "gpt-4o") -> RateLimited:
    verdict = decide([charge for charge, _ in pairs], [level for _, level in pairs])
    return refusal(verdict, model=model, organization="org-x")


# Times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.004, "4ms"),
        (0.12, "120ms"),
        (0.644, "644ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.574, "1.574s"),
        (1.5, "1.5s"),
        (8.64, "8.64s"),
        (10, "10s"),
        (20, "20s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (61.05, "1m1.05s"),
        (360, "6m0s"),
        (432, "7m12s"),
        (3600, "1h0m0s"),
        (86400, "24h0m0s"),
        (86399.9, "23h59m59.9s"),
    ],
)
def test_a_time_is_printed_in_gos_style(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_printed_time_is_never_too_short_and_less_than_a_millisecond_too_long(seconds: float) -> None:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s|(\d+)ms)", duration(seconds))
    assert found is not None
    hours, minutes, rest, ms = (float(part or 0) for part in found.groups())
    printed = hours * 3600 + minutes * 60 + rest + ms / 1000
    assert seconds - 1e-6 <= printed < seconds + 0.001 + 1e-6


# Buckets


def test_a_bucket_leaks_its_capacity_in_a_period() -> None:
    bucket = Bucket(0.0)
    bucket.add(3)
    assert bucket.leak(20.0, 3 / 60) == pytest.approx(2)
    assert bucket.leak(60.0, 3 / 60) == pytest.approx(0)
    assert bucket.leak(90.0, 3 / 60) == 0


def test_a_clock_that_goes_back_lets_nothing_leak() -> None:
    bucket = Bucket(100.0)
    bucket.add(3)
    assert bucket.leak(50.0, 1.0) == 3
    assert bucket.leak(101.0, 1.0) == 2


def test_what_was_charged_too_much_is_given_back() -> None:
    bucket = Bucket(0.0)
    place = bucket.add(100)
    bucket.settle(100, 30, place, refund=True)
    assert bucket.level == 30


def test_without_refund_only_what_was_too_little_is_added() -> None:
    bucket = Bucket(0.0)
    bucket.settle(100, 30, bucket.add(100), refund=False)
    assert bucket.level == 100
    bucket.settle(100, 130, 0.0, refund=False)
    assert bucket.level == 130


def test_what_has_leaked_out_is_not_given_back() -> None:
    # 100 a minute. After 30 s half of the charge has leaked; only the other half can be given back.
    bucket = Bucket(0.0)
    place = bucket.add(100)
    bucket.leak(30.0, 100 / 60)
    bucket.add(50)
    bucket.settle(100, 0, place, refund=True)
    assert bucket.level == pytest.approx(50)


def test_what_others_had_in_the_bucket_before_leaks_first() -> None:
    bucket = Bucket(0.0)
    bucket.add(50)
    place = bucket.add(50)
    bucket.leak(30.0, 100 / 60)
    bucket.settle(50, 0, place, refund=True)
    assert bucket.level == pytest.approx(0)


@pytest.mark.parametrize(
    ("charged", "actual", "past", "back"),
    [(100, 30, -50, 70), (100, 30, 0, 70), (100, 30, 30, 70), (100, 30, 60, 40), (100, 30, 200, 0), (100, 100, 0, 0)],
)
def test_no_more_is_given_back_than_is_left_of_a_charge(
    charged: float, actual: float, past: float, back: float
) -> None:
    assert settled(charged, actual, past) == back


# Decisions


def test_what_fits_is_let_in_and_what_fills_the_bucket_fits() -> None:
    verdict = decide([charge("rpm", 3)], [2.0])
    assert (verdict.refused, verdict.wait) == (None, 0.0)


def test_of_several_that_do_not_fit_the_longest_wait_is_told() -> None:
    minute, day, fits = charge("rpm", 3), charge("rpd", 100), charge("tpm", 1000, 10)
    verdict = decide([minute, day, fits], [3.0, 100.0, 0.0])
    assert verdict.refused is day
    assert verdict.wait == pytest.approx(864)


def test_what_never_fits_is_told_before_any_wait() -> None:
    minute, huge, day = charge("rpm", 3), charge("tpm", 100, 101), charge("rpd", 100)
    verdict = decide([minute, huge, day], [3.0, 0.0, 100.0])
    assert (verdict.refused, verdict.wait) == (huge, None)


def test_a_bucket_in_debt_keeps_out_even_what_asks_for_nothing() -> None:
    verdict = decide([charge("tpm", 600, 0)], [610.0])
    assert verdict.wait == pytest.approx(1.0)


@given(
    capacity=st.integers(1, 10**10),
    amount=st.integers(0, 10**10),
    share=st.floats(0, 2),
    period=st.sampled_from([60.0, 86400.0]),
)
def test_after_the_wait_it_fits_and_just_before_it_does_not(
    capacity: int, amount: int, share: float, period: float
) -> None:
    one = Charge("b", "tpm", capacity, period, amount)
    bucket = Bucket(0.0)
    bucket.add(share * capacity)
    verdict = decide([one], [bucket.level])
    if verdict.refused is None:
        return
    if verdict.wait is None:
        assert amount > capacity
        return
    before = verdict.wait - period * 1e-6
    if before > 0:
        assert decide([one], [bucket.leak(before, capacity / period)]).refused is one
    assert decide([one], [bucket.leak(verdict.wait, capacity / period)]).refused is None


# Headers


def test_states_round_what_is_left_down() -> None:
    verdict = Verdict([charge("rpm", 60), charge("tpm", 600, 5), charge("concurrent", 4)], [0.2, 650.0, 1.0])
    requests, tokens, slots = verdict.states
    assert requests == State("rpm", 60, 59, requests.reset)
    assert tokens == State("tpm", 600, 0, tokens.reset)
    assert slots == State("concurrent", 4, 3, 0.0)
    assert requests.reset == pytest.approx(0.2)
    assert tokens.reset == pytest.approx(65)


def test_the_headers_are_those_of_openais_documentation() -> None:
    verdict = Verdict([charge("rpm", 60), charge("tpm", 150_000, 16)], [1.0, 16.0])
    assert headers(verdict) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "7ms",
    }


def test_one_request_of_15000_a_minute_is_full_again_after_4_ms() -> None:
    assert headers(Verdict([charge("rpm", 15_000)], [1.0]))["x-ratelimit-reset-requests"] == "4ms"


def test_the_tightest_of_several_limits_is_told() -> None:
    wide, tight = charge("rpm", 500, name="key"), charge("rpm", 60, name="model")
    assert headers(Verdict([wide, tight], [490.0, 1.0]))["x-ratelimit-limit-requests"] == "500"
    assert headers(Verdict([wide, tight], [1.0, 1.0]))["x-ratelimit-limit-requests"] == "60"


@pytest.mark.parametrize("order", [1, -1])
def test_a_days_limit_is_told_only_where_less_is_left_of_it(order: int) -> None:
    pairs = [(charge("rpm", 60), 10.0), (charge("rpd", 200), 149.0)][::order]
    assert headers(Verdict([c for c, _ in pairs], [x for _, x in pairs]))["x-ratelimit-limit-requests"] == "60"
    same = [(c, 150.0 if c.kind == "rpd" else x) for c, x in pairs]
    assert headers(Verdict([c for c, _ in same], [x for _, x in same]))["x-ratelimit-limit-requests"] == "60"
    less = [(c, 151.0 if c.kind == "rpd" else x) for c, x in pairs]
    told = headers(Verdict([c for c, _ in less], [x for _, x in less]))
    assert told["x-ratelimit-limit-requests"] == "200"
    assert told["x-ratelimit-remaining-requests"] == "49"
    assert told["x-ratelimit-reset-requests"] == "18h7m12s"


def test_where_nothing_is_limited_nothing_is_told() -> None:
    assert headers(Verdict([], [])) == {}
    assert headers(Verdict([charge("concurrent", 4)], [1.0])) == {}


# Refusals


def test_too_many_requests_a_minute() -> None:
    error = refused((charge("rpm", 3), 3.0), model="gpt-3.5-turbo-1106")
    assert error.status == 429
    assert error.body() == {
        "error": {
            "message": "Rate limit reached for gpt-3.5-turbo-1106 in organization org-x on requests per min (RPM): "
            f"Limit 3, Used 3, Requested 1. Please try again in 20s. {MORE}",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert error.headers == {
        "retry-after": "20",
        "retry-after-ms": "20000",
        "x-should-retry": "true",
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


def test_too_many_tokens_a_minute() -> None:
    error = refused((charge("rpm", 500), 7.0), (charge("tpm", 200_000, 42_288), 162_960.0))
    assert error.body() == {
        "error": {
            "message": "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): "
            f"Limit 200000, Used 162960, Requested 42288. Please try again in 1.575s. {MORE}",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert error.headers == {
        "retry-after": "2",
        "retry-after-ms": "1575",
        "x-should-retry": "true",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "493",
        "x-ratelimit-reset-requests": "840ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "37040",
        "x-ratelimit-reset-tokens": "48.888s",
    }


def test_too_many_requests_a_day() -> None:
    error = refused((charge("rpm", 3), 1.0), (charge("rpd", 200), 200.0), model="gpt-4o-mini")
    assert error.message == (
        "Rate limit reached for gpt-4o-mini in organization org-x on requests per day (RPD): "
        f"Limit 200, Used 200, Requested 1. Please try again in 7m12s. {MORE}"
    )
    assert error.type == "requests"
    assert error.headers == {
        "retry-after": "432",
        "retry-after-ms": "432000",
        "x-should-retry": "true",
        "x-ratelimit-limit-requests": "200",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "24h0m0s",
    }


def test_too_many_tokens_a_day() -> None:
    error = refused((charge("tpd", 86_400, 500), 86_000.5))
    assert error.message == (
        "Rate limit reached for gpt-4o in organization org-x on tokens per day (TPD): "
        f"Limit 86400, Used 86001, Requested 500. Please try again in 1m40.5s. {MORE}"
    )
    assert error.type == "tokens"
    assert error.headers == {
        "retry-after": "101",
        "retry-after-ms": "100500",
        "x-should-retry": "true",
        "x-ratelimit-limit-tokens": "86400",
        "x-ratelimit-remaining-tokens": "399",
        "x-ratelimit-reset-tokens": "23h53m20.5s",
    }


def test_a_request_larger_than_the_whole_limit_is_told_so_and_not_to_try_again() -> None:
    error = refused((charge("tpm", 30_000, 30_601), 0.0))
    assert error.body() == {
        "error": {
            "message": "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
            f"Requested 30601. The input or output tokens must be reduced in order to run successfully. {MORE}",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert error.wait is None
    assert error.headers == {
        "x-should-retry": "false",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "30000",
        "x-ratelimit-reset-tokens": "0s",
    }


def test_too_many_requests_at_the_same_time() -> None:
    error = refused((charge("concurrent", 2), 2.0))
    assert error.body() == {
        "error": {
            "message": "Rate limit reached for gpt-4o in organization org-x on concurrent requests: "
            f"Limit 2, Used 2, Requested 1. Please try again in 1s. {MORE}",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert error.headers == {"retry-after": "1", "retry-after-ms": "1000", "x-should-retry": "true"}


def test_whoever_is_limited_instead_of_the_model_is_named() -> None:
    error = refused((charge("rpm", 3, subject="address 10.0.0.7"), 3.0))
    assert error.message.startswith("Rate limit reached for address 10.0.0.7 in organization org-x on requests per min")


def test_only_a_refused_verdict_can_be_told() -> None:
    with pytest.raises(ValueError, match="lets the request in"):
        refusal(Verdict([], []), model="m", organization="o")


@given(
    capacity=st.integers(1, 10**9),
    level=st.floats(0, 1.5),
    amount=st.integers(1, 10**9),
)
def test_used_left_and_limit_add_up(capacity: int, level: float, amount: int) -> None:
    verdict = decide([charge("tpm", capacity, amount)], [level * capacity])
    if verdict.refused is None or verdict.wait is None:
        return
    error = refusal(verdict, model="m", organization="o")
    used = int(re.search(r"Used (\d+)", error.message)[1])  # type: ignore[index]
    left = int(error.headers["x-ratelimit-remaining-tokens"])
    assert left == max(0, capacity - used)
    # What is said to be left would really not have been enough.
    assert left <= amount
    assert float(error.headers["retry-after-ms"]) >= verdict.wait * 1000
