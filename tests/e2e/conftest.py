"""The daemon as a real process, with a real model behind it: the embedded one, and a real Ollama where one answers.

`OPROXY_E2E_OLLAMA` gives the URL of an Ollama that has the test models (smollm2-tools, smollm2-jinja …). A suite run
for another SDK gets the daemon's address by `OPROXY_E2E_URL` instead of starting one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ollama_proxy.backends import weights

CACHE = Path(os.environ.get("OPROXY_TEST_MODELS") or Path.home() / ".cache" / "oproxy-tests")
OLLAMA = os.environ.get("OPROXY_E2E_OLLAMA", "").rstrip("/")
GIVEN = os.environ.get("OPROXY_E2E_URL", "")
# The environment as it is before the isolating fixture of the whole suite empties it.
ENVIRONMENT = dict(os.environ)


class Daemon(NamedTuple):
    """A running oproxy: its base URL (with /v1), its process, and the names of its models."""

    kind: str
    url: str
    pid: int
    log: Path
    chat: str
    tools: str
    embed: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")


MODELS = {
    "embedded": ("smollm2-135m", "smollm2-135m", "all-minilm-l6-v2"),
    "ollama": ("smollm2", "smollm2-tools", "all-minilm"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def start(folder: Path, config: str, *args: str) -> tuple[subprocess.Popen[bytes], int, Path]:
    """Start `oproxy serve` with a home of its own and return it with its port and log, listening."""
    port, log = free_port(), folder / "serve.log"
    (folder / "config.toml").write_text(config)
    env = {key: value for key, value in ENVIRONMENT.items() if not key.startswith(("OPROXY_", "OLLAMA_", "XDG_"))}
    env |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "PYTHONUNBUFFERED": "1"}
    (folder / "data").mkdir()
    CACHE.mkdir(parents=True, exist_ok=True)
    # The built-in models are fetched once for all runs.
    (folder / "data" / "oproxy").symlink_to(CACHE)
    command = [sys.executable, "-m", "ollama_proxy", "serve", "--port", str(port)]
    with log.open("wb") as out:
        child = subprocess.Popen(
            [*command, "--config", str(folder / "config.toml"), *args], env=env, stdout=out, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 30
    while not answers(f"http://127.0.0.1:{port}/health"):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            raise AssertionError(f"oproxy serve did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return child, port, log


def end(child: subprocess.Popen[bytes]) -> int:
    """Stop a daemon as a user would and return its exit status."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        return child.wait(40)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise


def embedded_config() -> str:
    """Return a config with the embedded backend alone, its models fetched (once) or the test skipped."""
    try:
        asyncio.run(weights.ensure("smollm2-135m", CACHE, environ=ENVIRONMENT))
        asyncio.run(weights.ensure("all-minilm-l6-v2", CACHE, environ=ENVIRONMENT))
    except Exception as exc:
        pytest.skip(f"the embedded model is not to be had here: {exc}")
    return '[backends.embedded]\ntype = "embedded"\ncontext = 2048\n'


def ollama_config() -> str:
    if not OLLAMA or not answers(f"{OLLAMA}/api/version"):
        pytest.skip("OPROXY_E2E_OLLAMA names no Ollama that answers")
    return f'[backends.ollama]\ntype = "ollama"\nurl = "{OLLAMA}"\n[models]\nnum_ctx = 2048\n'


CONFIGS: dict[str, Callable[[], str]] = {"embedded": embedded_config, "ollama": ollama_config}


@pytest.fixture(scope="session", params=["embedded", "ollama"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    kind: str = request.param
    if GIVEN:
        given, url = GIVEN.split("=", 1)
        if given != kind:
            pytest.skip(f"this run is for {given}")
        yield Daemon(kind, url, 0, Path(os.devnull), *MODELS[kind])
        return
    config = CONFIGS[kind]()
    child, port, log = start(tmp_path_factory.mktemp(kind), config)
    try:
        yield Daemon(kind, f"http://127.0.0.1:{port}/v1", child.pid, log, *MODELS[kind])
    finally:
        assert end(child) == 0, log.read_text()
