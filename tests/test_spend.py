from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.account import NANO, Budget, Caller, Key
from ollama_proxy.backends.webhook import Webhook
from ollama_proxy.errors import QuotaExceeded, RateLimited
from ollama_proxy.sections import Spend as Settings
from ollama_proxy.spend import Reserved, Spend
from ollama_proxy.tasks import Tasks

from .conftest import Clock

NOON = datetime(2026, 1, 30, 12, tzinfo=UTC).timestamp()
DAY = 86400.0


def caller(name: str = "ci", **budget: Any) -> Caller:
    key = Key(id=f"id-{name}", name=name, digest="", shown="", created=0, budget=Budget(**budget))
    return Caller(name=name, key=key)


ANYBODY = Caller()


class Bank:
    """Spend over a ledger of rows (key, at, cost, listed, tokens)."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock(NOON)
        self.rows: list[tuple[str, float, int, int, int]] = []
        self.loads: list[tuple[str, float]] = []
        self.said: list[str] = []
        self.tasks = Tasks()
        self.spend = self.opened(**settings)

    def opened(self, *, price: Any = None, **settings: Any) -> Spend:
        return Spend(
            Settings(**settings), wall=self.clock, load=self.load, say=self.said.append, tasks=self.tasks,
            webhook=Webhook(pause=0.01), price=price,
        )  # fmt: skip

    def load(self, key: str, since: float) -> tuple[int, int, int]:
        self.loads.append((key, since))
        rows = [row for row in self.rows if row[1] >= since and key in ("", row[0])]
        return sum(row[2] for row in rows), sum(row[3] for row in rows), sum(row[4] for row in rows)

    def ask(self, who: Caller, *, model: str = "m", prompt: int = 0, answer: int = 1) -> Reserved | None:
        return self.spend.reserve(who, model, prompt, answer)

    def use(self, who: Caller, tokens: int = 0, *, cost: int = 0, listed: int = 0) -> None:
        """Ask and be answered."""
        self.spend.settle(self.ask(who), cost=cost, listed=listed, tokens=tokens)


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_without_a_budget_nothing_is_kept_and_nothing_is_read(bank: Bank) -> None:
    bank.spend.refill()

    assert not bank.spend.counts(caller())
    assert bank.ask(caller()) is None
    assert bank.ask(ANYBODY) is None
    bank.spend.settle(None, cost=1, listed=1, tokens=1)
    assert bank.loads == []


def test_a_spent_budget_is_insufficient_quota_and_not_worth_a_try(bank: Bank) -> None:
    who = caller(tokens_per_day=100)
    assert bank.spend.counts(who)
    bank.use(who, 99)
    bank.use(who, 1)

    with pytest.raises(QuotaExceeded) as refused:
        bank.ask(who)

    assert refused.value.status == 429
    assert refused.value.headers == {"x-should-retry": "false"}
    assert refused.value.body()["error"]["type"] == "insufficient_quota"
    assert refused.value.message == (
        f"{QuotaExceeded().message} The budget of this key for the day, in tokens, is spent; it begins anew in 12h00m."
    )


@pytest.mark.parametrize(
    ("budget", "used"),
    [
        ({"money_per_day": 0.5}, {"cost": NANO // 2}),
        ({"money_per_month": 0.5}, {"cost": NANO // 2}),
        ({"tokens_per_day": 5}, {"tokens": 5}),
        ({"tokens_per_month": 5}, {"tokens": 5}),
    ],
)
def test_each_line_of_a_budget_holds_for_a_key_and_for_all(budget: dict[str, Any], used: dict[str, int]) -> None:
    for bank, who, other in ((Bank(), caller(**budget), caller("other")), (Bank(**budget), ANYBODY, None)):
        bank.use(who, **used)
        with pytest.raises(QuotaExceeded):
            bank.ask(who)
        # Another key has its own; what holds for all holds for it too.
        if other is not None:
            bank.ask(other)
        else:
            with pytest.raises(QuotaExceeded, match="all keys together"):
                bank.ask(caller("other"))


def test_money_is_counted_as_the_settings_say_also_when_they_change() -> None:
    bank = Bank(count="list")
    who = caller(money_per_day=1)
    bank.use(who, cost=2 * NANO)
    bank.use(who, listed=NANO - 1)
    bank.spend.configure(Settings(count="cost"))

    with pytest.raises(QuotaExceeded):
        bank.ask(who)


@pytest.mark.parametrize(("kind", "hours"), [("tokens_per_day", 12), ("tokens_per_month", 36)])
def test_a_budget_begins_anew_at_midnight_utc_and_on_the_first(bank: Bank, kind: str, hours: int) -> None:
    who = caller("ci", **{kind: 10})
    bank.use(who, 10)

    bank.clock.forward(hours * 3600 - 1)
    with pytest.raises(QuotaExceeded, match="0h00m"):
        bank.ask(who)
    bank.clock.forward(1)
    bank.use(who, 10)
    with pytest.raises(QuotaExceeded):
        bank.ask(who)


def test_a_request_is_booked_where_it_began(bank: Bank) -> None:
    who = caller(tokens_per_day=10)
    late = bank.ask(who)
    bank.clock.forward(DAY)
    assert bank.ask(who, answer=9) is not None
    bank.spend.settle(late, cost=0, listed=0, tokens=10)

    # Nine are reserved in the new day, and nothing else.
    assert bank.ask(who) is not None
    with pytest.raises(RateLimited):
        bank.ask(who)


def test_a_clock_that_is_put_back_gives_nothing_back(bank: Bank) -> None:
    who = caller(tokens_per_day=10)
    bank.use(who, 10)
    bank.clock.forward(DAY)
    bank.use(who, 10)

    for _ in range(2):
        bank.clock.forward(-DAY)
        with pytest.raises(QuotaExceeded):
            bank.ask(who)
    bank.clock.forward(2 * DAY)
    with pytest.raises(QuotaExceeded):
        bank.ask(who)


# --- many at once ---------------------------------------------------------------------------------------------


async def at_once(bank: Bank, who: Caller, *, answer: int, model: str = "m", **used: int) -> Counter[str]:
    """Let 64 ask at once, and be answered a little later."""
    outcome = Counter[str]()

    async def one(n: int) -> None:
        try:
            reserved = bank.ask(who, model=model, answer=answer)
        except (QuotaExceeded, RateLimited) as exc:
            outcome[type(exc).__name__] += 1
            return
        outcome["passed"] += 1
        await asyncio.sleep(0.001 * (n % 3))
        bank.spend.settle(reserved, **({"cost": 0, "listed": 0, "tokens": 0} | used))

    await asyncio.gather(*(one(n) for n in range(64)))
    return outcome


async def test_64_at_once_do_not_spend_what_is_left_for_ten(bank: Bank) -> None:
    who = caller(tokens_per_day=1000)

    assert await at_once(bank, who, answer=100, tokens=100) == {"passed": 10, "RateLimited": 54}
    with pytest.raises(QuotaExceeded):
        bank.ask(who)


async def test_64_at_once_pass_money_by_no_more_than_one_of_them() -> None:
    bank = Bank(price=lambda model, prompt, answer: 30_000_000)
    who = caller(money_per_day=0.1, count="list")

    assert await at_once(bank, who, answer=1, listed=30_000_000) == {"passed": 4, "RateLimited": 60}


@pytest.mark.parametrize(
    ("settings", "own", "cost", "listed", "spent"),
    [
        # Local answers cost nothing; at list prices they are worth ten cents.
        ("cost", None, 0, NANO // 10, False),
        ("cost", "list", 0, NANO // 10, True),
        ("list", None, 0, NANO // 10, True),
        ("list", "cost", 0, NANO // 10, False),
        ("list", "cost", NANO // 10, 0, True),
        ("cost", None, NANO // 10, 0, True),
        ("cost", "list", NANO // 10, 0, False),
    ],
)
def test_a_key_may_count_dollars_otherwise_than_the_settings(
    settings: str, own: str | None, cost: int, listed: int, spent: bool
) -> None:
    bank = Bank(count=settings)
    who = caller(money_per_day=0.1, count=own)
    bank.use(who, 10, cost=cost, listed=listed)

    if spent:
        with pytest.raises(QuotaExceeded):
            bank.ask(who)
        assert [alert.spent for alert in bank.spend.alerts] == [0.1]
    else:
        assert bank.ask(who) is not None
        assert bank.spend.alerts == []


def test_a_keys_way_of_counting_holds_beside_a_budget_of_all_that_counts_otherwise() -> None:
    bank = Bank(count="cost", money_per_day=1.0)
    who = caller(money_per_day=0.1, count="list")
    reserved = bank.ask(who)
    bank.spend.settle(reserved, cost=NANO // 2, listed=NANO // 20, tokens=10)

    assert bank.ask(who) is not None, "a twentieth of a dollar at list prices fits into a tenth"
    bank.spend.settle(bank.ask(who), cost=NANO // 2, listed=0, tokens=10)
    with pytest.raises(QuotaExceeded):
        bank.ask(ANYBODY)


async def test_without_a_known_price_only_those_pass_that_ran_before_the_first_was_booked(bank: Bank) -> None:
    who = caller(money_per_day=0.1)

    # Nothing is known of what it costs.
    assert await at_once(bank, who, answer=10, cost=NANO, tokens=10) == {"passed": 64}
    assert await at_once(bank, who, answer=10) == {"QuotaExceeded": 64}


async def test_money_is_reserved_by_what_answers_of_the_model_took_before(bank: Bank) -> None:
    who = caller(money_per_day=1)
    bank.use(who, 10, cost=NANO // 10)

    # A hundredth of a dollar for a token: nine tenths are left.
    assert await at_once(bank, who, answer=10, cost=NANO // 10, tokens=10) == {"passed": 9, "RateLimited": 55}


async def test_an_answer_of_unsaid_length_is_reserved_as_long_as_the_models_usual_ones(bank: Bank) -> None:
    who = caller(tokens_per_day=1000)
    assert await at_once(bank, who, answer=0, tokens=50) == {"passed": 2, "RateLimited": 62}

    # Those two took 50 each.
    assert (await at_once(bank, who, answer=0, tokens=50))["passed"] == 18


def test_what_is_only_reserved_is_refused_for_now(bank: Bank) -> None:
    who = caller(tokens_per_day=100)
    running = bank.ask(who, answer=100)

    with pytest.raises(RateLimited) as refused:
        bank.ask(who)
    assert refused.value.headers["x-should-retry"] == "true"
    assert refused.value.type == "tokens"

    bank.spend.settle(running, cost=0, listed=0, tokens=5)
    assert bank.ask(who) is not None


def test_what_is_settled_twice_is_booked_once(bank: Bank) -> None:
    who = caller(tokens_per_day=100)
    reserved = bank.ask(who, answer=60)
    for _ in range(2):
        bank.spend.settle(reserved, cost=0, listed=0, tokens=60)

    assert bank.ask(who, answer=39) is not None
    assert bank.ask(who) is not None
    with pytest.raises(RateLimited):
        bank.ask(who)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 60), st.integers(0, 3600 * 20)), max_size=60))
def test_no_sequence_of_calls_and_times_passes_a_budget_by_more_than_one_request(
    steps: list[tuple[int, int, int]],
) -> None:
    bank, who = Bank(), caller(tokens_per_day=100, tokens_per_month=250)
    days, months = Counter[int](), Counter[int]()
    running: dict[int, tuple[Reserved, int, datetime]] = {}
    for slot, tokens, later in steps:
        if slot in running:
            reserved, took, at = running.pop(slot)
            bank.spend.settle(reserved, cost=0, listed=0, tokens=took)
            days[at.toordinal()] += took
            months[at.month] += took
        else:
            bank.clock.forward(later)
            try:
                mine = bank.ask(who, answer=tokens)
            except (QuotaExceeded, RateLimited):
                continue
            assert mine is not None
            # Estimates are upper bounds: it takes as much or less.
            running[slot] = (mine, tokens - tokens % 3 or 1, datetime.fromtimestamp(bank.clock(), UTC))
    assert all(used < 100 + 60 for used in days.values())
    assert all(used < 250 + 60 for used in months.values())


# --- the ledger -----------------------------------------------------------------------------------------------


def test_what_was_spent_before_is_read_from_the_ledger() -> None:
    bank = Bank(tokens_per_month=1000)
    bank.rows = [
        ("id-ci", NOON - 3 * DAY, 0, 0, 50),
        ("id-ci", NOON - 1, 0, 0, 40),
        ("id-ci", NOON - 40 * DAY, 0, 0, 9),
    ]
    bank.spend.refill()
    bank.use(caller(tokens_per_day=50), 9)
    bank.use(caller(tokens_per_day=50), 1)

    with pytest.raises(QuotaExceeded):
        bank.ask(caller(tokens_per_day=50))
    bank.use(ANYBODY, 900)
    with pytest.raises(QuotaExceeded):
        bank.ask(ANYBODY)


def test_what_was_booked_before_the_ledger_was_open_is_added_to_it() -> None:
    bank = Bank(tokens_per_day=100)
    bank.use(ANYBODY, 30)
    assert bank.loads == []
    bank.rows = [("", NOON - 1, 0, 0, 70)]
    bank.spend.refill()

    with pytest.raises(QuotaExceeded):
        bank.ask(ANYBODY)


def test_a_budget_given_later_counts_what_was_spent_before(bank: Bank) -> None:
    bank.spend.refill()
    assert bank.ask(caller()) is None
    bank.rows = [("id-ci", NOON, 0, 0, 10)]

    with pytest.raises(QuotaExceeded):
        bank.ask(caller(tokens_per_day=10))
    bank.ask(caller(tokens_per_day=11))

    # Taken away, used, and given again.
    bank.ask(caller())
    bank.rows.append(("id-ci", NOON, 0, 0, 1))
    with pytest.raises(QuotaExceeded):
        bank.ask(caller(tokens_per_day=11))


def test_the_database_is_asked_once_for_a_key(bank: Bank) -> None:
    who = caller(tokens_per_day=1000)
    assert not bank.spend.unread(who)
    bank.spend.refill()
    assert bank.spend.unread(who)

    bank.spend.read(who)
    bank.spend.read(who)
    assert not bank.spend.unread(who)
    for _ in range(3):
        bank.use(who, 1)

    assert len(bank.loads) == 2


# --- alerts ---------------------------------------------------------------------------------------------------


def test_each_share_is_told_once_in_a_window(bank: Bank) -> None:
    who = caller(tokens_per_day=100)
    for _ in range(20):
        bank.use(who, 5)
    assert bank.said == [
        "budget: 50% of what key 'ci' may spend in this day is used: 50 tokens of 100 tokens",
        "budget: 80% of what key 'ci' may spend in this day is used: 80 tokens of 100 tokens",
        "budget: 100% of what key 'ci' may spend in this day is used: 100 tokens of 100 tokens",
    ]

    bank.clock.forward(DAY)
    bank.use(who, 60)
    assert len(bank.said) == 4


def test_a_budget_of_all_in_money_is_told_in_dollars() -> None:
    bank = Bank(money_per_month=2, alerts=(0.25,))
    bank.use(ANYBODY, cost=NANO // 2)

    assert bank.said == ["budget: 25% of what all keys together may spend in this month is used: 0.5 USD of 2.00 USD"]


def test_what_was_told_before_a_restart_is_not_told_again(bank: Bank) -> None:
    bank.rows = [("id-ci", NOON - 1, 0, 0, 60)]
    bank.spend.refill()
    who = caller(tokens_per_day=100)
    bank.use(who, 1)
    assert bank.said == []
    # But it can be seen.
    assert [alert.share for alert in bank.spend.alerts] == [0.5]

    bank.use(who, 20)
    assert len(bank.said) == 1


def test_a_budget_made_smaller_tells_the_shares_it_has_passed(bank: Bank) -> None:
    bank.use(caller(tokens_per_day=1000), 60)
    assert bank.said == []

    bank.use(caller(tokens_per_day=100), 1)

    assert bank.said == ["budget: 50% of what key 'ci' may spend in this day is used: 61 tokens of 100 tokens"]


def test_the_highest_share_of_each_budget_is_shown_until_its_window_is_over() -> None:
    bank = Bank(money_per_month=1)
    bank.use(caller(tokens_per_day=100), 90, cost=NANO // 2)
    bank.clock.forward(60)

    shown = [(alert.scope, alert.window, alert.share, alert.spent, alert.at) for alert in bank.spend.alerts]
    assert shown == [("ci", "day", 0.8, 90, NOON), ("all", "month", 0.5, 0.5, NOON)]

    bank.clock.forward(DAY)
    assert [alert.scope for alert in bank.spend.alerts] == ["all"]


# --- the webhook ----------------------------------------------------------------------------------------------


class Receiver:
    """A server that fails twice and then takes what comes."""

    def __init__(self) -> None:
        self.url = ""
        self.failures = 2
        self.taken: list[dict[str, Any]] = []
        self.enough = asyncio.Event()
        self.wanted = 1

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.failures:
            self.failures -= 1
            return web.Response(status=500)
        self.taken.append(msgspec.json.decode(body))
        if len(self.taken) == self.wanted:
            self.enough.set()
        return web.Response(status=204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/"
    yield receiver
    await runner.cleanup()


async def test_a_webhook_gets_each_alert_once_and_in_order_though_it_failed_twice(receiver: Receiver) -> None:
    bank = Bank(webhook=receiver.url)
    receiver.wanted = 3
    who = caller(tokens_per_day=100)
    bank.use(who, 50)
    bank.use(who, 49)
    bank.use(who, 1)

    await asyncio.wait_for(receiver.enough.wait(), 10)

    assert receiver.taken[0] == {
        "event": "budget_alert", "scope": "ci", "window": "day", "unit": "tokens", "share": 0.5,
        "spent": 50, "budget": 100, "at": NOON,
    }  # fmt: skip
    assert [alert["share"] for alert in receiver.taken] == [0.5, 0.8, 1.0]
    await bank.tasks.aclose()


async def test_a_webhook_that_takes_nothing_is_told_without_its_url(receiver: Receiver) -> None:
    receiver.failures = 1000
    bank = Bank(webhook=receiver.url + "?secret=xyzzy", tokens_per_day=100, alerts=(0.5,))
    bank.use(ANYBODY, 50)
    for _ in range(500):
        if len(bank.said) == 2:
            break
        await asyncio.sleep(0.02)

    assert bank.said[1] == "budget: the webhook did not take the alert of all (HTTP 500)"
    await bank.tasks.aclose()


async def test_alerts_wait_for_a_webhook_only_in_bounded_number(receiver: Receiver) -> None:
    bank = Bank(webhook=receiver.url, alerts=tuple(n / 200 for n in range(1, 151)))
    bank.use(caller(tokens_per_day=200), 150)

    assert bank.said.count("budget: too many alerts wait for the webhook; this one is not sent") == 50
    await bank.tasks.aclose()
