"""`oproxy keys`: make, list, change, rotate, revoke and remove keys.

Everything goes through the API (the daemon's, or one inside this process), so that a change holds at once. A key is
printed once, when it is made; alone in a pipe, so that it can be caught in a variable.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from ..policy.when import NotATime, parse_when
from ..pricing import costs_money
from ..settings import Settings
from .client import connect, load_settings, run
from .failure import Failure
from .output import echo, interactive, print_json, print_pairs, print_table, tell
from .plain import confirm

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list, change and revoke keys.")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Which = Annotated[str, typer.Argument(metavar="KEY", help="A key's name or id, or the end of what list shows.")]
Expires = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="When it stops working: in 30d, 12h, or on 2027-01-01; never."),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="GLOB", help="A model it may use; may be repeated. * for all.")
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option("--endpoint", metavar="GLOB", help="A path it may use, e.g. /v1/chat/*; may be repeated."),
]
Tier = Annotated[
    str | None, typer.Option(metavar="NAME", help="A preset of limits: free, tier1 to tier5, or your own.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="KIND=N", help="A limit: rpm, rpd, tpm, tpd or concurrent; N of none lifts it."),
]
Spend = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="SUM/PERIOD", help="5usd/month, 1usd/day, 100000tokens/day; none lifts all."),
]
Count = Annotated[
    Literal["cost", "list"] | None,
    typer.Option(
        "--count",
        help="How its budget counts dollars: by what answers cost, or by the list price of the model asked for.",
    ),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TEXT", help="A tag for the ledger; may be repeated.")]
Admin = Annotated[
    bool | None, typer.Option("--admin/--no-admin", help="Whether it may manage keys and models.", show_default=False)
]


KINDS = {
    "rpm": "requests_per_minute",
    "rpd": "requests_per_day",
    "tpm": "tokens_per_minute",
    "tpd": "tokens_per_day",
    "concurrent": "concurrent",
}
HEADERS = ("NAME", "KEY", "STATE", "CREATED", "EXPIRES", "MODELS", "LIMITS", "BUDGET", "TAGS", "ID")
BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(usd|\$|tokens?)\s*/\s*(day|month)", re.IGNORECASE)
DAY = 86400.0


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    expires: Expires = None,
    models: Models = None,
    endpoints: Endpoints = None,
    tier: Tier = None,
    limits: Limit = None,
    budget: Spend = None,
    count: Count = None,
    tags: Tags = None,
    admin: Admin = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make a key and print it. It is never shown again."""
    body = {"name": name, **fields(expires, models, endpoints, tier, limits, budget, count, tags, admin)}
    made = run(send(config, "/oproxy/keys", body))
    show_secret(made, as_json)
    settings = load_settings(config).settings
    warn_of_budget(made, settings)
    if settings.auth.mode == "off":
        tell("No key is asked for yet, so its limits bind nobody: `oproxy config set auth.mode on` changes that.")


@app.command("list")
def list_keys(
    all_keys: Annotated[bool, typer.Option("--all", "-a", help="Also those revoked or expired.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the keys, without their secrets."""
    keys: list[dict[str, Any]] = run(get(config, "/oproxy/keys"))["keys"]
    now = time.time()
    if not all_keys:
        keys = [key for key in keys if state(key, now) == "valid"]
    if as_json:
        print_json(keys)
        return
    if not keys and interactive():
        tell("No keys yet. Make one with `oproxy keys create NAME`.")
        return
    print_table(HEADERS, [row(key, now) for key in keys])


@app.command()
def show(key: Which, as_json: Json = False, config: Config = None) -> None:
    """Show one key, and what it used."""
    found, used = run(described(config, key))
    if as_json:
        print_json({**found, "used": used})
        return
    now = time.time()
    pairs = [
        *zip(
            ("name", "key", "state", "created", "expires", "models", "limits", "budget", "tags", "id"),
            row(found, now),
            strict=True,
        ),
        ("endpoints", ", ".join(found["endpoints"]) or "all"),
        ("admin", "yes" if found["admin"] else "no"),
        ("requests", f"{used['requests']:,} ({used['errors']:,} failed)"),
        ("tokens", f"{used['prompt']:,} in, {used['completion']:,} out"),
        (
            "cost",
            f"${used['cost'] / 1e9:,.4f}; at list prices "
            + (f"${used['listed'] / 1e9:,.4f}" if used["listed"] is not None else "unknown"),
        ),
    ]
    print_pairs(pairs, column=11)


@app.command("set")
def set_key(
    key: Which,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name.")] = None,
    expires: Expires = None,
    models: Models = None,
    endpoints: Endpoints = None,
    tier: Tier = None,
    limits: Limit = None,
    budget: Spend = None,
    count: Count = None,
    tags: Tags = None,
    admin: Admin = None,
    config: Config = None,
) -> None:
    """Change what a key may do; it holds for the next request."""
    body = fields(expires, models, endpoints, tier, limits, budget, count, tags, admin)
    if name is not None:
        body["name"] = name
    if not body:
        raise Failure("Nothing to change was given. See `oproxy keys set --help`.", code=2)
    made = run(changed(config, key, body))
    tell(f"The key {key} is changed.")
    warn_of_budget(made, load_settings(config).settings)


@app.command()
def rotate(key: Which, as_json: Json = False, config: Config = None) -> None:
    """Give a key a new secret and print it; the old one opens nothing from now on."""
    show_secret(run(send(config, f"/oproxy/keys/{quote(key, safe='')}/rotate", {})), as_json)


@app.command()
def revoke(
    key: Which,
    undo: Annotated[bool, typer.Option("--undo", help="Let it work again.")] = False,
    config: Config = None,
) -> None:
    """Let a key open nothing from now on; it stays in the list."""
    run(send(config, f"/oproxy/keys/{quote(key, safe='')}", {"revoked": not undo}))
    tell(f"The key {key} {'works again' if undo else 'is revoked'}.")


@app.command("rm")
def remove(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Names, ids, or ends of what list shows.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Forget keys; what they used stays in the ledger."""
    if not yes:
        if not sys.stdin.isatty():
            raise Failure(f"Removing {', '.join(keys)} needs a yes: call it with --yes.")
        confirm(f"Remove {', '.join(keys)} for good?", abort=True)
    for key in keys:
        run(removed(config, key))
        tell(f"The key {key} is removed.")


def warn_of_budget(key: dict[str, Any], settings: Settings) -> None:
    """Say so where a budget in dollars can never fill because nothing here costs money."""
    budget = key.get("budget") or {}
    if not any(name.startswith("money_") for name, amount in budget.items() if amount is not None):
        return
    if (budget.get("count") or settings.budget.count) == "cost" and not costs_money(settings.prices, settings.backends):
        tell(
            "No model here costs money, so a budget in dollars never fills. To count the list prices of the models "
            f"asked for: `oproxy keys set {shlex.quote(key['name'])} --count list`. Tokens always count: "
            "`--budget 100000tokens/day`."
        )


# --- what is sent -------------------------------------------------------------------------------------------------


def fields(
    expires: str | None,
    models: list[str] | None,
    endpoints: list[str] | None,
    tier: str | None,
    limits: list[str] | None,
    budget: list[str] | None,
    count: str | None,
    tags: list[str] | None,
    admin: bool | None,
) -> dict[str, Any]:
    """Return what the options say, as the API takes it; what is not said is left out."""
    body: dict[str, Any] = {}
    if expires is not None:
        body["expires"] = None if expires.lower() == "never" else parse_expiry(expires, time.time())
    for name, values in (("models", models), ("endpoints", endpoints)):
        if values is not None:
            body[name] = [] if values == ["*"] else values
    if tier is not None:
        body["tier"] = "" if tier.lower() == "none" else tier
    if limits is not None:
        body["rates"] = dict(parse_limit(text) for text in limits)
    if budget is not None:
        body["budget"] = {} if budget == ["none"] else dict(parse_budget(text) for text in budget)
    if count is not None:
        body["budget"] = {**body.get("budget", {}), "count": count}
    if tags is not None:
        body["tags"] = [tag for tag in tags if tag]
    if admin is not None:
        body["admin"] = admin
    return body


def parse_expiry(text: str, now: float) -> float:
    """Return the epoch seconds of a time to come: a span from now, or a date."""
    try:
        at = parse_when(text, now, zone=lambda at: float(time.localtime(at).tm_gmtoff))
    except NotATime as exc:
        raise Failure(
            f"{text!r} is no time. Expected a span from now (30d, 12h) or a date (2027-01-01).", code=2
        ) from exc
    # A span is read as one back from now.
    at = 2 * now - at if re.match(r"\s*\d+(\.\d+)?\s*[a-z]", text, re.IGNORECASE) else at
    if at <= now:
        raise Failure(f"{text} is not in the future.", code=2)
    return at


def parse_limit(text: str) -> tuple[str, int | None]:
    kind, _, number = text.partition("=")
    if kind not in KINDS or not (number == "none" or re.fullmatch(r"[1-9]\d{0,15}", number.replace("_", ""))):
        raise Failure(f"{text!r} is no limit. Expected KIND=N with {', '.join(KINDS)}, e.g. rpm=60.", code=2)
    return KINDS[kind], None if number == "none" else int(number.replace("_", ""))


def parse_budget(text: str) -> tuple[str, float | int]:
    found = BUDGET.fullmatch(text.strip().replace("_", "").replace(",", ""))
    if found is None:
        raise Failure(f"{text!r} is no budget. Expected e.g. 5usd/month or 100000tokens/day.", code=2)
    number, unit, period = float(found[1]), found[2].lower(), found[3].lower()
    return (f"tokens_per_{period}", int(number)) if unit.startswith("token") else (f"money_per_{period}", number)


async def get(config: Path | None, path: str) -> Any:
    async with connect(config) as api:
        return await api.get(path)


async def send(config: Path | None, path: str, body: dict[str, Any]) -> Any:
    async with connect(config) as api:
        return (await api.post(path, body))[0]


async def described(config: Path | None, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return one key and what it used. The usage knows the id that the name stands for."""
    async with connect(config) as api:
        used = await api.get(f"/oproxy/keys/{quote(key, safe='')}/usage")
        keys = (await api.get("/oproxy/keys"))["keys"]
    return next(each for each in keys if each["id"] == used["id"]), used


async def changed(config: Path | None, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change a key and return it. Limits that are not named stay, and so does the way in which a budget counts."""
    async with connect(config) as api:
        if "rates" in body or "budget" in body:
            used = await api.get(f"/oproxy/keys/{quote(key, safe='')}/usage")
            keys = (await api.get("/oproxy/keys"))["keys"]
            before = next(each for each in keys if each["id"] == used["id"])
            if "rates" in body:
                body["rates"] = {n: v for n, v in {**before["rates"], **body["rates"]}.items() if v is not None}
            if body.get("budget") and set(body["budget"]) == {"count"}:
                body["budget"] = {**before["budget"], **body["budget"]}
            elif body.get("budget") and (count := before["budget"].get("count")):
                body["budget"] = {"count": count, **body["budget"]}
        return (await api.post(f"/oproxy/keys/{quote(key, safe='')}", body))[0]  # type: ignore[no-any-return]


async def removed(config: Path | None, key: str) -> None:
    async with connect(config) as api:
        await api.delete(f"/oproxy/keys/{quote(key, safe='')}")


# --- what is shown ------------------------------------------------------------------------------------------------


def show_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    echo(made["key"])
    tell(f"This is the key {made['name']!r} ({made['id']}); it is not shown again. Clients take it as OPENAI_API_KEY.")


def state(key: dict[str, Any], now: float) -> str:
    if key["revoked"] is not None:
        return "revoked"
    if key["expires"] is not None and key["expires"] <= now:
        return "expired"
    return "valid"


def row(key: dict[str, Any], now: float) -> tuple[str, ...]:
    short = {long: kind for kind, long in KINDS.items()}
    limits = [key["tier"], *(f"{short[name]}={n}" for name, n in key["rates"].items() if n is not None)]
    return (
        key["name"],
        key["shown"],
        state(key, now),
        date(key["created"]) if key["created"] else "in the environment",
        date(key["expires"]) if key["expires"] is not None else "never",
        ", ".join(key["models"]) or "all",
        " ".join(filter(None, limits)) or "-",
        budgets_text(key["budget"]) or "-",
        ", ".join(key["tags"]) or "-",
        key["id"],
    )


def budgets_text(budget: dict[str, Any]) -> str:
    """Return the lines of a budget in one cell, and how money is counted where the key says so."""
    parts = [budget_text(name, n) for name, n in budget.items() if name != "count" and n is not None]
    if parts and budget.get("count"):
        parts.append("(list prices)" if budget["count"] == "list" else "(cost)")
    return " ".join(parts)


def budget_text(name: str, number: float) -> str:
    unit, _, period = name.partition("_per_")
    return f"${number:g}/{period}" if unit == "money" else f"{number:,} tokens/{period}"


def date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
