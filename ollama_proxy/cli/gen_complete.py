"""Completion scripts for bash, zsh and fish, printed from the command line. Pure text; writes no file.

The scripts hold all commands and options as text, so that a Tab costs no start of Python; only the names of models are
asked for, by the cheapest command that knows them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from .tree import Command, Param

__all__ = ["bash", "fish", "zsh"]

NOTE = "Printed by `make gen`; changes are lost."
MODELS = "oproxy models list --names 2>/dev/null"


def quoted(text: str) -> str:
    """Return text as one word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def flags(params: Iterable[Param]) -> list[str]:
    return [flag for param in params for flag in param.flags]


def indent(lines: Iterable[str], by: int = 4) -> str:
    return "\n".join(" " * by + line if line else "" for line in lines)


# --- bash ---------------------------------------------------------------------------------------------------------

BASH = """\
# bash completion for oproxy. {note}

_oproxy() {{
    # Words as typed up to the cursor: bash itself would cut them at the colons of model names.
    local line=${{COMP_LINE:0:COMP_POINT}} cur prev at='oproxy' word skip=''
    local -a words
    read -ra words <<<"$line"
    case $line in *[[:space:]]) words+=('') ;; esac
    cur=${{words[-1]}}
    prev=${{words[-2]}}
    for word in "${{words[@]:1:${{#words[@]}}-2}}"; do
        if [[ $skip ]]; then skip=''; continue; fi
        case "$at $word" in
{steps}
        esac
    done
    case $cur in --*=*) prev=${{cur%%=*}} cur=${{cur#*=}} ;; esac

    COMPREPLY=()
    case "$at $prev" in
{values}
    esac
    case $cur in
        -*)
            case $at in
{options}
            esac
            return
            ;;
    esac
    case $at in
{arguments}
    esac
}}

_oproxy_offer() {{
    # Not by `compgen -W`, which would run what stands in a word between $( and ).
    local cur=$1 word
    shift
    for word; do
        if [[ $word == "$cur"* ]]; then COMPREPLY+=("$word"); fi
    done
    # What stands before the last colon is already on the line as words of their own.
    if [[ $COMP_WORDBREAKS == *:* ]]; then COMPREPLY=("${{COMPREPLY[@]#"${{cur%"${{cur##*:}}"}}"}}"); fi
}}

_oproxy_models() {{
    # Model servers choose these names: what a shell would read as more than a word is quoted.
    local name
    local -a names
    while IFS= read -r name; do
        if [[ $name == *[!A-Za-z0-9._:/@+,=-]* ]]; then printf -v name %q "$name"; fi
        names+=("$name")
    done < <({models})
    _oproxy_offer "$1" "${{names[@]}}"
}}

complete -F _oproxy -o bashdefault -o default oproxy
"""


def bash(root: Command) -> str:
    """Return the script for bash, 3.2 and newer apart from negative indexes (4.3)."""
    every = list(root.walk())
    steps, values, options, arguments = [], [], [], []
    for command in every:
        at = " ".join(command.path)
        paths = [quoted(" ".join(child.path)) for child in command.commands]
        steps += [f"{path}) at={path} ;;" for path in paths]
        for param in command.options:
            if param.metavar is None:
                continue
            pattern = "|".join(quoted(f"{at} {flag}") for flag in param.flags)
            steps.append(f"{pattern}) skip=1 ;;")
            values.append(f"{pattern}) {offer(param)}return ;;")
        options.append(f'{quoted(at)}) _oproxy_offer "$cur" {words(flags(command.options))} ;;')
        if command.commands:
            names = words(child.name for child in command.commands)
            arguments.append(f'{quoted(at)}) _oproxy_offer "$cur" {names} ;;')
        elif any(param.value == "model" for param in command.arguments):
            arguments.append(f'{quoted(at)}) _oproxy_models "$cur" ;;')
        elif choices := [choice for param in command.arguments for choice in param.choices]:
            arguments.append(f'{quoted(at)}) _oproxy_offer "$cur" {words(choices)} ;;')
    return BASH.format(
        note=NOTE,
        models=MODELS,
        steps=indent(steps, 12),
        values=indent(values, 8),
        options=indent(options, 16),
        arguments=indent(arguments, 8),
    )


def words(texts: Iterable[str]) -> str:
    """Return texts as words of a shell's command."""
    return " ".join(map(shlex.quote, texts))


def offer(param: Param) -> str:
    """Return the statement that offers an option's values; nothing leaves it to bash, which offers files."""
    match param.value:
        case "model":
            return '_oproxy_models "$cur"; '
        case "choice":
            return f'_oproxy_offer "$cur" {words(param.choices)}; '
        case _:
            return ""


# --- zsh ----------------------------------------------------------------------------------------------------------

ZSH = """\
#compdef oproxy
# zsh completion for oproxy. {note}

_oproxy_model_names() {{
    local -a names
    names=(${{(f)"$({models})"}})
    # The colons of model names are text, not the start of a description.
    compadd -a names
}}

{functions}

_oproxy "$@"
"""

ZSH_GROUP = """\
{name}() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \\
{specs}
        '1: :->command' \\
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
{commands}
            )
            _describe -t commands {title} commands
            ;;
        rest)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}
"""

ZSH_LEAF = """\
{name}() {{
    _arguments \\
{specs}
}}
"""


def zsh(root: Command) -> str:
    """Return the script for zsh."""
    functions = [zsh_group(each) if each.commands else zsh_leaf(each) for each in root.walk()]
    return ZSH.format(note=NOTE, models=MODELS, functions="\n".join(functions).rstrip())


def zsh_name(command: Command) -> str:
    return "_" + "_".join(command.path).replace("-", "_")


def zsh_group(command: Command) -> str:
    return ZSH_GROUP.format(
        name=zsh_name(command),
        specs=indent((f"{spec} \\" for spec in zsh_options(command)), 8),
        commands=indent((quoted(f"{child.name}:{child.summary}") for child in command.commands), 16),
        title=quoted(f"{command.name} command"),
        cases=indent((f"{child.name}) {zsh_name(child)} ;;" for child in command.commands), 16),
    )


def zsh_leaf(command: Command) -> str:
    specs = [*zsh_options(command), *zsh_arguments(command)]
    return ZSH_LEAF.format(name=zsh_name(command), specs=" \\\n".join(f"        {spec}" for spec in specs))


def zsh_text(text: str) -> str:
    """Return text that may stand between the brackets of a spec."""
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text


def zsh_options(command: Command) -> Iterator[str]:
    for param in command.options:
        # Several names of one option exclude each other, unless it may be given again.
        exclusion = "" if param.many else f"({' '.join(param.flags)})"
        value = f":{zsh_text(param.metavar)}:{zsh_action(param)}" if param.metavar else ""
        for flag in param.flags:
            again = "*" if param.many else ""
            yield quoted(f"{exclusion}{again}{flag}[{zsh_text(param.help)}]{value}")


def zsh_arguments(command: Command) -> Iterator[str]:
    for param in command.arguments:
        place = "*" if param.many else "" if param.required else ":"
        yield quoted(f"{place}:{zsh_text(param.metavar or param.name)}:{zsh_action(param)}")


def zsh_action(param: Param) -> str:
    match param.value:
        case "model":
            return "_oproxy_model_names"
        case "file":
            return "_files"
        case "choice":
            return f"({' '.join(param.choices)})"
        case _:
            return " "


# --- fish ---------------------------------------------------------------------------------------------------------

FISH = """\
# fish completion for oproxy. {note}

function __oproxy_at --description 'Whether the cursor is at the arguments of this command'
    set -l at oproxy
    set -l skip
    for word in (commandline -opc)[2..]
        if set -q skip[1]
            set skip
            continue
        end
        switch "$at $word"
{steps}
        end
    end
    test "$at" = "$argv"
end

function __oproxy_models
    {models}
end

complete -c oproxy -f
{rules}
"""


def fish(root: Command) -> str:
    """Return the script for fish, 3.0 and newer."""
    steps, rules = [], []
    for command in root.walk():
        at = " ".join(command.path)
        when = fish_quoted(f"__oproxy_at {at}")
        for child in command.commands:
            path = fish_quoted(" ".join(child.path))
            steps.append(f"case {path}\n                set at {path}")
            rules.append(f"complete -c oproxy -n {when} -a {child.name} -d {fish_quoted(child.summary)}")
        for param in command.options:
            if param.metavar:
                names = " ".join(fish_quoted(f"{at} {flag}") for flag in param.flags)
                steps.append(f"case {names}\n                set skip 1")
            rules.append(" ".join(filter(None, ["complete -c oproxy -n", when, *fish_option(param)])))
        offers = filter(None, map(fish_values, command.arguments))
        rules += [f"complete -c oproxy -n {when} {values}" for values in offers]
    return FISH.format(note=NOTE, models=MODELS, steps=indent(steps, 12), rules="\n".join(rules))


def fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_option(param: Param) -> Iterator[str]:
    for flag in param.flags:
        yield f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
    if param.metavar:
        # Files are offered only where files are meant.
        yield "-r" if param.value == "file" else "-x"
        yield fish_values(param)
    yield f"-d {fish_quoted(param.help)}"


def fish_values(param: Param) -> str:
    match param.value:
        case "model":
            return "-a '(__oproxy_models)'"
        case "file":
            return "-F"
        case "choice":
            return f"-a {fish_quoted(' '.join(param.choices))}"
        case _:
            return ""
