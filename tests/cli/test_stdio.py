"""What stdout is has no bearing on what a command does: encodings, closed streams, full disks, readers that leave."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BOOKLESS

OPROXY = (sys.executable, "-m", "ollama_proxy")
# Prints what a command prints: arrows, a bar, emoji, a lone surrogate, a letter of Latin-1.
PRINTS = """
import sys
from ollama_proxy.cli import stdio, app
from ollama_proxy.cli.output import console, print_table, markdown, rule, progress
from ollama_proxy.cli.plain import echo, tell, print_json, paint, write, print_pairs
stdio.set_up()
for say in (echo, tell):
    say("a → b … ü 🎉 \\ud800 \\x1b[2J ─ ▇")
write("piece → ")
print_json({"a": "→ü🎉"})
print_pairs([("name", "→"), ("other", "🎉")])
print_table(("HEAD →", "X"), [("→", "🎉")])
console().print(markdown("# →\\n\\n* 🎉\\n\\n`x`"))
console().print(rule("→"))
app.failed("no → model")
sys.exit(stdio.finish(0))
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "cp437"},
    {"PYTHONIOENCODING": "utf-16"},
    C_LOCALE,
    {"LC_ALL": "C"},
]


def run(*command: str, env: dict[str, str], **more: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, env={**os.environ, **BOOKLESS, **env}, timeout=60, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("env", ENCODINGS, ids=lambda env: " ".join(env.values()))
def test_what_an_encoding_lacks_is_replaced(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "prints.py"
    script.write_text(PRINTS, encoding="utf-8")
    done = run(sys.executable, str(script), env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    encoding = env.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    for text in (out, err):
        assert re.match(r"(\ufeff)?a (->|→) b (\.\.\.|…) ", text)
        assert "\x1b" not in text
    if encoding == "utf-8":
        assert "a → b … ü 🎉" in out
    assert err.splitlines()[-1].startswith("oproxy: no ")


def test_every_help_can_be_written_in_every_encoding() -> None:
    # In one process: each start costs half a second.
    code = """
import contextlib, io, sys
from ollama_proxy.cli import stdio
from ollama_proxy.cli.app import COMMANDS, app, load
from typer.main import get_command
stdio.set_up()
def helps(command, path):
    try:
        command.main(["--help"], prog_name=" ".join(path), standalone_mode=False)
    except SystemExit:
        pass
    for name, child in getattr(command, "commands", {}).items():
        helps(child, [*path, name])
get_command(app)(["--help"], standalone_mode=False)
for name in COMMANDS:
    helps(load(name), ["oproxy", name])
"""
    for encoding in ("cp1252", "ascii"):
        done = run(sys.executable, "-c", code, env={"PYTHONIOENCODING": encoding}, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        # The option parser writes UTF-8 by itself where it is told ASCII.
        assert b"->" in done.stdout or "→".encode() in done.stdout
        assert done.stdout.count(b"Usage: ") > 50


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors by the shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_stream_that_is_closed_is_nothing_to_die_of(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "opened"
    code = f"""
import sys
from ollama_proxy.cli import stdio
from ollama_proxy.cli.output import echo, tell, print_table, interactive, console
stdio.set_up()
opened = open({str(file)!r}, "w")
echo("out"); tell("err"); print_table(("A",), [("b",)]); console().print("x"); interactive(); sys.stdin.read()
sys.exit(stdio.finish(0))
"""
    done = run("sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code, env={}, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    # Nothing that was printed has gone into a file that was opened later.
    assert file.read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk_behind_stdout_is_told_in_a_sentence() -> None:
    with open("/dev/full", "wb") as full:
        done = run(*OPROXY, "config", "show", env={}, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    read, written = os.pipe()
    os.close(read)
    try:
        done = run(*OPROXY, "config", "show", env={}, stdout=written, stderr=subprocess.PIPE)
    finally:
        os.close(written)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_command_does_without_any_stream() -> None:
    # As under pythonw, where all three are None.
    code = """
import sys
sys.stdin = sys.stdout = sys.stderr = None
sys.argv = ["oproxy", "config", "path"]
from ollama_proxy.cli.app import main
main()
"""
    done = run(sys.executable, "-c", code, env={}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_traceback_writes_no_escapes_and_no_keys() -> None:
    code = """
from ollama_proxy.cli import stdio
stdio.set_up()
raise ValueError("\\x1b]0;taken\\x07 \\u202e sk-abcdefghijklmnop")
"""
    done = run(sys.executable, "-c", code, env={}, capture_output=True)
    assert done.returncode == 1
    text = done.stderr.decode()
    assert "ValueError: ]0;taken" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "sk-[redacted]" in text
