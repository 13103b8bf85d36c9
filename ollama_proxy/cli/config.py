"""`oproxy config`: show, check and change the settings. A running daemon takes a changed file over by itself.

Works on the file alone; never asks the daemon.
"""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import configfile
from ..declared import Key, dotted, kind_of, public, restarts, shown
from ..protection import exposure
from ..settings import ConfigError, Loaded, changes, default_path, load, parse_text, values_of
from .failure import Failure
from .gen_toml import commented_toml
from .output import echo, print_json, print_table, tell
from .plain import confirm

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Show, check and change the settings.")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Name = Annotated[str, typer.Argument(metavar="KEY", help='A setting, e.g. server.port or models.aliases."gpt-4*".')]

# Editors to try where neither VISUAL nor EDITOR names one.
EDITORS = ("nano", "vi", "notepad")


@app.command("path")
def print_path(config: Config = None) -> None:
    """Print where the config file is, or would be."""
    echo(str(config or default_path()))


@app.command()
def show(
    as_json: Json = False,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
    config: Config = None,
) -> None:
    """Show the settings in force, and where each came from.

    Secrets are not shown.
    """
    loaded = read(config)
    rows = [
        (key, value, origin)
        for key, value in values_of(loaded.settings).items()
        if (origin := loaded.origin[dotted(key)]) != "default" or not changed
    ]
    if as_json:
        print_json({dotted(key): {"value": public(key, value), "origin": origin} for key, value, origin in rows})
        return
    print_table(("SETTING", "VALUE", "FROM"), [(dotted(key), shown(key, value), origin) for key, value, origin in rows])


@app.command()
def init(
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file that is there.")] = False,
    config: Config = None,
) -> None:
    """Write a config file that shows every setting as a comment."""
    path = config or default_path()
    if path.exists() and not force:
        raise Failure(f"{path} is there already. `oproxy config edit` edits it; --force overwrites it.")
    configfile.write_atomically(path, commented_toml())
    echo(str(path))


@app.command()
def check(config: Config = None) -> None:
    """Check the config file and the environment; tell every mistake with its line."""
    loaded = read(config)
    if why := exposure(loaded.settings):
        raise Failure(f"`oproxy serve` would not start: {why}")
    if not loaded.path.exists():
        echo(f"There is no {loaded.path}; the defaults are in force.")
        return
    count = sum(1 for origin in loaded.origin.values() if origin.startswith("file "))
    echo(f"{loaded.path} is right; it sets {count} {'value' if count == 1 else 'values'}.")


@app.command()
def get(key: Name, as_json: Json = False, config: Config = None) -> None:
    """Print the value of a setting that is in force, or of all below it."""
    wanted = configfile.split_key(key)
    loaded = read(config)
    values = values_of(loaded.settings)
    if wanted in values:
        value = values[wanted]
        if public(wanted, value) != value:
            raise Failure(f"{dotted(wanted)} is secret and not printed; it comes from {loaded.origin[dotted(wanted)]}.")
        if as_json:
            print_json(value)
        else:
            echo(value if isinstance(value, str) else shown(wanted, value))
        return
    below = {each: value for each, value in values.items() if each[: len(wanted)] == wanted}
    if not below and kind_of(wanted) is None:
        raise Failure(unknown(wanted, [dotted(each) for each in values]))
    if as_json:
        print_json({dotted(each): public(each, value) for each, value in below.items()})
        return
    for each, value in below.items():
        echo(f"{dotted(each)} = {shown(each, value)}")


@app.command("set")
def set_(
    key: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='Its new value: 8080, true, smollm2, ["a", "b"] …')],
    config: Config = None,
) -> None:
    """Set one value in the config file; comments and order stay as they are."""
    path = config or default_path()
    wanted = configfile.split_key(key)
    kind = kind_of(wanted)
    if kind is None:
        raise Failure(unknown(wanted, [dotted(each) for each in values_of(from_file(path).settings)]))
    before = from_file(path)
    after: list[Loaded] = []
    new = parsed(wanted, value)
    try:
        configfile.set_value(path, wanted, new, check=lambda text: after.append(from_file(path, text)))
    except ConfigError as exc:
        raise Failure(f"{path} is not changed, it would be wrong:\n{exc.message}") from exc
    found = list(changes(before.settings, after[0].settings))
    if not found:
        echo(f"{dotted(wanted)} is {shown(wanted, new)} already.")
    for each, old, now in found:
        if each[0] == "backends" and len(each) == 2:
            # Setting something of one default backend makes it the only one; that must not go unnoticed.
            note = "removed; only the backends written in the file are there" if now is None else f"added ({now})"
            echo(f"{dotted(each)}: {note}")
            continue
        after_restart = " (takes effect after a restart)" if restarts(each) else ""
        echo(f"{dotted(each)}: {shown(each, old)} → {shown(each, now)}{after_restart}")
    warn_hidden(wanted, path)
    if (why := exposure(after[0].settings)) and not exposure(before.settings):
        tell(f"`oproxy serve` will not start so: {why}")


@app.command()
def edit(config: Config = None) -> None:
    """Open the config file in your editor ($VISUAL, $EDITOR) and check what was saved."""
    path = config or default_path()
    if not path.exists():
        configfile.write_atomically(path, commented_toml())
    command = editor(os.environ)
    while True:
        try:
            done = subprocess.run([*command, str(path)], check=False)
        except OSError as exc:
            raise Failure(f"The editor {command[0]} cannot be started: {exc.strerror}. EDITOR names another.") from exc
        if done.returncode != 0:
            raise Failure(f"The editor {command[0]} ended with status {done.returncode}.")
        try:
            read(path)
        except ConfigError as exc:
            if not sys.stdin.isatty():
                raise
            tell(exc.message)
            if not confirm("Edit it again?", default=True):
                raise Failure(f"{path} is not right; a running daemon keeps the settings it has.") from exc
        else:
            echo(f"{path} is right.")
            return


def read(config: Path | None) -> Loaded:
    """Read the settings as the daemon would, without its flags."""
    return load(path=config, env=os.environ, flags={})


def from_file(path: Path, text: str | None = None) -> Loaded:
    """Read what the file alone says; one that is not there says nothing."""
    if text is None and not path.exists():
        text = ""
    return load(path=path, env={}, flags={}, text=text)


def parsed(key: Key, text: str) -> Any:
    """Read a value as TOML; what is no TOML, or not what this setting takes, as plain text."""
    kind = kind_of(key)
    assert kind is not None
    plain = parse_text(kind, text)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return plain
    # `config set models.default 123` means a name, for a setting that takes one.
    return plain if type(plain) is str and not isinstance(value, str | list | dict) else value


def unknown(key: Key, known: list[str]) -> str:
    close = difflib.get_close_matches(dotted(key), known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "`oproxy config show` lists what there is."
    return f"There is no setting {dotted(key)}. {hint}"


def warn_hidden(key: Key, path: Path) -> None:
    """Tell when the environment sets the same, so that the change has no effect."""
    try:
        origin = read(path).origin.get(dotted(key), "")
    except ConfigError as exc:
        tell(f"The environment is wrong:\n{exc.message}")
        return
    if origin.startswith("environment "):
        tell(f"It has no effect as long as the environment sets {origin.removeprefix('environment ')}.")


def editor(env: Mapping[str, str]) -> list[str]:
    for variable in ("VISUAL", "EDITOR"):
        if words := shlex.split(env.get(variable, "")):
            return words
    found = next((name for name in EDITORS if shutil.which(name)), None)
    if found is None:
        raise Failure("There is no editor; set EDITOR to yours.")
    return [found]
