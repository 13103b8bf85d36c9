"""`oproxy run`: the key before and after, the command's environment, terminal, signals and exit status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import web

from ollama_proxy import daemon
from ollama_proxy.cli.app import app, ended
from ollama_proxy.cli.run import money, told, unproxied
from tests.cli.test_serve import DOWN, free_port

PROGRAM = (sys.executable, "-m", "ollama_proxy")
USAGE = {
    "requests": 12, "errors": 1, "prompt": 3400, "completion": 870, "cached": 0,
    "cost": 0, "listed": 12_300_000, "slowest": 2.34,
}  # fmt: skip


class Keys:
    """What the daemon has for `oproxy run`, and nothing else: it makes keys, tells their use and removes them."""

    def __init__(self) -> None:
        self.url = ""
        self.made: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.order: list[str] = []
        self.refuse: str | None = None
        self.usage: dict[str, Any] = USAGE

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models/{model}", self._model)
        app.router.add_post("/oproxy/keys", self._make)
        app.router.add_get("/oproxy/keys/{id}/usage", self._usage)
        app.router.add_delete("/oproxy/keys/{id}", self._remove)
        return app

    async def _model(self, request: web.Request) -> web.Response:
        if request.match_info["model"] != "qwen3":
            message = f"The model `{request.match_info['model']}` does not exist."
            return web.json_response({"error": {"message": message, "code": "model_not_found"}}, status=404)
        return web.json_response({"id": "qwen3"})

    async def _make(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return web.json_response({"error": {"message": self.refuse, "code": None}}, status=503)
        self.made.append(await request.json())
        self.order.append("made")
        return web.json_response({"id": "key_1", "key": "sk-oproxy-test", "name": self.made[-1]["name"]})

    async def _usage(self, request: web.Request) -> web.Response:
        self.order.append("asked")
        return web.json_response(self.usage)

    async def _remove(self, request: web.Request) -> web.Response:
        self.removed.append(request.match_info["id"])
        self.order.append("removed")
        return web.json_response({"id": request.match_info["id"], "deleted": True})


@pytest.fixture
def keys() -> Iterator[Keys]:
    """Serve the fake in a thread of its own (the tests wait for processes), with this process as the daemon."""
    fake = Keys()
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        runner = web.AppRunner(fake.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        stop = asyncio.Event()
        stopping.append(stop)
        await stop.wait()
        await runner.cleanup()

    stopping: list[asyncio.Event] = []
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    with daemon.claim() as claim:
        claim.publish(daemon.State(pid=os.getpid(), url=fake.url, started=1.0, version="0", grace=1.0))
        yield fake
    loop.call_soon_threadsafe(stopping[0].set)
    thread.join()
    loop.close()


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def oproxy(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `oproxy run …` in this process; only the command is one of its own."""

    def run(*args: str, **env: str) -> Done:
        os.environ |= env
        try:
            app(["run", *args], prog_name="oproxy")
        except SystemExit as exc:
            code = int(exc.code or 0)
        except Exception as exc:
            code = ended(exc)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def shell(oproxy: Run) -> Run:
    return lambda script, *options, **env: oproxy(*options, "--", "sh", "-c", script, **env)


def test_the_command_is_told_where_we_are_and_the_key_ends_with_it(keys: Keys) -> None:
    script = 'cat; echo "$OPENAI_BASE_URL $OPENAI_API_BASE $OPENAI_API_KEY $NO_PROXY"; exit 3'
    command = [*PROGRAM, "run", "--", "sh", "-c", script]
    done = subprocess.run(command, input="in\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stdout == f"in\n{keys.url}/v1 {keys.url}/v1 sk-oproxy-test \n"
    assert done.stderr == "oproxy: 12 requests, 3,400 + 870 tokens, list price $0.0123, 1 error, slowest 2.3 s\n"
    assert keys.order == ["made", "asked", "removed"]
    assert keys.removed == ["key_1"]


def test_anthropics_programs_are_told_too_and_a_real_key_is_not_sent_to_us(keys: Keys, shell: Run) -> None:
    script = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN ${ANTHROPIC_API_KEY-none}"'
    assert shell(script, "--quiet").out == f"{keys.url} sk-oproxy-test none\n"
    assert (
        shell(script, "--quiet", ANTHROPIC_API_KEY="sk-ant-real").out == f"{keys.url} sk-oproxy-test sk-oproxy-test\n"
    )


def test_the_key_is_asked_for_with_all_that_was_wished(keys: Keys, oproxy: Run) -> None:
    options = ("--budget", "1.5", "--tokens", "1000", "--model", "qwen3", "--tag", "nightly", "--quiet")
    done = oproxy(*options, "true", "--budget", "not ours")
    assert done == Done(0, "", "")
    made = keys.made[0]
    assert 86400 <= made.pop("expires") - time.time() < 30 * 86400
    assert re.fullmatch(r"run true [0-9a-f]{6}", made.pop("name"))
    assert made == {
        "tags": ["nightly"],
        "budget": {"money_per_month": 1.5, "tokens_per_month": 1000, "count": "list"},
        "model": "qwen3",
        "ephemeral": True,
    }
    assert keys.removed == ["key_1"]


def test_a_run_without_wishes_has_no_budget_and_no_model(keys: Keys, shell: Run) -> None:
    assert shell("true").code == 0
    assert (keys.made[0]["budget"], keys.made[0]["model"], keys.made[0]["tags"]) == ({}, None, [])


def test_ollamas_programs_are_sent_here_too(keys: Keys, shell: Run) -> None:
    done = shell('echo "$OLLAMA_HOST $OLLAMA_API_KEY"', OLLAMA_HOST="elsewhere", OLLAMA_API_KEY="real")
    assert done.out == f"{keys.url} sk-oproxy-test\n"


@pytest.mark.parametrize(
    ("listed", "warned"), [(None, True), (0, True), (12_300_000, False)], ids=["no price", "nothing", "a price"]
)
def test_a_budget_in_dollars_that_counted_nothing_is_reported(
    keys: Keys, oproxy: Run, listed: int | None, warned: bool
) -> None:
    keys.usage = {**USAGE, "listed": listed}
    done = oproxy("--budget", "1", "true")
    assert ("--budget did not limit anything" in done.err) is warned
    assert "did not limit" not in oproxy("true").err


@pytest.mark.parametrize("program", ["codex", "opencode"])
def test_a_program_that_does_not_read_our_variables_is_named_with_the_way_out(
    keys: Keys, tmp_path: Path, oproxy: Run, program: str
) -> None:
    command = tmp_path / program
    command.write_text("#!/bin/sh\ntrue\n")
    command.chmod(0o755)
    home = tmp_path / "settings"
    home.mkdir()
    env = {"CODEX_HOME": str(home), "OPENCODE_CONFIG_DIR": str(home)}

    done = oproxy("--", str(command), **env)
    assert f"{program} does not read OPENAI_BASE_URL" in done.err
    assert f"`oproxy env --for {program}`" in done.err
    assert "does not read" not in oproxy("-q", "--", str(command), **env).err

    for name in ("config.toml", "opencode.json"):
        (home / name).write_text(f'base_url = "{keys.url}/v1"')
    assert "does not read" not in oproxy("--", str(command), **env).err


def test_a_proxy_is_kept_out_of_the_way(keys: Keys, shell: Run) -> None:
    done = shell('echo "$NO_PROXY $no_proxy"', HTTPS_PROXY="http://proxy:3128", no_proxy="intern")
    assert done.out == "intern,127.0.0.1,localhost intern,127.0.0.1,localhost\n"


def test_what_cannot_be_run_has_a_shells_status_and_makes_no_key(keys: Keys, tmp_path: Path, oproxy: Run) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    missing = oproxy("--", "no-such-command-anywhere")
    assert (missing.code, missing.err) == (127, "oproxy: There is no command no-such-command-anywhere.\n")
    assert oproxy("--", str(plain)).code == 126
    assert oproxy("--", str(tmp_path / "gone")).code == 127
    assert oproxy().code == 2
    assert keys.made == []


def test_a_file_that_no_kernel_runs_is_told_and_its_key_is_removed(keys: Keys, tmp_path: Path, oproxy: Run) -> None:
    odd = tmp_path / "odd"
    odd.write_text("#!/no/such/interpreter\n")
    odd.chmod(0o755)
    assert oproxy("-q", "--", str(odd)).code == 127
    odd.write_bytes(b"\x7fELF nonsense")
    done = oproxy("-q", "--", str(odd))
    assert done.code == 126
    assert "cannot be executed" in done.err
    assert keys.removed == ["key_1", "key_1"]


def test_a_refused_key_is_our_failure_and_nothing_is_run(keys: Keys, tmp_path: Path, shell: Run) -> None:
    keys.refuse = "No database."
    done = shell(f"touch {tmp_path}/ran")
    assert (done.code, done.err) == (125, "oproxy: No key could be made for this run: No database.\n")
    assert not (tmp_path / "ran").exists()


def test_a_model_that_is_not_there_is_told_before_anything_is_run(keys: Keys, tmp_path: Path, shell: Run) -> None:
    done = shell(f"touch {tmp_path}/ran", "--model", "no/such")
    assert (done.code, "The model `no/such` does not exist." in done.err) == (125, True)
    assert (keys.made, (tmp_path / "ran").exists()) == ([], False)


def test_a_command_that_is_killed_has_128_and_the_signal(keys: Keys, shell: Run) -> None:
    assert shell("kill -9 $$").code == 137
    assert shell("kill -TERM $$").code == 143
    assert keys.removed == ["key_1"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_reaches_the_command_and_the_key_ends_all_the_same(keys: Keys, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f'trap "echo got {name}; exit 7" {name}; echo ready; while :; do sleep 0.02; done'
    process = subprocess.Popen(
        [*PROGRAM, "run", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 7
        assert process.stdout.read() == f"got {name}\n"
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert keys.removed == ["key_1"]


def test_what_was_ignored_stays_ignored_as_under_nohup(keys: Keys) -> None:
    script = 'trap "" HUP; exec "$@"'
    inner = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    done = subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM, "run", "-q", "--", sys.executable, "-c", inner],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n")


class Terminal:
    """A process with a terminal of its own, as a person's shell starts one."""

    # Forking a process that has threads is asking for trouble, so a new program takes the terminal and becomes ours.
    TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"

    def __init__(self, *command: str) -> None:
        self.fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", self.TAKE, *command],
            stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self.seen = b""

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], 20)
            assert ready, f"{text!r} never came: {self.seen!r}"
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, f"{text!r} never came: {self.seen!r}"
            self.seen += data

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        """Read to the end and return the exit status."""
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 4096):
                self.seen += data
        return self.process.wait(20)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        with contextlib.suppress(OSError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait()
        os.close(each.fd)


def test_ctrl_c_on_a_terminal_is_the_commands_and_comes_once(keys: Keys, terminals: list[Terminal]) -> None:
    script = (
        "import signal, sys, time\n"
        "count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1))\n"
        "print('tty', sys.stdin.isatty(), flush=True)\n"
        "while not count: time.sleep(0.02)\n"
        "time.sleep(0.2)\n"
        "print('ctrl-c', len(count), flush=True)\n"
        "sys.exit(5)\n"
    )
    terminal = Terminal(*PROGRAM, "run", "--", sys.executable, "-c", script)
    terminals.append(terminal)
    terminal.until(b"tty True")
    terminal.type(b"\x03")
    terminal.until(b"ctrl-c 1\r\n")
    assert terminal.end() == 5
    assert b"12 requests" in terminal.seen
    assert keys.order == ["made", "asked", "removed"]


def test_ctrl_c_ends_a_command_that_does_not_mind_and_then_us_with_130(keys: Keys, terminals: list[Terminal]) -> None:
    terminal = Terminal(*PROGRAM, "run", "--", "sh", "-c", "echo ready; exec sleep 60")
    terminals.append(terminal)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert b"Traceback" not in terminal.seen
    assert keys.removed == ["key_1"]


def test_ctrl_z_stops_both_and_the_shell_takes_them_up_again(keys: Keys, terminals: list[Terminal]) -> None:
    line = " ".join((*PROGRAM, "run", "-q", "--", "sh", "-c", "'echo ready; read x; echo read $x'"))
    terminal = Terminal("/bin/sh", "-c", f"set -m; {line}; echo stopped $?; fg; echo over $?")
    terminals.append(terminal)
    terminal.until(b"ready")
    terminal.type(b"\x1a")
    terminal.until(b"stopped 148")
    terminal.type(b"this\n")
    terminal.until(b"read this")
    terminal.until(b"over 0")
    assert terminal.end() == 0
    assert keys.removed == ["key_1"]


def test_without_a_daemon_one_is_started_and_told_of(tmp_path: Path, shell: Run) -> None:
    config = tmp_path / "config.toml"
    url = DOWN.partition("=")[2]
    config.write_text(f'[server]\nport = {free_port()}\n[backends.ollama]\ntype = "ollama"\nurl = "{url}"\n')
    try:
        done = shell("echo $OPENAI_API_KEY", OPROXY_CONFIG=str(config))
        state = daemon.running()
        assert state is not None
        assert f"started the daemon (process {state.pid}" in done.err
    finally:
        if (state := daemon.running()) is not None:
            for _ in daemon.end(state, force=True):
                pass


def test_what_was_used_is_told_in_one_line() -> None:
    assert told({"requests": 0}) == "no requests"
    one: dict[str, Any] = {"requests": 1, "errors": 0, "prompt": 9, "completion": 1, "cached": 4, "cost": 2_000_000_000}
    assert told({**one, "listed": None, "slowest": None}) == (
        "1 request, 9 + 1 tokens (4 cached), cost $2.00, no list price, no errors"
    )
    assert msgspec.json.decode(msgspec.json.encode(USAGE)) == USAGE


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (12_300_000, "$0.0123"),
        (100_000_000, "$0.10"),
        (1_234_567_000_000, "$1,234.57"),
        (1_000, "$0.000001"),
        (1, "$0.00"),
    ],
)
def test_money_has_as_many_digits_as_say_something(nano: int, text: str) -> None:
    assert money(nano) == text


def test_only_where_a_proxy_is_set_something_is_said_about_it() -> None:
    assert unproxied({"no_proxy": "x"}, "http://127.0.0.1:1") == {}
    got = unproxied({"ALL_PROXY": "socks5://p", "NO_PROXY": "localhost"}, "http://[::1]:1")
    assert got["no_proxy"] == got["NO_PROXY"] == "localhost,::1,127.0.0.1"
