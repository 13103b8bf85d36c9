"""A disk that is full when the daemon starts: it is said at once, and the daemon serves where it can."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_proxy import daemon

CONFIG = '[backends.one]\ntype = "openai"\nurl = "http://127.0.0.1:1/v1"\n[logs]\nrequests = false\n'


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """The state folder on a full disk; the file `filler` takes all of its room."""
    place = Path(os.environ["XDG_STATE_HOME"])
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    with (place / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            pass
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ollama_proxy", *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_in_the_background_it_is_said_at_once_and_nothing_is_started(full: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(daemon.DaemonError) as caught:
        daemon.launch(["serve", "--port", str(free_port())])
    assert "No space left on device" in caught.value.message
    assert "`oproxy serve`" in caught.value.message
    assert time.monotonic() - began < 15
    assert daemon.absence().startswith("No daemon is running")
    assert not list((full / "oproxy").glob(".probe*"))


def test_in_the_foreground_it_serves_and_says_so_and_is_found_once_there_is_room(full: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "ollama_proxy", "serve", "--config", config, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert serving.stdout is not None
    try:
        said = iter(serving.stdout)
        line = next(line for line in said if "state file" in line)
        assert "No space left on device" in line
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as response:
            assert response.status == 200
        assert "A daemon runs, but" in run("status").stderr
        assert "A daemon runs, but" in run("stop").stderr

        (full / "filler").unlink()

        assert next(line for line in said if "state file is written" in line)
        assert run("status").returncode == 0
    finally:
        serving.terminate()
        serving.communicate(timeout=30)
