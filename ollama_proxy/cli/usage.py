"""`oproxy usage`: what was asked for, what it cost, and what it would have cost elsewhere.

Reads the ledger by itself, so it works whether a daemon runs or not, and never changes it; `usage prune` deletes old
rows. Imports neither rich nor SQLAlchemy, so that it answers at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ..policy.when import parse_when
from . import usage_show
from .failure import Failure
from .plain import echo, interactive, tell
from .usage_read import BY, Answer, Question, answer, glance, local_ahead, midnight, of_list

__all__ = ["app"]

app = typer.Typer(help="Tell what was used, what it cost and what it saved.")

# Seconds between two looks with --watch.
AGAIN = 2.0
DAYS = 30
# Home, and nothing below: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (CUP, ED).
CLEAR = "\x1b[H\x1b[2J"

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]


@app.callback(invoke_without_command=True)
def usage(
    context: typer.Context,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="WHAT", help=f"Sums by {', '.join(BY)}; several too.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="From then on: 7d, 12h, 2026-11-01, today.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Up to then; a day is meant as a whole.")] = "",
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Only this model, asked for or served.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this key, by name or id.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Only this tag.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Only ok, error, 429, 4xx and so on.")
    ] = None,
    priced_as: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="MODEL", help="Also what the same tokens would cost on these models."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C.")] = False,
    config: Config = None,
) -> None:
    """Tell what was used, what it cost and what it saved: today, 7 and 30 days at a glance, or by what you ask for.

    Names take * and ?; several stand for any of them, repeated or with commas. Money is in US dollars: COST is what
    it really cost, LIST what the same tokens cost at the list price of the model that was asked for.
    """
    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        raise Failure("Choose one of --json and --csv.", code=2)
    only = {"model": model, "key": key, "tag": tag, "status": status}
    wanted = {name: of_list(values) for name, values in only.items() if values}
    form = "json" if as_json else "csv" if as_csv else "text"

    def look() -> None:
        show(config, of_list(by or ()), since, until, wanted, of_list(priced_as or ()), form, clear=watch)

    if watch:
        again(look)
    else:
        look()


def again(look: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Look until Ctrl-C, which is a good end."""
    with suppress(KeyboardInterrupt):
        while True:
            look()
            sleep(AGAIN)


def show(
    config: Path | None,
    by: Sequence[str],
    since: str,
    until: str,
    only: dict[str, tuple[str, ...]],
    priced_as: Sequence[str],
    form: str,
    *,
    clear: bool,
) -> None:
    """Look once, and print."""
    now = time.time()
    whole = not (by or since or until)
    if whole:
        question = Question(midnight(now, back=DAYS - 1), following_hour(now), ("day", "model"), only, priced_as)
    else:
        begin = parse_when(since, now, zone=local_ahead) if since else midnight(now, back=DAYS - 1)
        end = parse_when(until, now, zone=local_ahead, end=True) if until else following_hour(now)
        question = Question(begin, end, by, only, priced_as)
    found = answer(config, question)
    if clear and interactive() and form == "text":
        echo(CLEAR)
    if whole and form != "csv":
        usage_show.at_a_glance(glance(found, now), form=form)
    else:
        usage_show.rows(found, form=form)
    notes(found)


def following_hour(now: float) -> float:
    """Return the end of the running hour: whole hours are read fastest, and nothing is written in the future."""
    return (now // 3600 + 1) * 3600


def notes(found: Answer) -> None:
    """Say what the numbers do not."""
    if found.missing is not None:
        tell(f"There is no ledger at {found.missing} yet; it begins with the first request to `oproxy serve`.")
    if found.question.priced_as:
        tell("--as: by the price of short prompts (base tier), without discounts for batches.")


@app.command()
def prune(
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="Rows older than this: 400d, 2026-01-01.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Delete the ledger's old rows. Their hourly sums stay, so `oproxy usage` goes on counting them."""
    limit = parse_when(before, time.time(), zone=local_ahead)
    # By name, for it needs all of the store, which takes longer to import than everything else to show.
    import_module(f"{__package__}.usage_prune").prune(config, limit, yes=yes)
