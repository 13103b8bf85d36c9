"""The project's own files: pins that pin, words of the Makefile, one version."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+?)(?: ; .+)?$")


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    loose = [line for line in lines if not PIN.match(line)]
    assert loose == []
    return {found[1].lower().replace("_", "-"): found[2] for line in lines if (found := PIN.match(line))}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!;\[]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_everything_that_is_installed_is_pinned() -> None:
    wanted = names(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted |= names(extra)
    wanted |= names(PROJECT["build-system"]["requires"])

    assert wanted - set(pins(".constraints.txt")) == set()


def test_both_lines_of_the_official_sdk_are_pinned() -> None:
    assert pins(".constraints.txt")["openai"].startswith("3.")
    assert pins(".constraints-openai2.txt")["openai"].startswith("2.")


def test_the_pins_name_no_index() -> None:
    for name in (".constraints.txt", ".constraints-openai2.txt"):
        assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("word", ["run", "test", "quick", "check", "fmt", "gen", "bench", "clean"])
def test_the_makefile_knows_the_word(word: str) -> None:
    done = subprocess.run(["make", "-n", word], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_old_python_is_told_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["make", ".venv/bin/python"], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": f"{tools}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_changelog_has_unreleased_on_top() -> None:
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"


def test_the_continuous_integration_script_can_be_read_by_bash() -> None:
    done = subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_command_of_the_package_is_there() -> None:
    assert PROJECT["project"]["scripts"] == {"oproxy": "ollama_proxy.cli.app:main"}
