"""The same suite with the SDK's 2.x line, which most of the ecosystem still pins.

`make sdk2` puts openai 2.x into an environment of its own, whose packages go before ours for this run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ENVIRONMENT, Daemon

ROOT = Path(__file__).parents[2]


def test_the_suite_passes_with_the_2x_sdk(daemon: Daemon) -> None:
    if os.environ.get("OPROXY_E2E_URL"):
        pytest.skip("this is that run")
    found = sorted(ROOT.glob(".venv-openai2/lib/python*/site-packages"))
    if not found:
        pytest.skip("openai 2.x is not installed: make sdk2")
    env = {**ENVIRONMENT, "PYTHONPATH": str(found[0]), "OPROXY_E2E_URL": f"{daemon.kind}={daemon.url}"}
    version = subprocess.run(
        [sys.executable, "-c", "import openai; print(openai.__version__)"], env=env, capture_output=True, text=True
    ).stdout
    assert version.startswith("2.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e/test_sdk.py"],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
