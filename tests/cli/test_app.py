"""The root of the command line: what it costs, what it says, and how it ends."""

from __future__ import annotations

import importlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_proxy import __version__
from ollama_proxy.cli.app import COMMANDS, ended, load
from ollama_proxy.cli.failure import Failure
from ollama_proxy.errors import ModelNotFound

HEAVY = ("aiohttp", "sqlalchemy", "tiktoken", "watchfiles", "rich", "prompt_toolkit", "msgspec", "tomlkit", "asyncio")


ROOT = Path(__file__).parents[2]


def oproxy(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ollama_proxy", *args], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip


def test_help_names_every_command_with_its_line_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from ollama_proxy.cli.app import main\n"
        "sys.argv = ['oproxy', '--help']\n"
        "try: main()\n"
        "except SystemExit as exc: code = exc.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    *text, last = out.strip().splitlines()

    assert last == "[] 0"
    for name, row in COMMANDS.items():
        assert any(line.split() == [name, *row.help.split()] for line in text), name


def test_the_version_is_printed() -> None:
    done = oproxy("--version")
    assert (done.returncode, done.stdout) == (0, f"oproxy {__version__}\n")


@pytest.mark.parametrize("args", [["srve"], ["--nope"], ["serve", "--nope"], ["serve", "--port", "many"], []])
def test_a_wrong_usage_ends_with_2_and_tells_on_stderr(args: list[str]) -> None:
    done = oproxy(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr != ""


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["serve", "--port", "abc"], "Invalid value for '--port': expected a whole number."),
        (["chat", "--temperature", "9"], "Invalid value for '--temperature': expected at most 2."),
        (["chat", "--temperature", "-1"], "Invalid value for '--temperature': expected at least 0."),
        (["env", "--for", "nope"], "Invalid value for '--for': 'nope' is not one of 'aider'"),
    ],
)
def test_a_wrong_value_is_told_in_words_for_a_person(args: list[str], told: str) -> None:
    done = oproxy(*args)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Input should" not in done.stderr


def test_a_mistyped_command_gets_a_suggestion() -> None:
    assert "Did you mean 'serve'?" in oproxy("srve").stderr


def test_help_in_a_pipe_has_no_frames_and_no_colours() -> None:
    for args in (["--help"], ["serve", "--help"], ["models", "list", "--help"]):
        out = oproxy(*args).stdout
        assert "Usage:" in out
        assert "\x1b" not in out
        assert "─" not in out


def test_no_color_is_respected_on_a_terminal() -> None:
    for env, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        out = on_terminal(["serve", "--help"], {"TERM": "xterm-256color", **env})
        assert "serve" in out
        assert ("\x1b[1;3" in out or "\x1b[36m" in out) == coloured


def on_terminal(args: list[str], env: dict[str, str]) -> str:
    """Run a command whose output is a terminal and return what was shown."""
    primary, secondary = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "ollama_proxy", *args], stdin=secondary, stdout=secondary, stderr=secondary,
        env={**os.environ, **env},
    )  # fmt: skip
    os.close(secondary)
    shown = b""
    while True:
        try:
            data = os.read(primary, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    child.wait()
    os.close(primary)
    return shown.decode()


def test_a_failure_is_one_message_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(Failure("the well is dry", code=3)) == 3
    assert capsys.readouterr() == ("", "oproxy: the well is dry\n")


def test_an_error_of_any_layer_is_told_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ModelNotFound("moon", hint="Pull it.")) == 1
    assert "`moon` does not exist" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(FileNotFoundError(2, "No such file or directory", "prompt.txt")) == 1
    assert capsys.readouterr().err == "oproxy: prompt.txt: No such file or directory\n"


def test_a_bug_is_not_made_to_look_like_a_message() -> None:
    with pytest.raises(KeyError):
        ended(KeyError("x"))


def test_a_reader_that_leaves_the_pipe_ends_it_quietly() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "ollama_proxy", "config", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    child.wait()
    assert errors == b""


def test_a_config_file_named_at_the_root_is_the_one_the_command_reads(tmp_path: Path) -> None:
    done = oproxy("--config", "own.toml", "config", "path", cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "own.toml")


def test_a_broken_config_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[server]\nport = "many"\n')
    done = oproxy("--config", "own.toml", "serve", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'own.toml'}:2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_of_the_table_leads_to_a_command_with_the_same_words(name: str) -> None:
    command = load(name)
    assert command.name == name
    first = " ".join(command.help.split("\n\n")[0].split())
    assert first.split(".")[0].split(":")[0][:20] == COMMANDS[name].help[:20].split(":")[0]


def test_every_command_and_option_says_what_it_is_for() -> None:
    silent = []
    for command in importlib.import_module("ollama_proxy.cli.tree").tree().walk():
        if not command.help:
            silent.append(" ".join(command.path))
        silent += [f"{' '.join(command.path)} {param.name}" for param in command.params if not param.help]
    assert silent == []
