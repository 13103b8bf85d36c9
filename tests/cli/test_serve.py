"""`serve`, `status` and `stop`: the daemon as a process, as a person at a terminal has it."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest

from ollama_proxy import daemon, tokens
from ollama_proxy.cli import serve
from ollama_proxy.cli.failure import Failure
from ollama_proxy.cli.serve import Foreground, LogFormat, Voice, closed, export_lines, kind_of, settings_of
from ollama_proxy.cli.status import span
from ollama_proxy.settings import ConfigError, Loaded, load

# A backend nobody listens at: port 9 is the discard service, which no machine runs any more.
DOWN = "ollama=http://127.0.0.1:9"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def oproxy(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ollama_proxy", *args], capture_output=True, text=True)


class Served:
    """A daemon in the foreground whose output can be read line by line."""

    def __init__(self, *args: str) -> None:
        self.port = free_port()
        self.seen: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ollama_proxy", "serve", "--port", str(self.port), *args],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def until(self, pattern: str) -> str:
        """Read lines until one has the pattern; return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.seen)}")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            body: bytes = response.read()
            return body


@contextmanager
def serving(*args: str) -> Iterator[Served]:
    served = Served(*args)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()


def test_a_daemon_tells_what_to_export_is_seen_is_alone_and_ends_with_0() -> None:
    with serving("--backend", DOWN) as served:
        served.until("No backend answers")
        served.until("ollama: ")
        url = f"http://127.0.0.1:{served.port}/v1"
        banner = "".join(served.seen)
        assert f"listens on {url}\n" in banner
        assert f"export OPENAI_BASE_URL={url}\n" in banner
        assert "export OPENAI_API_KEY=any\n" in banner
        assert re.search(r"ollama +down", banner)

        served.get("/v1/models?x=1")
        assert re.search(r"^\d\d:\d\d:\d\d GET /v1/models 200 ", served.until("/v1/models"))

        state = json.loads(oproxy("status", "--json").stdout)
        assert (state["running"], state["pid"], state["url"]) == (True, served.process.pid, url)
        assert [(each["name"], each["state"]) for each in state["backends"]] == [("ollama", "down")]
        shown = oproxy("status")
        assert shown.returncode == 0
        assert str(served.process.pid) in shown.stdout
        assert url in shown.stdout

        second = oproxy("serve", "--port", str(free_port()))
        assert (second.returncode, second.stdout) == (1, "")
        assert str(served.process.pid) in second.stderr
        assert "oproxy stop" in second.stderr

        stopped = oproxy("stop")
        assert stopped.returncode == 0
        assert served.process.wait(10) == 0
    assert oproxy("status").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(number: signal.Signals) -> None:
    with serving("--backend", DOWN) as served:
        served.until("listens on")
        served.until("OPENAI_API_KEY")
        served.process.send_signal(number)
        assert served.process.wait(20) == 0


def test_a_taken_port_is_told_and_ends_with_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = oproxy("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_sighup_reads_the_config_again(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[server]\ngrace = 1\n")
    with serving("--backend", DOWN, "--config", str(config)) as served:
        served.until("ollama: ")
        config.write_text("[server]\ngrace = 2\n")
        served.process.send_signal(signal.SIGHUP)
        assert "2" in served.until("grace")


def test_a_daemon_whose_reader_leaves_goes_on() -> None:
    with serving("--backend", DOWN) as served:
        served.until("ollama: ")
        assert served.process.stdout is not None
        served.process.stdout.close()
        for _ in range(3):
            served.get("/v1/models")
        assert served.process.poll() is None


def test_a_detached_daemon_is_told_with_its_log_and_can_be_stopped() -> None:
    port = free_port()
    started = oproxy("serve", "--detach", "--port", str(port), "--backend", DOWN)
    try:
        assert started.returncode == 0, started.stderr
        state = daemon.running()
        assert state is not None
        for word in (str(state.pid), f"http://127.0.0.1:{port}/v1", str(daemon.log_path()), "oproxy stop"):
            assert word in started.stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10) as response:
            response.read()
    finally:
        stopped = oproxy("stop")
    assert stopped.returncode == 0
    log = daemon.log_path().read_text()
    assert "listens on" in log
    assert "GET /v1/models 200" in log


def test_a_detached_daemon_that_cannot_start_is_told_why() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = oproxy("serve", "--detach", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is in use" in done.stderr


@pytest.mark.parametrize("command", ["status", "stop"])
def test_without_a_daemon_that_is_said_and_the_status_is_1(command: str) -> None:
    done = oproxy(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No daemon is running" in done.stderr


def test_status_for_programs_says_so_in_json() -> None:
    done = oproxy("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"running": False}


# --- the parts ----------------------------------------------------------------------------------------------------


def read(*backends: str, host: str | None = None, port: int | None = None) -> Loaded:
    return settings_of(host=host, port=port, log_level=None, backends=backends, env={})


def test_flags_win_over_everything_and_say_so() -> None:
    loaded = read(host="127.0.0.2", port=4321)
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.2", 4321)
    assert loaded.origin["server.port"] == "flag --port"


def test_named_backends_are_the_only_ones() -> None:
    assert list(read("embedded").settings.backends) == ["embedded"]
    assert list(read().settings.backends) == ["ollama", "embedded"]


def test_a_backend_with_a_url_is_made_and_keeps_its_kind() -> None:
    backends = read("ollama=http://box:11434", "studio=http://box:1234/v1").settings.backends
    assert [(name, each.type, each.url) for name, each in backends.items()] == [
        ("ollama", "ollama", "http://box:11434"),
        ("studio", "openai", "http://box:1234/v1"),
    ]


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"one of ollama, embedded, or NAME=URL, got moon"):
        read("moon")


@pytest.mark.parametrize(
    ("name", "url", "want"),
    [
        ("ollama-big", "http://box:1", "ollama"),
        ("box", "http://box:11434", "ollama"),
        ("lm", "http://box:1234/v1", "openai"),
    ],
)
def test_the_kind_of_a_backend_is_told_by_its_name_or_port(name: str, url: str, want: str) -> None:
    assert kind_of(name, url) == want


def test_the_export_lines_are_for_a_shell() -> None:
    assert export_lines("http://h:1") == (
        "    export OPENAI_BASE_URL=http://h:1/v1",
        "    export OPENAI_API_KEY=any",
    )


def test_a_voice_falls_silent_when_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    voice = Voice()
    saved = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    os.close(writer)
    try:
        with open(1, "w", closefd=False) as stdout:
            sys_stdout, sys.stdout = sys.stdout, stdout
            voice("lost")
            voice("lost too")
            sys.stdout = sys_stdout
    except BrokenPipeError:
        pass
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    voice("still silent")
    assert capfd.readouterr().out == ""


def test_the_log_keeps_request_lines_as_they_are() -> None:
    format = LogFormat("%(levelname)s %(message)s").format
    assert format(logging.LogRecord(LogFormat.LINES, logging.INFO, "", 0, "%s", ("12:00 100%",), None)) == "12:00 100%"
    assert format(logging.LogRecord("x", logging.ERROR, "", 0, "oh", (), None)) == "ERROR oh"


def test_a_line_of_the_log_is_one_line_whoever_chose_its_words() -> None:
    format = LogFormat("%(levelname)s %(message)s").format
    forged = "bad\nERROR root: all is lost\x1b[2J sk-abcdefghijklmnop"
    record = logging.LogRecord("x", logging.WARNING, "", 0, "told: %s", (forged,), None)
    assert format(record) == "WARNING told: bad\\nERROR root: all is lost\\x1b[2J sk-[redacted]"
    # And so it is for another handler, after this one.
    assert record.getMessage() == f"told: {forged}"
    line = logging.LogRecord(LogFormat.LINES, logging.INFO, "", 0, "%s", ("12:00\n13:00 \x1b",), None)
    assert format(line) == "12:00 13:00 ?"


def test_no_line_of_a_traceback_can_be_taken_for_one_of_the_log() -> None:
    try:
        raise ValueError("first\nERROR second\x9b postgresql://u:secret@h/x?password=secret")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "oh", (), sys.exc_info())
    shown = LogFormat("%(levelname)s %(message)s").format(record).splitlines()
    assert shown[0] == "ERROR oh"
    assert all(line.startswith("    ") for line in shown[1:])
    assert "    ERROR second postgresql://(hidden)@h/x?password=(hidden)" in shown


@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict"])
def test_a_console_that_lacks_a_letter_changes_no_answer_and_loses_no_record(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with serving("--backend", DOWN) as served:
        served.until("OPENAI_API_KEY")
        request = urllib.request.Request(
            f"http://127.0.0.1:{served.port}/v1/chat/completions",
            data=json.dumps({"model": "→日本", "messages": [{"role": "user", "content": "x"}]}).encode(),
            headers={"content-type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        body = json.loads(caught.value.read())
        assert caught.value.code != 500, body
        assert body["error"]["message"]
        assert " ->?? -> ? " in served.until("/v1/chat/completions")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    log = Path(platformdirs.user_log_path("oproxy")) / "requests.jsonl"
    (line,) = log.read_bytes().splitlines()
    assert json.loads(line)["entry"]["asked"] == "→日本"
    assert "Traceback" not in "".join(served.seen)


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (303, "5 min 3 s"), (7800, "2 h 10 min"), (273600, "3 d 4 h")],
)
def test_a_time_is_said_as_people_say_it(seconds: float, want: str) -> None:
    assert span(seconds) == want


def test_other_machines_are_not_let_in_without_a_key_by_accident() -> None:
    def refused(**env: str) -> str:
        with pytest.raises(Failure) as caught:
            closed(settings_of(host="0.0.0.0", port=None, log_level=None, backends=[], env=env))
        return caught.value.message

    told = refused()
    assert told.startswith("0.0.0.0 can be reached by other machines")
    assert "oproxy config set auth.mode on" in told
    for env in ({"OPROXY_AUTH_MODE": "on"}, {"OPROXY_AUTH_ALLOW_ANONYMOUS": "true"}):
        assert closed(settings_of(host="0.0.0.0", port=None, log_level=None, backends=[], env=env)).settings.server.host


def test_the_output_of_a_daemon_in_the_background_keeps_to_its_part_of_all_logs(tmp_path: Path) -> None:
    code = (
        "import msgspec, pathlib, sys\n"
        "from ollama_proxy.cli.serve import speaker\n"
        "from ollama_proxy.settings import Settings\n"
        "settings = msgspec.convert({'logs': {'max_total': 160_000}}, Settings)\n"
        "say = speaker(pathlib.Path(sys.argv[1]), settings)\n"
        "for number in range(1000): say(f'{number:099}')\n"
    )
    log = tmp_path / "daemon.log"
    subprocess.run([sys.executable, "-c", code, str(log)], check=True)
    files = list(tmp_path.glob("daemon.log*"))
    assert len(files) == 2
    # A sixteenth, for `daemon.jsonl` has another one, and the requests the rest.
    assert 4_900 <= sum(file.stat().st_size for file in files) <= 10_000
    assert log.read_text().endswith(f"{999:099}\n")


# --- before it listens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limited", [True, False])
async def test_what_stops_all_threads_is_done_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    tokens._encoder.cache_clear()
    tokens._count_short.cache_clear()
    tokens._loaded.clear()
    order: list[str] = []

    async def listen(app: object, **options: object) -> None:
        order.append("listen, with the vocabulary" if tokens.ready("") else "listen")

    monkeypatch.setattr(serve, "serve_app", listen)
    monkeypatch.setattr(serve, "calm", lambda: order.append("collect garbage"))
    text = "[limits]\ntokens_per_minute = 1000\n" if limited else ""
    loaded = load(path=tmp_path / "config.toml", env={}, flags={}, text=text)
    foreground = Foreground(loaded, lambda: loaded, lambda text: None, daemon.Claim(), None, fetch=False)
    await foreground._serve()
    assert order == ["collect garbage", "listen, with the vocabulary" if limited else "listen"]
