"""`oproxy env`: lines that shells read as they were meant, and files that tools read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy import certs, daemon
from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.env import Tool, address, dotenv, fish, posix, powershell, shell_of
from ollama_proxy.cli.snippets import TOOLS, Facts
from ollama_proxy.cli.trust import ca_variables
from ollama_proxy.sections import Server, Settings, Tls
from tests.conftest import Start
from tests.fakes.ollama import FakeOllama

URL = "http://127.0.0.1:11435/v1"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def env(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `oproxy env …` in this process."""

    def run(*args: str) -> Done:
        try:
            app(["env", *args], prog_name="oproxy")
        except SystemExit as exc:
            code = int(exc.code or 0)
        except Exception as exc:
            code = ended(exc)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text("")
    os.environ["OPROXY_CONFIG"] = str(file)
    return file


def test_without_a_daemon_the_config_says_where_it_would_be(env: Run, config: Path) -> None:
    config.write_text('[server]\nhost = "0.0.0.0"\nport = 4321\n')
    done = env("--shell", "bash")
    assert done == Done(
        0,
        "export OPENAI_BASE_URL=http://127.0.0.1:4321/v1\n"
        "export OPENAI_API_BASE=http://127.0.0.1:4321/v1\n"
        "export OPENAI_API_KEY=oproxy\n",
        "",
    )


@pytest.mark.parametrize("shell", ["fish", "dotenv", "json"])
def test_a_shell_may_be_named_without_its_option(env: Run, config: Path, shell: str) -> None:
    assert env(shell) == env("--shell", shell)
    assert env(shell).out


def test_a_word_that_is_no_shell_gets_the_option_that_is_meant(env: Run, config: Path) -> None:
    told = env("codex")
    assert (told.code, told.out) == (2, "")
    assert "oproxy env --for codex" in told.err
    other = env("tcsh")
    assert (other.code, other.out) == (2, "")
    assert "--shell takes bash, zsh, fish" in other.err


def test_a_running_daemon_says_it_better_than_the_config(env: Run) -> None:
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=os.getpid(), url="http://127.0.0.1:9", started=1.0, version="0", grace=1.0))
        assert json.loads(env("--shell", "json").out)["OPENAI_BASE_URL"] == "http://127.0.0.1:9/v1"


def test_where_keys_are_asked_for_it_is_said_how_to_get_one(env: Run, config: Path) -> None:
    config.write_text('[auth]\nmode = "on"\n')
    done = env("--shell", "dotenv")
    assert "OPENAI_API_KEY=PUT-YOUR-KEY-HERE\n" in done.out
    assert "oproxy keys create" in done.err
    os.environ["OPENAI_API_KEY"] = "sk-oproxy-mine"
    assert "OPENAI_API_KEY=sk-oproxy-mine\n" in env("--shell", "dotenv").out


def test_a_wrong_config_is_told(env: Run, config: Path) -> None:
    config.write_text("[server]\nport = 0\n")
    done = env()
    assert (done.code, done.out) == (1, "")
    assert "server.port" in done.err


@pytest.mark.parametrize(
    ("environment", "windows", "want"),
    [
        ({"SHELL": "/bin/bash"}, False, "bash"),
        ({"SHELL": "/usr/bin/zsh"}, False, "zsh"),
        ({"SHELL": "/opt/homebrew/bin/fish"}, False, "fish"),
        ({"SHELL": "/bin/dash"}, False, "bash"),
        ({}, False, "bash"),
        ({"SHELL": "/bin/zsh", "PSModulePath": "/x"}, False, "powershell"),
        ({"PSModulePath": "C:\\x"}, True, "powershell"),
        ({"SHELL": "bash.exe", "PSModulePath": "C:\\x"}, True, "bash"),
    ],
)
def test_the_shell_is_found_out(environment: dict[str, str], windows: bool, want: str) -> None:
    assert shell_of(environment, windows=windows) == want


NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(NO_NUL)
def test_a_posix_shell_reads_back_what_was_written(value: str) -> None:
    assert shlex.split(posix("X", value)) == ["export", f"X={value}"]


@given(NO_NUL)
def test_fish_and_powershell_read_back_what_was_written(value: str) -> None:
    inside = fish("X", value).removeprefix("set -gx X '").removesuffix("'")
    assert re.sub(r"\\([\\'])", r"\1", inside) == value
    assert re.search(r"(?<!\\)(\\\\)*'", inside) is None
    inside = powershell("X", value).removeprefix("$env:X = '").removesuffix("'")
    assert re.sub("(['\u2018-\u201b])\\1", r"\1", inside) == value
    assert re.fullmatch("(?s)([^'\u2018-\u201b]|(['\u2018-\u201b])\\2)*", inside)


@given(st.text(st.characters(codec="ascii", exclude_characters="\0\r")))
@settings(max_examples=50)
def test_a_dotenv_line_is_one_line_and_quoted_where_it_must_be(value: str) -> None:
    line = dotenv("X", value)
    assert "\n" not in line
    form = line.removeprefix("X=")
    if form.startswith("'"):
        assert form == f"'{value}'"
    elif form.startswith('"'):
        assert re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], form[1:-1]) == value
    else:
        assert form == value


@pytest.mark.parametrize("name", ["bash", "zsh", "fish", "pwsh"])
def test_a_real_shell_sets_what_was_meant(name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name} here")
    odd = "a b'c\"d\\e$HOME`x`;#é\\'"
    line = {"fish": fish, "pwsh": powershell}.get(name, posix)("X", odd)
    show = f"{shlex.quote(sys.executable)} -c 'import os; print(os.environ[\"X\"])'"
    command = f"{line}\n{'& ' if name == 'pwsh' else ''}{show}"
    done = subprocess.run([program, "-c", command], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == f"{odd}\n"


@pytest.mark.parametrize(
    ("server", "tls", "want"),
    [
        (Server(), Tls(), "http://127.0.0.1:11435"),
        (Server(host="::1"), Tls(mode="mkcert"), "http://[::1]:11435"),
        (Server(host="::"), Tls(mode="files", only=True, port=443), "https://127.0.0.1:443"),
        (Server(), Tls(only=True), "http://127.0.0.1:11435"),
    ],
)
def test_the_address_is_what_the_settings_make_of_it(server: Server, tls: Tls, want: str) -> None:
    assert address(Settings(server=server, tls=tls)) == want


def test_programs_are_told_whom_to_trust_without_losing_the_others(env: Run, config: Path, tmp_path: Path) -> None:
    on, listed = Tls(mode="mkcert"), tmp_path / "list.pem"
    assert ca_variables(on, needed=True) == {}
    certs.folder().mkdir(parents=True)
    root = certs.folder() / "ca.pem"
    root.write_text("-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n")
    node = {"NODE_EXTRA_CA_CERTS": str(root)}
    lists = [str(tmp_path / "missing"), str(listed)]

    listed.write_text("others\n")
    assert ca_variables(on, needed=False, lists=lists) == node
    alone = {"SSL_CERT_FILE": str(root), "REQUESTS_CA_BUNDLE": str(root)}
    assert ca_variables(on, needed=True, lists=lists) == {**alone, **node}
    listed.write_text(f"others\n{root.read_text()}")
    whole = {"SSL_CERT_FILE": str(listed), "REQUESTS_CA_BUNDLE": str(listed)}
    assert ca_variables(on, needed=False, lists=lists) == {**whole, **node}
    assert ca_variables(Tls(), needed=True) == ca_variables(Tls(mode="files"), needed=True) == {}

    config.write_text('[tls]\nmode = "mkcert"\nonly = true\n')
    told = json.loads(env("--shell", "json").out)
    assert told["OPENAI_BASE_URL"] == "https://127.0.0.1:11436/v1"
    assert told["NODE_EXTRA_CA_CERTS"] == str(root)
    assert f"caBundlePath: {json.dumps(str(root))}" in env("--for", "continue").out


# --- tools --------------------------------------------------------------------------------------------------------

FACTS = Facts(URL, "oproxy", 'odd"model', "embed", 8000, tools=False, vision=True)


def test_every_tool_of_the_table_can_be_asked_for() -> None:
    assert set(get_args(Tool)) == set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_every_snippet_says_where_what_and_which_and_cites_its_source(name: str) -> None:
    snippet = TOOLS[name](FACTS._replace(model="the-model"))
    # Anthropic's clients say the version themselves.
    assert (URL.removesuffix("/v1") if name == "claude-code" else URL) in snippet.text
    assert "the-model" in snippet.text
    assert snippet.where
    assert "https://" in (TOOLS[name].__doc__ or "")


def test_codex_reads_its_toml() -> None:
    assert tomllib.loads(TOOLS["codex"](FACTS).text) == {
        "model": 'odd"model',
        "model_provider": "oproxy",
        "model_context_window": 8000,
        "model_providers": {
            "oproxy": {"name": "oproxy", "base_url": URL, "env_key": "OPENAI_API_KEY", "wire_api": "responses"}
        },
    }


def test_claude_code_reads_its_settings() -> None:
    env = json.loads(TOOLS["claude-code"](FACTS._replace(ca="/ca.pem")).text)["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:11435"
    assert env["ANTHROPIC_AUTH_TOKEN"] == "oproxy"
    assert {value for name, value in env.items() if name.endswith("_MODEL")} == {'odd"model'}
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "2000"
    assert env["NODE_EXTRA_CA_CERTS"] == "/ca.pem"
    assert all(isinstance(value, str) for value in env.values())


@pytest.mark.parametrize("window", [8192, 65_536, 262_144])
def test_claude_code_learns_the_window(window: int) -> None:
    snippet = TOOLS["claude-code"](FACTS._replace(window=window))
    env = json.loads(snippet.text)["env"]
    # A window that its own instructions fill would make it refuse every question itself.
    assert env.get("CLAUDE_CODE_MAX_CONTEXT_TOKENS") == (str(window) if window > 8192 else None)
    assert "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE" not in env, "a share of the window that it knows now would be too early"
    assert "NODE_EXTRA_CA_CERTS" not in env
    assert any("small for an agent" in note for note in snippet.notes) is (window < 32_768)


def test_a_small_window_is_made_larger_by_the_setting_that_it_has() -> None:
    own = FACTS._replace(window=2048, window_by="backends.b.context")
    for facts, setting in ((FACTS._replace(window=2048), "models.num_ctx"), (own, "backends.b.context")):
        notes = "\n".join(TOOLS["codex"](facts).notes)
        assert f"oproxy config set {setting} 32768" in notes


def test_opencode_and_vs_code_read_their_json() -> None:
    found = json.loads(TOOLS["opencode"](FACTS).text)
    assert found["model"] == 'oproxy/odd"model'
    model = {"name": 'odd"model', "limit": {"context": 8000, "output": 2000}}
    sees = {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
    assert found["provider"]["oproxy"]["models"] == {'odd"model': {**model, **sees}}
    blind = json.loads(TOOLS["opencode"](FACTS._replace(vision=False, thinks=True)).text)
    assert blind["provider"]["oproxy"]["models"] == {'odd"model': {**model, "reasoning": True}}
    (group,) = json.loads(TOOLS["vscode"](FACTS).text)
    assert (group["vendor"], group["apiType"]) == ("customendpoint", "chat-completions")
    (listed,) = group["models"]
    assert listed["url"] == f"{URL}/chat/completions"
    assert listed["maxInputTokens"] + listed["maxOutputTokens"] == 8000
    assert listed["vision"] is True


def test_continue_has_a_model_for_each_role() -> None:
    text = TOOLS["continue"](FACTS).text
    assert re.findall(r"roles: (.*)", text) == ["[chat, edit, apply]", "[embed]"]
    assert "capabilities: [image_input]" in text
    assert re.findall(r"    model: (.*)", text) == ['"odd\\"model"', '"embed"']
    assert "embed" not in TOOLS["continue"](FACTS._replace(embedding="")).text


@pytest.mark.parametrize("name", ["python", "langchain", "llamaindex"])
@pytest.mark.parametrize("embedding", ["embed", ""])
def test_python_compiles(name: str, embedding: str) -> None:
    text = TOOLS[name](FACTS._replace(embedding=embedding)).text
    compile(text, name, "exec")
    assert ("Embedding" in text) is (bool(embedding) and name != "python")


def test_javascript_parses(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    file = tmp_path / "snippet.mjs"
    file.write_text(TOOLS["node"](FACTS).text)
    assert subprocess.run([node, "--check", str(file)], capture_output=True, text=True).stderr == ""


def test_codex_is_told_of_what_is_not_served_yet(env: Run) -> None:
    routes = subprocess.run(
        [sys.executable, "-c", "from ollama_proxy.server.routes import ROUTES; print([r.route.path for r in ROUTES])"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert ("does not serve yet" in env("--for", "codex").err) is ("'/v1/responses'" not in routes)


async def test_the_model_that_answers_is_named_and_the_snippets_work(start_proxy: Start, tmp_path: Path) -> None:
    async with FakeOllama() as fake:
        config = f'[backends.ollama]\ntype = "ollama"\nurl = "{fake.url}"\n[models]\ndefault = "smollm2-tools"\n'
        (tmp_path / "config.toml").write_text(config)
        os.environ["OPROXY_CONFIG"] = str(tmp_path / "config.toml")
        proxy = await start_proxy(config)

        async def run(*command: str, stdin: str | None = None) -> Done:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(child.communicate((stdin or "").encode()), 60)
            return Done(child.returncode or 0, out.decode(), err.decode())

        with daemon.claim() as claim:
            claim.publish(daemon.State(pid=os.getpid(), url=proxy.url, started=1.0, version="0", grace=1.0))
            told = await run(sys.executable, "-m", "ollama_proxy", "env", "--for", "continue")
            assert re.findall(r"    model: (.*)", told.out) == ['"smollm2-tools"', '"all-minilm"']
            assert "contextLength: 8192" in told.out
        facts = Facts(f"{proxy.url}/v1", "oproxy", "smollm2-tools")
        answer = await run(sys.executable, "-", stdin=TOOLS["python"](facts).text)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.strip()
        if shutil.which("curl"):
            answer = await run("sh", "-c", TOOLS["curl"](facts).text)
            assert json.loads(answer.out)["model"] == "smollm2-tools"
