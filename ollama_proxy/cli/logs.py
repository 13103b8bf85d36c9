"""`oproxy logs`: the flight recorder's requests as a table, followed, shown, sent again, removed.

Reads the files itself, so it works whether a daemon runs or not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from .. import daemon
from ..account import Entry
from ..policy.when import parse_when
from ..recorder.daemonlog import DAEMON_FILE
from ..recorder.place import folder_of
from ..recorder.read import entries, follow, head
from ..recorder.record import FILE
from ..sections import Settings
from ..settings import load
from .failure import Failure
from .logs_as import written
from .logs_filter import Filter, status_test, words
from .logs_prune import prune_logs
from .logs_show import show_request
from .logs_table import meant, print_row, print_rows, remember
from .plain import confirm, echo, print_json_line, tell

__all__ = ["app"]

app = typer.Typer(help="Show the recorded requests, send them again, follow the log.")

# Seconds between two looks at a log that is followed.
AGAIN = 0.2

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A number of the last table, an id or its beginning, or last.")]


def settings_of(config: Path | None) -> Settings:
    return load(path=config, env=os.environ, flags={}).settings


def log_of(config: Path | None) -> Path:
    return folder_of(settings_of(config).logs.folder) / FILE


def local_ahead(at: float) -> float:
    return float(time.localtime(at).tm_gmtoff)


@app.callback(invoke_without_command=True)
def logs(
    context: typer.Context,
    count: Annotated[int, typer.Option("--number", "-n", metavar="N", min=0, help="How many.")] = 20,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
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
    errors: Annotated[bool, typer.Option("--errors", help="Only what failed, also in the middle of a stream.")] = False,
    slow: Annotated[
        float | None, typer.Option("--slow", metavar="SECONDS", min=0, help="Only what took so long.")
    ] = None,
    grep: Annotated[str, typer.Option(metavar="TEXT", help="Only with this text in the request or the answer.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as they are: JSON, one a line.")] = False,
    config: Config = None,
) -> None:
    """Show the last requests, the newest at the bottom.

    Names take * and ?; several stand for any of them, repeated or with commas. The numbers of the table, 1 being the
    newest, can be used for ID in `oproxy logs show` and `oproxy logs replay` until the next table is shown.
    """
    if context.invoked_subcommand is not None:
        return
    now = time.time()
    only = {name: words(values) for name, values in (("model", model), ("key", key), ("tag", tag)) if values}
    wanted = Filter(
        since=parse_when(since, now, zone=local_ahead) if since else None,
        until=parse_when(until, now, zone=local_ahead, end=True) if until else None,
        only=only,
        statuses=tuple(status_test(word) for word in words(status)),
        errors=errors,
        slow=slow,
        grep=grep,
    )
    log = log_of(config)
    # Begun before the last ones are read, so that none is missed between.
    coming = follow(log, lambda: time.sleep(AGAIN)) if following else iter(())
    listed(log, wanted, count, config, as_json=as_json)
    for line in coming:
        found = head(line)
        if found is not None and wanted.admits(found.entry, line):
            print_json_line(line) if as_json else print_row(found.entry)


def listed(log: Path, wanted: Filter, count: int, config: Path | None, *, as_json: bool) -> None:
    """Print the last ones."""
    found = list(islice(chosen(log, wanted), count))
    if as_json:
        for _, line in reversed(found):
            print_json_line(line)
        return
    if found:
        print_rows([entry for entry, _ in found])
        remember(log, [entry for entry, _ in found])
    elif count:
        tell(nothing(log, config))


def chosen(log: Path, wanted: Filter) -> Iterator[tuple[Entry, bytes]]:
    for entry, line in entries(log):
        if wanted.over(entry):
            return
        if wanted.admits(entry, line):
            yield entry, line


def nothing(log: Path, config: Path | None) -> str:
    """Say why nothing is shown."""
    if any(True for _ in entries(log)):
        return "No recorded request is like that."
    if not settings_of(config).logs.requests:
        return "Requests are not recorded. `oproxy config set logs.requests true` changes that."
    return f"No request is recorded in {log} yet; that begins with the first one to `oproxy serve`."


@app.command()
def show(
    id: Id = "last",
    form: Annotated[
        Literal["curl", "python", "httpie", "json"] | None,
        typer.Option("--as", help="Print the request alone, as what sends it again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is recorded, as JSON.")] = False,
    config: Config = None,
) -> None:
    """Show a request with its answer, its times and what was ignored.

    With --as it is a command or a program that can be run as it is: its key comes from $OPENAI_API_KEY, its address
    from $OPENAI_BASE_URL or else that of the daemon.
    """
    found = meant(log_of(config), id)
    if form is None:
        show_request(found, as_json=as_json)
    else:
        server = settings_of(config).server
        running = daemon.running()
        echo(written(found, form, running.url if running is not None else f"http://{server.host}:{server.port}"))


@app.command()
def replay(
    id: Id = "last",
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="Ask this model instead.")] = "",
    times: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Send it so many times.")] = 1,
    diff: Annotated[bool, typer.Option("--diff", help="Show what differs instead of both answers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    config: Config = None,
) -> None:
    """Send a request again and show both answers side by side, with tokens, times and cost."""
    log = log_of(config)
    found = meant(log, id)
    # By name, for what talks to a daemon takes longer to import than everything else to show.
    replays = import_module(f"{__package__}.logs_replay")
    if replays.replayed(found, log, config, replays.Wanted(model, times, diff, as_json)):
        raise typer.Exit(1)


@app.command()
def prune(
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="What is older: 7d, 2026-11-01.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Remove old lines, or all, from both logs; also while the daemon writes to them."""
    if bool(before) == everything:
        raise Failure("Say what to remove: --before TIME, or --all.", code=2)
    limit = float("inf") if everything else parse_when(before, time.time(), zone=local_ahead)
    folder = log_of(config).parent
    if everything and not yes:
        if not sys.stdin.isatty():
            raise Failure("Removing all logs needs a yes: call it with --yes.")
        confirm(f"Remove all logs in {folder} for good?", abort=True)
    gone, freed = prune_logs([folder / name for name in (FILE, DAEMON_FILE)], limit)
    tell(f"Removed {gone} lines, {freed}." if gone else "There was nothing to remove.")


@app.command()
def path(
    of_daemon: Annotated[bool, typer.Option("--daemon", help="The daemon's own log instead of the requests'.")] = False,
    config: Config = None,
) -> None:
    """Print where the log is; rotated files lie beside it."""
    echo(str(log_of(config).with_name(DAEMON_FILE) if of_daemon else log_of(config)))
