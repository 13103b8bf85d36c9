"""Manual pages and completions: escaping, and the scripts run by the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ollama_proxy.cli import gen_complete, gen_man
from ollama_proxy.cli.tree import Command, Param, value_of
from tests.fakes.terminal import terminal

HELP = Param("help", ("--help",), None, "Show it's all [here]: `x`.", (), "", False, False)
MODEL = Param("model", (), "MODEL", "A model.", (), "model", False, True)
COLOUR = Param("colour", ("--colour", "-c"), "WHEN", "Colours.", ("always", "never"), "choice", False, False)
FILE = Param("config", ("--config",), "FILE", "Config.", (), "file", False, False)
WITH = Param("with", ("--with",), "MODEL", "Another model.", (), "model", True, False)
TREE = Command(
    ("oproxy",),
    "The root. More.",
    (FILE, HELP),
    (
        Command(("oproxy", "serve"), "Serve it.", (COLOUR, HELP), ()),
        Command(
            ("oproxy", "models"),
            "Models.",
            (HELP,),
            (
                Command(("oproxy", "models", "list"), "List.\n\nMore of it.", (HELP,), ()),
                Command(("oproxy", "models", "show"), "Show.", (MODEL, WITH, HELP), ()),
            ),
        ),
    ),
)


# --- roff ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a-b", r"a\-b"),
        (r"\n", r"\(rsn"),
        (".SH trick", r"\&.SH trick"),
        ("one\n.two", "one\n\\&.two"),
        ("it's `so`", r"it\(aqs \(gaso\(ga"),
        ("model → backend", r"model \[u2192] backend"),
        ('say "x"', r"say \(dqx\(dq"),
    ],
)
def test_text_is_printed_as_it_is(text: str, want: str) -> None:
    assert gen_man.escape(text) == want


def test_words_between_backquotes_are_bold() -> None:
    assert gen_man.prose("see `a-b` now") == r"see \fBa\-b\fR now"


def test_a_page_shows_a_commands_arguments_and_options() -> None:
    page = gen_man.command_page(TREE.commands[1])
    assert '.SS "models list"\nList.\n.PP\nMore of it.\n' in page
    assert "\\fImodel\\fR" not in page
    assert ".TP\n\\fB\\-\\-with\\fR \\fIMODEL\\fR\nAnother model.\n" in page
    assert "\\fBoproxy models show\\fR [\\fIOPTIONS\\fR] \\fIMODEL\\fR" in page


def test_the_first_sentence_of_the_help_is_the_summary() -> None:
    assert TREE.summary == "The root"


@pytest.mark.parametrize(
    ("metavar", "choices", "want"),
    [("MODEL", (), "model"), ("FILE", (), "file"), ("WHEN", ("a",), "choice"), ("PORT", (), ""), (None, (), "")],
)
def test_the_placeholder_says_what_a_shell_can_offer(metavar: str | None, choices: tuple[str, ...], want: str) -> None:
    assert value_of(metavar, choices) == want


# --- the shells ---------------------------------------------------------------------------------------------------

# Line → what is offered.
CASES = {
    "oproxy ": {"serve", "models"},
    "oproxy s": {"serve"},
    "oproxy models ": {"list", "show"},
    "oproxy models list --": {"--help"},
    "oproxy --config x.toml models ": {"list", "show"},
    "oproxy serve --colour ": {"always", "never"},
    "oproxy serve --colour n": {"never"},
    "oproxy models show ": {"qwen3:4b", "qwen3:8b", "smollm2"},
    "oproxy models show sm": {"smollm2"},
    "oproxy models show --with s": {"smollm2"},
}


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `oproxy models list --names` is answered by a stand-in."""
    script = tmp_path / "bin" / "oproxy"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$*" = "models list --names" ] || exit 9\nprintf "smollm2\\nqwen3:4b\\nqwen3:8b\\n"\n'
    )
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}


BASH = """
source {script}
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}}
_oproxy
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offered_by_bash(line: str, script: Path, env: dict[str, str]) -> set[str]:
    code = BASH.format(script=script, line=gen_complete.quoted(line))
    done = subprocess.run(["bash", "--norc", "-c", code], env=env, capture_output=True, text=True)
    assert done.stderr == ""
    return {word for word in done.stdout.split("\n") if word}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_offers_what_fits(tmp_path: Path, stand_in: dict[str, str]) -> None:
    script = tmp_path / "oproxy.bash"
    script.write_text(gen_complete.bash(TREE))
    for line, want in CASES.items():
        assert offered_by_bash(line, script, stand_in) == want, line


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes_a_model_name_after_its_colon(tmp_path: Path, stand_in: dict[str, str]) -> None:
    script = tmp_path / "oproxy.bash"
    script.write_text(gen_complete.bash(TREE))

    assert offered_by_bash("oproxy models show qwen3:", script, stand_in) == {"4b", "8b"}
    assert offered_by_bash("oproxy models show qwen3:4", script, stand_in) == {"4b"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_a_models_name_is_no_command_for_bash(tmp_path: Path) -> None:
    # A model server chooses its models' names, and Tab must not run them.
    ran = tmp_path / "ran"
    names = tmp_path / "names"
    names.write_text(f"x$(touch {ran})\nx`touch {ran}`\nx;touch {ran}\nplain\n$HOME\n")
    stand_in = tmp_path / "oproxy"
    stand_in.write_text(f"#!/bin/sh\ncat {names}\n")
    stand_in.chmod(0o755)
    script = tmp_path / "oproxy.bash"
    script.write_text(gen_complete.bash(TREE))
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    found = offered_by_bash("oproxy models show ", script, env)
    for word in found:
        # What is put on the line is one word for the shell, and the name.
        done = subprocess.run(["bash", "-c", f"printf '%s\n' {word}"], capture_output=True, text=True)
        assert done.stdout.rstrip("\n") in names.read_text().splitlines()
    assert len(found) == 5
    assert not ran.exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
def test_fish_offers_what_fits(tmp_path: Path, stand_in: dict[str, str]) -> None:
    script = tmp_path / "oproxy.fish"
    script.write_text(gen_complete.fish(TREE))
    for line, want in CASES.items():
        code = f"source {script}; complete -C {gen_complete.fish_quoted(line)}"
        done = subprocess.run(["fish", "--no-config", "-c", code], env=stand_in, capture_output=True, text=True)
        assert done.stderr == ""
        assert {row.split("\t")[0] for row in done.stdout.splitlines()} == want, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_the_shell_can_read(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = tmp_path / "script"
    script.write_text(getattr(gen_complete, shell)(TREE))
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_with_quotes_and_brackets_stays_text_in_zsh() -> None:
    assert "'(--help)--help[Show it'\\''s all \\[here\\]\\: `x`.]'" in gen_complete.zsh(TREE)


def test_an_option_of_zsh_that_may_be_given_again_excludes_nothing() -> None:
    assert "'*--with[Another model.]:MODEL:_oproxy_model_names'" in gen_complete.zsh(TREE)


# --- names that model servers choose ------------------------------------------------------------------------------

# Each begins with a letter of its own, so that Tab has one way to go on.
NAMES = {
    "a": "a$(touch ran)", "b": "b`touch ran`", "c": "c;touch ran;", "d": "d&touch ran&", "e": "e|touch ran",
    "f": "f$HOME", "g": "g${HOME}", "h": "h*", "i": "i?[a-z]", "j": "j{x,y}", "k": "k(touch ran)", "l": "l<x>ran",
    "m": "m it's \"quoted\"", "n": "n\\back", "o": "o!!", "p": "p#x", "q": "q~", "r": "r=(touch ran)", "s": "s日本",
    "t": "t:4b@x/y", "u": "u %1 ^x", "v": "v[1]",
}  # fmt: skip
START = {
    "bash": (
        ("--norc", "--noprofile", "-i"),
        "bind 'set enable-bracketed-paste off'; source {script}; unset HISTFILE",
    ),
    "zsh": (
        ("-f", "-i"),
        "unsetopt prompt_sp; autoload -U compinit; compinit -u -D; autoload -U +X _oproxy; compdef _oproxy oproxy",
    ),
    "fish": (
        ("--no-config", "-i"),
        "set -g fish_autosuggestion_enabled 0; source {script}",
    ),
}


@pytest.mark.parametrize("shell", START)
async def test_tab_puts_a_models_name_on_the_line_as_one_word_and_runs_nothing(shell: str, tmp_path: Path) -> None:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not here")
    names, got = tmp_path / "names", tmp_path / "got"
    names.write_text("".join(f"{name}\n" for name in NAMES.values()))
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "oproxy").write_text(
        f'#!/bin/sh\ncase "$1 $2" in "models list") cat {names};; '
        f'*) printf "%s\\n" "$#" "$3" >> {got}; echo DONE;; esac\n'
    )
    (bin_ / "oproxy").chmod(0o755)
    script = bin_ / "_oproxy"
    script.write_text(getattr(gen_complete, shell)(TREE))
    options, setup = START[shell]
    env = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    async with terminal(program, *options, env=env, columns=200, folder=tmp_path) as shown:
        if shell == "zsh":
            setup = f"fpath=({bin_} $fpath); {setup}"
        shown.types(setup.format(script=script) + "; echo G''O\r")
        await shown.until("GO")
        for letter in NAMES:
            shown.types(f"oproxy models show {letter}\t\r")
            await shown.until("DONE")
    assert got.read_text().splitlines() == [line for name in NAMES.values() for line in ("3", name)]
    assert not (tmp_path / "ran").exists()
