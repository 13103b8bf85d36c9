"""`oproxy doctor`: looks at everything a request needs, and says of each fault what to do about it.

The checks are in `findings_…`; here stand their order and how the findings are told. Changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.text import Text

from .. import daemon
from ..settings import ConfigError, Loaded, Problem, load
from .findings import Check, Finding, Scene, State, examine
from .findings_backends import check_backends, check_embedded
from .findings_config import check_config, check_environment
from .findings_daemon import check_clock, check_daemon, check_ports
from .findings_files import check_certificate, check_logs, check_permissions, check_store
from .output import console, interactive, print_json, print_row, table, tell

__all__ = ["CHECKS", "doctor"]

CHECKS: Mapping[str, Check] = {
    "config": check_config,
    "daemon": check_daemon,
    "port": check_ports,
    "backends": check_backends,
    "embedded": check_embedded,
    "store": check_store,
    "permissions": check_permissions,
    "logs": check_logs,
    "certificate": check_certificate,
    "clock": check_clock,
    "environment": check_environment,
}
STYLES: Mapping[State, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "broken": "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Look for what is wrong: config, daemon, ports, backends, models, store, files, certificate, clock, environment.

    Nothing is changed. Each fault comes with its remedy. The exit status is 1 when something is broken, else 0.
    """
    # What a library would say of a fault is a finding here.
    logging.disable(logging.CRITICAL)
    found = asyncio.run(examine(CHECKS, scene_of(os.environ)))
    counts = {state: sum(1 for finding in found if finding.state == state) for state in STYLES}
    if as_json:
        print_json({"counts": counts, "findings": found})
    else:
        show(found)
        tell(summary(counts))
    if counts["broken"]:
        raise typer.Exit(1)


def scene_of(env: Mapping[str, str]) -> Scene:
    """Gather what the checks look at; a config that cannot be read leaves the defaults, and its mistakes."""
    loaded: Loaded | None = None
    problems: Sequence[Problem] = ()
    try:
        loaded = load(env=env, flags={})
        settings = loaded.settings
    except ConfigError as exc:
        problems = exc.problems
        settings = load(env={}, flags={}, text="").settings
    folder = settings.logs.folder
    return Scene(
        settings=settings,
        env=env,
        data=Path(platformdirs.user_data_path("oproxy")),
        state=daemon.state_dir(),
        logs=Path(folder).expanduser() if folder else daemon.log_path().parent,
        loaded=loaded,
        problems=tuple(problems),
        running=daemon.running(),
    )


def show(found: Sequence[Finding]) -> None:
    """Print a table for a person (the remedy below its fault), lines with tabs for a pipe."""
    if not interactive():
        print_row(("STATE", "CHECK", "WHAT", "WHERE", "REMEDY"))
        for each in found:
            cells = (each.state, each.check, each.what, each.where, each.remedy)
            print_row(cells)
        return
    made = table(("", "CHECK", ""), [])
    before = ""
    for each in found:
        what = Text(each.what)
        if each.where and each.where not in each.what:
            what.append(f"  {each.where}", style="dim")
        if each.remedy and each.state != "ok":
            what.append(f"\n→ {each.remedy}", style="bold" if each.state == "broken" else "")
        made.add_row(Text(each.state, style=STYLES[each.state]), each.check if each.check != before else "", what)
        before = each.check
    console().print(made, soft_wrap=False)


def summary(counts: Mapping[State, int]) -> str:
    """Say how it stands, in one line."""
    parts = [f"{counts['broken']} broken"] if counts["broken"] else []
    parts += [f"{counts['warning']} {'warning' if counts['warning'] == 1 else 'warnings'}"] if counts["warning"] else []
    return f"{', '.join(parts)}." if parts else "Nothing is wrong."
