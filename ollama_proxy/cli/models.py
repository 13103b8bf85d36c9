"""`oproxy models`: what the backends have, and fetching, loading, removing and naming it.

Every command but `alias` goes through the API (the daemon's, or one inside this process); `alias` edits the config
file, which a running daemon reads at once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, DownloadColumn, TaskID, TimeRemainingColumn, TransferSpeedColumn

from .. import configfile
from ..policy.printable import line_text, shell_word
from ..settings import default_path
from .client import Api, connect, load_settings, run
from .failure import Failure
from .output import echo, errors, print_json, print_pairs, print_table, progress, size, tell
from .plain import confirm

__all__ = ["alias", "app"]

app = typer.Typer(no_args_is_help=True, help="List, fetch, load and remove models; give them other names.")
alias = typer.Typer(no_args_is_help=True, help="Other names for models, kept in the config file.")
app.add_typer(alias, name="alias")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or BACKEND/NAME.")]


# --- looking ------------------------------------------------------------------------------------------------------


@app.command("list")
def list_models(
    as_json: Json = False,
    names: Annotated[bool, typer.Option("--names", help="Print the names alone, one a line.")] = False,
    config: Config = None,
) -> None:
    """List the models of all backends, and the aliases."""
    found = run(fetch(config, "/oproxy/models"))
    if as_json:
        print_json(found)
        return
    aliases: dict[str, str] = found["aliases"]
    if names:
        for name in [*(short(row["id"]) for row in found["models"]), *aliases]:
            # With another one than it is, nothing could be asked.
            if name.isprintable():
                echo(name)
        return
    rows = [
        (
            short(row["id"]),
            row["backend"],
            size(row["size"]),
            row["parameters"],
            row["quantization"],
            row["context"],
            ", ".join(row["capabilities"]) if row["capabilities"] is not None else "?",
            "yes" if row["loaded"] else "",
        )
        for row in found["models"]
    ]
    rows += [(name, f"→ {short(target)}", "", "", "", None, "", "") for name, target in aliases.items()]
    headers = ("NAME", "BACKEND", "SIZE", "PARAMS", "QUANT", "CONTEXT", "CAN", "LOADED")
    if rows:
        print_table(headers, rows, right=(2, 5))
    elif not found["unreachable"]:
        tell("No models are installed. Fetch one: oproxy models pull smollm2-135m")
    for backend, why in found["unreachable"].items():
        tell(f"{backend}: {line_text(why, None)}")
    if not rows and found["unreachable"]:
        raise typer.Exit(1)


def short(id: str) -> str:
    return id.removesuffix(":latest")


async def fetch(config: Path | None, path: str) -> Any:
    async with connect(config) as api:
        return await api.get(path)


@app.command()
def show(model: Model, as_json: Json = False, config: Config = None) -> None:
    """Show all that is known of a model."""
    row = run(shown(config, model))
    if as_json:
        print_json(row)
        return
    pairs = [
        ("name", row["id"]),
        ("backend", row["backend"]),
        ("family", row["family"]),
        ("parameters", row["parameters"]),
        ("quantization", row["quantization"]),
        ("size", size(row["size"])),
        ("context", f"{row['context']} tokens" if row["context"] else None),
        ("embedding length", row["embedding_length"]),
        ("can", ", ".join(row["capabilities"]) if row["capabilities"] is not None else None),
        ("thinks", ", ".join(str(value).lower() for value in row["think"]) or None),
        ("created", time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"])) if row["created"] else None),
        ("digest", row["digest"]),
        ("loaded", "yes" if row["loaded"] else "no"),
        ("aliases", ", ".join(row["aliases"]) or None),
    ]
    print_pairs(pairs, column=18, tabs=True)


async def shown(config: Path | None, model: str) -> dict[str, Any]:
    async with connect(config) as api:
        found: dict[str, Any] = await api.get(f"/oproxy/models/{quote(model, safe='')}")
        return found


@app.command()
def ps(as_json: Json = False, config: Config = None) -> None:
    """List the models in memory."""
    found = run(fetch(config, "/oproxy/running"))
    if as_json:
        print_json(found)
        return
    rows = [
        (short(run["id"]), run["backend"], size(run["size"]), size(run["size_vram"]), run["context"], until(run))
        for run in found["running"]
    ]
    if not rows:
        tell("No model is in memory.")
        return
    print_table(("NAME", "BACKEND", "SIZE", "IN VRAM", "CONTEXT", "UNTIL"), rows, right=(2, 3, 4))


def until(row: dict[str, Any]) -> str:
    """Say when a model leaves the memory. Ollama writes a year far away for "never"."""
    at = row["expires_at"]
    if at is None or at > time.time() + 10 * 365 * 86400:
        return "stopped or unloaded"
    return time.strftime("%H:%M:%S", time.localtime(at))


# --- fetching and removing ----------------------------------------------------------------------------------------


@app.command()
def pull(
    model: Model,
    backend: Annotated[str | None, typer.Option("--backend", metavar="NAME", help="Fetch it for this backend.")] = None,
    config: Config = None,
) -> None:
    """Fetch a model. Ctrl-C stops; the next pull goes on where this one ended, if the backend can."""
    try:
        run(pulled(config, model, backend))
    except KeyboardInterrupt:
        tell(f"Stopped. `oproxy models pull {shell_word(model)}` goes on with it.")
        raise
    tell(f"{model} is here.")


async def pulled(config: Path | None, model: str, backend: str | None) -> None:
    async with connect(config) as api:
        if errors().is_terminal:
            await with_bars(api, {"model": model, "backend": backend})
        else:
            await with_lines(api, {"model": model, "backend": backend})


async def with_bars(api: Api, body: dict[str, Any]) -> None:
    """Show a bar for each file."""
    with progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as shown:
        bars: dict[str, TaskID] = {}
        last = ""
        async for step in api.lines("/oproxy/pull", body):
            digest, status = step.get("digest"), step["status"]
            if digest and step.get("total"):
                if digest not in bars:
                    bars[digest] = shown.add_task(line_text(status, 40), total=step["total"])
                shown.update(bars[digest], completed=step.get("completed") or 0)
            elif status != last:
                shown.console.print(line_text(status))
            last = status


async def with_lines(api: Api, body: dict[str, Any]) -> None:
    """Print a line for each status and for each tenth of a file: what a log can hold."""
    said: set[tuple[str, int]] = set()
    async for step in api.lines("/oproxy/pull", body):
        total, completed = step.get("total"), step.get("completed") or 0
        tenth = completed * 10 // total if total else -1
        if (step["status"], tenth) not in said:
            said.add((step["status"], tenth))
            said_now = line_text(step["status"])
            tell(f"{said_now} {tenth * 10} % of {size(total)}" if total else said_now)


@app.command()
def rm(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Remove a model from its backend."""
    if not yes:
        if not sys.stdin.isatty():
            raise Failure(f"Removing {model} needs a yes: call it with --yes.")
        confirm(f"Remove {model} for good?", abort=True)
    run(removed(config, model))
    tell(f"{model} is removed.")


async def removed(config: Path | None, model: str) -> None:
    async with connect(config) as api:
        await api.delete(f"/v1/models/{quote(model, safe='')}")


# --- memory -------------------------------------------------------------------------------------------------------


@app.command()
def load(
    model: Model,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", metavar="TIME", help="How long to keep it: 10m, 2h, -1 for ever.")
    ] = None,
    config: Config = None,
) -> None:
    """Bring a model into memory, so that the first request need not wait."""
    began = time.monotonic()
    keep: str | int | None = int(keep_alive) if keep_alive and keep_alive.lstrip("-").isdigit() else keep_alive
    done = run(posted(config, "/oproxy/load", {"model": model, "keep_alive": keep}))
    tell(f"{done['backend']}/{short(done['model'])} is in memory ({time.monotonic() - began:.1f} s).")


@app.command()
def unload(model: Model, config: Config = None) -> None:
    """Take a model out of memory."""
    done = run(posted(config, "/oproxy/unload", {"model": model}))
    tell(f"{done['backend']}/{short(done['model'])} is out of memory.")


async def posted(config: Path | None, path: str, body: dict[str, Any]) -> Any:
    async with connect(config) as api:
        if api.inside and path == "/oproxy/load":
            # An embedded model would leave with this process; Ollama's stay.
            row = await api.get(f"/oproxy/models/{quote(body['model'], safe='')}")
            if row["type"] == "embedded":
                raise Failure("The embedded model lives in the daemon, and none runs. Start it first: oproxy serve")
        answer, _ = await api.post(path, body)
        return answer


# --- aliases ------------------------------------------------------------------------------------------------------


@alias.command("list")
def alias_list(as_json: Json = False, config: Config = None) -> None:
    """List the aliases of the config file."""
    aliases = dict(load_settings(config).settings.models.aliases)
    if as_json:
        print_json(aliases)
    elif aliases:
        print_table(("ALIAS", "MODEL"), list(aliases.items()))
    else:
        tell("There are no aliases. Add one: oproxy models alias add gpt-4o smollm2")


@alias.command("add")
def alias_add(
    name: Annotated[str, typer.Argument(help="The name clients will use; may be a glob (gpt-*).")],
    model: Model,
    config: Config = None,
) -> None:
    """Give a model another name."""
    path = config or default_path()
    configfile.set_value(path, ("models", "aliases", name), model)
    tell(f"{name} now means {model} ({path}).")


@alias.command("rm")
def alias_rm(name: Annotated[str, typer.Argument(help="The alias to remove.")], config: Config = None) -> None:
    """Remove an alias."""
    path = config or default_path()
    if name not in load_settings(config).settings.models.aliases:
        raise Failure(f"There is no alias {name} in {path}.")
    configfile.remove_value(path, ("models", "aliases", name))
    tell(f"{name} is no alias any more ({path}).")
