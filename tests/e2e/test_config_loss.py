"""A real daemon on all addresses, whose config is emptied, cut and replaced while it runs: a key is asked for all
along, and the one key that there is goes on to work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import free_port

KEY = "sk-the-only-key-there-is"
CONFIG = """\
[server]
host = "0.0.0.0"
port = {port}
[auth]
mode = "on"
failures = 0
[limits]
requests_per_minute = 10_000
[models]
default = "a"
[store]
ledger = false
[logs]
requests = false
[backends.lab]
type = "openai"
url = "http://127.0.0.1:9/v1"
"""


class Served:
    """The daemon, its config and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log = folder / "config.toml", folder / "serve.log"
        self.port = free_port()
        self.config = CONFIG.format(port=self.port)
        self.path.write_text(self.config)
        self.env = os.environ | {"PYTHONUNBUFFERED": "1", "OPROXY_API_KEYS": f"me={KEY}"}
        command = [sys.executable, "-m", "ollama_proxy", "serve", "--config", str(self.path)]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, env=self.env, stdout=out, stderr=subprocess.STDOUT)
        self.heard = 0
        self.hears("listens on")

    def hears(self, text: str) -> None:
        """Wait until it says something new with this text."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            new = self.log.read_text()[self.heard :]
            if text in new and new.endswith("\n"):
                self.heard += len(new)
                return
            time.sleep(0.02)
        pytest.fail(f"{text!r} was not said: {self.log.read_text()[self.heard :]}")

    def status(self, key: str = "") -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/models")
        if key:
            request.add_header("authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return int(response.status)
        except urllib.error.HTTPError as exc:
            return exc.code

    def told(self) -> str:
        command = [sys.executable, "-m", "ollama_proxy", "status"]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.process.terminate()
    assert made.process.wait(30) == 0


def write(path: Path, data: bytes | str) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


LOSSES: list[tuple[str, Callable[[Path, str], None], str]] = [
    ("emptied", lambda path, _: os.truncate(path, 0), "sets nothing"),
    ("comments", lambda path, _: write(path, "# nothing\n"), "sets nothing"),
    ("cut at a line", lambda path, text: write(path, text[: text.index("host")]), "sets nothing"),
    ("cut in a word", lambda path, text: write(path, text[: text.index("auth") + 2]), "refused"),
    (
        "without keys",
        lambda path, text: write(path, text.replace('[auth]\nmode = "on"\nfailures = 0\n', "")),
        'auth.mode: stays "on"',
    ),
    ("no host, no keys", lambda path, _: write(path, "[auth]\nfailures = 0\n"), 'auth.mode: stays "on"'),
    ("turned off", lambda path, _: write(path, '[auth]\nmode = "off"\nfailures = 0\n'), "refused"),
    ("no UTF-8", lambda path, _: write(path, b"\xff\xfe\x00"), "not UTF-8"),
    ("a folder", lambda path, _: folder(path), "is no file"),
    ("a link to nothing", lambda path, _: dangling(path), "is gone"),
]


def test_a_key_is_asked_for_whatever_becomes_of_the_config(served: Served) -> None:
    assert (served.status(), served.status(KEY)) == (401, 200)
    for name, lose, said in LOSSES:
        lose(served.path, served.config)
        served.hears(said)
        assert (served.status(), served.status("sk-wrong"), served.status(KEY)) == (401, 401, 200), name
        if name != LOSSES[-1][0]:
            write(served.path, served.config)
            served.hears("again")
    assert "is gone; the settings in force stay." in served.told()
    write(served.path, served.config.replace('mode = "on"\n', ""))
    served.hears("was read again")
    assert 'auth.mode: stays "on"' in served.told()
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/health")
    with urllib.request.urlopen(request, timeout=20) as response:
        assert set(json.load(response)) == {"status", "version"}, "a stranger is told nothing of it"
    write(served.path, served.config)
    served.hears("auth.mode: the file sets it again")
    assert (served.status(), served.status(KEY)) == (401, 200)
    assert "stays" not in served.told()
