"""What was spent, by each key and by all together, held against their budgets; and who is told when it gets much.

The sums are kept in memory and begin with what the ledger has. What a request may take is reserved when it comes and
made true when it ends, so that many at once do not spend what only one of them may. Knows no prices and writes no
ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from .account import NANO, Budget, Caller
from .backends.webhook import Webhook
from .errors import QuotaExceeded, RateLimited
from .policy.budget import Kind, Limit, Unit, Used, Window, check, limits_of
from .sections import Spend as SpendSettings
from .tasks import Tasks

__all__ = ["Alert", "Reserved", "Spend"]

NO_BUDGET = Budget()
# The account of all together.
ALL = ""
# Tokens of an answer to a request that does not say how long it may get, as long as none of that model was seen.
USUAL_ANSWER = 500
# Of the moving average over a model's answers.
WEIGHT = 0.2
# Names of models are the clients' to choose.
KEPT = 1000
# Alerts that wait for a webhook that does not answer.
WAITING = 100
# Seconds after which to try again when the rest of a budget is only reserved: running requests end all the time.
SOON = 2.0


class Alert(msgspec.Struct, frozen=True, kw_only=True, tag="budget_alert", tag_field="event"):
    """A share of a budget was passed. `scope` is the key's name or "all"; `spent` and `budget` are dollars or tokens,
    `at` epoch seconds."""

    scope: str
    window: Kind
    unit: Unit
    share: float
    spent: float
    budget: float
    at: int


class Account:
    """The windows of one key, or of all together (no `id`), and the limits that hold for them. `by_list`: money is
    counted by list prices."""

    __slots__ = ("alerts", "budget", "by_list", "complete", "day", "id", "limits", "month", "name")

    def __init__(self, id: str, name: str, now: float) -> None:
        self.id = id
        self.name = name
        # Whether what was spent before is known; as long as it is not, only what was spent since is counted.
        self.complete = False
        self.day = Window("day", now)
        self.month = Window("month", now)
        self.budget = NO_BUDGET
        self.by_list = False
        self.limits: tuple[Limit, ...] = ()
        # The latest alert of each limit, and the end of the window it is about.
        self.alerts: dict[tuple[Kind, Unit], tuple[Alert, int]] = {}

    def turn_page(self, now: float) -> None:
        """Begin a new window where one is over. One that has not even begun stays: a clock that was put back gives
        nothing back."""
        if now >= self.day.end:
            self.day = Window("day", now)
        if now >= self.month.end:
            self.month = Window("month", now)

    def judge(self, budget: Budget) -> None:
        """Go by this budget from now on."""
        known, self.limits, self.budget = self.limits, limits_of(budget), budget
        if known:
            # Of a budget that was changed, the shares that are passed already are told at the next chance.
            for limit in set(self.limits) - set(known):
                self.window(limit).told.setdefault(limit, 0)

    def window(self, limit: Limit) -> Window:
        return self.day if limit.kind == "day" else self.month


class Reserved:
    """What one request has reserved in the windows that it began in: tokens, and money as each account counts it."""

    __slots__ = ("accounts", "model", "prompt", "tokens", "windows")

    def __init__(self, accounts: list[Account], model: str, prompt: int, tokens: int, cost: int, listed: int) -> None:
        self.accounts = accounts
        self.windows: list[tuple[Window, int]] = []
        self.model = model
        self.prompt = prompt
        self.tokens = tokens
        for account in accounts:
            money = listed if account.by_list else cost
            for window in (account.day, account.month):
                window.held_tokens += tokens
                window.held_money += money
                self.windows.append((window, money))


class Seen:
    """What answers of one model took of late: nano-dollars a token (real and at list prices), tokens an answer."""

    __slots__ = ("answer", "cost", "listed")

    def __init__(self, cost: float, listed: float, answer: float) -> None:
        self.cost = cost
        self.listed = listed
        self.answer = answer

    def see(self, cost: float, listed: float, answer: float) -> None:
        self.cost += WEIGHT * (cost - self.cost)
        self.listed += WEIGHT * (listed - self.listed)
        self.answer += WEIGHT * (answer - self.answer)


class Spend:
    """All accounts. `wall` gives epoch seconds; `load(key, since)` what the ledger has of a key ("": of all) as (cost,
    list cost, tokens), None where it cannot be read at the moment; `say` takes a line for people. `price(model, prompt,
    answer)` is the list price in nano-dollars, None where it knows none; without it, money is reserved by what the
    model's answers took before.

    Belongs to one event loop; only `refill` and `read` are called in a thread, for they wait for the database.
    """

    def __init__(
        self,
        settings: SpendSettings,
        *,
        wall: Callable[[], float],
        load: Callable[[str, float], tuple[int, int, int] | None],
        say: Callable[[str], None],
        tasks: Tasks,
        webhook: Webhook | None = None,
        price: Callable[[str, int, int], int | None] | None = None,
    ) -> None:
        self._wall = wall
        self._load = load
        self._say = say
        self._tasks = tasks
        self._webhook = webhook or Webhook()
        self._price = price
        self._accounts: dict[str, Account] = {}
        self._seen: dict[str, Seen] = {}
        self._open = False
        self._outbox: deque[Alert] = deque()
        self._posting = False
        self.configure(settings)

    def configure(self, settings: SpendSettings) -> None:
        """Go by other settings from now on; what was spent stays spent."""
        self._shares = tuple(share for share in settings.alerts if share > 0)
        self._by_list = settings.count == "list"
        self._url = settings.webhook
        self._budget = Budget(
            money_per_day=settings.money_per_day,
            money_per_month=settings.money_per_month,
            tokens_per_day=settings.tokens_per_day,
            tokens_per_month=settings.tokens_per_month,
        )
        self._bounded = self._budget != NO_BUDGET
        if not self._bounded:
            self._accounts.pop(ALL, None)

    def counts(self, caller: Caller) -> bool:
        """Return whether a budget holds for what this caller asks."""
        return self._bounded or (caller.key is not None and caller.key.budget != NO_BUDGET)

    # --- one request ------------------------------------------------------------------------------------------

    def reserve(self, caller: Caller, model: str, prompt: int, answer: int) -> Reserved | None:
        """Reserve what a request may take: the tokens of its prompt, and `answer` tokens at most (0: it does not say).
        Return what `settle` is to be called with, None where no budget holds.

        Raises QuotaExceeded where a budget is spent; RateLimited where the rest of it is reserved by requests that
        are still running, for then it is not spent and may well suffice later.
        """
        key = caller.key
        own = key is not None and key.budget != NO_BUDGET
        if key is not None and not own:
            # What is not counted would be wrong later: it is read again if there is a budget once more.
            self._accounts.pop(key.id, None)
        if not own and not self._bounded:
            return None
        now = self._wall()
        accounts = []
        if own and key is not None:
            accounts.append(self._ready(key.id, key.name, key.budget, now))
        if self._bounded:
            accounts.append(self._ready(ALL, "all", self._budget, now))
        for account in accounts:
            if (found := check(account.limits, account.day, account.month, by_list=account.by_list)) is not None:
                raise _refusal(account, *found, now)
        by_list = any(account.by_list for account in accounts)
        return Reserved(accounts, model, prompt, *self._estimate(model, prompt, answer, by_list=by_list))

    def settle(self, reserved: Reserved | None, *, cost: int, listed: int, tokens: int) -> None:
        """Book what a request really took (nano-dollars, tokens), instead of what it had reserved. Once only: a second
        call changes nothing."""
        if reserved is None or not reserved.windows:
            return
        for window, money in reserved.windows:
            window.held_tokens -= reserved.tokens
            window.held_money -= money
            window.cost += cost
            window.listed += listed
            window.tokens += tokens
        self._learn(reserved, cost, listed, tokens)
        windows, reserved.windows = reserved.windows, []
        for n, account in enumerate(reserved.accounts):
            (day, _), (month, _) = windows[2 * n : 2 * n + 2]
            for limit in account.limits:
                window = day if limit.kind == "day" else month
                for share in window.due(limit, self._shares, account.by_list):
                    self._tell(account, window, limit, share)

    def _estimate(self, model: str, prompt: int, answer: int, *, by_list: bool) -> tuple[int, int, int]:
        """Return what a request may take: tokens, and nano-dollars by cost and by list price (looked up only where
        `by_list` says that somebody counts by it)."""
        seen = self._seen.get(model)
        if not answer:
            answer = round(seen.answer) if seen is not None else USUAL_ANSWER
        tokens = prompt + answer
        cost, listed = (round(tokens * seen.cost), round(tokens * seen.listed)) if seen is not None else (0, 0)
        if by_list and self._price is not None and (price := self._price(model, prompt, answer)) is not None:
            listed = price
        return tokens, cost, listed

    def _learn(self, reserved: Reserved, cost: int, listed: int, tokens: int) -> None:
        if not tokens:
            return
        rates = cost / tokens, listed / tokens
        answer = max(0, tokens - reserved.prompt)
        if (seen := self._seen.get(reserved.model)) is not None:
            seen.see(*rates, answer)
            return
        if len(self._seen) >= KEPT:
            self._seen.clear()
        self._seen[reserved.model] = Seen(*rates, answer)

    # --- accounts ---------------------------------------------------------------------------------------------

    def refill(self) -> bool:
        """Read what was spent before, wherever that is not known yet; return whether it is known now. Called in a
        thread, when there is a ledger and whenever it works again, before the rows that waited for it are written: what
        was booked until then is in no ledger."""
        self._open = True
        if self._bounded and ALL not in self._accounts:
            self._accounts.setdefault(ALL, self._new(ALL, "all"))
        missing = [account for account in list(self._accounts.values()) if not account.complete]
        return sum(self._fill(account) for account in missing) == len(missing)

    def unread(self, caller: Caller) -> bool:
        """Return whether the next `reserve` of this caller would have to wait for the database."""
        return self._open and self.counts(caller) and not (
            (not self._bounded or ALL in self._accounts)
            and (caller.key is None or caller.key.budget == NO_BUDGET or caller.key.id in self._accounts)
        )  # fmt: skip

    def read(self, caller: Caller) -> None:
        """Read what this caller spent. May be called in a thread, and by several at once."""
        wanted = [(ALL, "all")] if self._bounded else []
        if caller.key is not None and caller.key.budget != NO_BUDGET:
            wanted.append((caller.key.id, caller.key.name))
        for id, name in wanted:
            if id not in self._accounts:
                account = self._new(id, name)
                self._fill(account)
                # Whoever was first has begun to count.
                self._accounts.setdefault(id, account)

    def _ready(self, id: str, name: str, budget: Budget, now: float) -> Account:
        """Return an account with the windows of now and the limits in force."""
        account = self._accounts.get(id)
        if account is None:
            account = self._accounts[id] = self._new(id, name)
            if self._open:
                self._fill(account)
        if now >= account.day.end:
            account.turn_page(now)
        if account.budget is not budget and account.budget != budget:
            account.judge(budget)
        account.by_list = self._by_list if budget.count is None else budget.count == "list"
        account.name = name
        return account

    def _new(self, id: str, name: str) -> Account:
        return Account(id, name, self._wall())

    def _fill(self, account: Account) -> bool:
        """Read what an account spent before; return whether that is known now."""
        for window in (account.month, account.day):
            if (before := self._load(account.id, window.start)) is None:
                return False
            # One assignment: in a thread, it must not get between the loop's reading and writing.
            window.before = Used(*before)
            # Whatever share that was, it was told at its time.
            window.told = {}
        account.complete = True
        return True

    # --- alerts -----------------------------------------------------------------------------------------------

    @property
    def alerts(self) -> list[Alert]:
        """What budgets of today and this month have come to: the highest share of each that is passed."""
        now, found = self._wall(), []
        for account in self._accounts.values():
            account.turn_page(now)
            for limit in account.limits or limits_of(self._budget if account.id == ALL else NO_BUDGET):
                window = account.window(limit)
                used = window.used(limit.unit, account.by_list)
                passed = [share for share in self._shares if 0 < share * limit.amount <= used]
                if not passed:
                    continue
                told, end = account.alerts.get((limit.kind, limit.unit), (None, 0))
                at = told.at if told is not None and end == window.end and told.share == max(passed) else int(now)
                found.append(_alert(account, limit, max(passed), used, at))
        return found

    def _tell(self, account: Account, window: Window, limit: Limit, share: float) -> None:
        alert = _alert(account, limit, share, window.used(limit.unit, account.by_list), int(self._wall()))
        account.alerts[limit.kind, limit.unit] = (alert, window.end)
        whose = "all keys together" if account.id == ALL else f"key '{account.name}'"
        self._say(
            f"budget: {share:.0%} of what {whose} may spend in this {limit.kind} is used: "
            f"{shown(alert.spent, limit.unit)} of {shown(alert.budget, limit.unit)}"
        )
        if not self._url:
            return
        if len(self._outbox) >= WAITING:
            self._say("budget: too many alerts wait for the webhook; this one is not sent")
            return
        self._outbox.append(alert)
        if not self._posting:
            self._posting = True
            self._tasks.start(self._post(), name="budget-webhook")

    async def _post(self) -> None:
        """Send what waits, one after the other, so that they arrive in order."""
        try:
            while self._outbox:
                alert = self._outbox.popleft()
                if self._url and (why := await self._webhook.post(self._url, msgspec.json.encode(alert))):
                    self._say(f"budget: the webhook did not take the alert of {alert.scope} ({why})")
        finally:
            self._posting = False


def _alert(account: Account, limit: Limit, share: float, used: int, at: int) -> Alert:
    unit = NANO if limit.unit == "usd" else 1
    return Alert(
        scope=account.name, window=limit.kind, unit=limit.unit, share=share,
        spent=used / unit, budget=limit.amount / unit, at=at,
    )  # fmt: skip


def _refusal(account: Account, limit: Limit, spent: bool, now: float) -> QuotaExceeded | RateLimited:
    whose = "all keys together" if account.id == ALL else "this key"
    what = f"The budget of {whose} for the {limit.kind}, in {'dollars' if limit.unit == 'usd' else 'tokens'},"
    if not spent:
        return RateLimited(
            f"{what} has no room beside the requests that are running. Please try again in {SOON:g}s.",
            type="tokens" if limit.unit == "tokens" else "requests",
            wait=SOON,
        )
    left = max(0, round(account.window(limit).end - now))
    hours, minutes = divmod(left // 60, 60)
    return QuotaExceeded(f"{QuotaExceeded().message} {what} is spent; it begins anew in {hours}h{minutes:02}m.")


def shown(amount: float, unit: Unit) -> str:
    """Return an amount for people: dollars to the cent, or finer where they are few."""
    if unit == "tokens":
        return f"{amount:,.0f} tokens"
    return f"{amount:.2f} USD" if amount >= 1 else f"{amount:.3g} USD"
