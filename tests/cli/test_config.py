"""`oproxy config`: what is shown, what is written, what is refused, on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.gen_toml import commented_toml
from ollama_proxy.settings import default_path


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `oproxy config …` in this process."""

    def config(*args: str) -> Done:
        try:
            app(["config", *args], prog_name="oproxy")
        except SystemExit as exc:
            code = int(exc.code or 0)
        except Exception as exc:
            code = ended(exc)
        return Done(code, *capsys.readouterr())

    return config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    os.environ["OPROXY_CONFIG"] = str(file)
    return file


def test_the_path_is_told_whether_the_file_is_there_or_not(run: Run, tmp_path: Path) -> None:
    assert run("path") == Done(0, f"{default_path()}\n", "")
    assert run("path", "--config", str(tmp_path / "x")) == Done(0, f"{tmp_path / 'x'}\n", "")
    os.environ["OPROXY_CONFIG"] = str(tmp_path / "y")
    assert run("path") == Done(0, f"{tmp_path / 'y'}\n", "")


def test_init_writes_the_commented_config_once(run: Run, path: Path) -> None:
    assert run("init") == Done(0, f"{path}\n", "")
    assert path.read_text() == commented_toml()

    path.write_text("# mine\n")
    done = run("init")
    assert (done.code, done.out, path.read_text()) == (1, "", "# mine\n")
    assert "--force" in done.err

    assert run("init", "--force").code == 0
    assert path.read_text() == commented_toml()


def test_what_serve_would_refuse_is_told_by_check_and_when_it_is_set(run: Run, path: Path) -> None:
    path.write_text("")
    done = run("set", "server.host", "0.0.0.0")
    assert done.code == 0
    assert done.err.startswith("`oproxy serve` will not start so: 0.0.0.0 can be reached by other machines")
    done = run("check")
    assert (done.code, done.out) == (1, "")
    assert "`oproxy serve` would not start: 0.0.0.0 can be reached by other machines" in done.err
    assert run("set", "auth.mode", "on").err == ""
    assert run("check").out == f"{path} is right; it sets 2 values.\n"
    os.environ["OPROXY_AUTH_MODE"] = "off"
    assert run("check").code == 1


def test_a_limit_is_lifted_by_writing_none(run: Run, path: Path) -> None:
    path.write_text("[limits]\nrequests_per_minute = 5\n")
    assert run("set", "limits.requests_per_minute", "none").out == "limits.requests_per_minute: 5 → not set\n"
    assert path.read_text() == '[limits]\nrequests_per_minute = "none"\n'
    assert "none" in run("set", "models.num_ctx", "none").err


def test_check_tells_what_is_right_and_what_is_wrong(run: Run, path: Path) -> None:
    missing = run("check")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == f"oproxy: {path}: expected a config file, got no such file\n"

    path.write_text("[server]\nport = 1\n")
    assert run("check") == Done(0, f"{path} is right; it sets 1 value.\n", "")

    path.write_text("[server]\nport = 0\nprot = 1\n")
    assert run("check") == Done(
        1,
        "",
        f"oproxy: {path}:2: server.port: expected an integer between 1 and 65535, got 0\n"
        f"{path}:3: server.prot: no such setting; expected server.port\n",
    )


def test_without_a_file_check_says_so(run: Run) -> None:
    assert run("check") == Done(0, f"There is no {default_path()}; the defaults are in force.\n", "")


def test_show_tells_every_value_and_where_it_came_from(run: Run, path: Path) -> None:
    path.write_text('[server]\nport = 9\n[models.aliases]\n"gpt-4*" = "m"\n')
    os.environ["OPROXY_SERVER_GRACE"] = "5"
    lines = run("show").out.splitlines()

    assert lines[0] == "SETTING\tVALUE\tFROM"
    assert f"server.port\t9\tfile {path}:2" in lines
    assert "server.grace\t5.0\tenvironment OPROXY_SERVER_GRACE" in lines
    assert 'server.host\t"127.0.0.1"\tdefault' in lines
    assert f'models.aliases."gpt-4*"\t"m"\tfile {path}:4' in lines
    assert [line.split("\t")[0] for line in run("show", "--changed").out.splitlines()[1:]] == [
        "server.port",
        "server.grace",
        'models.aliases."gpt-4*"',
    ]


def test_show_for_programs_is_json(run: Run, path: Path) -> None:
    path.write_text('[server]\nport = 9\n[backends.ollama]\napi_key = "12345"\n')
    found = json.loads(run("show", "--json").out)

    assert found["server.port"] == {"value": 9, "origin": f"file {path}:2"}
    assert found["server.cors_origins"] == {"value": [], "origin": "default"}
    assert found["backends.ollama.api_key"]["value"] == "(hidden)"


def test_no_command_prints_a_secret(run: Run, path: Path) -> None:
    shared = '[limits]\nurl = "redis://u:12345@h"\n'
    path.write_text(f'[backends.ollama]\napi_key = "12345"\nheaders = {{ a = "12345" }}\n{shared}')
    said = [
        run("show"),
        run("show", "--json"),
        run("get", "backends.ollama.api_key"),
        run("get", "backends.ollama.headers"),
        run("get", "limits.url"),
        run("get", "backends.ollama"),
        run("get", "backends", "--json"),
        run("check"),
        run("set", "backends.ollama.api_key", "123456"),
        run("set", "backends.ollama.headers", '{ a = "123456" }'),
        run("set", "limits.url", "redis://u:123456@h"),
        run("set", "backends.ollama.url", "http://u:123456@h"),
        run("set", "backends.ollama.api_key", "123456"),
    ]
    assert [done for done in said if "12345" in done.out + done.err] == []
    assert said[2].code == 1
    assert path.read_text().count("123456") == 3


@pytest.mark.parametrize(
    ("args", "out"),
    [
        (["server.port"], "9\n"),
        (["server.host"], "127.0.0.1\n"),
        (["server.host", "--json"], '"127.0.0.1"\n'),
        (['models.aliases."gpt-4*"'], "m\n"),
        (["models.aliases.gpt-4*"], "m\n"),
        (["models.aliases"], 'models.aliases."gpt-4*" = "m"\n'),
        (["models.aliases", "--json"], '{\n  "models.aliases.\\"gpt-4*\\"": "m"\n}\n'),
        (["models.options"], ""),
    ],
)
def test_get_prints_the_value_in_force(run: Run, path: Path, args: list[str], out: str) -> None:
    path.write_text('[server]\nport = 9\n[models.aliases]\n"gpt-4*" = "m"\n')

    assert run("get", *args) == Done(0, out, "")


@pytest.mark.parametrize("args", [["get", "server.prot"], ["set", "server.prot", "1"]])
def test_an_unknown_setting_gets_a_suggestion(run: Run, path: Path, args: list[str]) -> None:
    path.write_text("")

    assert run(*args) == Done(1, "", "oproxy: There is no setting server.prot. Did you mean server.port?\n")


def test_what_is_no_key_is_told(run: Run, path: Path) -> None:
    path.write_text("")

    assert "is no key" in run("get", "a..b").err


def test_set_keeps_comments_and_order_and_tells_old_and_new(run: Run, path: Path) -> None:
    path.write_text("# head\n[models]\ndefault = 'a' # why\n\n[server]\n# about the port\nport = 1\ngrace = 2\n")

    assert run("set", "server.grace", "3") == Done(0, "server.grace: 2.0 → 3.0\n", "")
    assert run("set", "server.port", "4").out == "server.port: 1 → 4 (takes effect after a restart)\n"
    assert run("set", "models.default", "b").out == 'models.default: "a" → "b"\n'
    assert run("set", "models.default", "b").out == 'models.default is "b" already.\n'
    assert path.read_text() == (
        '# head\n[models]\ndefault = "b" # why\n\n[server]\n# about the port\nport = 4\ngrace = 3\n'
    )


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("models.default", "123", 'default = "123"'),
        ("models.default", '"q"', 'default = "q"'),
        ("models.default", "true", 'default = "true"'),
        ("server.cors_origins", "http://a,http://b", 'cors_origins = ["http://a", "http://b"]'),
        ("server.cors_origins", '["x"]', 'cors_origins = ["x"]'),
        ("server.max_body", "1MiB", 'max_body = "1MiB"'),
        ("server.max_body", "4096", "max_body = 4096"),
        ("server.image_allow_private", "yes", "image_allow_private = true"),
        ('models.aliases."gpt-4.1"', "ollama/m", '"gpt-4.1" = "ollama/m"'),
        ("models.options.q*.keep_alive", "30m", 'keep_alive = "30m"'),
        ("models.options.q*.keep_alive", "-1", "keep_alive = -1"),
    ],
)
def test_a_value_is_read_as_the_setting_takes_it(run: Run, path: Path, key: str, value: str, line: str) -> None:
    args = ["set", "--", key, value] if value.startswith("-") else ["set", key, value]
    done = run(*args)

    assert (done.code, done.err) == (0, "")
    assert line in path.read_text().splitlines()


def test_a_value_that_does_not_fit_is_refused_and_nothing_is_written(run: Run, path: Path) -> None:
    path.write_text("[server]\nport = 1\n")
    done = run("set", "server.port", "many")

    assert done == Done(
        1,
        "",
        f"oproxy: {path} is not changed, it would be wrong:\n"
        f'{path}:2: server.port: expected an integer between 1 and 65535, got "many"\n',
    )
    assert path.read_text() == "[server]\nport = 1\n"


def test_a_whole_table_is_not_set_over_its_comments(run: Run, path: Path) -> None:
    path.write_text("[server]\n# why\nport = 1\n")

    assert "is a table" in run("set", "server", "{ port = 2 }").err
    assert path.read_text() == "[server]\n# why\nport = 1\n"


def test_a_default_backend_that_goes_by_naming_another_is_told(run: Run, path: Path) -> None:
    assert run("set", "backends.ollama.pool", "5").out.splitlines() == [
        "backends.ollama.pool: 100 → 5",
        "backends.embedded: removed; only the backends written in the file are there",
    ]


def test_a_value_that_the_environment_hides_is_told(run: Run, path: Path) -> None:
    os.environ["OPROXY_SERVER_PORT"] = "5"
    done = run("set", "server.port", "6")

    assert (done.code, path.read_text()) == (0, "[server]\nport = 6\n")
    assert done.err == "It has no effect as long as the environment sets OPROXY_SERVER_PORT.\n"


def test_a_wrong_usage_ends_with_2(run: Run) -> None:
    assert [run(*args).code for args in (["nope"], ["get"], ["set", "a"], ["show", "--nope"])] == [2, 2, 2, 2]


# --- the editor -----------------------------------------------------------------------------------------------------


def editor(tmp_path: Path, *texts: str) -> str:
    """Make an editor that saves one text after the other, each time it is started."""
    script = tmp_path / "my editor.py"
    script.write_text(
        "import sys, pathlib\n"
        f"texts, count = {list(texts)!r}, pathlib.Path({str(tmp_path / 'count')!r})\n"
        "done = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (done + 1))\n"
        "pathlib.Path(sys.argv[-1]).write_text(texts[done])\n"
    )
    return f"'{sys.executable}' '{script}' --wait"


def test_edit_opens_the_editor_and_checks_what_was_saved(run: Run, path: Path, tmp_path: Path) -> None:
    os.environ |= {"EDITOR": "/nowhere", "VISUAL": editor(tmp_path, "[server]\nport = 7\n")}

    assert run("edit") == Done(0, f"{path} is right.\n", "")
    assert path.read_text() == "[server]\nport = 7\n"


def test_edit_in_a_script_ends_with_the_mistakes(run: Run, path: Path, tmp_path: Path) -> None:
    os.environ["EDITOR"] = editor(tmp_path, "[server]\nport = 0\n")
    done = run("edit")

    assert done.code == 1
    assert f"{path}:2: server.port: expected" in done.err


@pytest.mark.parametrize(("command", "why"), [("/nowhere/ed", "cannot be started"), ("false", "ended with status 1")])
def test_an_editor_that_fails_is_told(run: Run, path: Path, command: str, why: str) -> None:
    os.environ["EDITOR"] = command
    done = run("edit")

    assert done.code == 1
    assert why in done.err
    assert path.read_text() == commented_toml()


@pytest.mark.parametrize(("answers", "code", "port"), [(b"y\n", 0, 7), (b"\n", 0, 7), (b"n\n", 1, 0)])
def test_edit_offers_to_edit_again(path: Path, tmp_path: Path, answers: bytes, code: int, port: int) -> None:
    os.environ["EDITOR"] = editor(tmp_path, "[server]\nport = 0\n", "[server]\nport = 7\n")
    primary, secondary = pty.openpty()
    os.write(primary, answers)
    done = subprocess.run(
        [sys.executable, "-m", "ollama_proxy", "config", "edit"], stdin=secondary, capture_output=True, text=True
    )
    os.close(primary)
    os.close(secondary)

    assert done.returncode == code
    assert "server.port: expected" in done.stderr
    assert "Edit it again?" in done.stderr
    assert path.read_text() == f"[server]\nport = {port}\n"
