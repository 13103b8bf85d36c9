"""`oproxy`: the root of the command line, and the table of its commands.

A command's module is imported only when that command runs, so that `oproxy --help` costs no more than typer itself.
All failures end here: one message on stderr and exit status 1 (2 for a wrong usage, 130 for Ctrl-C). Nothing in this
module knows what a command does.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .. import __version__
from ..policy.printable import block_text, utf8_text
from ..policy.redact import redact_text
from . import stdio

__all__ = ["COMMANDS", "Row", "app", "load", "main"]


class Row(NamedTuple):
    """One command or group: where it lives (`module:attribute`, below `ollama_proxy.cli`) and its line in the help."""

    target: str
    help: str


COMMANDS: dict[str, Row] = {
    "serve": Row("serve:serve", "Start the daemon: OpenAI's API on this machine."),
    "stop": Row("status:stop", "Stop the daemon; running answers may finish."),
    "status": Row("status:status", "Tell whether the daemon runs, where, and how its backends are."),
    "run": Row("run:app", "Run a command that talks to oproxy with a key of its own."),
    "env": Row("env:env", "Print what makes OpenAI clients, editors and agents come here."),
    "doctor": Row("doctor:doctor", "Look for what is wrong, and say what to do about it."),
    "chat": Row("chat:chat", "Ask a model, once or in a conversation."),
    "models": Row("models:app", "List, fetch, load and remove models; give them other names."),
    "files": Row("files:app", "Upload, list, download and remove files."),
    "batch": Row("batch:app", "Have a file of requests answered when nobody else waits."),
    "logs": Row("logs:app", "Show the recorded requests, send them again, follow the log."),
    "usage": Row("usage:app", "Tell what was used, what it cost and what it saved."),
    "cert": Row("cert:app", "HTTPS: issue, show, renew and remove this machine's certificate."),
    "keys": Row("keys:app", "Make, list, change and revoke keys."),
    "config": Row("config:app", "Show, check and change the settings."),
}


def markup() -> Any:
    """Return typer's help style: framed where a person looks, plain text in a pipe."""
    return "rich" if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else None


def load(name: str) -> Any:
    """Import a command of the table and return it as typer's own command object."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(importlib.import_module(f"ollama_proxy.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name=name)(found)
        found = single
    command = get_command(found)
    command.name = name
    command.help = command.help or COMMANDS[name].help
    for each in walk(command):
        each.callback = with_text(each)
        each.rich_markup_mode = markup()
        # Completions are files of their own (`completions/`); typer's installer would edit the user's shell start-up.
        each.params = [param for param in each.params if param.name not in ("install_completion", "show_completion")]
    return command


def walk(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from walk(child)


def with_text(command: Any) -> Any:
    """Return a command's function, called with arguments that can be written and sent: in a locale that is not UTF-8,
    Python reads each byte beyond ASCII as a surrogate. The names of files stay as they are, for the system to read."""
    callback = command.callback
    files = {param.name for param in command.params if param.metavar in ("FILE", "PATH")}
    if callback is None:
        return None

    @functools.wraps(callback)
    def called(*args: Any, **params: Any) -> Any:
        return callback(*args, **{name: value if name in files else text_of(value) for name, value in params.items()})

    return called


def text_of(value: Any) -> Any:
    match value:
        case str():
            return utf8_text(value)
        case list() | tuple():
            return type(value)(map(text_of, value))
    return value


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and help lines, and imports one only when it is about to run."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.rich_markup_mode = markup()
        self.commands = {name: TyperCommand(name, help=row.help) for name, row in COMMANDS.items()}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table: what is needed first comes first."""
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            exc.message = plainly(exc.message)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


# What the library that checks options says, and what a person understands.
WORDS = (
    (r"^Value error, ", ""),
    (r"^Input should be a valid integer.*", "expected a whole number."),
    (r"^Input should be a valid number.*", "expected a number."),
    (r"^Input should be a valid boolean.*", "expected true or false."),
    (r"^Input should be (.*?)(, .*)?$", r"expected something \1."),
    (r"something less than or equal to", "at most"),
    (r"something greater than or equal to", "at least"),
)


def plainly(message: str) -> str:
    """Return what is wrong with an option's value in words for a person."""
    for pattern, words in WORDS:
        message = re.sub(pattern, words, message)
    return message


app = typer.Typer(
    cls=LazyGroup,
    name="oproxy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The manual: man oproxy, man oproxy.toml.",
)


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"oproxy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Use this config file instead of the user's own."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """OpenAI's API on your own machine, answered by local models.

    `oproxy serve` starts it; any OpenAI client pointed at it with OPENAI_BASE_URL then talks to a local model.
    """
    if config is not None:
        # Every command, and a daemon started in the background, reads the same file by the same rule.
        os.environ["OPROXY_CONFIG"] = str(config.absolute())


def main() -> None:
    """Run the command line; the entry point of the `oproxy` command. Always ends the process."""
    stdio.set_up()
    try:
        app(prog_name="oproxy")
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else failed(str(exc.code))
    except KeyboardInterrupt:
        code = 130
    except Exception as exc:
        code = ended(exc)
    sys.exit(stdio.finish(code))


def ended(exc: Exception) -> int:
    """Print what stopped a command and return the exit status. What has no words for a person is a bug and
    raised."""
    if isinstance(exc, BrokenPipeError):
        # The reader has what it wanted (`oproxy logs | head`).
        return 1
    # The packages' own errors carry `message`, whichever layer they come from; importing them all here would cost
    # what the lazy table saves.
    message = getattr(exc, "message", None)
    if isinstance(message, str):
        return failed(message, getattr(exc, "exit_code", 1))
    if isinstance(exc, OSError):
        return failed(f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else exc.strerror or str(exc))
    raise exc


def failed(message: str, code: int = 1) -> int:
    """Tell the person what went wrong; return the exit status."""
    with suppress(OSError, ValueError):
        print(f"oproxy: {block_text(redact_text(message))}", file=sys.stderr)
    return code
