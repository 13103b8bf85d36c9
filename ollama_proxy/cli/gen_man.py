"""Manual pages in roff, printed from the command line and the declared settings. Pure text; writes no file.

Only macros that groff, mandoc and Heirloom all know are used: https://man.openbsd.org/man.7
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import msgspec

from .. import __version__
from ..declared import Setting, describe, groups
from .tree import Command, Param

__all__ = ["command_page", "escape", "root_page", "settings_page"]

# Characters that roff would take for its own, or typeset as something else than what is to be typed.
SPECIAL = {
    "\\": r"\(rs",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}

EXIT_STATUS = (
    ("0", "The command did what was asked."),
    ("1", "It could not; one message on stderr says why."),
    ("2", "The command line was wrong."),
    ("130", "It was interrupted with Ctrl-C."),
)


def escape(text: str) -> str:
    """Return text that roff prints as it is."""
    safe = "".join(SPECIAL.get(c, c if c.isascii() else rf"\[u{ord(c):04X}]") for c in text)
    # A dot or a quote at the start of a line would be a request; \& is nothing, but not the start.
    return re.sub(r"(?m)^(?=\.)", r"\\&", safe)


def prose(text: str) -> str:
    """Return a paragraph; what stands between backquotes is bold."""
    pieces = text.split("`")
    return "".join(bold(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces))


def bold(text: str) -> str:
    return rf"\fB{escape(text)}\fR"


def italic(text: str) -> str:
    return rf"\fI{escape(text)}\fR"


def paragraphs(text: str) -> Iterator[str]:
    for index, paragraph in enumerate(text.strip().split("\n\n")):
        if index:
            yield ".PP"
        yield prose(" ".join(paragraph.split()))


def head(title: str, section: int, name: str, summary: str) -> Iterator[str]:
    yield '.\\" Printed by `make gen`; changes are lost.'
    # No date: the same program must print the same page tomorrow.
    yield f'.TH {escape(title.upper())} {section} "" "oproxy {escape(__version__)}" "oproxy manual"'
    # Names of settings and options must not be broken over lines.
    yield from [".nh", ".ad l"]
    yield ".SH NAME"
    yield rf"{escape(name)} \- {prose(summary)}"


def items(pairs: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """Yield a list of terms (roff already) with their paragraphs."""
    for term, lines in pairs:
        yield ".TP"
        yield term
        yield from lines


def synopsis(command: Command) -> str:
    words = [bold(" ".join(command.path))]
    if command.options:
        words.append(f"[{italic('OPTIONS')}]")
    for param in command.arguments:
        word = italic(param.metavar or param.name) + ("..." if param.many else "")
        words.append(word if param.required else f"[{word}]")
    if command.commands:
        words.append(rf"{italic('COMMAND')} [{italic('ARGS')}]...")
    return " ".join(words)


def options(params: Iterable[Param]) -> Iterator[str]:
    for param in params:
        names = ", ".join(bold(flag) for flag in param.flags) or italic(param.metavar or param.name)
        if param.is_option and param.metavar:
            # A list of choices is longer than a line; it may be broken behind each.
            names += " " + italic(param.metavar).replace("|", r"|\:")
        yield from items([(names, [prose(param.help) or r"\&"])])


def body(command: Command, heading: str) -> Iterator[str]:
    """Yield a command's own text, arguments and options under headings of the given macro."""
    yield from paragraphs(command.help)
    if command.params:
        yield f"{heading} OPTIONS"
        yield from options([*command.arguments, *command.options])


def page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def root_page(root: Command) -> str:
    """Return oproxy.1: what it is, its commands, its files."""

    def lines() -> Iterator[str]:
        yield from head("oproxy", 1, "oproxy", root.summary)
        yield from [".SH SYNOPSIS", synopsis(root), ".SH DESCRIPTION", *paragraphs(root.help)]
        yield from [".PP", prose("Any OpenAI client finds it by two variables of the environment:")]
        yield from [".PP", ".nf", escape("    export OPENAI_BASE_URL=http://127.0.0.1:11435/v1")]
        yield from [escape("    export OPENAI_API_KEY=any"), ".fi"]
        yield ".SH OPTIONS"
        yield from options(root.options)
        yield ".SH COMMANDS"
        for each in root.commands:
            page_of = see(f"oproxy-{each.name}", 1)
            yield from items([(bold(f"oproxy {each.name}"), [f"{prose(each.summary)}. See {page_of}."])])
        yield ".SH ENVIRONMENT"
        yield from items(ENVIRONMENT)
        yield ".SH EXIT STATUS"
        yield from items((bold(code), [prose(text)]) for code, text in EXIT_STATUS)
        yield ".SH SEE ALSO"
        yield ", ".join([*(see(f"oproxy-{each.name}", 1) for each in root.commands), see("oproxy.toml", 5)])

    return page(lines())


ENVIRONMENT = (
    (bold("OPROXY_CONFIG"), [prose("The config file, where `--config` does not name one.")]),
    (
        rf"{bold('OPROXY_')}{italic('SECTION')}{bold('_')}{italic('NAME')}",
        [prose("Any setting, e.g. `OPROXY_SERVER_PORT` for `port` under `[server]`; wins over the file.")],
    ),
    (bold("NO_COLOR"), [prose("Where it is set, nothing is printed in colour.")]),
)


def see(name: str, section: int) -> str:
    return rf"{bold(name)}({section})"


def command_page(command: Command) -> str:
    """Return the page of one command; a group's commands are its subsections."""
    title = "-".join(command.path)

    def lines() -> Iterator[str]:
        yield from head(title, 1, title, command.summary)
        yield ".SH SYNOPSIS"
        leaves = [each for each in command.walk() if not each.commands]
        for index, leaf in enumerate(leaves):
            yield from [".br"] * bool(index)
            yield synopsis(leaf)
        yield ".SH DESCRIPTION"
        if command.commands:
            yield from paragraphs(command.help)
            yield ".SH COMMANDS"
            for leaf in leaves:
                yield f'.SS "{escape(" ".join(leaf.path[1:]))}"'
                yield from paragraphs(leaf.help)
                yield from options([*leaf.arguments, *leaf.options])
        else:
            yield from body(command, ".SH")
        yield ".SH SEE ALSO"
        yield f"{see('oproxy', 1)}, {see('oproxy.toml', 5)}"

    return page(lines())


SETTINGS_INTRO = """\
The settings of oproxy are one file in TOML. `oproxy config path` tells where it is, `oproxy config init` writes one
with every setting as a comment, `oproxy config show` shows what is in force and where each value came from.

A setting is taken from the command line's flags, else from the environment, else from the file, else it has its
default. The running daemon reads the file again whenever it changes, and on SIGHUP: what is valid takes effect for the
next request, what is not is refused with its line, and the settings in force stay.

A file that is gone, empty or cut off changes nothing in a running daemon. A setting that protects it (keys, limits,
budgets, what is let in or recorded) is weakened only by what is written: if it disappears from the file, the value in
force stays until another is written (`mode = "off"`; for a limit or a budget `"none"`) or the daemon is restarted.
`oproxy status` tells what stays so.\
"""

# Tables of which more is to be said than their declaration does.
TABLES = {
    "backends.NAME": (
        "One table for each backend; NAME is yours to choose, and the order decides between two that have the same "
        "model. With no such table there are two: `ollama` at its usual address and the built-in `embedded`."
    ),
    'models.options."NAME"': (
        "Options for the models of this name, which may have the wildcards * and ?. What the client sends wins."
    ),
}

EXAMPLE = """\
[server]
port = 11435

[backends.ollama]
type = "ollama"

[backends.studio]
type = "openai"
url = "http://127.0.0.1:1234/v1"

[models]
default = "qwen3:4b"

[models.aliases]
fast = "smollm2"
"gpt-4*" = "ollama/qwen3:4b"

[models.options."qwen3*"]
num_ctx = 16384
temperature = 0.6\
"""


def settings_page() -> str:
    """Return oproxy.toml.5: every declared setting."""
    settings = describe()

    def lines() -> Iterator[str]:
        yield from head("oproxy.toml", 5, "oproxy.toml", "the settings of oproxy")
        yield ".SH DESCRIPTION"
        yield from paragraphs(SETTINGS_INTRO)
        for key, struct in groups():
            yield f'.SH "{escape(f"[{key}]")}"'
            yield prose(TABLES.get(key) or inspect.getdoc(struct) or "")
            for setting in settings:
                above, _, name = setting.key.rpartition(".")
                if above == key:
                    yield from items([(bold(name), setting_lines(setting))])
        yield from [".SH EXAMPLE", ".nf", escape(EXAMPLE), ".fi"]
        yield ".SH SEE ALSO"
        yield f"{see('oproxy', 1)}, {see('oproxy-config', 1)}"

    return page(lines())


def setting_lines(setting: Setting) -> Iterator[str]:
    """Yield the paragraph of one setting: what it does, what it takes, how else it can be given."""
    restart = " Takes effect after a restart." if setting.restart else ""
    yield prose(setting.help) + escape(restart)
    yield ".br"
    facts = [escape(setting.type_text)]
    if setting.default not in (None, "", [], {}):
        facts.append(f"default {bold(msgspec.json.encode(setting.default).decode())}")
    if setting.flag:
        facts.append(f"flag {bold(setting.flag)}")
    if setting.env:
        facts.append(f"environment {bold(setting.env)}")
    yield f"({'; '.join(facts)})"
