"""How buckets behave, wherever they are kept."""

from __future__ import annotations

import asyncio
import time

import pytest

from ollama_proxy.policy.limit import headers
from tests.limits.conftest import Keeper, requests, slots, tokens


async def test_who_is_not_limited_gets_in(keeper: Keeper) -> None:
    verdict = await keeper.admit()
    assert verdict.refused is None
    assert headers(verdict) == {}
    await keeper.settle(verdict, 5)


async def test_a_bucket_is_filled_to_the_brim_and_no_further(keeper: Keeper) -> None:
    # Sevenths are not exact in floats.
    verdicts = [await keeper.admit(requests(7)) for _ in range(9)]
    assert [verdict.refused for verdict in verdicts] == [*[None] * 7, requests(7), requests(7)]
    assert [round(verdict.levels[0], 3) for verdict in verdicts] == [1, 2, 3, 4, 5, 6, 7, 7, 7]


async def test_the_headers_count_the_request_itself(keeper: Keeper) -> None:
    verdict = await keeper.admit(requests(3), tokens(100, 30, name="t"))
    told = headers(verdict)
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("3", "2")
    assert (told["x-ratelimit-limit-tokens"], told["x-ratelimit-remaining-tokens"]) == ("100", "70")


async def test_all_buckets_are_charged_or_none(keeper: Keeper) -> None:
    small, large = requests(1, name="small"), requests(5, name="large")
    assert (await keeper.admit(large, small)).refused is None
    for order in ((large, small), (small, large)):
        verdict = await keeper.admit(*order)
        assert verdict.refused == small
        # What a refused request is told are the levels as they are.
        assert sorted(round(level, 3) for level in verdict.levels) == [1, 1]
    assert round(await keeper.level(large), 3) == 1


async def test_buckets_know_nothing_of_each_other(keeper: Keeper) -> None:
    assert (await keeper.admit(requests(1, name="a"))).refused is None
    assert (await keeper.admit(requests(1, name="b"))).refused is None
    assert (await keeper.admit(requests(1, name="a"))).refused is not None


async def test_after_the_wait_it_is_told_a_request_gets_in(keeper: Keeper) -> None:
    one = requests(2, period=0.4)
    while (verdict := await keeper.admit(one)).refused is None:
        pass
    assert verdict.wait is not None
    assert 0 < verdict.wait <= 0.2
    # Redis' clock has microseconds; a sleep may end one early.
    await keeper.wait(verdict.wait + 0.001)
    assert (await keeper.admit(one)).refused is None


async def test_a_request_larger_than_the_limit_never_gets_in(keeper: Keeper) -> None:
    verdict = await keeper.admit(tokens(100, 101))
    assert (verdict.refused, verdict.wait) == (tokens(100, 101), None)
    assert await keeper.level(tokens(100, 0)) == 0


async def test_what_was_not_used_is_given_back(keeper: Keeper) -> None:
    verdict = await keeper.admit(requests(9, name="r"), tokens(100, 80))
    assert (await keeper.admit(tokens(100, 80))).refused is not None
    await keeper.settle(verdict, 20)
    assert await keeper.level(tokens(100, 0)) == pytest.approx(20, abs=0.01)
    # A request is a request, however long its answer.
    assert await keeper.level(requests(9, name="r")) == pytest.approx(1, abs=0.01)


async def test_with_openais_accounting_nothing_is_given_back(keeper: Keeper) -> None:
    await keeper.settle(await keeper.admit(tokens(100, 80)), 20, refund=False)
    assert await keeper.level(tokens(100, 0)) == pytest.approx(80, abs=0.01)


@pytest.mark.parametrize("refund", [True, False])
async def test_who_took_more_than_estimated_is_in_debt_and_waits(keeper: Keeper, refund: bool) -> None:
    await keeper.settle(await keeper.admit(tokens(100, 80)), 150, refund=refund)
    verdict = await keeper.admit(tokens(100, 10))
    assert verdict.levels[0] == pytest.approx(150, abs=0.01)
    assert verdict.wait == pytest.approx(0.6 * 1e9, rel=0.01)
    assert headers(verdict)["x-ratelimit-remaining-tokens"] == "0"


async def test_without_a_count_the_estimate_stays(keeper: Keeper) -> None:
    await keeper.settle(await keeper.admit(tokens(100, 80)), None)
    assert await keeper.level(tokens(100, 0)) == pytest.approx(80, abs=0.01)


async def test_an_aborted_answer_pays_for_what_it_got(keeper: Keeper) -> None:
    minute, day = tokens(1000, 600), tokens(5000, 600, name="d", kind="tpd")
    await keeper.settle(await keeper.admit(minute, day), 57)
    assert await keeper.level(minute) == pytest.approx(57, abs=0.01)
    assert await keeper.level(day) == pytest.approx(57, abs=0.01)


async def test_settling_out_of_order_comes_to_the_true_sum(keeper: Keeper) -> None:
    verdicts = [await keeper.admit(tokens(100, 30)) for _ in range(3)]
    for verdict, used in zip(verdicts, (10, 20, 5), strict=True):
        await keeper.settle(verdict, used)
    assert await keeper.level(tokens(100, 0)) == pytest.approx(35, abs=0.01)


async def test_a_refused_request_has_nothing_to_settle(keeper: Keeper) -> None:
    await keeper.admit(tokens(100, 90))
    refused = await keeper.admit(tokens(100, 90), slots(1))
    await keeper.settle(refused, 0)
    assert await keeper.level(tokens(100, 0)) == pytest.approx(90, abs=0.01)


async def test_what_leaked_out_meanwhile_is_not_given_back(keeper: Keeper) -> None:
    # A million in 1000 s, a thousand a second. Full; while the request runs some leaks out, and another takes just
    # that. The first one's refund must not free the place of what has leaked: that would let in more than the limit.
    million, begun = 10**6, time.monotonic()
    first = await keeper.admit(tokens(million, million, period=1000.0))
    await keeper.wait(0.1)
    free = int(million - await keeper.level(tokens(million, 0, period=1000.0)))
    assert free >= 99
    assert (await keeper.admit(tokens(million, free, period=1000.0))).refused is None
    await keeper.settle(first, 0)
    level = await keeper.level(tokens(million, 0, period=1000.0))
    assert level >= free - 1000 * max(0.0, time.monotonic() - begun - 0.1) - 1
    assert level <= free + 1


async def test_as_many_run_at_once_as_there_are_slots(keeper: Keeper) -> None:
    first, second = await keeper.admit(slots(2)), await keeper.admit(slots(2))
    third = await keeper.admit(slots(2))
    assert (first.refused, second.refused, third.refused) == (None, None, slots(2))
    assert third.wait == 1.0
    await keeper.settle(first, 0)
    assert (await keeper.admit(slots(2))).refused is None
    assert (await keeper.admit(slots(2))).refused is not None


async def test_a_slot_is_given_back_once(keeper: Keeper) -> None:
    first, _ = await keeper.admit(slots(2)), await keeper.admit(slots(2))
    for _ in range(3):
        await keeper.settle(first, None, refund=False)
    assert (await keeper.admit(slots(2))).refused is None
    assert (await keeper.admit(slots(2))).refused is not None


async def test_who_finds_no_slot_is_charged_nothing(keeper: Keeper) -> None:
    await keeper.admit(slots(1))
    assert (await keeper.admit(requests(5), slots(1))).refused == slots(1)
    assert await keeper.level(requests(5)) == 0


async def test_64_at_once_take_no_more_than_there_is(keeper: Keeper) -> None:
    verdicts = await asyncio.gather(*[keeper.admit(requests(10), tokens(95, 10, name="t")) for _ in range(64)])
    assert sum(verdict.refused is None for verdict in verdicts) == 9
    assert await keeper.level(requests(10)) == pytest.approx(9, abs=0.01)


async def test_64_at_once_never_run_more_than_the_slots(keeper: Keeper) -> None:
    running: list[int] = []
    most = 0
    served = 0

    async def ask(n: int) -> None:
        nonlocal most, served
        for _ in range(3):
            verdict = await keeper.admit(slots(5))
            if verdict.refused is None:
                running.append(n)
                most = max(most, len(running))
                served += 1
                await asyncio.sleep(0)
                running.remove(n)
                keeper.limiter.settle(verdict, None)
            await asyncio.sleep(0)

    await asyncio.gather(*map(ask, range(64)))
    assert 0 < most <= 5
    assert served >= 5
    await keeper.settled()
    assert (await keeper.admit(slots(1))).refused is None
