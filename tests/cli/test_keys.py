"""`oproxy keys` as a process, in a pipe, without a daemon: what it says beside the key, and what it asks before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

Config = Path


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "config.toml"
    file.write_text('[backends.none]\ntype = "ollama"\nurl = "http://127.0.0.1:9"\n')
    return file


def keys(config: Config, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ollama_proxy", "keys", *args, "--config", str(config)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ, timeout=60)


def test_who_makes_a_key_that_nobody_asks_for_is_told_so(config: Config) -> None:
    made = keys(config, "create", "alice", "--limit", "rpm=3")
    assert made.returncode == 0
    assert made.stdout.startswith("sk-oproxy-")
    assert "No key is asked for yet" in made.stderr
    assert "oproxy config set auth.mode on" in made.stderr

    config.write_text(config.read_text() + '[auth]\nmode = "on"\n')
    made = keys(config, "create", "bob")
    assert made.stdout.startswith("sk-oproxy-")
    assert "asked for" not in made.stderr


def test_keys_are_removed_only_with_a_yes(config: Config) -> None:
    keys(config, "create", "alice")
    refused = keys(config, "rm", "alice", stdin="y\n")
    assert refused.returncode == 1
    assert "call it with --yes" in refused.stderr
    assert "alice" in keys(config, "list").stdout

    assert keys(config, "rm", "alice", "-y").returncode == 0
    assert "alice" not in keys(config, "list").stdout


def test_a_budget_in_dollars_says_when_nothing_here_costs_any(config: Config) -> None:
    made = keys(config, "create", "alice", "--budget", "1usd/day")
    assert "a budget in dollars never fills" in made.stderr
    assert "`oproxy keys set alice --count list`" in made.stderr

    changed = keys(config, "set", "alice", "--count", "list")
    assert (changed.returncode, "never fills" in changed.stderr) == (0, False)
    assert "$1/day (list prices)" in keys(config, "show", "alice").stdout
    # Another sum is counted in the same way; only --count changes that.
    keys(config, "set", "alice", "--budget", "2usd/month")
    assert "$2/month (list prices)" in keys(config, "show", "alice").stdout
    assert "never fills" in keys(config, "set", "alice", "--count", "cost").stderr
    assert keys(config, "set", "alice", "--budget", "none").returncode == 0
    assert "$" not in keys(config, "show", "alice").stdout.split("budget", 1)[1].partition("\n")[0]
