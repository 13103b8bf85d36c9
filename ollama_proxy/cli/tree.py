"""The command line as plain values: what manual pages and completions are printed from. Only reads typer's objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer
from typer.main import get_command

from .app import COMMANDS, app, load

__all__ = ["Command", "Param", "tree"]


class Param(NamedTuple):
    """An option or an argument.

    `flags` are empty for an argument; `metavar` is None for a flag; `choices` are its only values; `value` says what
    a shell can offer: "model", "file", "choice" or "".
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    help: str
    choices: tuple[str, ...]
    value: str
    many: bool
    required: bool

    @property
    def is_option(self) -> bool:
        return bool(self.flags)


class Command(NamedTuple):
    """A command or a group. `path` is how it is called, e.g. ("oproxy", "models", "list")."""

    path: tuple[str, ...]
    help: str
    params: tuple[Param, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def summary(self) -> str:
        """The first sentence of the help, without its full stop."""
        first = " ".join(self.help.split("\n\n")[0].split())
        return re.split(r"(?<=[.!?])\s", first)[0].rstrip(".")

    @property
    def options(self) -> tuple[Param, ...]:
        return tuple(param for param in self.params if param.is_option)

    @property
    def arguments(self) -> tuple[Param, ...]:
        return tuple(param for param in self.params if not param.is_option)

    def walk(self) -> Iterator[Command]:
        """Yield this command and all below it."""
        yield self
        for each in self.commands:
            yield from each.walk()


def tree() -> Command:
    """Return the whole command line, every module of the table loaded."""
    root = get_command(app)
    context = typer.Context(root, info_name="oproxy", **root.context_settings)
    commands = [command_of(load(name), ("oproxy", name), context) for name in COMMANDS]
    return command_of(root, ("oproxy",))._replace(commands=tuple(commands))


def command_of(found: Any, path: tuple[str, ...], parent: Any = None) -> Command:
    context = typer.Context(found, info_name=path[-1], parent=parent, **found.context_settings)
    params = [param_of(param, context) for param in found.get_params(context) if not getattr(param, "hidden", False)]
    children = getattr(found, "commands", {})
    return Command(
        path,
        found.help or "",
        tuple(params),
        tuple(command_of(child, (*path, name), context) for name, child in children.items() if not child.hidden),
    )


def param_of(param: Any, context: Any) -> Param:
    option = param.param_type_name == "option"
    flag = bool(getattr(param, "is_flag", False) or getattr(param, "count", False))
    # The help option is not typer's own and has no description of its values.
    described = getattr(param, "type_descriptor", None)
    choices = tuple(str(getattr(c, "value", c)) for c in (described.choices or ())) if described else ()
    metavar = None if flag else (param.metavar or "|".join(choices) or param.name.upper())
    return Param(
        name=param.name,
        # The short one first; typer keeps the help option's names in a set, whose order changes from run to run.
        flags=(*sorted(param.opts, key=len), *param.secondary_opts) if option else (),
        metavar=metavar,
        help=" ".join((param.help or "").split()),
        choices=choices,
        value=value_of(metavar, choices),
        many=bool(param.multiple) or param.nargs == -1,
        required=bool(param.required),
    )


def value_of(metavar: str | None, choices: tuple[str, ...]) -> str:
    """Say what a shell can offer for a value, by its placeholder."""
    if choices:
        return "choice"
    match metavar:
        case "MODEL":
            return "model"
        case "FILE":
            return "file"
        case _:
            return ""
